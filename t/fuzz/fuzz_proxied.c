/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_proxied_of, us_proxied_take_body and the functions for redirects.  Input:
 *
 *   RMETHOD URL QUERY   a request; a blank ends each word, "-" is no query
 *   BKTEXT              a body: K is one of N, S, U and O for what it may
 *                       hold (nobody, a session, a sign-up's, one's own)
 *   LUSER LOCATION      a redirect; USER is Sb-Auth-User-Id, "-" is none
 */
#include "fuzz.h"
#include "identity.h"
#include "paths.h"
#include "us_proxied.h"

#include <apr_strings.h>

#include <string.h>
#include <strings.h>

/* As us_json.h has it. */
#define DEPTH 256

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

#define ERROR "#error=server_error&error_code=busy&error_description="

/* A word up to the next blank; *at is moved after it. */
static const char *next_word(apr_pool_t *pool, const char **at,
                             const char *end)
{
    apr_size_t left = (apr_size_t)(end - *at);
    const char *blank = left > 0 ? memchr(*at, ' ', left) : NULL;
    const char *word = apr_pstrmemdup(
        pool, *at, blank != NULL ? (apr_size_t)(blank - *at) : left);

    *at = blank != NULL ? blank + 1 : end;
    return word;
}

/* --- requests --- */

static void check_request(apr_pool_t *pool, const char *data, apr_size_t size)
{
    const char *at = data;
    const char *method = next_word(pool, &at, data + size);
    const char *url = next_word(pool, &at, data + size);
    const char *query = next_word(pool, &at, data + size);
    us_proxied is;
    us_proxied want;

    query = strcmp(query, "-") == 0 ? NULL : query;
    want = paths_judge(pool, method, url, query);
    is = us_proxied_of(pool, method, url, query);
    require(is.is_admin == want.is_admin, "an admin's request is known");
    require(is.body == want.body, "it may hold what it may");
    require(is.guarded == want.guarded, "it is guarded, or not");
    require(is.creates == want.creates, "a user may come of it, or not");
    require(is.is_page == want.is_page, "a person reads it, or not");
    require(is.circuit == want.circuit, "it has that circuit");
}

/* --- tokens --- */

static int value_of(char c)
{
    static const char letters[]
        = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at;

    c = (char)(c == '-' ? '+' : c == '_' ? '/' : c);
    at = c != '\0' ? strchr(letters, c) : NULL;
    return at != NULL ? (int)(at - letters) : -1;
}

/* The claims of a JWT; NULL: it is none.  They end with base64's letters. */
static const strict_node *claims_of(apr_pool_t *pool, const char *token)
{
    const char *p = strchr(token, '.');
    const char *end = p != NULL ? strchr(p + 1, '.') : NULL;
    const strict_node *claims;
    apr_size_t len = 0;
    unsigned long bits = 0;
    int count = 0;
    int depth = 0;
    char *json;

    if (end == NULL) {
        return NULL;
    }
    json = apr_palloc(pool, (apr_size_t)(end - p));
    for (p++; p < end && value_of(*p) >= 0; p++) {
        bits = (bits << 6 | (unsigned long)value_of(*p)) & 0xFFFF;
        count += 6;
        if (count >= 8) {
            count -= 8;
            json[len++] = (char)(bits >> count & 0xFF);
        }
    }
    claims = strict_parse(pool, json, len, &depth);
    return claims != NULL && claims->kind == STRICT_OBJECT && depth <= DEPTH
               ? claims
               : NULL;
}

/* --- users --- */

static int has_id(const strict_node *user, const char *name)
{
    const strict_node *id = strict_member(user, name);
    char lower[US_UUID_LEN + 1];
    int i;

    if (id == NULL || id->string == NULL
        || strlen(id->string) != US_UUID_LEN) {
        return 0;
    }
    for (i = 0; i <= US_UUID_LEN; i++) {
        char c = id->string[i];

        lower[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return identity_is_canonical(lower);
}

static int has_identity(const strict_node *user)
{
    const strict_node *identities = strict_member(user, "identities");
    const strict_node *item
        = identities->kind == STRICT_ARRAY ? identities->first : NULL;

    while (item != NULL
           && !strict_is(strict_member(item, "user_id"),
                         strict_member(user, "id")->string)) {
        item = item->next;
    }
    return item != NULL;
}

static void check_unread(const us_call *call, us_found found)
{
    require((found == US_FOUND_UNREAD) == (call->cause != NULL),
            "what cannot be read has a cause");
    require_plain(call->cause, 1000, "a cause is one plain line");
}

/* The user of a token, or nobody can say whose it is. */
static void check_token(us_found found, const us_identity *identity,
                        const strict_node *claims)
{
    require(
        found == (has_id(claims, "sub") ? US_FOUND_SESSION : US_FOUND_UNREAD),
        "a token says whose it is");
    if (found == US_FOUND_SESSION) {
        identity_check(identity, claims, "sub");
        require(identity->proven && !identity->pending && !identity->may_enter,
                "its user is proven, and no more than that");
    }
}

static void check_bare(us_found found, us_proxied_body kind,
                       const us_identity *identity, const strict_node *doc)
{
    const strict_node *identities = strict_member(doc, "identities");
    int pending = kind == US_PROXIED_SIGN_UP && identities != NULL
                  && identities->kind == STRICT_ARRAY;

    if (!has_id(doc, "id") || (!pending && kind != US_PROXIED_USER)) {
        require(found == US_FOUND_NOBODY, "nobody is there");
        return;
    }
    require(found == US_FOUND_USER, "a user is there");
    identity_check(identity, doc, "id");
    require(identity->pending == pending, "who has to confirm is pending");
    require(identity->proven == (!pending || has_identity(doc)),
            "their own identity proves them");
}

static void check_body(apr_pool_t *pool, const char *data, apr_size_t size)
{
    static const char letters[] = "NSUO"; /* by us_proxied_body */
    const char *letter
        = size > 0 && *data != '\0' ? strchr(letters, *data) : NULL;
    us_call call = {.pool = pool};
    us_identity identity;
    us_slice text = {data + 1, size - 1};
    us_proxied_body kind;
    const strict_node *doc;
    const strict_node *token;
    us_found found;
    int depth = 0;

    if (letter == NULL) {
        return;
    }
    kind = (us_proxied_body)(letter - letters);
    memset(&identity, UNTOUCHED, sizeof(identity));
    found = us_proxied_take_body(&call, kind, text, identity_columns(pool),
                                 &identity);
    check_unread(&call, found);
    require((found == US_FOUND_SESSION || found == US_FOUND_USER)
                == (identity.id != NULL),
            "who was found has an id");
    doc = strict_parse(pool, text.text, text.len, &depth);
    if (doc == NULL || doc->kind != STRICT_OBJECT || depth > DEPTH) {
        require(found
                    == (memmem(text.text, text.len, "access_token", 12) != NULL
                            ? US_FOUND_UNREAD
                            : US_FOUND_NOBODY),
                "what is no JSON may be read by others");
        return;
    }
    token = strict_member(doc, "access_token");
    if (token == NULL || token->string == NULL || *token->string == '\0') {
        check_bare(found, kind, &identity, doc);
    }
    else if (has_id(strict_member(doc, "user"), "id")) {
        require(found == US_FOUND_SESSION && identity.proven
                    && !identity.pending,
                "a session proves its user");
        identity_check(&identity, strict_member(doc, "user"), "id");
    }
    else {
        check_token(found, &identity, claims_of(pool, token->string));
    }
}

/* --- redirects --- */

/* The value of a parameter between from and the end of the string. */
static const char *parameter(apr_pool_t *pool, const char *from,
                             const char *name)
{
    char *rest = apr_pstrdup(pool, from);
    const char *item;

    while ((item = strsep(&rest, "&")) != NULL) {
        if (strncmp(item, name, strlen(name)) == 0
            && item[strlen(name)] == '=') {
            return item + strlen(name) + 1;
        }
    }
    return NULL;
}

/* Has Supabase not appended the fragment? */
static int has_code(apr_pool_t *pool, const char *location)
{
    const char *url = apr_pstrmemdup(pool, location, strcspn(location, "#"));
    const char *query = strchr(url, '?');

    return query != NULL && parameter(pool, query + 1, "code") != NULL;
}

static void check_error(apr_pool_t *pool, const char *location)
{
    const char *error = us_proxied_error_location(
        pool, location, "server_error", "busy", "Try it\r\nagain & again");
    apr_size_t len = strcspn(location, "#");

    require(strncmp(error, location, len) == 0
                && strcmp(error + len, ERROR "Try+it%0D%0Aagain+%26+again&sb=")
                       == 0,
            "an error has the target, and nothing of the fragment");
    require(!us_proxied_has_token(error), "and no token");
}

static void check_location(apr_pool_t *pool, const char *data, apr_size_t size)
{
    const char *at = data;
    const char *user = next_word(pool, &at, data + size);
    const char *location
        = apr_pstrmemdup(pool, at, (apr_size_t)(data + size - at));
    const char *mark = strrchr(location, '#');
    const char *token
        = mark != NULL ? parameter(pool, mark + 1, "access_token") : NULL;
    us_call call = {.pool = pool};
    us_identity identity;
    const strict_node *claims;
    us_found found;

    user = strcmp(user, "-") == 0 ? NULL : user;
    memset(&identity, UNTOUCHED, sizeof(identity));
    found = us_proxied_take_location(&call, location, user,
                                     identity_columns(pool), &identity);
    check_unread(&call, found);
    check_error(pool, location);
    require(us_proxied_has_token(location) == (token != NULL),
            "a token is seen");
    require((found == US_FOUND_SESSION) == (identity.id != NULL),
            "who was found has an id");
    if (token == NULL) {
        require(found == US_FOUND_NOBODY, "without a token nobody is there");
        return;
    }
    claims = claims_of(pool, paths_unescaped(pool, token));
    if (has_id(claims, "sub")
        && (user != NULL
                ? strcasecmp(user, strict_member(claims, "sub")->string) != 0
                : has_code(pool, location))) {
        require(found == US_FOUND_UNREAD && !identity.proven,
                "a token that Supabase has not appended proves nobody");
        return;
    }
    check_token(found, &identity, claims);
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    if (size == 0) {
        return;
    }
    switch (*data) {
    case 'R':
        check_request(pool, data + 1, size - 1);
        break;
    case 'B':
        check_body(pool, data + 1, size - 1);
        break;
    case 'L':
        check_location(pool, data + 1, size - 1);
        break;
    default:
        break;
    }
}
