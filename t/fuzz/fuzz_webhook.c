/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_webhook.h and us_hook_secret_add.  Input:
 *
 *   NAME: VALUE         Webhook-Id, Webhook-Timestamp and Webhook-Signature;
 *                       in the last one @0, @1 and @2 stand for the right
 *                       signature with a key: 0 and 1 are ours, 2 is not.
 *                       Now: seconds, those of the time stamp without it.
 *                       Secret: a directive's value
 *                       an empty line
 *   BODY
 *
 * Nobody guesses a signature; with these signs the fuzzer can play with lists
 * of them.
 */
#include "fuzz.h"
#include "us_hook_secret.h"
#include "us_webhook.h"

#include <apr_base64.h>
#include <apr_strings.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string.h>

#define SIGNATURE 44 /* characters */

/* As supabase/webhook.c has them. */
#define MAX_SIGNATURES 16
#define TOLERANCE 300
#define TIMESTAMP_DIGITS 11

#define KEYS 3
#define OUR_KEYS 2

/* The first one is the secret of the captures. */
static const struct {
    const char *secret;
    const char *key;
} keys[KEYS] = {
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
     "0123456789abcdef0123456789abcdef"},
    {"v1,whsec_b3RoZXIgc2VjcmV0IG9mIDI0IGJ5dGVz", "other secret of 24 bytes"},
    {NULL, "a key that this server does not have"}};

typedef struct request {
    us_webhook_headers headers;
    const char *body;
    apr_size_t len;
    const char *now;    /* NULL: at the time of the time stamp */
    const char *secret; /* or NULL */
} request;

/* --- the input --- */

/* The line at *at without its end; *at is moved after it.  NULL: none. */
static char *next_line(apr_pool_t *pool, const char **at, const char *end)
{
    apr_size_t left = (apr_size_t)(end - *at);
    const char *stop = left > 0 ? memchr(*at, '\n', left) : NULL;
    char *line = NULL;

    if (stop != NULL) {
        line = apr_pstrmemdup(pool, *at, (apr_size_t)(stop - *at));
        *at = stop + 1;
    }
    return line;
}

static request read_request(apr_pool_t *pool, const char *data,
                            apr_size_t size)
{
    request r = {.body = data};
    struct {
        const char *name;
        const char **value;
    } known[] = {{"Webhook-Id: ", &r.headers.id},
                 {"Webhook-Timestamp: ", &r.headers.timestamp},
                 {"Webhook-Signature: ", &r.headers.signature},
                 {"Now: ", &r.now},
                 {"Secret: ", &r.secret}};
    const char *line;
    apr_size_t i;

    while ((line = next_line(pool, &r.body, data + size)) != NULL
           && *line != '\0') {
        for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            apr_size_t len = strlen(known[i].name);

            if (strncmp(line, known[i].name, len) == 0) {
                *known[i].value = line + len;
            }
        }
    }
    r.len = (apr_size_t)(data + size - r.body);
    return r;
}

/* --- a second opinion --- */

/* The right signature of the request, whatever its own says. */
static const char *sign(apr_pool_t *pool, const request *r, int key)
{
    const char *id = r->headers.id;
    const char *timestamp = r->headers.timestamp;
    apr_size_t room = strlen(id) + strlen(timestamp) + sizeof("..");
    char *text = apr_palloc(pool, room + r->len);
    apr_size_t len
        = (apr_size_t)apr_snprintf(text, room, "%s.%s.", id, timestamp);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    char *signature = apr_palloc(pool, SIGNATURE + 1);

    memcpy(text + len, r->body, r->len);
    require(HMAC(EVP_sha256(), keys[key].key, (int)strlen(keys[key].key),
                 (unsigned char *)text, len + r->len, digest, &size)
                != NULL,
            "OpenSSL signs");
    apr_base64_encode_binary(signature, digest, (int)size);
    return signature;
}

/* How many signatures of version 1 the list has; found is set to whether one
 * of the first of them is right. */
static int look_through(apr_pool_t *pool, const request *r, int *found)
{
    const char *right[] = {sign(pool, r, 0), sign(pool, r, 1)};
    char *rest = apr_pstrdup(pool, r->headers.signature);
    const char *before = "";
    char *word;
    int count = 0;

    *found = 0;
    while ((word = strsep(&rest, " ,")) != NULL) {
        if (*word == '\0') {
            continue;
        }
        if (strcmp(before, "v1") == 0 && strlen(word) == SIGNATURE
            && ++count <= MAX_SIGNATURES) {
            *found |= strcmp(word, right[0]) == 0;
            *found |= strcmp(word, right[1]) == 0;
        }
        before = word;
    }
    return count;
}

static int is_timestamp(const char *text)
{
    apr_size_t len = strlen(text);

    return len > 0 && len <= TIMESTAMP_DIGITS
           && strspn(text, "0123456789") == len;
}

static int is_right(apr_pool_t *pool, const request *r, apr_int64_t now)
{
    apr_int64_t seconds;
    int found = 0;

    if (r->headers.id == NULL || r->headers.timestamp == NULL
        || r->headers.signature == NULL
        || !is_timestamp(r->headers.timestamp)) {
        return 0;
    }
    seconds = apr_atoi64(r->headers.timestamp);
    if (seconds < now - TOLERANCE || seconds > now + TOLERANCE) {
        return 0;
    }
    (void)look_through(pool, r, &found);
    return found;
}

/* --- what must hold --- */

static us_webhook *our_secrets(apr_pool_t *pool)
{
    apr_array_header_t *list
        = apr_array_make(pool, OUR_KEYS, sizeof(us_hook_secret));
    us_webhook *webhook;
    int i;

    for (i = 0; i < OUR_KEYS; i++) {
        us_secret *source = apr_pcalloc(pool, sizeof(*source));

        source->value = keys[i].secret;
        source->len = strlen(source->value);
        require(us_hook_secret_add(pool, source, list) == NULL,
                "a secret is taken");
    }
    webhook = us_webhook_create(pool, list);
    require(webhook != NULL, "there is OpenSSL");
    return webhook;
}

static char *copy_of(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

/* Does the module accept it?  It gets headers of exactly their length. */
static int is_accepted(apr_pool_t *pool, const us_webhook *webhook,
                       const request *r, apr_int64_t now)
{
    char *id = copy_of(r->headers.id);
    char *timestamp = copy_of(r->headers.timestamp);
    char *signature = copy_of(r->headers.signature);
    us_webhook_headers headers = {id, timestamp, signature};
    const char *wrong
        = us_webhook_check_headers(pool, &headers, apr_time_from_sec(now));

    if (wrong == NULL) {
        wrong = us_webhook_check_body(webhook, &headers, r->body, r->len);
    }
    free(id);
    free(timestamp);
    free(signature);
    require(wrong == NULL || (*wrong != '\0' && strpbrk(wrong, "\n@") == NULL),
            "a cause is a line that quotes nothing");
    return wrong == NULL;
}

static void check_accepted(apr_pool_t *pool, const us_webhook *webhook,
                           const request *r, apr_int64_t now, int accepted,
                           const char *invariant)
{
    require(is_accepted(pool, webhook, r, now) == accepted, invariant);
    require(is_right(pool, r, now) == accepted, invariant);
}

/* The request as it is, then with right signatures, then changed. */
static void check_variants(apr_pool_t *pool, const us_webhook *webhook,
                           request r)
{
    char *signature;
    const char *list = r.headers.signature != NULL ? r.headers.signature : "";
    char *body = apr_pmemdup(pool, r.body, r.len);
    apr_int64_t now;
    int found = 0;
    int fits;

    r.headers.id = r.headers.id != NULL ? r.headers.id : "";
    if (r.headers.timestamp == NULL || !is_timestamp(r.headers.timestamp)) {
        r.headers.timestamp = "1795901295";
    }
    now = apr_atoi64(r.headers.timestamp);
    r.headers.signature = list;
    fits = look_through(pool, &r, &found) < MAX_SIGNATURES;
    r.headers.signature
        = apr_pstrcat(pool, list, ", v1,", sign(pool, &r, 1), NULL);
    check_accepted(pool, webhook, &r, now, found || fits,
                   "a right signature at the end is found");
    r.headers.signature
        = apr_pstrcat(pool, "v1,", sign(pool, &r, 0), " ", list, NULL);
    check_accepted(pool, webhook, &r, now, 1,
                   "a right signature in front is found");
    r.headers.signature = apr_pstrcat(pool, "v1,", sign(pool, &r, 2), NULL);
    check_accepted(pool, webhook, &r, now, 0, "another key is none of ours");
    r.headers.signature = apr_pstrcat(pool, "v1,", sign(pool, &r, 0), NULL);
    check_accepted(pool, webhook, &r, now, 1, "what is signed is accepted");
    if (r.len > 0) {
        body[r.len / 2] ^= 1;
        r.body = body;
        check_accepted(pool, webhook, &r, now, 0,
                       "what was changed since is not");
        body[r.len / 2] ^= 1;
        r.len--;
        check_accepted(pool, webhook, &r, now, 0, "nor what was cut off");
        r.len++;
    }
    signature = apr_pstrcat(pool, "v1,", sign(pool, &r, 0), NULL);
    r.headers.signature = signature;
    signature[3 + SIGNATURE - 2]++;
    check_accepted(pool, webhook, &r, now, 0,
                   "nor a signature that differs behind its last bit");
    signature[3 + SIGNATURE - 2]--;
    check_accepted(pool, webhook, &r, now, 1, "as it was");
    r.headers.id = apr_pstrcat(pool, r.headers.id, "x", NULL);
    check_accepted(pool, webhook, &r, now, 0, "nor with another id");
}

/* Puts signatures in the place of @0, @1 and @2. */
static const char *expand(apr_pool_t *pool, const request *r)
{
    const char *right[KEYS]
        = {sign(pool, r, 0), sign(pool, r, 1), sign(pool, r, 2)};
    const char *p = r->headers.signature;
    char *text = apr_palloc(pool, strlen(p) * SIGNATURE + 1);
    char *out = text;

    while (*p != '\0') {
        if (*p == '@' && p[1] >= '0' && p[1] < '0' + KEYS) {
            memcpy(out, right[p[1] - '0'], SIGNATURE);
            out += SIGNATURE;
            p += 2;
        }
        else {
            *out++ = *p++;
        }
    }
    *out = '\0';
    return text;
}

/* --- secrets --- */

/* The length of a secret's key; 0: it is none. */
static apr_size_t key_of(const char *text, unsigned char *key)
{
    static const char prefix[] = "v1,whsec_";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
                                 "rstuvwxyz0123456789+/";
    const char *base64 = text + sizeof(prefix) - 1;
    apr_size_t plain;
    apr_size_t len;

    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0) {
        return 0;
    }
    len = strlen(base64);
    plain = strspn(base64, digits);
    if (len == 0 || len % 4 != 0 || len > 88 || len - plain > 2
        || strspn(base64 + plain, "=") != len - plain
        || EVP_DecodeBlock(key, (const unsigned char *)base64, (int)len) < 0) {
        return 0;
    }
    len = len / 4 * 3 - (len - plain);
    return len >= US_HOOK_SECRET_MIN && len <= US_HOOK_SECRET_MAX ? len : 0;
}

static void check_secret(apr_pool_t *pool, const char *text)
{
    us_secret source = {.value = text, .len = strlen(text)};
    apr_array_header_t *list = apr_array_make(pool, 1, sizeof(us_hook_secret));
    const char *wrong = us_hook_secret_add(pool, &source, list);
    char *rest = apr_pstrdup(pool, text);
    const char *one;
    int good = 1;
    int count = 0;

    while ((one = strsep(&rest, "|")) != NULL) {
        unsigned char key[88];
        apr_size_t len = key_of(one, key);

        good = good && len > 0 && count < US_HOOK_SECRETS;
        if (good && wrong == NULL) {
            const us_hook_secret *secret
                = &APR_ARRAY_IDX(list, count, us_hook_secret);

            require(count < list->nelts && secret->len == len
                        && memcmp(secret->key, key, len) == 0
                        && secret->source == &source,
                    "a secret has its key");
        }
        count++;
    }
    require((wrong == NULL) == good, "secrets are taken, and nothing else");
    require(list->nelts == (good ? count : 0), "all of them, or none");
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    request r = read_request(pool, data, size);
    us_webhook *webhook = our_secrets(pool);
    apr_int64_t now = 0;

    if (r.secret != NULL) {
        check_secret(pool, r.secret);
    }
    if (r.headers.signature != NULL && r.headers.id != NULL
        && r.headers.timestamp != NULL) {
        r.headers.signature = expand(pool, &r);
    }
    if (r.now != NULL && is_timestamp(r.now)) {
        now = apr_atoi64(r.now);
    }
    else if (r.headers.timestamp != NULL
             && is_timestamp(r.headers.timestamp)) {
        now = apr_atoi64(r.headers.timestamp);
    }
    check_accepted(pool, webhook, &r, now, is_right(pool, &r, now),
                   "both say the same");
    check_variants(pool, webhook, r);
}
