/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The directives of the gate: what they store and refuse, their defaults, and
 * what sections and virtual hosts inherit.
 */
#include "directive_stubs.h"
#include "socache_stubs.h"
#include "tap.h"
#include "us_config.h"

#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;

static const char *line(stub_server *server, us_dir_conf *dir,
                        const char *name, const char *arg)
{
    return stub_line(pool, server, dir, name, arg, NULL);
}

static us_server_conf *conf_of(const stub_server *server)
{
    return us_config_server(&server->s);
}

static us_dir_conf *section(void)
{
    return us_config_create_dir(pool, NULL);
}

/* The stand-in for httpd's parser stores the text there. */
static const char *text_of(const ap_expr_info_t *expr)
{
    return expr != NULL ? expr->filename : NULL;
}

/* --- one line --- */

static const struct {
    const char *name;
    const char *arg;
    const char *part; /* of the message, after the name */
} refused[] = {
    {"UserSyncEnsureUser", "%{REMOTE_USER",
     "takes a string expression such as %{REMOTE_USER}: \"%{REMOTE_USER\": "
     "syntax error"},
    {"UserSyncEnsureEmail", "%{", "takes a string expression"},
    {"UserSyncEnsureOnError", "", "takes Deny or Allow, not \"\""},
    {"UserSyncEnsureOnError", "Off", "takes Deny or Allow, not \"Off\""},
    {"UserSyncEnsureOnError", "Allowed", "not \"Allowed\""},
    {"UserSyncEnsureOnError", "Deny ", "not \"Deny \""},
    {"UserSyncEnsure", "1", "must be On or Off"},
    {"UserSyncEnsureHeaders", "X-User-Id", "must be On or Off"},
    {"UserSyncCache", "nothing", "takes none or a provider"},
    {"UserSyncCache", "list:wrong", "list: wrong: that is wrong"},
    {"UserSyncCacheTimeout", "", "takes a duration"},
    {"UserSyncCacheTimeout", "0", "from 1s to 86400s"},
    {"UserSyncCacheTimeout", "999ms", "from 1s to 86400s"},
    {"UserSyncCacheTimeout", "86401", "from 1s to 86400s"},
    {"UserSyncCacheTimeout", "25h", "from 1s to 86400s"},
    {"UserSyncCacheTimeout", "5m", "from 1s to 86400s"},
    {"UserSyncCacheTimeout", "none", "from 1s to 86400s"},
};

static void is_untouched(const us_server_conf *conf, const us_dir_conf *dir,
                         const char *name)
{
    ok(conf->own_lines == 0 && !us_config_has_gate(conf)
           && !us_config_has_headers(conf) && conf->cache == NULL
           && conf->cache_timeout == US_UNSET && dir->ensure == US_UNSET
           && dir->user_expr == NULL && dir->email_expr == NULL
           && dir->no_email == US_UNSET && dir->on_error == US_UNSET
           && dir->ensure_headers == US_UNSET,
       "%s", name);
}

static void test_refusals(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        const char *name = refused[i].name;
        stub_server *server = stub_server_make(pool);
        us_dir_conf *dir = section();
        const char *wrong = line(server, dir, name, refused[i].arg);

        ok(wrong != NULL && strncmp(wrong, name, strlen(name)) == 0
               && strstr(wrong, refused[i].part) != NULL,
           "refused: %s", shown(wrong));
        is_untouched(conf_of(server), dir, "and nothing is stored");
    }
}

static void test_defaults(void)
{
    us_server_conf *conf = us_config_create_server(pool, NULL);
    us_dir_conf *dir = section();

    is_untouched(conf, dir, "nothing is set at first");
    is_int(us_config_ensure(dir), 0, "no gate");
    is_int(us_config_ensure_headers(dir), 0, "no headers");
    is_int(us_config_on_error(dir), US_ON_ERROR_DENY, "Deny");
    ok(dir->email_expr == NULL, "no e-mail");
    is_int(us_config_cache_timeout(conf), apr_time_from_sec(300), "5 min");
}

static int gate_of(const us_server_conf *conf)
{
    return us_config_has_gate(conf);
}

static int headers_of(const us_server_conf *conf)
{
    return us_config_has_headers(conf);
}

/* On in one section, Off in the next: then the server has it. */
static void check_flag(const char *name, int (*value)(const us_dir_conf *),
                       int (*known)(const us_server_conf *))
{
    stub_server *server = stub_server_make(pool);
    us_server_conf *conf = conf_of(server);
    us_dir_conf *on = section();
    us_dir_conf *off = section();

    stub_section = "/app";
    is_str(line(server, off, name, "Off"), NULL, "%s Off", name);
    ok(!value(off) && !known(conf), "is off, and so is the server");
    is_int(conf->own_lines, 1, "but it has asked");
    is_str(line(server, on, name, "On"), NULL, "%s On", name);
    ok(value(on) && known(conf), "is on, and the server knows of it");
    line(server, off, name, "off");
    ok(!value(off) && known(conf), "also when it is Off elsewhere");
    line(server, on, name, "OFF");
    ok(!value(on), "of one section the last line counts");
    stub_section = NULL;
    line(server, on, name, "Off");
    ok(known(conf), "the server's own line does not affect its sections");

    server = stub_server_make(pool);
    conf = conf_of(server);
    line(server, on, name, "On");
    ok(known(conf), "the server's own line");
    line(server, on, name, "Off");
    ok(!known(conf), "of which the last one counts");
    stub_section = "/app";
    line(server, off, name, "Off");
    ok(!known(conf), "Off in a section");
    stub_section = NULL;
}

static void test_flags(void)
{
    check_flag("UserSyncEnsure", us_config_ensure, gate_of);
    check_flag("UserSyncEnsureHeaders", us_config_ensure_headers, headers_of);
}

static void test_expressions(void)
{
    stub_server *server = stub_server_make(pool);
    us_dir_conf *dir = section();

    is_str(line(server, dir, "UserSyncEnsureUser", "%{env:SUB}"), NULL,
           "an expression for the user");
    is_str(text_of(dir->user_expr), "%{env:SUB}", "is stored");
    is_int(dir->user_expr->flags,
           AP_EXPR_FLAG_STRING_RESULT | AP_EXPR_FLAG_DONT_VARY,
           "as a string, and Vary is left alone");
    line(server, dir, "UserSyncEnsureUser", "None");
    is_str(text_of(dir->user_expr), "None", "None is no word for a user");
    is_str(line(server, dir, "UserSyncEnsureEmail", "%{env:MAIL}"), NULL,
           "one for the e-mail");
    is_str(text_of(dir->email_expr), "%{env:MAIL}", "is stored");
    line(server, dir, "UserSyncEnsureEmail", "none");
    ok(dir->email_expr == NULL && dir->no_email == 1, "None takes it back");
    line(server, dir, "UserSyncEnsureEmail", "%{env:OTHER}");
    ok(strcmp(text_of(dir->email_expr), "%{env:OTHER}") == 0
           && dir->no_email == 0,
       "and the next line that");
    line(server, dir, "UserSyncEnsureEmail", "%{");
    is_str(text_of(dir->email_expr), "%{env:OTHER}",
           "one that is refused changes nothing");
    is_int(conf_of(server)->own_lines, 1, "the server has asked");
    is_int(us_config_has_gate(conf_of(server)), 0, "but not for a gate");
}

static void test_words(void)
{
    stub_server *server = stub_server_make(pool);
    us_dir_conf *dir = section();

    line(server, dir, "UserSyncEnsureOnError", "allow");
    is_int(us_config_on_error(dir), US_ON_ERROR_ALLOW, "Allow");
    line(server, dir, "UserSyncEnsureOnError", "DENY");
    is_int(us_config_on_error(dir), US_ON_ERROR_DENY, "Deny");
    line(server, dir, "UserSyncCacheTimeout", "1s");
    is_int(us_config_cache_timeout(conf_of(server)), apr_time_from_sec(1),
           "the shortest time");
    line(server, dir, "UserSyncCacheTimeout", "24h");
    is_int(us_config_cache_timeout(conf_of(server)), apr_time_from_sec(86400),
           "the longest time");
    line(server, dir, "UserSyncCache", "list:x");
    ok(conf_of(server)->cache != NULL, "a cache");
    is_str(stub_socache_args, "x", "with its arguments");
}

/* --- nested sections --- */

/* A section of lines "NAME VALUE, NAME VALUE". */
static us_dir_conf *section_of(const char *lines)
{
    stub_server *server = stub_server_make(pool);
    us_dir_conf *dir = section();
    char *rest = apr_pstrdup(pool, lines);
    char *item;

    while ((item = strsep(&rest, ",")) != NULL && *item != '\0') {
        char *arg = strchr(item, ' ');

        *arg++ = '\0';
        is_str(line(server, dir,
                    apr_pstrcat(pool, "UserSyncEnsure", item, NULL), arg),
               NULL, "%s %s", item, arg);
    }
    return dir;
}

/* "On a b Allow On": gate, user, e-mail, on error, headers. */
static const char *tell(const us_dir_conf *dir)
{
    const char *user = text_of(dir->user_expr);
    const char *email = text_of(dir->email_expr);

    return apr_pstrcat(
        pool, us_config_ensure(dir) ? "On " : "Off ",
        user != NULL ? user : "-", " ", email != NULL ? email : "-",
        us_config_on_error(dir) == US_ON_ERROR_ALLOW ? " Allow" : " Deny",
        us_config_ensure_headers(dir) ? " On" : " Off", NULL);
}

#define ALL "User a,Email b,OnError Allow,Headers On"

/* Three, each inside the previous one. */
static const struct {
    const char *lines[3];
    const char *result;
} nested[] = {
    {{"", "", ""}, "Off - - Deny Off"},
    {{ALL, "", ""}, "Off a b Allow On"},
    {{"", ALL, ""}, "Off a b Allow On"},
    {{"", "", ALL}, "Off a b Allow On"},
    {{"User a", "User c", ""}, "Off c - Deny Off"},
    {{"User a", "User c", "User d"}, "Off d - Deny Off"},
    {{ALL, "User c", ""}, "Off c b Allow On"},
    {{ALL, "", "Email c"}, "Off a c Allow On"},
    {{"Email a", "Email c", ""}, "Off - c Deny Off"},
    /* the defaults, if configured, are values */
    {{ALL, "Email None", ""}, "Off a - Allow On"},
    {{ALL, "Email None", "User c"}, "Off c - Allow On"},
    {{ALL, "Email None", "Email c"}, "Off a c Allow On"},
    {{"Email None", ALL, ""}, "Off a b Allow On"},
    {{"Email None", "", "Email b"}, "Off - b Deny Off"},
    {{ALL, "OnError Deny", ""}, "Off a b Deny On"},
    {{ALL, "OnError Deny", "OnError Allow"}, "Off a b Allow On"},
    {{ALL, "", "Headers Off"}, "Off a b Allow Off"},
    {{ALL, "Headers Off", "Headers On"}, "Off a b Allow On"},
};

static void test_sections(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(nested) / sizeof(nested[0]); i++) {
        us_dir_conf *outer = section_of(nested[i].lines[0]);
        us_dir_conf *middle = section_of(nested[i].lines[1]);
        us_dir_conf *inner = section_of(nested[i].lines[2]);
        const char *before = tell(outer);
        us_dir_conf *two = us_config_merge_dir(pool, outer, middle);

        is_str(tell(us_config_merge_dir(pool, two, inner)), nested[i].result,
               "(%s) (%s) (%s)", nested[i].lines[0], nested[i].lines[1],
               nested[i].lines[2]);
        is_str(tell(us_config_merge_dir(
                   pool, outer, us_config_merge_dir(pool, middle, inner))),
               nested[i].result, "in whichever order they are merged");
        is_str(tell(outer), before, "and the outer one stays as it was");
    }
}

/* UserSyncEnsure itself is inherited unless set. */
static void test_nested_gates(void)
{
    static const int values[] = {US_UNSET, 0, 1};
    int i;
    int j;

    for (i = 0; i < 3; i++) {
        for (j = 0; j < 3; j++) {
            us_dir_conf *outer = section();
            us_dir_conf *inner = section();

            outer->ensure = values[i];
            inner->ensure = values[j];
            is_int(us_config_ensure(us_config_merge_dir(pool, outer, inner)),
                   j == 0 ? values[i] == 1 : values[j] == 1,
                   "gates: %d within %d", values[j], values[i]);
        }
    }
}

/* --- virtual hosts --- */

/* Lines of a server: its own, and those of a section. */
static const struct {
    const char *own;
    const char *inside;
} lines_of[] = {{NULL, NULL},  {"Off", NULL}, {"On", NULL},
                {NULL, "Off"}, {NULL, "On"},  {"Off", "On"}};

#define LINES (sizeof(lines_of) / sizeof(lines_of[0]))

static us_server_conf *server_with(const char *name, apr_size_t i)
{
    stub_server *server = stub_server_make(pool);

    if (lines_of[i].own != NULL) {
        line(server, section(), name, lines_of[i].own);
    }
    stub_section = "/app";
    if (lines_of[i].inside != NULL) {
        line(server, section(), name, lines_of[i].inside);
    }
    stub_section = NULL;
    return conf_of(server);
}

static int says(const char *line_or_null, const char *word)
{
    return line_or_null != NULL && strcmp(line_or_null, word) == 0;
}

/* A section of the main server applies to all virtual hosts.  Its own line
 * applies to those that have none. */
static void check_servers(const char *name,
                          int (*known)(const us_server_conf *))
{
    apr_size_t i;
    apr_size_t j;

    for (i = 0; i < LINES; i++) {
        for (j = 0; j < LINES; j++) {
            const char *own
                = lines_of[j].own != NULL ? lines_of[j].own : lines_of[i].own;

            is_int(known(us_config_merge_server(pool, server_with(name, i),
                                                server_with(name, j))),
                   says(own, "On") || says(lines_of[i].inside, "On")
                       || says(lines_of[j].inside, "On"),
                   "%s: (%s, %s) in (%s, %s)", name, shown(lines_of[j].own),
                   shown(lines_of[j].inside), shown(lines_of[i].own),
                   shown(lines_of[i].inside));
        }
    }
}

static void test_servers(void)
{
    check_servers("UserSyncEnsure", gate_of);
    check_servers("UserSyncEnsureHeaders", headers_of);
}

static void test_cache(void)
{
    stub_server *main_server = stub_server_make(pool);
    stub_server *vhost = stub_server_make(pool);
    us_server_conf *merged;

    line(main_server, NULL, "UserSyncCache", "list");
    line(main_server, NULL, "UserSyncCacheTimeout", "2s");
    merged
        = us_config_merge_server(pool, conf_of(main_server), conf_of(vhost));
    ok(merged->cache == conf_of(main_server)->cache, "the cache is inherited");
    is_int(us_config_cache_timeout(merged), apr_time_from_sec(2),
           "and how long it knows");
    line(vhost, NULL, "UserSyncCacheTimeout", "5mi");
    merged
        = us_config_merge_server(pool, conf_of(main_server), conf_of(vhost));
    is_int(us_config_cache_timeout(merged), apr_time_from_sec(300),
           "unless a virtual host says the default again");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_refusals();
    test_defaults();
    test_flags();
    test_expressions();
    test_words();
    test_sections();
    test_nested_gates();
    test_servers();
    test_cache();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
