/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "jwt.h"

#include <apr_strings.h>

#include <string.h>

const char *jwt_encoded(apr_pool_t *pool, const char *text, apr_size_t len)
{
    static const char alphabet[]
        = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *encoded = apr_palloc(pool, len * 4 / 3 + 3);
    char *to = encoded;
    unsigned long bits = 0;
    int count = 0;
    apr_size_t i;

    for (i = 0; i < len; i++) {
        bits = (bits << 8 | (unsigned char)text[i]) & 0xFFFF;
        for (count += 8; count >= 6; count -= 6) {
            *to++ = alphabet[bits >> (count - 6) & 63];
        }
    }
    if (count > 0) {
        *to++ = alphabet[bits << (6 - count) & 63];
    }
    *to = '\0';
    return encoded;
}

const char *jwt_of(apr_pool_t *pool, const char *payload)
{
    static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"JWT\"}";

    return apr_pstrcat(pool, jwt_encoded(pool, header, strlen(header)), ".",
                       jwt_encoded(pool, payload, strlen(payload)),
                       ".c2lnbmF0dXJl", NULL);
}
