/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_proxied.h"
#include "us_wipe.h"
#include "claims.h"
#include "session.h"

#include <apr_escape.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* --- requests --- */

/* What is known of Supabase Auth's paths; "*" is any one segment.  Others may
 * be new ones. */
#define NONE US_OPERATION_COUNT
static const struct rule {
    const char *methods; /* with a space after each */
    const char *path;
    us_proxied is;
} rules[] = {
    {"POST ",
     "signup",
     {US_PROXIED_SIGN_UP, .guarded = 1, .creates = 1, .circuit = US_SIGN_UP}},
    {"POST ",
     "verify",
     {US_PROXIED_SESSION, .guarded = 1, .creates = 1, .circuit = US_LOG_IN}},
    {"GET ",
     "verify",
     {US_PROXIED_SESSION, .guarded = 1, .creates = 1, .is_page = 1,
      .circuit = US_LOG_IN}},
    /* a provider is asked, too, and may be what is slow */
    {"GET POST ",
     "callback",
     {US_PROXIED_SESSION, .guarded = 1, .creates = 1, .is_page = 1,
      .circuit = NONE}},
    {"POST ",
     "sso/saml/acs",
     {US_PROXIED_SESSION, .guarded = 1, .creates = 1, .is_page = 1,
      .circuit = NONE}},
    {"POST ",
     "oauth/token",
     {US_PROXIED_SESSION, .guarded = 1, .circuit = US_LOG_IN}},
    {"POST ",
     "factors/*/verify",
     {US_PROXIED_SESSION, .guarded = 1, .circuit = US_LOG_IN}},
    {"POST ",
     "passkeys/*/verify",
     {US_PROXIED_SESSION, .guarded = 1, .circuit = US_LOG_IN}},
    {"GET PUT ", "user", {US_PROXIED_USER, .circuit = NONE}},
    {"POST ", "otp", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "magiclink", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "recover", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "resend", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "logout", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "factors", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "factors/*/challenge", {US_PROXIED_NOBODY, .circuit = NONE}},
    {"POST ", "sso", {US_PROXIED_NOBODY, .circuit = NONE}},
};

/* What POST /token is, by its grant_type.  The first one stands for all
 * others: for id_token and web3 somebody else is asked, too, and may be what is
 * slow. */
static const struct grant {
    const char *type;
    us_proxied is;
} grants[] = {
    {"", {US_PROXIED_SESSION, .guarded = 1, .creates = 1, .circuit = NONE}},
    {"password", {US_PROXIED_SESSION, .guarded = 1, .circuit = US_LOG_IN}},
    {"refresh_token",
     {US_PROXIED_SESSION, .guarded = 1, .circuit = US_REFRESH}},
    {"pkce",
     {US_PROXIED_SESSION, .guarded = 1, .creates = 1, .circuit = US_LOG_IN}},
};

/* The path of a URL, decoded, with a slash at its start. */
static char *path_of(apr_pool_t *pool, const char *url)
{
    const char *socket
        = strncmp(url, "unix:", 5) == 0 ? strchr(url, '|') : NULL;
    const char *host = strstr(socket != NULL ? socket : url, "://");
    const char *path = host != NULL ? strchr(host + 3, '/') : url;
    char *copy;

    if (path == NULL) {
        return apr_pstrdup(pool, "/");
    }
    copy = apr_pstrmemdup(pool, path, strcspn(path, "?#"));
    if (strchr(copy, '%') != NULL) {
        const char *decoded = apr_punescape_url(pool, copy, NULL, NULL, 0);

        copy = decoded != NULL ? apr_pstrdup(pool, decoded) : copy;
    }
    return copy;
}

/* The segments of a path, which is cut into them: a list of const char *.
 * Some gateways take a backslash for a slash. */
static apr_array_header_t *segments_of(apr_pool_t *pool, char *path)
{
    apr_array_header_t *segments = apr_array_make(pool, 8, sizeof(char *));

    while (*path != '\0') {
        apr_size_t len = strcspn(path, "/\\");
        int is_last = path[len] == '\0';

        path[len] = '\0';
        if (strcmp(path, "..") == 0) {
            apr_array_pop(segments);
        }
        else if (*path != '\0' && strcmp(path, ".") != 0) {
            APR_ARRAY_PUSH(segments, const char *) = path;
        }
        path += len + !is_last;
    }
    return segments;
}

static const char *segment(const apr_array_header_t *segments, int i)
{
    return i < segments->nelts ? APR_ARRAY_IDX(segments, i, const char *) : "";
}

/* What find_start returns if it finds none. */
#define UNKNOWN (-1)   /* no gateway of Supabase's, but perhaps another one */
#define ELSEWHERE (-2) /* another service of Supabase's */

/* Are these two segments a service of Supabase's gateway? */
static int is_service(const apr_array_header_t *segments, int i,
                      const char *name)
{
    return strcmp(segment(segments, i), name) == 0
           && strcmp(segment(segments, i + 1), "v1") == 0;
}

/* Where Supabase Auth's own path begins. */
static int find_start(const apr_array_header_t *segments)
{
    static const char *const others[]
        = {"rest", "storage", "functions", "realtime", "graphql"};
    int i;

    for (i = 0; i < segments->nelts; i++) {
        apr_size_t k;

        if (is_service(segments, i, "auth")) {
            return i + 2;
        }
        for (k = 0; k < sizeof(others) / sizeof(others[0]); k++) {
            if (is_service(segments, i, others[k])) {
                return ELSEWHERE;
            }
        }
    }
    return UNKNOWN;
}

/* No client in a browser does this.  Letters are compared in either case: who
 * reads them otherwise must not be led there. */
static int is_admins(const char *first)
{
    return strcasecmp(first, "admin") == 0 || strcasecmp(first, "invite") == 0
           || strcasecmp(first, "scim") == 0;
}

/* Are the segments from start on this path? */
static int is_path(const apr_array_header_t *segments, int start,
                   const char *path)
{
    int i;

    /* most paths differ in their first letter */
    if (*path != '*' && *path != *segment(segments, start)) {
        return 0;
    }
    for (i = start; *path != '\0'; i++) {
        apr_size_t len = strcspn(path, "/");
        const char *is = segment(segments, i);

        if (*is == '\0'
            || (*path != '*'
                && (*is != *path || strlen(is) != len
                    || strncmp(is, path, len) != 0))) {
            return 0;
        }
        path += len + (path[len] == '/');
    }
    return i == segments->nelts;
}

static int is_one_of(const char *methods, const char *method)
{
    apr_size_t len = strlen(method);
    const char *p = strstr(methods, method);

    return p != NULL && p[len] == ' ' && (p == methods || p[-1] == ' ');
}

/* Does the query have this grant_type? */
static int has_grant(const char *query, const char *type)
{
    static const char name[] = "grant_type=";
    const apr_size_t len = sizeof(name) - 1;
    const char *p = query;

    while ((p = strstr(p, name)) != NULL) {
        if ((p == query || p[-1] == '&')
            && strcspn(p + len, "&") == strlen(type)
            && strncmp(p + len, type, strlen(type)) == 0) {
            return 1;
        }
        p += len;
    }
    return 0;
}

static us_proxied token_request(const char *query)
{
    apr_size_t i;

    for (i = 1; i < sizeof(grants) / sizeof(grants[0]); i++) {
        if (query != NULL && has_grant(query, grants[i].type)) {
            return grants[i].is;
        }
    }
    return grants[0].is;
}

/* What nothing is known of: a session may come of it if it does something. */
static us_proxied unknown_request(const char *method)
{
    static const char readers[] = "GET OPTIONS DELETE TRACE ";
    us_proxied is = {.circuit = NONE};

    is.body
        = is_one_of(readers, method) ? US_PROXIED_NOBODY : US_PROXIED_SESSION;
    return is;
}

/*
 * What a request is if Supabase Auth's own path begins at this segment.
 *
 * is  holds what it is if nothing is known of it
 *
 * Returns 0 if its path is not known.
 */
static int take_request(const char *method, const apr_array_header_t *segments,
                        int start, const char *query, us_proxied *is)
{
    int known = 0;
    apr_size_t i;

    if (is_path(segments, start, "token")) {
        *is = strcmp(method, "POST") == 0 ? token_request(query) : *is;
        return 1;
    }
    for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (is_path(segments, start, rules[i].path)) {
            known = 1;
            if (is_one_of(rules[i].methods, method)) {
                *is = rules[i].is;
                break;
            }
        }
    }
    return known;
}

us_proxied us_proxied_of(apr_pool_t *pool, const char *method, const char *url,
                         const char *query)
{
    apr_array_header_t *segments = segments_of(pool, path_of(pool, url));
    int start = find_start(segments);
    int last = start == UNKNOWN ? segments->nelts : start;
    us_proxied is = {.circuit = NONE};
    int known = 0;
    int i;

    if (start == ELSEWHERE) {
        return is;
    }
    start = start == UNKNOWN ? 0 : start;
    is.is_admin = is_admins(segment(segments, 0));
    for (i = start; i <= last; i++) {
        is.is_admin |= is_admins(segment(segments, i));
    }
    if (is.is_admin) {
        return is;
    }
    method = strcmp(method, "HEAD") == 0 ? "GET" : method;
    is = unknown_request(method);
    for (i = start; !known && i <= last; i++) {
        known = take_request(method, segments, i, query, &is);
    }
    return is;
}

/* --- answers --- */

#define TOKEN "access_token"

static us_found unread(us_call *call, const char *why)
{
    us_fail(call, US_UPSTREAM_BAD_ANSWER,
            "Supabase's answer has a session, but nobody can say whose: %s",
            why);
    return US_FOUND_UNREAD;
}

/* The user of a token that stands alone. */
static us_found take_token(us_call *call, us_slice token,
                           const apr_array_header_t *columns,
                           us_identity *identity)
{
    return us_claims_take_token(call->pool, token, columns, identity)
               ? US_FOUND_SESSION
               : unread(call, "its access token does not name a user");
}

static us_found take_document(us_call *call, us_proxied_body body,
                              const us_json *doc,
                              const apr_array_header_t *columns,
                              us_identity *identity)
{
    us_slice token;

    if (us_session_take(call, doc, columns, identity)) {
        return US_FOUND_SESSION;
    }
    if (us_session_is_there(doc)) { /* of the OAuth server: without a user */
        token.text = us_json_string(doc, US_JSON_PATH(TOKEN), &token.len);
        return take_token(call, token, columns, identity);
    }
    if ((body == US_PROXIED_SIGN_UP
         && us_session_take_pending(call, doc, columns, identity))
        || (body == US_PROXIED_USER
            && us_session_take_own(call, doc, columns, identity))) {
        return US_FOUND_USER;
    }
    return US_FOUND_NOBODY;
}

/* Could a lenient reader find a token where a strict one gives up? */
static int mentions_token(us_slice text)
{
    return memmem(text.text, text.len, TOKEN, sizeof(TOKEN) - 1) != NULL;
}

us_found us_proxied_take_body(us_call *call, us_proxied_body body,
                              us_slice text, const apr_array_header_t *columns,
                              us_identity *identity)
{
    us_json *doc = NULL;
    const char *wrong = us_json_parse(call->pool, text.text, text.len,
                                      US_JSON_ANSWER_DEPTH, &doc);
    us_found found;

    memset(identity, 0, sizeof(*identity));
    if (wrong != NULL) {
        return mentions_token(text) ? unread(call, wrong) : US_FOUND_NOBODY;
    }
    found = take_document(call, body, doc, columns, identity);
    us_json_free(doc);
    return found;
}

/* The value of a parameter, up to the next one; text is NULL if there is none.
 * name ends in "=". */
static us_slice find_parameter(us_slice parameters, const char *name)
{
    const char *end = parameters.text + parameters.len;
    const char *p = parameters.text;
    apr_size_t len = strlen(name);
    us_slice value = {NULL, 0};

    while (value.text == NULL && p < end) {
        const char *next = memchr(p, '&', (apr_size_t)(end - p));
        const char *stop = next != NULL ? next : end;

        if ((apr_size_t)(stop - p) >= len && strncmp(p, name, len) == 0) {
            value.text = p + len;
            value.len = (apr_size_t)(stop - value.text);
        }
        p = next != NULL ? next + 1 : end;
    }
    return value;
}

/*
 * The value of access_token; text is NULL if there is none.  Supabase appends
 * its fragment to where the client wanted to go, so the last one counts: all
 * before it, a query and other fragments, is what the client has written.
 */
static us_slice token_in(const char *location)
{
    const char *mark = strrchr(location, '#');
    us_slice fragment = {"", 0};

    if (mark != NULL) {
        fragment.text = mark + 1;
        fragment.len = strlen(fragment.text);
    }
    return find_parameter(fragment, TOKEN "=");
}

/* Is there a code of PKCE?  Then Supabase has appended no fragment. */
static int has_code(const char *location)
{
    us_slice query = {location, strcspn(location, "#")};
    const char *mark = memchr(location, '?', query.len);

    if (mark == NULL) {
        return 0;
    }
    query.len -= (apr_size_t)(mark + 1 - location);
    query.text = mark + 1;
    return find_parameter(query, "code=").text != NULL;
}

int us_proxied_has_token(const char *location)
{
    return token_in(location).text != NULL;
}

/* Does the token in there come from Supabase, and not from the client?  The
 * header speaks of a session that is about to be made, the code of none. */
static us_found judge_location(us_call *call, const char *location,
                               const char *user_id, us_identity *identity)
{
    const char *wrong = NULL;

    if (user_id != NULL) {
        wrong = strcasecmp(user_id, identity->id) != 0
                    ? "Sb-Auth-User-Id names another user than the redirect"
                    : NULL;
    }
    else if (has_code(location)) {
        wrong = "the redirect has a code, and a token that the client may "
                "have put there";
    }
    if (wrong == NULL) {
        return US_FOUND_SESSION;
    }
    memset(identity, 0, sizeof(*identity));
    return unread(call, wrong);
}

us_found us_proxied_take_location(us_call *call, const char *location,
                                  const char *user_id,
                                  const apr_array_header_t *columns,
                                  us_identity *identity)
{
    us_slice token = token_in(location);
    const char *decoded;
    char *copy;
    us_found found;

    memset(identity, 0, sizeof(*identity));
    if (token.text == NULL) {
        return US_FOUND_NOBODY;
    }
    copy = apr_pstrmemdup(call->pool, token.text, token.len);
    us_wipe_with(call->pool, copy, token.len);
    decoded = apr_punescape_url(call->pool, copy, NULL, NULL, 0);
    if (decoded != NULL) {
        token.text = decoded;
        token.len = strlen(decoded);
    }
    found = take_token(call, token, columns, identity);
    return found == US_FOUND_SESSION
               ? judge_location(call, location, user_id, identity)
               : found;
}

/* Text for a form (application/x-www-form-urlencoded). */
static const char *form_value(apr_pool_t *pool, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *value = apr_palloc(pool, 3 * strlen(text) + 1);
    char *to = value;

    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (apr_isalnum(c) || strchr("-._~", c) != NULL) {
            *to++ = (char)c;
        }
        else if (c == ' ') {
            *to++ = '+';
        }
        else {
            *to++ = '%';
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        }
    }
    *to = '\0';
    return value;
}

const char *us_proxied_error_location(apr_pool_t *pool, const char *location,
                                      const char *error, const char *code,
                                      const char *text)
{
    apr_size_t len = strcspn(location, "#");

    return apr_pstrcat(pool, apr_pstrmemdup(pool, location, len),
                       "#error=", error, "&error_code=", code,
                       "&error_description=", form_value(pool, text),
                       "&sb=", NULL);
}
