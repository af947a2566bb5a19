/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/webhook.c: requests of a real Supabase Auth and vectors that were
 * made elsewhere are verified, and nothing that differs from them in a byte;
 * several secrets, and threads.
 */
#include "crew.h"
#include "fixtures.h"
#include "hook_captures.h"
#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <stdlib.h>

#define SIGNATURE 44 /* characters behind "v1," */

#define OTHER_SECRET "v1,whsec_b3RoZXIgc2VjcmV0IG9mIDI0IGJ5dGVz"

static apr_pool_t *pool;
static const hook_capture *captures;
static us_webhook *webhook; /* with the captures' secret */

/* --- helpers --- */

/* A capture with another header of signatures. */
static const char *verify_signature(const us_webhook *with,
                                    const hook_capture *of,
                                    const char *signature)
{
    us_webhook_headers headers = of->headers;

    headers.signature = signature;
    return hook_verify(pool, with, &headers, of->body, of->len, of->time);
}

/* At the time that the headers tell, or at the capture's if they tell none. */
static const char *verify_headers(const hook_capture *of,
                                  const us_webhook_headers *headers)
{
    apr_int64_t seconds = apr_atoi64(headers->timestamp);

    return hook_verify(pool, webhook, headers, of->body, of->len,
                       seconds > 0 && seconds < 99999999999
                           ? apr_time_from_sec(seconds)
                           : of->time);
}

/* The same text with this byte there. */
static char *with_byte(const char *text, apr_size_t at, int byte)
{
    char *changed = apr_pstrdup(pool, text);

    changed[at] = (char)byte;
    return changed;
}

/* --- captures --- */

static void check_time(const hook_capture *of, apr_time_t off,
                       const char *want)
{
    const char *wrong = hook_verify(pool, webhook, &of->headers, of->body,
                                    of->len, of->time + off);

    if (want == NULL) {
        is_str(wrong, NULL, "%s: verified %ld ms later", of->name,
               (long)apr_time_as_msec(off));
    }
    else {
        ok(wrong != NULL && strstr(wrong, want) != NULL,
           "%s: too %s %ld ms later: %s", of->name, want,
           (long)apr_time_as_msec(off), shown(wrong));
    }
}

static void test_times(void)
{
    int i;

    for (i = 0; i < HOOK_CAPTURES; i++) {
        const hook_capture *of = &captures[i];

        check_time(of, 0, NULL);
        check_time(of, apr_time_from_sec(300), NULL);
        check_time(of, apr_time_from_sec(301) - 1, NULL);
        check_time(of, -apr_time_from_sec(300), NULL);
        check_time(of, apr_time_from_sec(301), "old");
        check_time(of, -apr_time_from_sec(301), "ahead");
        check_time(of, -of->time, "ahead");
        check_time(of, apr_time_from_sec(1000000000), "old");
    }
}

/* One bit of a byte of the body, or its length. */
static void test_bodies(void)
{
    int i;

    for (i = 0; i < HOOK_CAPTURES; i++) {
        const hook_capture *of = &captures[i];
        char *body = apr_pmemdup(pool, of->body, of->len + 1);
        int passed = 0;
        apr_size_t at;

        for (at = 0; at < of->len; at++) {
            body[at] = (char)(body[at] ^ 1 << at % 8);
            passed += hook_verify(pool, webhook, &of->headers, body, of->len,
                                  of->time)
                      == NULL;
            body[at] = of->body[at];
        }
        is_int(passed, 0, "%s: every byte of the body counts", of->name);
        ok(hook_verify(pool, webhook, &of->headers, body, of->len - 1,
                       of->time)
                   != NULL
               && hook_verify(pool, webhook, &of->headers, body, of->len + 1,
                              of->time)
                      != NULL
               && hook_verify(pool, webhook, &of->headers, "", 0, of->time)
                      != NULL,
           "%s: so does its length", of->name);
        is_str(
            hook_verify(pool, webhook, &of->headers, body, of->len, of->time),
            NULL, "%s: as it was", of->name);
    }
}

static void test_ids(void)
{
    static const char *const appended[] = {".", " ", "\n", "x"};
    const hook_capture *of = &captures[0];
    us_webhook_headers headers = of->headers;
    int passed = 0;
    apr_size_t i;

    for (i = 0; i < strlen(of->headers.id); i++) {
        headers.id = with_byte(of->headers.id, i, of->headers.id[i] ^ 1);
        passed += verify_headers(of, &headers) == NULL;
        headers.id = apr_pstrmemdup(pool, of->headers.id, i);
        passed += verify_headers(of, &headers) == NULL;
    }
    for (i = 0; i < sizeof(appended) / sizeof(appended[0]); i++) {
        headers.id = apr_pstrcat(pool, of->headers.id, appended[i], NULL);
        passed += verify_headers(of, &headers) == NULL;
    }
    is_int(passed, 0, "every byte of the id counts");
}

/* Each at the very time that it tells. */
static void test_timestamps(void)
{
    const hook_capture *of = &captures[0];
    const char *timestamp = of->headers.timestamp;
    us_webhook_headers headers = of->headers;
    int passed = 0;
    apr_size_t i;
    int digit;

    for (i = 0; i < strlen(timestamp); i++) {
        for (digit = '0'; digit <= '9'; digit++) {
            headers.timestamp = with_byte(timestamp, i, digit);
            passed += timestamp[i] != digit
                      && verify_headers(of, &headers) == NULL;
        }
        headers.timestamp = apr_pstrmemdup(pool, timestamp, i);
        passed += verify_headers(of, &headers) == NULL;
    }
    headers.timestamp = apr_pstrcat(pool, "0", timestamp, NULL);
    passed += verify_headers(of, &headers) == NULL;
    is_int(passed, 0, "every digit of the time stamp counts");
}

/* Every other byte at every place: a separator may be another one, and no
 * two texts are the same signature. */
static void test_signatures(void)
{
    const hook_capture *of = &captures[0];
    const char *signature = of->headers.signature;
    int passed = 0;
    apr_size_t i;
    int byte;

    is_int((long long)strlen(signature), 3 + SIGNATURE, "one signature");
    for (i = 0; i < strlen(signature); i++) {
        for (byte = 0; byte < 256; byte++) {
            if ((char)byte != signature[i]
                && verify_signature(webhook, of, with_byte(signature, i, byte))
                       == NULL) {
                passed++;
                ok(i == 2 && byte == ' ', "byte %d may be 0x%02x", (int)i,
                   (unsigned)byte);
            }
        }
    }
    is_int(passed, 1, "every byte of the signature counts");
    for (passed = 0, i = 0; i < strlen(signature); i++) {
        passed += verify_signature(webhook, of,
                                   apr_pstrmemdup(pool, signature, i))
                  == NULL;
        passed += verify_signature(webhook, of, signature + 1 + i) == NULL;
    }
    is_int(passed, 0, "no part of it is enough");
    for (i = 1; i < HOOK_CAPTURES; i++) {
        ok(verify_signature(webhook, &captures[i], signature) != NULL,
           "%s: not with another request's", captures[i].name);
    }
}

/* --- made elsewhere --- */

/* By Python's hmac and by "openssl dgst"; the first is the example of Svix,
 * whose scheme the specification took over. */
static const struct {
    const char *secret;
    us_webhook_headers headers;
    const char *body;
    apr_size_t len;
} vectors[] = {
    {"v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
     {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
      "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
     "{\"test\": 2432232314}",
     20},
    {"v1,whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
     {"msg_1", "1614265330",
      "v1,eMr7GYRqPhxBoD5xDs3Ot35NhJdoJ3R8268SNDc+YVs="},
     "",
     0},
    {"v1,whsec_gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp+goaKjpKWmp6ipqqusra"
     "6vsLGys7S1tre4ubq7vL2+vw==",
     {"msg_2", "1614265330",
      "v1,6Bx1JXgDcrOYjrjVaHggGbMeIF+MDWhuhvsAKjg7pgU="},
     "{\"a\":1}",
     7},
    {"v1,whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
     "AAAAAAAAAAAAAAAAAAAAAA",
     {"a.b", "0", "v1,ygHtbY0atPl5XgCJCgphZ7eeKQB+3npTIoL/A4kbzYk="},
     "\0\xff\n\0",
     4},
};

static void test_vectors(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        apr_time_t now
            = apr_time_from_sec(apr_atoi64(vectors[i].headers.timestamp));
        us_webhook *with = hook_secrets(pool, vectors[i].secret);

        is_str(hook_verify(pool, with, &vectors[i].headers, vectors[i].body,
                           vectors[i].len, now),
               NULL, "the vector %s", vectors[i].headers.id);
        ok(hook_verify(pool, webhook, &vectors[i].headers, vectors[i].body,
                       vectors[i].len, now)
               != NULL,
           "which has another secret");
    }
}

/* A long body, an id that is empty, and eleven digits. */
static void test_long_vector(void)
{
    static const us_webhook_headers headers = {
        "", "01614265330", "v1,rZoQdlcoRYOFRcLyCqoCGQKKnl4UrjfEi9B+TZg7pmU="};
    us_webhook *with = hook_secrets(
        pool, "v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY=");
    char *body = apr_palloc(pool, 100000);

    memset(body, 'x', 100000);
    is_str(hook_verify(pool, with, &headers, body, 100000,
                       apr_time_from_sec(1614265330)),
           NULL, "a long body");
    ok(hook_verify(pool, with, &headers, body, 99999,
                   apr_time_from_sec(1614265330))
           != NULL,
       "and one byte less");
}

/* --- secrets --- */

static void test_secrets(void)
{
    const hook_capture *of = &captures[2];
    us_webhook *others = hook_secrets(
        pool, apr_pstrcat(pool, OTHER_SECRET,
                          hook_times(pool, 7, "|" OTHER_SECRET), NULL));
    int i;

    ok(hook_verify_list(pool, hook_secrets(pool, OTHER_SECRET), of, "v1,@")
           != NULL,
       "another secret");
    ok(hook_verify_list(pool, others, of, "v1,@") != NULL,
       "eight other secrets");
    for (i = 0; i < US_HOOK_SECRETS; i++) {
        us_webhook *with = hook_secrets(
            pool,
            apr_pstrcat(
                pool, hook_times(pool, i, OTHER_SECRET "|"), HOOK_SECRET,
                hook_times(pool, US_HOOK_SECRETS - 1 - i, "|" OTHER_SECRET),
                NULL));

        is_str(hook_verify_list(pool, with, of, "v1,@"), NULL,
               "the right secret is number %d", i + 1);
        is_str(hook_verify_list(pool, with, of, "v1,#, v1,@"), NULL,
               "and the right signature the second");
        ok(hook_verify_list(pool, with, of, "v1,#") != NULL,
           "a wrong one is wrong for all");
    }
}

/* The secrets end with their pool; a leak is a sanitizer's finding. */
static void test_pools(void)
{
    int i;

    for (i = 0; i < 3; i++) {
        apr_pool_t *own;
        us_webhook *with;

        apr_pool_create(&own, pool);
        with = hook_secrets(own, HOOK_SECRET "|" OTHER_SECRET);
        is_str(verify_signature(with, &captures[0],
                                captures[0].headers.signature),
               NULL, "secrets in a pool of their own");
        apr_pool_destroy(own);
    }
    is_str(
        verify_signature(webhook, &captures[0], captures[0].headers.signature),
        NULL, "other secrets stay");
}

/* --- threads --- */

#define THREADS 8
#define ROUNDS 200

static us_webhook *shared;
static atomic_int misjudged;

static void press(int child, int thread)
{
    int i;

    (void)child;
    for (i = 0; i < ROUNDS; i++) {
        const hook_capture *of = &captures[(i + thread) % HOOK_CAPTURES];
        const hook_capture *other
            = &captures[(i + thread + 1) % HOOK_CAPTURES];

        misjudged
            += us_webhook_check_body(shared, &of->headers, of->body, of->len)
               != NULL;
        misjudged += us_webhook_check_body(shared, &of->headers, other->body,
                                           other->len)
                     == NULL;
    }
}

static void test_threads(void)
{
    shared = hook_secrets(pool, OTHER_SECRET "|" HOOK_SECRET);
    crew_shaken = 1;
    crew_threads(0, THREADS, press);
    is_int(misjudged, 0, "threads that verify at the same time");
}

int main(int argc, const char *const *argv)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    crew_start("test_webhook");
    captures = hook_captures_load(pool, fixtures_directory(argc, argv));
    webhook = hook_secrets(pool, HOOK_SECRET);
    if (!ok(captures != NULL && webhook != NULL,
            "captures and their secret")) {
        return done();
    }
    test_times();
    test_bodies();
    test_ids();
    test_timestamps();
    test_signatures();
    test_vectors();
    test_long_vector();
    test_secrets();
    test_pools();
    test_threads();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
