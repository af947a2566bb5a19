/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/headers.c: no spelling of our headers comes from a client, nothing
 * else of its request is changed, and our values fit into a header.
 */
#include "tap.h"
#include "doors/headers.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <sys/resource.h>

static apr_pool_t *pool;

static const char *const ours[]
    = {"X-User-Id", "X-User-Email", "X-Usersync-Outcome"};

#define OURS (sizeof(ours) / sizeof(ours[0]))

/* --- names --- */

/* Letters in upper or lower case, by the bits of a number. */
static const char *in_case(const char *name, unsigned bits)
{
    char *copy = apr_pstrdup(pool, name);
    char *p;

    for (p = copy; *p != '\0'; p++) {
        if (apr_isalpha(*p)) {
            *p = (char)((bits & 1) != 0 ? apr_toupper(*p) : apr_tolower(*p));
            bits >>= 1;
        }
    }
    return copy;
}

static void test_case(void)
{
    unsigned bits;
    apr_size_t i;

    for (i = 0; i < OURS; i++) {
        for (bits = 0; bits < 1U << 16; bits++) {
            if (!us_headers_is_ours(in_case(ours[i], bits))) {
                break;
            }
        }
        is_int(bits, 1U << 16, "%s in any case", ours[i]);
        apr_pool_clear(pool);
    }
}

/* Any byte at any place: the name is ours if CGI reads it as ours. */
static void test_bytes(void)
{
    apr_size_t i;

    for (i = 0; i < OURS; i++) {
        int wrong = 0;
        const char *p;
        int byte;

        for (p = ours[i]; *p != '\0'; p++) {
            for (byte = 1; byte < 256; byte++) {
                char *name = apr_pstrdup(pool, ours[i]);
                int same = apr_isalnum(*p)
                               ? apr_tolower(byte) == apr_tolower(*p)
                               : !apr_isalnum(byte);

                name[p - ours[i]] = (char)byte;
                wrong += us_headers_is_ours(name) != same;
            }
        }
        is_int(wrong, 0, "%s with another byte somewhere", ours[i]);
    }
}

static const char *const spelled[]
    = {"x_user_id",   "X.User.Id",       "x user!id",         "X_USER-EMAIL",
       "x\tuser\nid", "X\xC3User\xA9Id", "x-usersync_outcome"};

static const char *const others[] = {
    "",
    "X",
    "X-User",
    "X-User-I",
    "X-User-Ids",
    "X-User-Id-",
    "-X-User-Id",
    " X-User-Id",
    "X-User-Id ",
    "X--User-Id",
    "XUserId",
    "X-UserId",
    "XX-User-Id",
    "Y-User-Id",
    "User-Id",
    "X-Forwarded-User",
    "X-User-Emails",
    "X-User-Mail",
    "X-Usersync",
    "X-Usersync-Outcomes",
    "X-User-Sync-Outcome",
    "HTTP_X_USER_ID",
    "X-\xC3\x9Cser-Id", /* a dash may be two bytes, a letter may not */
    "X-User-\xC4\xB0\x64",
    "Connection",
};

static void test_names(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(spelled) / sizeof(spelled[0]); i++) {
        ok(us_headers_is_ours(spelled[i]), "%s is ours",
           apr_pescape_echo(pool, spelled[i], 0));
    }
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        ok(!us_headers_is_ours(others[i]), "\"%s\" is not",
           apr_pescape_echo(pool, others[i], 0));
    }
}

/* --- a client's headers --- */

/* "Name: value|Name: value" */
static apr_table_t *headers_of(const char *text)
{
    apr_table_t *headers = apr_table_make(pool, 4);
    char *rest = apr_pstrdup(pool, text);
    const char *item;

    while ((item = strsep(&rest, "|")) != NULL && *item != '\0') {
        const char *name = strchr(item, ':');

        apr_table_add(headers,
                      apr_pstrmemdup(pool, item, (apr_size_t)(name - item)),
                      name + 2);
    }
    return headers;
}

static int add_line(void *text, const char *name, const char *value)
{
    const char **all = text;

    *all = apr_pstrcat(pool, *all, **all != '\0' ? "|" : "", name, ": ", value,
                       NULL);
    return 1;
}

static const char *text_of(apr_table_t *headers)
{
    const char *all = "";

    apr_table_do(add_line, &all, headers, NULL);
    return all;
}

static const struct {
    const char *sent;
    const char *left;
} requests[] = {
    {"", ""},
    {"Host: a|Cookie: x-user-id=1", "Host: a|Cookie: x-user-id=1"},
    {"X-User-Id: 1", ""},
    {"X-User-Id: ", ""},
    {"Host: a|x_user_id: 1|Accept: b", "Host: a|Accept: b"},
    {"X-User-Id: 1|X-User-Id: 2|x.user.id: 3|X-USER-EMAIL: 4|"
     "X_Usersync-Outcome: ok|Host: a",
     "Host: a"},
    {"X-User-Ids: 1|X-User: 2", "X-User-Ids: 1|X-User: 2"},
    /* what is not a list of words that a proxy drops is left unchanged */
    {"TE: X-User-Id|Vary: X-User-Id|Proxy-Connection: X-User-Id",
     "TE: X-User-Id|Vary: X-User-Id|Proxy-Connection: X-User-Id"},
    /* Connection without our names is left unchanged */
    {"Connection: keep-alive", "Connection: keep-alive"},
    {"Connection: ", "Connection: "},
    {"Connection: ,, close ,,;x ,", "Connection: ,, close ,,;x ,"},
    {"Connection: \"x-user-id\"", "Connection: \"x-user-id\""},
    {"connection: TE|Connection: close, X-User",
     "connection: TE|Connection: close, X-User"},
    /* and with our names */
    {"Connection: X-User-Id", ""},
    {"Connection: ,X-User-Id,", ""},
    {"Connection: X-User-Id, close", "Connection: close"},
    {"Connection: close, X-User-Id", "Connection: close"},
    {"Connection: close, X-User-Id, TE", "Connection: close, TE"},
    {"Connection: close;X-User-Id;TE", "Connection: close;TE"},
    {"Connection: close X-User-Id TE", "Connection: close TE"},
    {"Connection: close\tX-User-Id\v,\fTE", "Connection: close\v,\fTE"},
    {"Connection: \r\nX-User-Id", ""},
    {"Connection: x_user_email,,X-USERSYNC-OUTCOME;x-user.id, , a , b ,",
     "Connection: a , b"},
    {"Connection: a, X-User-Id, \"b, X-User-Email\", c",
     "Connection: a, \"b, X-User-Email\", c"},
    {"Connection: \"a, X-User-Id, b\"", "Connection: \"a, b\""},
    {"Connection: close|Host: a|Connection: X-User-Id",
     "Connection: close|Host: a"},
    {"Connection: X-User-Id|Host: a|Connection: close",
     "Connection: close|Host: a"},
    {"Connection: X-User-Id|Host: a|CONNECTION: x-user-email", "Host: a"},
    {"Connection: a, b|connection: X-User-Id, c|Connection: d",
     "Connection: a, b, c, d"},
    {"X-User-Id: 1|Connection: X-User-Id, X-User-Id", ""},
};

static void test_strip(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        apr_table_t *headers = headers_of(requests[i].sent);
        const char *name = apr_pescape_echo(pool, requests[i].sent, 0);

        us_headers_strip(pool, headers);
        is_str(text_of(headers), requests[i].left, "of {%s}", name);
        us_headers_strip(pool, headers);
        is_str(text_of(headers), requests[i].left, "and no more");
    }
}

#define MANY 100000

/* The most memory that this process has used. */
static long megabytes(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
}

/* All in one line, as httpd combines several: the cost stays proportional. */
static void test_many(void)
{
    char *words = apr_palloc(pool, (apr_size_t)MANY * 12);
    apr_table_t *headers = apr_table_make(pool, 4);
    char *end = words;
    long before;
    int i;

    for (i = 0; i < MANY; i++) {
        end = apr_cpystrn(end, i % 2 == 0 ? "x," : "x-user-id,", 11);
    }
    apr_table_setn(headers, "Connection", words);
    for (i = 0; i < 1000; i++) {
        apr_table_addn(headers, i % 2 == 0 ? "X-User-Id" : "Other", "");
    }
    before = megabytes();
    us_headers_strip(pool, headers);
    ok(megabytes() - before < 100, "megabytes: %ld, then %ld", before,
       megabytes());
    is_int((long long)strlen(apr_table_get(headers, "Connection")), MANY - 1,
           "%d words, every other one ours", MANY);
    is_int(apr_table_elts(headers)->nelts, 501, "of 1000 headers half");
}

/* --- ours --- */

static const struct {
    const char *email;
    const char *sent;
} emails[] = {
    {NULL, NULL},
    {"ada@example.com", "ada@example.com"},
    {"\"a;b,c\"@example.com", "\"a;b,c\"@example.com"},
    {"!~@[::1]", "!~@[::1]"},
    {"ada b@example.com", NULL},
    {" ada@example.com", NULL},
    {"ada@example.com ", NULL},
    {"ada@example.com\t", NULL},
    {"ada@example.com\r\nX-Admin: 1", NULL},
    {"ada@example.com\n", NULL},
    {"a\x01", NULL},
    {"a\x7F", NULL},
    {"J\xC3\xB6rg@example.com", NULL},
    {"\x80", NULL},
};

static void test_set(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(emails) / sizeof(emails[0]); i++) {
        apr_table_t *headers = headers_of("Host: a|X-User-Email: old");
        const char *name = emails[i].email;

        us_headers_set(headers, "1", name, "ok");
        is_str(apr_table_get(headers, "X-User-Email"), emails[i].sent,
               "the e-mail {%s}",
               name != NULL ? apr_pescape_echo(pool, name, 0) : "NULL");
        is_str(apr_table_get(headers, "X-User-Id"), "1", "and the id");
        is_str(apr_table_get(headers, "X-Usersync-Outcome"), "ok",
               "and the outcome");
    }
}

static void test_clear(void)
{
    apr_table_t *headers = headers_of("Host: a|X-User: b");

    us_headers_set(headers, "1", "ada@example.com", "ok");
    us_headers_set(headers, "2", "bob@example.com", "unsynced");
    is_str(text_of(headers),
           "Host: a|X-User: b|X-User-Id: 2|X-User-Email: bob@example.com|"
           "X-Usersync-Outcome: unsynced",
           "another user replaces");
    us_headers_set(headers, "3", NULL, "ok");
    is_str(text_of(headers),
           "Host: a|X-User: b|X-User-Id: 3|X-Usersync-Outcome: ok",
           "and leaves nothing of the one before");
    us_headers_clear(headers);
    is_str(text_of(headers), "Host: a|X-User: b", "all are taken away");
    us_headers_clear(headers);
    is_str(text_of(headers), "Host: a|X-User: b", "twice");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_case();
    test_bytes();
    test_names();
    test_strip();
    test_many();
    test_set();
    test_clear();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
