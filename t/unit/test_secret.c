/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/secret.c: keys from a file, a command or the line itself; what is not
 * a key; who can read it; and that nothing of it outlives its pool.
 */
#include "httpd_stubs.h"
#include "tap.h"
#include "us_secret.h"
#include "us_wipe.h"

#include <apr_base64.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static apr_pool_t *pool;

/* --- helpers --- */

static const char *repeat(char c, apr_size_t count)
{
    char *text = apr_palloc(pool, count + 1);

    memset(text, c, count);
    text[count] = '\0';
    return text;
}

/*
 * "file:PATH" of a file with this content and mode.  It lives in memory and
 * disappears with the program, however that ends.
 */
static const char *make_file(const char *content, apr_size_t len, mode_t mode)
{
    int file = memfd_create("key", 0);

    if (file < 0 || write(file, content, len) != (ssize_t)len
        || fchmod(file, mode) != 0) {
        ok(0, "cannot create a file for a key");
    }
    return apr_psprintf(pool, "file:/proc/self/fd/%d", file);
}

/* Checks that loading spec gives value, or is refused if value is NULL. */
static us_secret *check_load(const char *spec, const char *value,
                             const char *name)
{
    us_secret *secret = NULL;
    const char *wrong = us_secret_load(pool, pool, spec, &secret);

    if (value == NULL) {
        ok(wrong != NULL && secret == NULL, "%s: refused (%s)", name,
           shown(wrong));
        return NULL;
    }
    is_str(wrong, NULL, "%s: taken", name);
    is_str(secret != NULL ? secret->value : NULL, value, "%s: the value",
           name);
    is_int(secret != NULL ? (long long)secret->len : -1,
           (long long)strlen(value), "%s: and its length", name);
    return secret;
}

static int is_zero(const volatile char *memory, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len && memory[i] == '\0'; i++) {
    }
    return i == len;
}

/* --- what a key consists of, from any source --- */

#define KEY "sb_publishable_0123456789"
#define S(literal) literal, sizeof(literal) - 1

static const struct {
    const char *name;
    const char *content;
    apr_size_t len;
    const char *value; /* NULL: refused */
} contents[] = {
    {"as it is", S(KEY), KEY},
    {"LF", S(KEY "\n"), KEY},
    {"CR LF", S(KEY "\r\n"), KEY},
    {"CR", S(KEY "\r"), KEY},
    {"one character", S("x"), "x"},
    {"every printable character",
     S("!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"),
     "!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"},
    {"nothing", S(""), NULL},
    {"a line end", S("\n"), NULL},
    {"CR LF alone", S("\r\n"), NULL},
    {"two line ends", S(KEY "\n\n"), NULL},
    {"an empty line in front", S("\n" KEY), NULL},
    {"two lines", S(KEY "\n" KEY "\n"), NULL},
    {"two lines by CR", S(KEY "\r" KEY), NULL},
    {"a header smuggled in", S(KEY "\r\nX-Evil: 1\n"), NULL},
    {"a blank behind", S(KEY " "), NULL},
    {"a blank behind, before the line end", S(KEY " \n"), NULL},
    {"a blank in front", S(" " KEY), NULL},
    {"a blank inside", S("sb publishable"), NULL},
    {"a tab", S("sb\tpublishable"), NULL},
    {"a NUL inside", S("sb\0publishable"), NULL},
    {"a NUL behind", S(KEY "\0"), NULL},
    {"DEL", S("sb\x7Fx"), NULL},
    {"an escape", S("sb\x1Bx"), NULL},
    {"UTF-8", S("sch\xC3\xBCssel"), NULL},
    {"a byte order mark", S("\xEF\xBB\xBF" KEY), NULL},
    {"double quotes", S("\"" KEY "\"\n"), NULL},
    {"single quotes", S("'" KEY "'"), NULL},
    {"backquotes", S("`" KEY "`"), NULL},
    {"a quote in front", S("\"" KEY), NULL},
    {"a quote behind", S(KEY "'"), NULL},
    {"an assignment", S("SUPABASE_KEY=" KEY "\n"), NULL},
    {"an assignment of a quoted key", S("KEY='" KEY "'"), NULL},
    {"a short one", S("k=v"), NULL},
    {"a variable", S("${SUPABASE_KEY}"), NULL},
    {"the project's URL", S("https://abcdefgh.supabase.co"), NULL},
    {"a URL in upper case", S("HTTP://127.0.0.1:8000"), NULL},
    {"base64 with its end", S("c2VjcmV0cw=="), "c2VjcmV0cw=="},
    {"with half of its end", S("c2VjcmV0c3M="), "c2VjcmV0c3M="},
    {"a sign inside that no name has", S("c2V+cm=V0"), "c2V+cm=V0"},
    {"quotes inside", S("a\"b'c`d"), "a\"b'c`d"},
    {"an equals sign in front", S("=x"), "=x"},
    {"a dollar sign", S("$"), "$"},
};

static void test_contents(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        us_secret *secret
            = check_load(make_file(contents[i].content, contents[i].len, 0600),
                         contents[i].value, contents[i].name);

        if (secret != NULL) {
            is_int(secret->source, US_SECRET_FILE, "from a file");
            is_int(secret->exposed, 0, "which only its owner may read");
        }
    }
}

/* --- lengths --- */

/* Loads a file of that many x and the tail; is it accepted? */
static int file_of(apr_size_t count, const char *tail)
{
    const char *content = apr_pstrcat(pool, repeat('x', count), tail, NULL);
    us_secret *secret = NULL;
    const char *wrong = us_secret_load(
        pool, pool, make_file(content, strlen(content), 0600), &secret);

    return wrong == NULL && secret->len == count
           && strlen(secret->value) == count;
}

static void test_file_lengths(void)
{
    ok(file_of(US_SECRET_MAX, ""), "a file of the greatest length");
    ok(file_of(US_SECRET_MAX, "\n"), "and a line end");
    ok(file_of(US_SECRET_MAX, "\r\n"), "and CR LF");
    ok(file_of(US_SECRET_MAX - 1, "\r\n"), "one byte less");
    ok(!file_of(US_SECRET_MAX + 1, ""), "one byte more");
    ok(!file_of(US_SECRET_MAX + 1, "\n"), "one byte more and a line end");
    ok(!file_of(US_SECRET_MAX + 1, "\r\n"), "one byte more and CR LF");
    ok(!file_of(US_SECRET_MAX + 2, "\n"), "two bytes more and a line end");
    ok(!file_of(US_SECRET_MAX, "\nx"), "a second line behind the greatest");
    ok(!file_of(US_SECRET_MAX, "\r\nx"), "a second line behind CR LF");
    ok(!file_of(US_SECRET_MAX, "\n\n"), "an empty line behind the greatest");
    ok(!file_of(100000, ""), "a very long file");
}

static void test_inline_lengths(void)
{
    static const struct {
        apr_size_t len;
        int taken;
    } cases[] = {{US_SECRET_MAX, 1},
                 {US_SECRET_MAX + 1, 0},
                 {US_SECRET_MAX + 2, 0},
                 {US_SECRET_MAX + 3, 0},
                 {8192, 0},
                 {10000000, 0}};
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        us_secret *secret = NULL;
        const char *wrong
            = us_secret_load(pool, pool, repeat('k', cases[i].len), &secret);

        is_int(wrong == NULL && secret->len == cases[i].len, cases[i].taken,
               "%lu bytes in the line itself", (unsigned long)cases[i].len);
    }
}

static void test_command_lengths(void)
{
    static const struct {
        apr_size_t len;
        int taken;
    } cases[] = {{US_SECRET_MAX, 1},
                 {US_SECRET_MAX + 1, 0},
                 {US_SECRET_MAX + 2, 0},
                 {US_SECRET_MAX + 3, 0},
                 {16384, 0}};
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        us_secret *secret = NULL;
        const char *wrong = us_secret_load(
            pool, pool,
            apr_psprintf(pool, "exec:/bin/sh -c \"printf '%%0%lud' 7\"",
                         (unsigned long)cases[i].len),
            &secret);

        is_int(wrong == NULL && secret->len == cases[i].len, cases[i].taken,
               "a command that writes %lu bytes", (unsigned long)cases[i].len);
    }
}

/* --- files --- */

static void test_file_paths(void)
{
    const char *spec = make_file(S(KEY "\n"), 0600);
    const char *name = strrchr(spec, '/') + 1;
    us_secret *secret = NULL;
    const char *wrong;

    stub_server_root = "/proc/self/fd";
    check_load(apr_pstrcat(pool, "file:", name, NULL), KEY,
               "a path below ServerRoot");
    check_load(apr_pstrcat(pool, "file:./", name, NULL), KEY, "with a dot");
    check_load("file:", NULL, "no path");
    check_load("file:missing.key", NULL, "a file that is not there");
    check_load(apr_pstrcat(pool, spec, "/x", NULL), NULL,
               "a path through a file");
    check_load("file:/proc/self", NULL, "a directory");
    check_load("file:/dev/null", NULL, "an empty device");
    check_load("file:/dev/zero", NULL, "a device without end");
    wrong = us_secret_load(pool, pool, "file:missing.key", &secret);
    secret = NULL;
    ok(strstr(us_secret_load(pool, pool, "file:", &secret), "names no file")
           != NULL,
       "no path has a message of its own");
    ok(strstr(wrong, "/proc/self/fd/missing.key") != NULL
           && strstr(wrong, "No such file") != NULL,
       "the message names the file and the reason: %s", shown(wrong));
}

static void test_exposed(void)
{
    static const struct {
        mode_t mode;
        int exposed;
    } cases[] = {{0400, 0}, {0600, 0}, {0640, 0}, {0604, 1}, {0644, 1},
                 {0620, 1}, {0602, 1}, {0666, 1}, {0777, 1}};
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        us_secret *secret = NULL;

        us_secret_load(pool, pool, make_file(S(KEY), cases[i].mode), &secret);
        is_int(secret != NULL ? secret->exposed : -1, cases[i].exposed,
               "mode %04o", (unsigned)cases[i].mode);
    }
}

/* Who can read the file besides root. */
static void test_readers(void)
{
    apr_uid_t me = getuid();
    apr_gid_t mine = getgid();
    static const struct {
        mode_t mode;
        int by_group;
    } cases[] = {{0400, 0}, {0600, 0}, {0640, 1}, {0660, 1}, {0620, 0}};
    us_secret *secret = NULL;
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        us_secret_load(pool, pool, make_file(S(KEY), cases[i].mode), &secret);
        is_int(us_secret_is_readable_by(secret, me, mine + 1), 1,
               "mode %04o: its owner", (unsigned)cases[i].mode);
        is_int(us_secret_is_readable_by(secret, me + 1, mine),
               cases[i].by_group, "mode %04o: its group",
               (unsigned)cases[i].mode);
        is_int(us_secret_is_readable_by(secret, me + 1, mine + 1), 0,
               "mode %04o: no one else", (unsigned)cases[i].mode);
    }
    us_secret_load(pool, pool, KEY, &secret);
    is_int(us_secret_is_readable_by(secret, 0, 0), 0, "no file: nobody");
}

/* --- commands and values in the line --- */

static void test_commands(void)
{
    us_secret *secret
        = check_load("exec:/bin/echo " KEY, KEY, "a command's line");

    if (secret != NULL) {
        is_int(secret->source, US_SECRET_EXEC, "from a command");
        is_int(secret->exposed, 0, "which no one else can read");
    }
    check_load("exec:/bin/echo -n " KEY, KEY, "without a line end");
    ok(stub_exec_line[0] == '\0' && is_zero(stub_exec_line, strlen(KEY)),
       "what the command wrote is wiped");
    check_load("exec:/bin/echo '" KEY "'", KEY, "an argument in quotes");
    check_load("exec:/bin/uname", "Linux", "no arguments");
    check_load("exec:/bin/echo", NULL, "an empty line");
    check_load("exec:/bin/true", NULL, "nothing at all");
    check_load("exec:", NULL, "no command");
    check_load("exec:   ", NULL, "blanks instead of a command");
    check_load("exec:/nonexistent/command", NULL,
               "a command that is not "
               "there");
}

static void test_inline(void)
{
    us_secret *secret = check_load(KEY, KEY, "the key itself");

    if (secret != NULL) {
        is_int(secret->source, US_SECRET_INLINE, "from the line");
        is_int(secret->exposed, 0, "no file to be exposed");
    }
    check_load("FILE:/x", "FILE:/x", "the prefix is lower-case");
    check_load("", NULL, "an empty line");
    check_load("two words", NULL, "two words in the line");
    check_load("k\xC3\xA9y", NULL, "no ASCII in the line");
}

/* No message may contain a piece of what might be the key. */
static void test_messages(void)
{
    const char *const specs[] = {"SECRET with blank",
                                 "SECRET\n",
                                 "exec:/bin/echo SECRET with blank",
                                 make_file(S("SECRET\nSECRET\n"), 0600),
                                 make_file(S("'SECRET'"), 0600),
                                 make_file(S("KEY=SECRET"), 0600),
                                 "${SECRET}",
                                 "https://SECRET.supabase.co"};
    apr_size_t i;

    for (i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        us_secret *secret = NULL;
        const char *wrong = us_secret_load(pool, pool, specs[i], &secret);

        ok(wrong == NULL || strstr(wrong, "SECRET") == NULL,
           "the message does not quote the key: %s", shown(wrong));
    }
}

/* --- wiping --- */

static void test_wiping(void)
{
    const char *const specs[]
        = {make_file(S(KEY), 0600), "exec:/bin/echo " KEY, KEY};
    apr_size_t i;

    for (i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        apr_pool_t *own;
        us_secret *secret = NULL;
        const volatile char *value;

        apr_pool_create(&own, pool);
        us_secret_load(own, own, specs[i], &secret);
        value = secret->value;
        ok(!is_zero(value, strlen(KEY)), "the key is there: %s", specs[i]);
        apr_pool_clear(own);
        ok(is_zero(value, strlen(KEY)), "and gone with its pool");
        apr_pool_destroy(own);
    }
}

static void test_wipe_functions(void)
{
    char text[] = "0123456789";
    apr_pool_t *own;
    char *memory;

    us_wipe(text + 2, 5);
    ok(memcmp(text,
              "01\0\0\0\0\0"
              "789",
              10)
           == 0,
       "wipes what it is told to and no more");
    us_wipe(text, 0);
    ok(text[0] == '0', "wipes nothing when told so");
    apr_pool_create(&own, pool);
    memory = apr_pstrdup(own, "0123456789");
    us_wipe_with(own, memory + 1, 8);
    ok(strcmp(memory, "0123456789") == 0, "nothing is wiped early");
    apr_pool_clear(own);
    ok(memory[0] == '0' && is_zero(memory + 1, 8) && memory[9] == '9',
       "a pool that is cleared wipes that very block");
    apr_pool_destroy(own);
}

/* --- kinds --- */

/* A JWT with that payload: base64url without padding. */
static const char *jwt(const char *payload)
{
    char *text = apr_palloc(
        pool, (apr_size_t)apr_base64_encode_len((int)strlen(payload)));
    char *p;

    apr_base64_encode(text, payload, (int)strlen(payload));
    for (p = text; *p != '\0'; p++) {
        *p = (char)(*p == '+' ? '-' : (*p == '/' ? '_' : *p));
    }
    text[strcspn(text, "=")] = '\0';
    return apr_pstrcat(pool, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.", text,
                       ".c2lnbmF0dXJl", NULL);
}

static void check_kind(const char *value, us_key_kind kind, const char *name)
{
    us_secret secret
        = {.value = value, .len = strlen(value), .source = US_SECRET_INLINE};

    is_int(us_secret_key_kind(pool, &secret), kind, "%s", name);
}

/* Its base64 has + and / before the role. */
#define DASHES "{\"ref\":\"~~~>>>???~~~>>>???\",\"role\":\"service_role\"}"

static void test_kinds(void)
{
    check_kind(KEY, US_KEY_PUBLISHABLE, "a publishable key");
    check_kind("sb_secret_0123456789", US_KEY_SECRET, "a secret key");
    check_kind("sb_publishable", US_KEY_OTHER, "no key behind the prefix");
    check_kind("x", US_KEY_OTHER, "something else");
    check_kind("ey", US_KEY_OTHER, "too short for a JWT");
    check_kind(jwt("{\"iss\":\"supabase\",\"role\":\"anon\"}"), US_KEY_JWT,
               "a legacy anon key");
    check_kind(jwt("{\"iss\":\"supabase\",\"role\":\"service_role\"}"),
               US_KEY_JWT_SERVICE, "a legacy service_role key");
    ok(strpbrk(jwt(DASHES), "-_") != NULL, "base64url of its own kind");
    check_kind(jwt(DASHES), US_KEY_JWT_SERVICE, "with - and _ in front");
    check_kind(jwt("{\"role\":\"service_role\"}x"), US_KEY_JWT_SERVICE,
               "one byte after a full group");
    check_kind(jwt("{\"role\":\"service_role\"}xx"), US_KEY_JWT_SERVICE,
               "two bytes after a full group");
    check_kind("eyJhbGciOiJIUzI1NiJ9", US_KEY_JWT, "no payload");
    check_kind("eyJhbGciOiJIUzI1NiJ9.", US_KEY_JWT, "an empty payload");
    check_kind("eyJhbGciOiJIUzI1NiJ9..", US_KEY_JWT, "empty parts");
    check_kind("eyJhbGciOiJIUzI1NiJ9.!!!!.x", US_KEY_JWT,
               "a payload that is no base64");
    check_kind("eyJhbGciOiJIUzI1NiJ9.e.x", US_KEY_JWT, "half a group");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_contents();
    test_file_lengths();
    test_inline_lengths();
    test_command_lengths();
    test_file_paths();
    test_exposed();
    test_readers();
    test_commands();
    test_inline();
    test_messages();
    test_wiping();
    test_wipe_functions();
    test_kinds();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
