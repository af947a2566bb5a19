/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_hook_secret.h"
#include "us_wipe.h"

#include <apr_base64.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define PREFIX "v1,whsec_"
#define PREFIX_LEN (sizeof(PREFIX) - 1)

/* The longest base64 text of a secret. */
#define BASE64_MAX (((apr_size_t)US_HOOK_SECRET_MAX + 2) / 3 * 4)

/* Is this base64 with its padding (RFC 4648, section 4), as Supabase's own
 * decoder demands it? */
static int is_base64(const char *text, apr_size_t len)
{
    apr_size_t i = len;

    while (i > 0 && len - i < 2 && text[i - 1] == '=') {
        i--;
    }
    while (i > 0
           && (apr_isalnum(text[i - 1]) || text[i - 1] == '+'
               || text[i - 1] == '/')) {
        i--;
    }
    return i == 0 && len > 0 && len % 4 == 0;
}

static const char *decode(apr_pool_t *pool, const char *text, apr_size_t len,
                          us_hook_secret *secret)
{
    char base64[BASE64_MAX + 1];
    unsigned char key[BASE64_MAX];
    int key_len = 0;

    if (len >= 4 && memcmp(text, "v1a,", 4) == 0) {
        return "holds an asymmetric secret (v1a,), with which Supabase cannot "
               "sign: take one that begins with " PREFIX;
    }
    if (len < PREFIX_LEN || memcmp(text, PREFIX, PREFIX_LEN) != 0) {
        return "does not begin with " PREFIX ": copy the whole secret as "
               "Supabase's dashboard shows it";
    }
    text += PREFIX_LEN;
    len -= PREFIX_LEN;
    if (!is_base64(text, len)) {
        return "is not base64 after " PREFIX ": has a part been lost?";
    }
    if (len <= BASE64_MAX) {
        memcpy(base64, text, len);
        base64[len] = '\0';
        key_len = apr_base64_decode_binary(key, base64);
    }
    if (key_len >= US_HOOK_SECRET_MIN && key_len <= US_HOOK_SECRET_MAX) {
        unsigned char *copy = apr_pmemdup(pool, key, (apr_size_t)key_len);

        us_wipe_with(pool, copy, (apr_size_t)key_len);
        secret->key = copy;
        secret->len = (apr_size_t)key_len;
    }
    us_wipe(base64, sizeof(base64));
    us_wipe(key, sizeof(key));
    return secret->key != NULL
               ? NULL
               : "must have 24 to 64 bytes before base64: 32 to 88 characters "
                 "after " PREFIX;
}

const char *us_hook_secret_add(apr_pool_t *pool, const us_secret *source,
                               apr_array_header_t *list)
{
    const char *text = source->value;
    int before = list->nelts;
    const char *wrong = NULL;

    while (wrong == NULL && text != NULL) {
        const char *bar = strchr(text, '|');
        apr_size_t len = bar != NULL ? (apr_size_t)(bar - text) : strlen(text);
        us_hook_secret secret = {.source = source};

        wrong = list->nelts == US_HOOK_SECRETS
                    ? "is one secret too many: 8 are allowed"
                    : decode(pool, text, len, &secret);
        if (wrong == NULL) {
            APR_ARRAY_PUSH(list, us_hook_secret) = secret;
        }
        text = bar != NULL ? bar + 1 : NULL;
    }
    if (wrong != NULL) {
        list->nelts = before;
    }
    return wrong;
}
