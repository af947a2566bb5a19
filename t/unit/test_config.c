/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/config.c and config/directives.c: what the directives store, what is
 * inherited and what is not, the defaults, and the columns that result.
 */
#include "directive_stubs.h"
#include "httpd_stubs.h"
#include "tap.h"
#include "us_config.h"

#include <http_core.h>
#include <http_log.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static apr_pool_t *pool;

/* --- directives, as httpd calls them --- */

static stub_server *make_server(void)
{
    return stub_server_make(pool);
}

/* Sets a line in the server's section; second is for those with two words. */
static const char *line(stub_server *server, us_dir_conf *dir,
                        const char *name, const char *first,
                        const char *second)
{
    return stub_line(pool, server, dir, name, first, second);
}

static us_server_conf *conf_of(const stub_server *server)
{
    return us_config_server(&server->s);
}

static const char *make_file(const char *content, mode_t mode)
{
    int file = memfd_create("file", 0);

    if (file < 0
        || write(file, content, strlen(content)) != (ssize_t)strlen(content)
        || fchmod(file, mode) != 0) {
        ok(0, "cannot create a file");
    }
    return apr_psprintf(pool, "/proc/self/fd/%d", file);
}

/* Self-signed, EC; nobody has its key. */
static const char certificate[]
    = "-----BEGIN CERTIFICATE-----\n"
      "MIIBezCCASGgAwIBAgIUUxETnpWHUrL3Z029GKSwv/Q/U2UwCgYIKoZIzj0EAwIw\n"
      "EjEQMA4GA1UEAwwHVGVzdCBDQTAgFw0yNjExMjMwMjM2NThaGA8yMTI2MTAzMDAy\n"
      "MzY1OFowEjEQMA4GA1UEAwwHVGVzdCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEH\n"
      "A0IABD0o8ddQKrx8/Rva70Xpgnt77mlWmT+nMvA1B6JkR/y82wXXEfq5g4ykZ4GB\n"
      "u12YDvdSg7XpMFbbOW/1A3Y6i0ejUzBRMB0GA1UdDgQWBBRaRaxDJQOqqhAoMljg\n"
      "YafV7zW8OzAfBgNVHSMEGDAWgBRaRaxDJQOqqhAoMljgYafV7zW8OzAPBgNVHRMB\n"
      "Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCVfijLZcN9EErCsQIiStW7p5aj\n"
      "SgcQfoURZcvrePNKowIgJ2PZBfV0Rh/FRjEC54zSXDBKstgjHxvZ3N2CuUfEdXU=\n"
      "-----END CERTIFICATE-----\n";

static const struct {
    const char *name;
    const char *first;
    const char *second;
} refused[] = {
    {"UserSyncSupabaseURL", "http://abc.supabase.co", NULL},
    {"UserSyncSupabaseKey", "two words", NULL},
    {"UserSyncSupabaseKey", "file:/nonexistent", NULL},
    {"UserSyncTimeout", "99ms", NULL},
    {"UserSyncTimeout", "61s", NULL},
    {"UserSyncRegisterTimeout", "2mi", NULL},
    {"UserSyncConnectTimeout", "1x", NULL},
    {"UserSyncStoreTimeout", "0", NULL},
    {"UserSyncCACertificateFile", "/nonexistent.pem", NULL},
    {"UserSyncCACertificateFile", "/dev/null", NULL},
    {"UserSyncCACertificateFile", "/proc/self/environ", NULL},
    {"UserSyncCACertificateFile", "/", NULL},
    {"UserSyncProxy", "socks4://p", NULL},
    {"UserSyncProxy", "", NULL},
    {"UserSyncForwardClientIP", "On", NULL},
    {"UserSyncForwardClientIP", "Forwarded", NULL},
    {"UserSyncForwardClientIP", "", NULL},
    {"UserSyncTable", "a.b.c", NULL},
    {"UserSyncColumn", "name", "name"},
    {"UserSyncColumn", "", "x"},
    {"UserSyncColumn", "Id", "x"},
    {"UserSyncColumn", "ids", "x"},
    {"UserSyncColumn", "phone.x", "x"},
    {"UserSyncColumn", "user_metadata", "x"},
    {"UserSyncColumn", "user_metadata.", "x"},
    {"UserSyncColumn", "app_metadata", "x"},
    {"UserSyncColumn", "raw_user_meta_data.x", "x"},
    {"UserSyncColumn", "email", "e mail"},
    {"UserSyncColumn", "email", ""},
    {"UserSyncColumn", "id", "None"},
    {"UserSyncColumn", "id", "none"},
    {"UserSyncMaxBodySize", "255", NULL},
    {"UserSyncMaxBodySize", "1048577", NULL},
    {"UserSyncMaxBodySize", "8k", NULL},
    {"UserSyncEventHeader", "Host", "0123456789abcdef"},
    {"UserSyncEventHeader", "X:Key", "0123456789abcdef"},
    {"UserSyncEventHeader", "X-Key", "0123456789abcde"},
    {"UserSyncEventHeader", "X-Key", "file:/nonexistent"},
};

static int is_untouched(const us_server_conf *conf)
{
    return conf->url == NULL && conf->key == NULL && conf->timeout == US_UNSET
           && conf->register_timeout == US_UNSET
           && conf->connect_timeout == US_UNSET
           && conf->store_timeout == US_UNSET && conf->ca_file == NULL
           && conf->proxy == NULL && conf->forward_ip == US_UNSET
           && conf->table == NULL && conf->columns == NULL
           && conf->event_header == NULL && conf->on_delete == US_UNSET
           && conf->own_lines == 0;
}

/* Nothing may be stored, and the message must start with the name. */
static void test_refusals(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        stub_server *server = make_server();
        us_dir_conf *dir = us_config_create_dir(pool, NULL);
        const char *wrong = line(server, dir, refused[i].name,
                                 refused[i].first, refused[i].second);

        ok(wrong != NULL
               && strncmp(wrong,
                          apr_pstrcat(pool, refused[i].name, " takes ", NULL),
                          strlen(refused[i].name) + 7)
                      == 0,
           "refused: %s", wrong != NULL ? wrong : refused[i].name);
        ok(is_untouched(conf_of(server))
               && dir->max_body_size == (apr_size_t)US_UNSET,
           "and nothing is stored, not even that it was there");
    }
}

/* A header has its value, and no other text. */
static void test_event_header(void)
{
    static const char *const others[] = {"",
                                         "0",
                                         "0123456789abcde",
                                         "0123456789abcdef0",
                                         "0123456789ABCDEF",
                                         "0123456789abcdeg"};
    stub_server *server = make_server();
    us_dir_conf *dir = us_config_create_dir(pool, NULL);
    const us_event_header *header;
    apr_size_t i;

    is_str(
        line(server, dir, "UserSyncEventHeader", "X-Key", "0123456789abcdef"),
        NULL, "a header is taken");
    header = us_config_event_header(conf_of(server));
    is_str(header->name, "X-Key", "its name is stored");
    ok(us_event_header_is(header, "0123456789abcdef"), "it has its value");
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        ok(!us_event_header_is(header, others[i]), "and not '%s'", others[i]);
    }
    ok(us_config_has_secrets(conf_of(server)), "its server takes events");
    ok(!us_config_has_secrets(conf_of(make_server())), "others do not");
}

static void test_settings(void)
{
    stub_server *server = make_server();
    us_server_conf *conf = conf_of(server);
    us_dir_conf *dir = us_config_create_dir(pool, NULL);
    const char *ca_file = make_file(certificate, 0644);

    is_int(us_config_is_complete(conf), 0, "incomplete at first");
    is_str(line(server, dir, "UserSyncSupabaseURL", "https://x.example", NULL),
           NULL, "a URL is taken");
    is_str(conf->url, "https://x.example/auth/v1", "and stored");
    is_int(conf->own_lines, 1, "and marks its server");
    is_int(us_config_is_complete(conf), 0, "incomplete without a key");
    is_str(line(server, dir, "UserSyncSupabaseKey", "sb_publishable_x", NULL),
           NULL, "a key is taken");
    is_str(conf->key != NULL ? conf->key->value : NULL, "sb_publishable_x",
           "and stored");
    is_int(us_config_is_complete(conf), 1, "complete with both");
    line(server, dir, "UserSyncTimeout", "1s", NULL);
    line(server, dir, "UserSyncRegisterTimeout", "2s", NULL);
    line(server, dir, "UserSyncConnectTimeout", "300ms", NULL);
    line(server, dir, "UserSyncStoreTimeout", "4s", NULL);
    is_int(us_config_timeout(conf), apr_time_from_sec(1), "timeout");
    is_int(us_config_register_timeout(conf), apr_time_from_sec(2),
           "register timeout");
    is_int(us_config_connect_timeout(conf), apr_time_from_msec(300),
           "connect timeout");
    is_int(us_config_store_timeout(conf), apr_time_from_sec(4),
           "store timeout");
    is_str(line(server, dir, "UserSyncCACertificateFile", ca_file, NULL), NULL,
           "a file with a certificate is taken");
    is_str(conf->ca_file, ca_file, "and its path stored");
    line(server, dir, "UserSyncProxy", "http://proxy:3128/", NULL);
    is_str(conf->proxy, "http://proxy:3128", "proxy");
    line(server, dir, "UserSyncProxy", "none", NULL);
    is_str(conf->proxy, "", "no proxy, explicitly");
    line(server, dir, "UserSyncForwardClientIP", "sb-forwarded-for", NULL);
    is_int(us_config_forward_ip(conf), US_FORWARD_SB, "Sb-Forwarded-For");
    line(server, dir, "UserSyncForwardClientIP", "X-Forwarded-For", NULL);
    is_int(us_config_forward_ip(conf), US_FORWARD_X, "X-Forwarded-For");
    line(server, dir, "UserSyncForwardClientIP", "off", NULL);
    is_int(us_config_forward_ip(conf), US_FORWARD_OFF, "Off");
    line(server, dir, "UserSyncTable", "app.Users", NULL);
    is_str(us_config_table(conf), "\"app\".\"Users\"", "table");
    line(server, dir, "UserSyncOnDelete", "delete", NULL);
    is_int(conf->on_delete, US_ON_DELETE_DELETE, "Delete");
    line(server, dir, "UserSyncOnDelete", "MARK", NULL);
    is_int(conf->on_delete, US_ON_DELETE_MARK, "Mark");
    line(server, dir, "UserSyncOnDelete", "Keep", NULL);
    is_int(conf->on_delete, US_ON_DELETE_KEEP, "Keep");
    line(server, dir, "UserSyncMaxBodySize", "256", NULL);
    is_int((long long)us_config_max_body_size(dir), 256, "body size");
}

/* In a virtual host a setter has no log level yet, so its messages would be
 * lost.  us_config_check logs them. */
static void test_exposed_key(void)
{
    stub_server *server = make_server();

    stub_log_level = -1;
    line(server, NULL, "UserSyncSupabaseKey",
         apr_pstrcat(pool, "file:", make_file("key", 0644), NULL), NULL);
    is_int(conf_of(server)->key->exposed, 1, "a file of everybody's is known");
    is_int(stub_log_level, -1, "and the setter does not log");
}

static void test_dump_runs_nothing(void)
{
    stub_server *server = make_server();

    stub_run_mode = AP_SQ_RM_CONFIG_DUMP;
    is_str(
        line(server, NULL, "UserSyncSupabaseKey", "exec:/nonexistent", NULL),
        NULL, "a dump of the configuration runs no command");
    stub_run_mode = AP_SQ_RM_NORMAL;
    stub_define = "DUMP_CONFIG";
    is_str(
        line(server, NULL, "UserSyncSupabaseKey", "exec:/nonexistent", NULL),
        NULL, "neither does mod_info's");
    stub_define = NULL;
    ok(line(server, NULL, "UserSyncSupabaseKey", "exec:/nonexistent", NULL)
           != NULL,
       "a start does");
}

/* --- defaults --- */

static void test_defaults(void)
{
    us_server_conf *conf = us_config_create_server(pool, NULL);
    us_dir_conf *dir = us_config_create_dir(pool, NULL);

    is_int(us_config_timeout(conf), apr_time_from_sec(5), "5 s");
    is_int(us_config_register_timeout(conf), apr_time_from_sec(12), "12 s");
    is_int(us_config_connect_timeout(conf), apr_time_from_sec(2), "2 s");
    is_int(us_config_store_timeout(conf), apr_time_from_sec(3), "3 s");
    is_int(us_config_forward_ip(conf), US_FORWARD_OFF, "no client address");
    is_str(us_config_table(conf), "\"public\".\"users\"", "public.users");
    is_int((long long)us_config_max_body_size(dir), 8192, "8192 bytes");
    ok(is_untouched(conf), "and all of it unset");
}

/* --- merging --- */

/* A configuration in which each member differs from its default. */
static us_server_conf *full(const char *tag)
{
    us_server_conf *conf = us_config_create_server(pool, NULL);
    us_column column = {US_FIELD_PHONE, NULL, NULL, tag};
    apr_interval_time_t base = (apr_interval_time_t)strlen(tag) * 10;

    conf->url = apr_pstrcat(pool, "url ", tag, NULL);
    conf->key = apr_pcalloc(pool, sizeof(*conf->key));
    conf->key->value = tag;
    conf->timeout = base + 1;
    conf->register_timeout = base + 2;
    conf->connect_timeout = base + 3;
    conf->store_timeout = base + 4;
    conf->ca_file = apr_pstrcat(pool, "ca ", tag, NULL);
    conf->proxy = apr_pstrcat(pool, "proxy ", tag, NULL);
    conf->forward_ip = (int)base + 5;
    conf->table = apr_pstrcat(pool, "table ", tag, NULL);
    conf->columns = apr_array_make(pool, 1, sizeof(column));
    APR_ARRAY_PUSH(conf->columns, us_column) = column;
    conf->on_delete = (int)base + 6;
    conf->own_lines = 1;
    return conf;
}

static const char *first_column(const us_server_conf *conf)
{
    return conf->columns != NULL && conf->columns->nelts == 1
               ? APR_ARRAY_IDX(conf->columns, 0, us_column).plain
               : NULL;
}

static void check_same(const us_server_conf *got, const us_server_conf *want,
                       const char *name)
{
    is_str(got->url, want->url, "%s: url", name);
    ok(got->key == want->key, "%s: key", name);
    is_int(got->timeout, want->timeout, "%s: timeout", name);
    is_int(got->register_timeout, want->register_timeout,
           "%s: register_timeout", name);
    is_int(got->connect_timeout, want->connect_timeout, "%s: connect_timeout",
           name);
    is_int(got->store_timeout, want->store_timeout, "%s: store_timeout", name);
    is_str(got->ca_file, want->ca_file, "%s: ca_file", name);
    is_str(got->proxy, want->proxy, "%s: proxy", name);
    is_int(got->forward_ip, want->forward_ip, "%s: forward_ip", name);
    is_str(got->table, want->table, "%s: table", name);
    is_str(first_column(got), first_column(want), "%s: columns", name);
    is_int(got->on_delete, want->on_delete, "%s: on_delete", name);
}

static void test_merge(void)
{
    us_server_conf *outer = full("o");
    us_server_conf *inner = full("in");
    us_server_conf *none = us_config_create_server(pool, NULL);
    us_server_conf before = *outer;
    us_server_conf *merged;

    merged = us_config_merge_server(pool, outer, none);
    check_same(merged, outer, "inherited");
    is_int(merged->own_lines, 0, "that a server asked is not inherited");
    merged = us_config_merge_server(pool, none, inner);
    check_same(merged, inner, "only the inner");
    is_int(merged->own_lines, 1, "the inner server asked");
    merged = us_config_merge_server(pool, outer, inner);
    check_same(merged, inner, "the inner wins");
    merged = us_config_merge_server(pool, none, none);
    check_same(merged, none, "neither");
    check_same(outer, &before, "the outer stays as it was");
}

/* None and Off are values, not the absence of one. */
static void test_merge_of_explicit_defaults(void)
{
    us_server_conf *outer = full("o");
    us_server_conf *inner = us_config_create_server(pool, NULL);
    us_server_conf *merged;

    inner->proxy = "";
    inner->forward_ip = US_FORWARD_OFF;
    merged = us_config_merge_server(pool, outer, inner);
    is_str(merged->proxy, "", "UserSyncProxy None overrides");
    is_int(us_config_forward_ip(merged), US_FORWARD_OFF,
           "UserSyncForwardClientIP Off overrides");
}

static void test_merge_dir(void)
{
    us_dir_conf *outer = us_config_create_dir(pool, NULL);
    us_dir_conf *inner = us_config_create_dir(pool, NULL);
    us_dir_conf *merged;

    merged = us_config_merge_dir(pool, outer, inner);
    is_int((long long)us_config_max_body_size(merged), 8192, "neither");
    outer->max_body_size = 1000;
    merged = us_config_merge_dir(pool, outer, inner);
    is_int((long long)us_config_max_body_size(merged), 1000, "inherited");
    inner->max_body_size = 2000;
    merged = us_config_merge_dir(pool, outer, inner);
    is_int((long long)us_config_max_body_size(merged), 2000, "overridden");
}

/* --- columns --- */

/* "field column, field column": lines of the outer and the inner server, and
 * the result, as "field=column". */
static const struct {
    const char *outer;
    const char *inner;
    const char *columns;
} cases[] = {
    {"", "", "id=id email=email"},
    {"id user_id", "", "id=user_id email=email"},
    {"email mail", "", "id=id email=mail"},
    {"email mail, id user_id", "", "id=user_id email=mail"},
    {"email None", "", "id=id"},
    {"email none", "", "id=id"},
    {"email None", "email mail", "id=id email=mail"},
    {"email mail", "email None", "id=id"},
    {"phone tel, id k", "", "id=k email=email phone=tel"},
    {"phone tel", "", "id=id email=email phone=tel"},
    {"user_metadata.name name, app_metadata.role role", "",
     "id=id email=email user_metadata.name=name app_metadata.role=role"},
    {"user_metadata.a b, user_metadata.b a", "",
     "id=id email=email user_metadata.a=b user_metadata.b=a"},
    {"user_metadata.a b, app_metadata.a c", "",
     "id=id email=email user_metadata.a=b app_metadata.a=c"},
    {"user_metadata.a.b c", "", "id=id email=email user_metadata.a.b=c"},
    /* each line replaces earlier ones for its field */
    {"id a, id b", "", "id=b email=email"},
    {"email a, email b", "", "id=id email=b"},
    {"phone a, phone b", "", "id=id email=email phone=b"},
    {"phone a, phone None", "", "id=id email=email"},
    {"phone None, phone a", "", "id=id email=email phone=a"},
    {"user_metadata.n a, user_metadata.n b", "",
     "id=id email=email user_metadata.n=b"},
    /* an inner server replaces field by field */
    {"phone tel", "email mail", "id=id email=mail phone=tel"},
    {"phone tel", "phone mobile", "id=id email=email phone=mobile"},
    {"phone tel", "phone None", "id=id email=email"},
    {"user_metadata.a x, phone tel", "app_metadata.a y, user_metadata.a z",
     "id=id email=email user_metadata.a=z phone=tel app_metadata.a=y"},
    {"", "id user_id, phone tel", "id=user_id email=email phone=tel"},
};

static void write_lines(stub_server *server, const char *lines)
{
    char *copy = apr_pstrdup(pool, lines);
    char *rest = NULL;
    char *item;

    for (item = apr_strtok(copy, ",", &rest); item != NULL;
         item = apr_strtok(NULL, ",", &rest)) {
        char *inside = NULL;
        char *field = apr_strtok(item, " ", &inside);
        char *column = apr_strtok(NULL, " ", &inside);
        const char *wrong = line(server, NULL, "UserSyncColumn",
                                 apr_pstrdup(pool, field), column);

        if (wrong != NULL) {
            ok(0, "%s", wrong);
        }
    }
}

static const char *columns_text(const us_server_conf *conf)
{
    static const char *const names[]
        = {"id",           "email",          "phone",
           "is_anonymous", "banned_until",   "deleted_at",
           "updated_at",   "user_metadata.", "app_metadata."};
    apr_array_header_t *columns = us_config_columns(pool, conf);
    const char *text = "";
    int i;

    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);

        text = apr_pstrcat(pool, text, i > 0 ? " " : "", names[column->field],
                           column->key != NULL ? column->key : "", "=",
                           column->plain, NULL);
        if (strcmp(column->quoted,
                   apr_pstrcat(pool, "\"", column->plain, "\"", NULL))
            != 0) {
            ok(0, "%s is quoted as %s", column->plain, column->quoted);
        }
    }
    return text;
}

static void test_columns(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stub_server *outer = make_server();
        stub_server *inner = make_server();
        const char *before;
        us_server_conf *merged;

        write_lines(outer, cases[i].outer);
        write_lines(inner, cases[i].inner);
        before = columns_text(conf_of(outer));
        merged = us_config_merge_server(pool, conf_of(outer), conf_of(inner));
        is_str(columns_text(merged), cases[i].columns, "(%s) and (%s)",
               cases[i].outer, cases[i].inner);
        is_str(columns_text(conf_of(outer)), before,
               "and the outer one keeps its own");
    }
}

/* What becomes of the deleted, with and without a line and a column. */
static void test_delete_rule(void)
{
    us_server_conf *conf = us_config_create_server(pool, NULL);
    us_column column = {US_FIELD_DELETED_AT, NULL, "\"gone\"", "gone"};

    is_int(us_config_delete_rule(conf, us_config_columns(pool, conf)),
           US_ON_DELETE_KEEP, "Keep without a column for it");
    conf->columns = apr_array_make(pool, 1, sizeof(column));
    us_columns_set(conf->columns, &column);
    is_int(us_config_delete_rule(conf, us_config_columns(pool, conf)),
           US_ON_DELETE_MARK, "Mark with one");
    conf->on_delete = US_ON_DELETE_KEEP;
    is_int(us_config_delete_rule(conf, us_config_columns(pool, conf)),
           US_ON_DELETE_KEEP, "unless a line says otherwise");
    column.quoted = NULL;
    us_columns_set(conf->columns, &column);
    conf->on_delete = US_UNSET;
    is_int(us_config_delete_rule(conf, us_config_columns(pool, conf)),
           US_ON_DELETE_KEEP, "Keep with None");
}

static void test_column_limit(void)
{
    stub_server *server = make_server();
    int i;

    for (i = 0; i < 2 * US_MAX_COLUMNS; i++) {
        line(server, NULL, "UserSyncColumn",
             apr_psprintf(pool, "user_metadata.m%d", i),
             apr_psprintf(pool, "c%d", i));
    }
    is_int(us_config_columns(pool, conf_of(server))->nelts, US_MAX_COLUMNS,
           "never more columns than there is room for");
}

static void test_help(void)
{
    const command_rec *cmd;

    for (cmd = us_directives; cmd->name != NULL; cmd++) {
        ok(cmd->errmsg != NULL && *cmd->errmsg != '\0', "%s: its help",
           cmd->name);
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_refusals();
    test_event_header();
    test_settings();
    test_exposed_key();
    test_dump_runs_nothing();
    test_defaults();
    test_merge();
    test_merge_of_explicit_defaults();
    test_merge_dir();
    test_columns();
    test_delete_rule();
    test_column_limit();
    test_help();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
