/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/webhook.c: what the headers of a signed request may look like, and
 * lists of signatures as the specification and as Supabase write them.
 */
#include "fixtures.h"
#include "hook_captures.h"
#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

/* As supabase/webhook.c has it. */
#define MAX_SIGNATURES 16

static apr_pool_t *pool;
static const hook_capture *captures;
static us_webhook *webhook; /* with the captures' secret */

/* --- lists of signatures --- */

/* @ is the right signature, # one of the same length, without the version. */
static const struct {
    const char *list;
    int good;
} lists[] = {
    {"v1,@", 1},
    {"v1,# v1,@", 1},
    {"v1,@ v1,#", 1},
    {"v1,#, v1,@", 1},
    {"v1,#,v1,@", 1},
    {"v1,@,v1,#", 1},
    {"v1,@ v1,@", 1},
    {" v1,@ ", 1},
    {",, ,v1,@, ,", 1},
    {"v1a,# v1,@", 1},
    {"v1a,#, v1,@", 1},
    {"v2,# v1,@", 1},
    {"v1,short v1,@", 1},
    {"v1,#longer v1,@", 1},
    {"# v1,@", 1},
    {"v1 v1,@", 1},
    {"v1,v1,@", 1},
    {"v1,@ v1,#x", 1},
    {"\x80\xff v1,@", 1},
    {"@", 0},
    {",@", 0},
    {"v1", 0},
    {"v1,", 0},
    {"v1 ", 0},
    {",", 0},
    {" ", 0},
    {"v1,#", 0},
    {"v1,# v1,#", 0},
    {"v1a,@", 0},
    {"v1a,#,@", 0},
    {"v2,@", 0},
    {"v0,@", 0},
    {"V1,@", 0},
    {"v,@", 0},
    {"v11,@", 0},
    {"xv1,@", 0},
    {"v1,@=", 0},
    {"v1,=@", 0},
    {"v1,@@", 0},
    {"v1,@v1,@", 0},
    {"v1,#,@", 0},
    {"v1,#@", 0},
    {"v1;@", 0},
    {"v1=@", 0},
    {"v1@", 0},
    {"v1\t@", 0},
    {"v1,\t@", 0},
    {"v1,@\t", 0},
    {"v1,@\r\n", 0},
    {"v1,#\tv1,@", 0},
    {"v1,#;v1,@", 0},
    {"v1,\"@\"", 0},
    {"\"v1,@\"", 0},
    {"v1.@", 0},
};

static const char *verify_list(const char *list)
{
    return hook_verify_list(pool, webhook, &captures[4], list);
}

static void test_lists(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const char *wrong = verify_list(lists[i].list);

        is_int(wrong == NULL, lists[i].good, "'%s': %s", lists[i].list,
               shown(wrong));
    }
}

static void test_many(void)
{
    int most = MAX_SIGNATURES;

    is_str(verify_list(apr_pstrcat(pool, hook_times(pool, most - 1, "v1,# "),
                                   "v1,@", NULL)),
           NULL, "the last of %d", most);
    ok(verify_list(
           apr_pstrcat(pool, hook_times(pool, most, "v1,# "), "v1,@", NULL))
           != NULL,
       "the one after %d", most);
    is_str(verify_list(apr_pstrcat(pool, "v1,@ ",
                                   hook_times(pool, 1000, "v1,#, "), NULL)),
           NULL, "the first of many");
    is_str(verify_list(apr_pstrcat(
               pool, hook_times(pool, 100, "v1a,# v1,short "), "v1,@", NULL)),
           NULL, "others do not count");
    ok(verify_list(hook_times(pool, 5000, "v1,")) != NULL, "versions only");
    ok(verify_list(hook_times(pool, 5000, ", ")) != NULL, "separators only");
}

/* --- headers --- */

static const struct {
    us_webhook_headers headers;
    const char *want; /* a part of the cause; NULL: none */
} headers_of[] = {
    {{NULL, "1000", "v1,x"}, "not signed"},
    {{"a", NULL, "v1,x"}, "not signed"},
    {{"a", "1000", NULL}, "not signed"},
    {{NULL, NULL, NULL}, "not signed"},
    {{"a", "1000", ""}, "no secret"},
    {{"a", "x", ""}, "no secret"},
    {{"", "1000", "x"}, NULL},
    {{"\x80\xff\n", "1000", "\x80"}, NULL},
    {{"a", "700", "x"}, NULL},
    {{"a", "1300", "x"}, NULL},
    {{"a", "00000001000", "x"}, NULL},
    {{"a", "000000001000", "x"}, "not a number"},
    {{"a", "699", "x"}, "old"},
    {{"a", "0", "x"}, "old"},
    {{"a", "1301", "x"}, "ahead"},
    {{"a", "99999999999", "x"}, "ahead"},
    {{"a", "999999999999", "x"}, "not a number"},
    {{"a", "18446744073709552616", "x"}, "not a number"}, /* 2^64 + 1000 */
    {{"a", "4294968296", "x"}, "ahead"},                  /* 2^32 + 1000 */
    {{"a", "", "x"}, "not a number"},
    {{"a", " ", "x"}, "not a number"},
    {{"a", " 1000", "x"}, "not a number"},
    {{"a", "1000 ", "x"}, "not a number"},
    {{"a", "1000\n", "x"}, "not a number"},
    {{"a", "+1000", "x"}, "not a number"},
    {{"a", "-1000", "x"}, "not a number"},
    {{"a", "1000.0", "x"}, "not a number"},
    {{"a", "1000.", "x"}, "not a number"},
    {{"a", "1e3", "x"}, "not a number"},
    {{"a", "0x3e8", "x"}, "not a number"},
    {{"a", "1,000", "x"}, "not a number"},
    {{"a", "1000, 1000", "x"}, "not a number"},
    {{"a", "\xef\xbc\x91\xef\xbc\x90\xef\xbc\x90\xef\xbc\x90", "x"},
     "not a number"}, /* full-width digits */
    {{"a", "/", "x"}, "not a number"},
    {{"a", ":", "x"}, "not a number"},
};

static void test_headers(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(headers_of) / sizeof(headers_of[0]); i++) {
        const char *wrong = us_webhook_check_headers(
            pool, &headers_of[i].headers, apr_time_from_sec(1000));
        const char *want = headers_of[i].want;

        ok(want == NULL ? wrong == NULL
                        : wrong != NULL && strstr(wrong, want) != NULL,
           "'%s' '%s' '%s': %s", shown(headers_of[i].headers.id),
           shown(headers_of[i].headers.timestamp),
           shown(headers_of[i].headers.signature), shown(wrong));
    }
}

int main(int argc, const char *const *argv)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    captures = hook_captures_load(pool, fixtures_directory(argc, argv));
    webhook = hook_secrets(pool, HOOK_SECRET);
    if (!ok(captures != NULL && webhook != NULL,
            "captures and their secret")) {
        return done();
    }
    test_lists();
    test_many();
    test_headers();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
