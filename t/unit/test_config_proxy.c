/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The directives for what mod_proxy forwards: what they store and refuse, their
 * defaults, and what sections and virtual hosts inherit.
 */
#include "directive_stubs.h"
#include "tap.h"
#include "us_config.h"

#include <apr_general.h>
#include <apr_strings.h>

#define RESPONSE "UserSyncEnsureResponse"
#define ADMIN "UserSyncProxyAdmin"
#define HEADERS "UserSyncProxyHeaders"

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

/* "On Allow Keep" */
static const char *tell(const us_dir_conf *dir)
{
    static const char *const modes[] = {[US_RESPONSE_OFF] = "Off",
                                        [US_RESPONSE_REPORT] = "Report",
                                        [US_RESPONSE_ON] = "On"};

    return apr_pstrcat(pool, modes[us_config_response(dir)],
                       us_config_proxy_admin(dir) ? " Allow" : " Deny",
                       us_config_proxy_headers(dir) ? " Keep" : " Remove",
                       NULL);
}

static int is_untouched(const us_server_conf *conf, const us_dir_conf *dir)
{
    return conf->own_lines == 0 && conf->response_level == US_UNSET
           && conf->response_inside == 0 && dir->response == US_UNSET
           && dir->proxy_admin == US_UNSET && dir->proxy_headers == US_UNSET;
}

/* --- one line --- */

static const struct {
    const char *name;
    const char *words; /* as its message lists them */
    const char *bad[12];
} refused[] = {
    {RESPONSE,
     "On, Report or Off",
     {"", "Yes", "1", "None", "On ", " On", "Reports", "Rep", "On,Report",
      "Allow", "Deny"}},
    {ADMIN,
     "Deny or Allow",
     {"", "On", "Off", "None", "Denied", "Allow ", "All", "admin", "403"}},
    {HEADERS,
     "Remove or Keep",
     {"", "On", "Off", "None", "Removed", "Keep ", "Unset", "sb-auth-*"}},
};

static void test_refusals(void)
{
    apr_size_t i;
    int k;

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        for (k = 0; refused[i].bad[k] != NULL; k++) {
            stub_server *server = stub_server_make(pool);
            us_dir_conf *dir = section();

            is_str(line(server, dir, refused[i].name, refused[i].bad[k]),
                   apr_pstrcat(pool, refused[i].name, " takes ",
                               refused[i].words, ", not \"", refused[i].bad[k],
                               "\"", NULL),
                   "%s \"%s\"", refused[i].name, refused[i].bad[k]);
            ok(is_untouched(conf_of(server), dir), "nothing is stored");
        }
    }
}

static void test_defaults(void)
{
    us_server_conf *conf = us_config_create_server(pool, NULL);
    us_dir_conf *dir = section();

    ok(is_untouched(conf, dir), "nothing is set at first");
    is_str(tell(dir), "Off Deny Remove", "the defaults");
    is_int(us_config_has_response(conf), 0, "and nothing to prepare");
}

static void test_words(void)
{
    static const struct {
        const char *name;
        const char *arg;
        const char *is;
    } words[] = {
        {RESPONSE, "On", "On Deny Remove"},
        {RESPONSE, "on", "On Deny Remove"},
        {RESPONSE, "REPORT", "Report Deny Remove"},
        {RESPONSE, "report", "Report Deny Remove"},
        {RESPONSE, "oFF", "Off Deny Remove"},
        {ADMIN, "Allow", "Off Allow Remove"},
        {ADMIN, "allow", "Off Allow Remove"},
        {ADMIN, "DENY", "Off Deny Remove"},
        {HEADERS, "Keep", "Off Deny Keep"},
        {HEADERS, "KEEP", "Off Deny Keep"},
        {HEADERS, "remove", "Off Deny Remove"},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        stub_server *server = stub_server_make(pool);
        us_dir_conf *dir = section();

        is_str(line(server, dir, words[i].name, words[i].arg), NULL, "%s %s",
               words[i].name, words[i].arg);
        is_str(tell(dir), words[i].is, "is stored");
        is_int(conf_of(server)->own_lines, 1, "and marks its server");
        is_str(tell(us_config_merge_dir(pool, dir, section())), words[i].is,
               "and is inherited");
    }
}

static void test_last_line(void)
{
    stub_server *server = stub_server_make(pool);
    us_dir_conf *dir = section();

    line(server, dir, RESPONSE, "On");
    line(server, dir, ADMIN, "Allow");
    line(server, dir, HEADERS, "Keep");
    is_str(tell(dir), "On Allow Keep", "all three");
    line(server, dir, RESPONSE, "maybe");
    line(server, dir, ADMIN, "maybe");
    line(server, dir, HEADERS, "maybe");
    is_str(tell(dir), "On Allow Keep", "what is refused changes nothing");
    line(server, dir, RESPONSE, "Report");
    line(server, dir, ADMIN, "Deny");
    line(server, dir, HEADERS, "Remove");
    is_str(tell(dir), "Report Deny Remove", "the last line counts");
}

/* --- what the server knows of --- */

static int knows(const stub_server *server)
{
    return us_config_has_response(conf_of(server));
}

static void test_places(void)
{
    static const char *const modes[] = {"On", "Report"};
    int i;

    for (i = 0; i < 2; i++) {
        stub_server *server = stub_server_make(pool);

        stub_section = "/auth/v1/";
        line(server, section(), RESPONSE, "Off");
        ok(!knows(server), "Off in a section is nothing to prepare");
        line(server, section(), RESPONSE, modes[i]);
        ok(knows(server), "%s in a section is", modes[i]);
        line(server, section(), RESPONSE, "Off");
        ok(knows(server), "whatever others say");
        stub_section = NULL;
        line(server, section(), RESPONSE, "Off");
        ok(knows(server), "and the server itself");

        server = stub_server_make(pool);
        line(server, section(), RESPONSE, modes[i]);
        ok(knows(server), "%s in the server itself", modes[i]);
        line(server, section(), RESPONSE, "Off");
        ok(!knows(server), "of which the last line counts");
    }
    {
        stub_server *server = stub_server_make(pool);

        line(server, section(), ADMIN, "Allow");
        line(server, section(), HEADERS, "Keep");
        ok(!knows(server), "the others prepare nothing");
    }
}

/* --- nested sections --- */

static us_dir_conf *section_of(const char *words)
{
    static const char *const names[] = {RESPONSE, ADMIN, HEADERS};
    stub_server *server = stub_server_make(pool);
    us_dir_conf *dir = section();
    char *rest = apr_pstrdup(pool, words);
    char *word;
    int i;

    for (i = 0; i < 3 && (word = strsep(&rest, " ")) != NULL; i++) {
        if (*word != '-') {
            is_str(line(server, dir, names[i], word), NULL, "%s %s", names[i],
                   word);
        }
    }
    return dir;
}

/* Three, each inside the previous one; "-" is no line. */
static const struct {
    const char *words[3];
    const char *is;
} nested[] = {
    {{"- - -", "- - -", "- - -"}, "Off Deny Remove"},
    {{"On Allow Keep", "- - -", "- - -"}, "On Allow Keep"},
    {{"- - -", "On Allow Keep", "- - -"}, "On Allow Keep"},
    {{"- - -", "- - -", "On Allow Keep"}, "On Allow Keep"},
    {{"On Allow Keep", "Off - -", "- - -"}, "Off Allow Keep"},
    {{"On Allow Keep", "Report - -", "- - -"}, "Report Allow Keep"},
    {{"Report - -", "On - -", "Off - -"}, "Off Deny Remove"},
    {{"Off - -", "Report - -", "On - -"}, "On Deny Remove"},
    {{"On Allow Keep", "- Deny -", "- - -"}, "On Deny Keep"},
    {{"On Allow Keep", "- Deny -", "- Allow -"}, "On Allow Keep"},
    {{"On Allow Keep", "- - Remove", "- - -"}, "On Allow Remove"},
    {{"On Allow Keep", "- - Remove", "- - Keep"}, "On Allow Keep"},
    {{"On - -", "- Allow -", "- - Keep"}, "On Allow Keep"},
    {{"On Allow Keep", "Off Deny Remove", "- - -"}, "Off Deny Remove"},
    {{"On Allow Keep", "Off Deny Remove", "Report - Keep"},
     "Report Deny Keep"},
};

static void test_sections(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(nested) / sizeof(nested[0]); i++) {
        us_dir_conf *outer = section_of(nested[i].words[0]);
        us_dir_conf *middle = section_of(nested[i].words[1]);
        us_dir_conf *inner = section_of(nested[i].words[2]);
        const char *before = tell(outer);
        us_dir_conf *two = us_config_merge_dir(pool, outer, middle);

        is_str(tell(us_config_merge_dir(pool, two, inner)), nested[i].is,
               "(%s) (%s) (%s)", nested[i].words[0], nested[i].words[1],
               nested[i].words[2]);
        is_str(tell(us_config_merge_dir(
                   pool, outer, us_config_merge_dir(pool, middle, inner))),
               nested[i].is, "in whichever order they are merged");
        is_str(tell(outer), before, "and the outer one stays as it was");
    }
}

/* --- virtual hosts --- */

/* Lines of a server: its own, and those of a section. */
static const struct {
    const char *own;
    const char *inside;
} lines_of[] = {{NULL, NULL},     {"Off", NULL},     {"On", NULL},
                {"Report", NULL}, {NULL, "Off"},     {NULL, "On"},
                {NULL, "Report"}, {"Off", "Report"}, {"On", "Off"}};

#define LINES (sizeof(lines_of) / sizeof(lines_of[0]))

static us_server_conf *server_with(apr_size_t i)
{
    stub_server *server = stub_server_make(pool);

    if (lines_of[i].own != NULL) {
        line(server, section(), RESPONSE, lines_of[i].own);
    }
    stub_section = "/auth/v1/";
    if (lines_of[i].inside != NULL) {
        line(server, section(), RESPONSE, lines_of[i].inside);
    }
    stub_section = NULL;
    return conf_of(server);
}

static int ensures(const char *word)
{
    return word != NULL && strcmp(word, "Off") != 0;
}

/* A section of the main server applies to all virtual hosts.  Its own line
 * applies to those that have none. */
static void test_servers(void)
{
    apr_size_t i;
    apr_size_t j;

    for (i = 0; i < LINES; i++) {
        for (j = 0; j < LINES; j++) {
            const char *own
                = lines_of[j].own != NULL ? lines_of[j].own : lines_of[i].own;
            const us_server_conf *merged
                = us_config_merge_server(pool, server_with(i), server_with(j));

            is_int(us_config_has_response(merged),
                   ensures(own) || ensures(lines_of[i].inside)
                       || ensures(lines_of[j].inside),
                   "(%s, %s) in (%s, %s)", shown(lines_of[j].own),
                   shown(lines_of[j].inside), shown(lines_of[i].own),
                   shown(lines_of[i].inside));
            is_int(merged->own_lines,
                   lines_of[j].own != NULL || lines_of[j].inside != NULL,
                   "its own lines are not the main server's");
        }
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_refusals();
    test_defaults();
    test_words();
    test_last_line();
    test_places();
    test_sections();
    test_servers();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
