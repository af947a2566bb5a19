/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_hook_secret.h"
#include "us_webhook.h"

#include <apr_strings.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <string.h>

/* How far a time stamp may be off, both ways (Standard Webhooks). */
#define TOLERANCE 300

/* A time stamp: more digits would be far in the future. */
#define TIMESTAMP_DIGITS 11

#define DIGEST 32         /* bytes of SHA-256 */
#define SIGNATURE 44      /* characters of these in base64 */
#define MAX_SIGNATURES 16 /* that are looked at; the rest is ignored */

struct us_webhook {
    int count;
    EVP_MAC_CTX *keyed[US_HOOK_SECRETS]; /* each is copied to be used */
};

/* --- set-up --- */

static apr_status_t free_secrets(void *data)
{
    us_webhook *webhook = data;

    while (webhook->count > 0) {
        EVP_MAC_CTX_free(webhook->keyed[--webhook->count]);
    }
    return APR_SUCCESS;
}

static EVP_MAC_CTX *keyed_with(EVP_MAC *hmac, const us_hook_secret *secret)
{
    static char sha256[] = "SHA256";
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(hmac);
    OSSL_PARAM params[2];

    params[0]
        = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0);
    params[1] = OSSL_PARAM_construct_end();
    if (context != NULL
        && !EVP_MAC_init(context, secret->key, secret->len, params)) {
        EVP_MAC_CTX_free(context);
        context = NULL;
    }
    return context;
}

us_webhook *us_webhook_create(apr_pool_t *pool,
                              const apr_array_header_t *secrets)
{
    us_webhook *webhook = apr_pcalloc(pool, sizeof(*webhook));
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    int i;

    apr_pool_cleanup_register(pool, webhook, free_secrets,
                              apr_pool_cleanup_null);
    for (i = 0; hmac != NULL && i < secrets->nelts && i < US_HOOK_SECRETS;
         i++) {
        EVP_MAC_CTX *context
            = keyed_with(hmac, &APR_ARRAY_IDX(secrets, i, us_hook_secret));

        if (context == NULL) {
            break;
        }
        webhook->keyed[webhook->count++] = context;
    }
    EVP_MAC_free(hmac); /* the contexts hold it */
    return webhook->count > 0 && webhook->count == secrets->nelts ? webhook
                                                                  : NULL;
}

/* --- the headers --- */

/* Seconds since 1970, or -1: digits only. */
static apr_int64_t seconds_of(const char *text)
{
    apr_int64_t seconds = 0;
    int i;

    for (i = 0; i < TIMESTAMP_DIGITS && text[i] >= '0' && text[i] <= '9';
         i++) {
        seconds = seconds * 10 + (text[i] - '0');
    }
    return i > 0 && text[i] == '\0' ? seconds : -1;
}

const char *us_webhook_check_headers(apr_pool_t *pool,
                                     const us_webhook_headers *headers,
                                     apr_time_t now)
{
    apr_int64_t seconds;
    apr_int64_t age;

    if (headers->id == NULL || headers->timestamp == NULL
        || headers->signature == NULL) {
        return "the request is not signed: Webhook-Id, Webhook-Timestamp or "
               "Webhook-Signature is missing";
    }
    if (*headers->signature == '\0') {
        return "the signature is empty: the hook has no secret at Supabase";
    }
    seconds = seconds_of(headers->timestamp);
    if (seconds < 0) {
        return "Webhook-Timestamp is not a number of seconds";
    }
    age = apr_time_sec(now) - seconds;
    if (age > TOLERANCE || age < -TOLERANCE) {
        return apr_psprintf(pool,
                            "Webhook-Timestamp is more than 5 minutes %s: "
                            "check this server's clock; otherwise somebody "
                            "repeats an old request",
                            age > 0 ? "old" : "ahead");
    }
    return NULL;
}

/* --- the signature --- */

/* The expected signature with one secret.  Returns 0 if OpenSSL fails. */
static int sign(const EVP_MAC_CTX *keyed, const us_webhook_headers *headers,
                const char *body, apr_size_t len, char text[SIGNATURE + 1])
{
    EVP_MAC_CTX *context = EVP_MAC_CTX_dup(keyed);
    unsigned char digest[DIGEST];
    size_t size = 0;
    int good;

#define ADD(data, size) \
    EVP_MAC_update(context, (const unsigned char *)(data), (size))

    good = context != NULL && ADD(headers->id, strlen(headers->id))
           && ADD(".", 1)
           && ADD(headers->timestamp, strlen(headers->timestamp))
           && ADD(".", 1) && ADD(body, len)
           && EVP_MAC_final(context, digest, &size, sizeof(digest))
           && size == DIGEST;
#undef ADD
    if (good) {
        EVP_EncodeBlock((unsigned char *)text, digest, DIGEST);
    }
    EVP_MAC_CTX_free(context);
    OPENSSL_cleanse(digest, sizeof(digest));
    return good;
}

/*
 * The next signature of version 1 at *text, which moves behind it; NULL: none.
 * A list has "v1,SIGNATURE" separated by blanks (Standard Webhooks), or by
 * commas and blanks (Supabase).
 */
static const char *next_signature(const char **text)
{
    static const char separators[] = ", ";
    int is_v1 = 0;

    for (;;) {
        const char *word = *text + strspn(*text, separators);
        apr_size_t len = strcspn(word, separators);

        *text = word + len;
        if (len == 0) {
            return NULL;
        }
        if (is_v1 && len == SIGNATURE) {
            return word;
        }
        is_v1 = len == 2 && memcmp(word, "v1", 2) == 0;
    }
}

const char *us_webhook_check_body(const us_webhook *webhook,
                                  const us_webhook_headers *headers,
                                  const char *body, apr_size_t len)
{
    const char *signatures[MAX_SIGNATURES];
    const char *rest = headers->signature;
    int count = 0;
    int match = 0;
    int i;

    while (count < MAX_SIGNATURES
           && (signatures[count] = next_signature(&rest)) != NULL) {
        count++;
    }
    if (count == 0) {
        return "Webhook-Signature has no signature of version 1: does the "
               "hook have an asymmetric secret?";
    }
    for (i = 0; i < webhook->count; i++) {
        char expected[SIGNATURE + 1];
        int j;

        if (!sign(webhook->keyed[i], headers, body, len, expected)) {
            return "OpenSSL cannot compute the signature";
        }
        for (j = 0; j < count; j++) {
            match |= CRYPTO_memcmp(expected, signatures[j], SIGNATURE) == 0;
        }
        OPENSSL_cleanse(expected, sizeof(expected));
    }
    return match ? NULL
                 : "the signature does not match: is UserSyncHookSecret the "
                   "secret of this hook at Supabase?";
}
