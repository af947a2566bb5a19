/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/hook_secret.c: which texts are secrets of hooks, how many of them,
 * what is said of others, and that nothing of a key outlives its pool.
 */
#include "tap.h"
#include "us_hook_secret.h"

#include <apr_base64.h>
#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;

/* --- helpers --- */

static apr_array_header_t *new_list(void)
{
    return apr_array_make(pool, 1, sizeof(us_hook_secret));
}

static const us_secret *source_of(const char *text)
{
    us_secret *source = apr_pcalloc(pool, sizeof(*source));

    source->value = text;
    source->len = strlen(text);
    return source;
}

static const char *add(const char *text, apr_array_header_t *list)
{
    return us_hook_secret_add(pool, source_of(text), list);
}

/* A secret of that many bytes: b, b + 1, b + 2 ... */
static const char *secret_of(int len, unsigned char b)
{
    unsigned char *key = apr_palloc(pool, (apr_size_t)len + 1);
    char *text = apr_palloc(pool, (apr_size_t)apr_base64_encode_len(len) + 1);
    int i;

    for (i = 0; i < len; i++) {
        key[i] = (unsigned char)(b + i);
    }
    apr_base64_encode_binary(text, key, len);
    return apr_pstrcat(pool, "v1,whsec_", text, NULL);
}

/* Is this the key that secret_of has made? */
static int is_key(const us_hook_secret *secret, int len, unsigned char b)
{
    int i;

    for (i = 0; i < len && secret->key[i] == (unsigned char)(b + i); i++) {
    }
    return (int)secret->len == len && i == len;
}

/* --- lengths --- */

static void test_lengths(void)
{
    int len;

    for (len = 1; len <= 100; len++) {
        apr_array_header_t *list = new_list();
        const char *text = secret_of(len, 0xF0);
        const char *wrong = add(text, list);

        if (len < US_HOOK_SECRET_MIN || len > US_HOOK_SECRET_MAX) {
            ok(wrong != NULL && strstr(wrong, "24 to 64 bytes") != NULL
                   && list->nelts == 0,
               "%d bytes: refused (%s)", len, shown(wrong));
            continue;
        }
        ok(wrong == NULL && list->nelts == 1
               && is_key(&APR_ARRAY_IDX(list, 0, us_hook_secret), len, 0xF0),
           "%d bytes are a key", len);
    }
    ok(add(secret_of(4000, 0), new_list()) != NULL, "a very long one");
}

/* --- texts --- */

#define KEY "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define GOOD "v1,whsec_" KEY
#define SHORT "v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY="

static const struct {
    const char *text;
    int count;        /* of secrets; 0: refused */
    const char *want; /* a part of the message; NULL: none */
} texts[] = {
    {GOOD, 1, NULL},
    {GOOD "|" GOOD, 2, NULL},
    {"v1,whsec_/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+", 1, NULL},
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3OA==", 1, NULL},
    {"", 0, "does not begin"},
    {"v1", 0, "does not begin"},
    {"v1,", 0, "does not begin"},
    {"v1,whsec", 0, "does not begin"},
    {"v1,whsec_", 0, "not base64"},
    {"v1,whsec_=", 0, "not base64"},
    {"v1,whsec_==", 0, "not base64"},
    {"v1,whsec_====", 0, "not base64"},
    {"v1,whsec_A===", 0, "not base64"},
    {KEY, 0, "does not begin"},
    {"whsec_" KEY, 0, "does not begin"},
    {"v1whsec_" KEY, 0, "does not begin"},
    {"v1,WHSEC_" KEY, 0, "does not begin"},
    {"V1,whsec_" KEY, 0, "does not begin"},
    {"v2,whsec_" KEY, 0, "does not begin"},
    {"v1, whsec_" KEY, 0, "does not begin"},
    {" " GOOD, 0, "does not begin"},
    {"\"" GOOD "\"", 0, "does not begin"},
    {"v1a,whsk_" KEY, 0, "asymmetric"},
    {"v1a,whsk_" KEY ":whpk_" KEY, 0, "asymmetric"},
    {"v1a,", 0, "asymmetric"},
    {"v1a", 0, "does not begin"},
    /* bytes of the key itself, as the specification's "whsec_" has none */
    {"v1,whsec_0123456789abcdef0123456789abcdef", 1, NULL},
    {GOOD " ", 0, "not base64"},
    {GOOD "\n", 0, "not base64"},
    {GOOD "=", 0, "not base64"},
    {GOOD "====", 0, "not base64"},
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", 0, "not base64"},
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZW", 0, "not base64"},
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2Rl ZjAxMjM0NTY3ODlhYmNkZWY=", 0,
     "not base64"},
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2Rl\nZjAxMjM0NTY3ODlhYmNkZWY=", 0,
     "not base64"},
    {"v1,whsec_MDEyMzQ1Njc4OWFi=2RlZjAxMjM0NTY3ODlhYmNkZWY=", 0, "not base64"},
    {"v1,whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_", 0, "not base64"},
    {"v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\xC3\xA4YmNkZWY=", 0,
     "not base64"},
    {SHORT, 0, "24 to 64"},
    /* lists */
    {"|", 0, "does not begin"},
    {"||", 0, "does not begin"},
    {"|" GOOD, 0, "does not begin"},
    {GOOD "|", 0, "does not begin"},
    {GOOD "||" GOOD, 0, "does not begin"},
    {GOOD "|" SHORT, 0, "24 to 64"},
    {GOOD "|" GOOD "|" KEY, 0, "does not begin"},
    {GOOD "|v1a,whsk_" KEY, 0, "asymmetric"},
    {GOOD " | " GOOD, 0, "not base64"},
    {GOOD "," GOOD, 0, "not base64"},
    {GOOD " " GOOD, 0, "not base64"},
    {GOOD "\\|" GOOD, 0, "not base64"},
};

static void test_texts(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        apr_array_header_t *list = new_list();
        const char *want = texts[i].want;
        const char *wrong = add(texts[i].text, list);

        ok(want == NULL ? wrong == NULL
                        : wrong != NULL && strstr(wrong, want) != NULL,
           "'%s': %s", texts[i].text, shown(wrong));
        is_int(list->nelts, texts[i].count, "so many are appended");
    }
}

/* Every byte that is not base64 and not a bar. */
static void test_bytes(void)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
                                 "rstuvwxyz0123456789+/|";
    int taken = 0;
    int byte;

    for (byte = 1; byte < 256; byte++) {
        char *text = apr_pstrdup(pool, GOOD);

        text[20] = (char)byte;
        taken += strchr(base64, byte) == NULL && add(text, new_list()) == NULL;
    }
    is_int(taken, 0, "no other byte is base64");
}

/* --- several --- */

static void test_order(void)
{
    apr_array_header_t *list = new_list();
    const us_secret *source
        = source_of(apr_pstrcat(pool, secret_of(24, 1), "|", secret_of(64, 2),
                                "|", secret_of(32, 3), NULL));
    const us_hook_secret *secrets;

    is_str(us_hook_secret_add(pool, source, list), NULL, "three secrets");
    secrets = (const us_hook_secret *)(const void *)list->elts;
    ok(list->nelts == 3 && is_key(&secrets[0], 24, 1)
           && is_key(&secrets[1], 64, 2) && is_key(&secrets[2], 32, 3),
       "in their order");
    ok(secrets[0].source == source && secrets[2].source == source,
       "and whence they came");
}

static const char *several(int count)
{
    const char *text = secret_of(32, 0);
    int i;

    for (i = 1; i < count; i++) {
        text = apr_pstrcat(pool, text, "|", secret_of(32, (unsigned char)i),
                           NULL);
    }
    return text;
}

static void test_count(void)
{
    apr_array_header_t *list = new_list();
    const char *wrong;

    is_str(add(several(US_HOOK_SECRETS), list), NULL, "eight in a line");
    is_int(list->nelts, US_HOOK_SECRETS, "are taken");
    wrong = add(GOOD, list);
    ok(wrong != NULL && strstr(wrong, "8 are allowed") != NULL,
       "the ninth of another line is not: %s", shown(wrong));
    is_int(list->nelts, US_HOOK_SECRETS, "and the eight stay");
    list = new_list();
    wrong = add(several(US_HOOK_SECRETS + 1), list);
    ok(wrong != NULL && strstr(wrong, "8 are allowed") != NULL,
       "nine in a line: %s", shown(wrong));
    is_int(list->nelts, 0, "none of them is taken");
}

/* A line that is refused leaves those of other lines alone. */
static void test_earlier_lines(void)
{
    apr_array_header_t *list = new_list();

    is_str(add(secret_of(40, 7), list), NULL, "a line");
    ok(add(GOOD "|" GOOD "|" SHORT, list) != NULL, "a wrong one behind it");
    is_int(list->nelts, 1, "appends nothing");
    ok(is_key(&APR_ARRAY_IDX(list, 0, us_hook_secret), 40, 7),
       "and the first is as it was");
    is_str(add(several(US_HOOK_SECRETS - 1), list), NULL,
           "there is room for seven more");
    is_int(list->nelts, US_HOOK_SECRETS, "which makes eight");
}

/* --- messages --- */

/* No piece of what was configured may get into a log. */
static void test_messages(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *wrong = add(texts[i].text, new_list());
        const char *piece = texts[i].text;
        int quoted = 0;

        for (; wrong != NULL && strlen(piece) >= 6; piece++) {
            const char *text = apr_pstrmemdup(pool, piece, 6);

            quoted += strstr(" v1,whsec_", text) == NULL
                      && strstr(wrong, text) != NULL;
        }
        is_int(quoted, 0, "the message quotes nothing: %s", shown(wrong));
    }
}

/* --- wiping --- */

static int is_zero(const volatile unsigned char *memory, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len && memory[i] == '\0'; i++) {
    }
    return i == len;
}

static void test_wiping(void)
{
    apr_array_header_t *list = new_list();
    const volatile unsigned char *first;
    const volatile unsigned char *second;
    apr_pool_t *own;

    apr_pool_create(&own, pool);
    is_str(us_hook_secret_add(own, source_of(several(2)), list), NULL,
           "two secrets in a pool of their own");
    first = APR_ARRAY_IDX(list, 0, us_hook_secret).key;
    second = APR_ARRAY_IDX(list, 1, us_hook_secret).key;
    ok(first[31] == 31 && second[31] == 32, "are there");
    apr_pool_clear(own);
    ok(is_zero(first, 32) && is_zero(second, 32), "and gone with the pool");
    apr_pool_destroy(own);
}

/* Also the first of a line whose second is refused. */
static void test_wiping_refused(void)
{
    apr_array_header_t *list = new_list();
    const volatile unsigned char *key;
    apr_pool_t *own;

    apr_pool_create(&own, pool);
    ok(us_hook_secret_add(
           own, source_of(apr_pstrcat(pool, secret_of(32, 1), "|x", NULL)),
           list)
           != NULL,
       "a line that is refused");
    key = ((const us_hook_secret *)(const void *)list->elts)[0].key;
    ok(key[0] == 1 && key[31] == 32, "has decoded a key");
    apr_pool_clear(own);
    ok(is_zero(key, 32), "which is gone with the pool, too");
    apr_pool_destroy(own);
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_lengths();
    test_texts();
    test_bytes();
    test_order();
    test_count();
    test_earlier_lines();
    test_messages();
    test_wiping();
    test_wiping_refused();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
