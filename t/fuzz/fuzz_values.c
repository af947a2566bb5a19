/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/values.c, config/secret.c, config/directives.c and config/config.c.
 * Input: lines.  A line that starts with the name of a directive goes to its
 * setter, any other line to all the parsers of values.  Nothing here opens
 * files or runs commands.
 */
#include "directive_stubs.h"
#include "fuzz.h"
#include "us_config.h"
#include "us_secret.h"
#include "us_values.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINES 40

/* The value of a result before it is set. */
#define UNTOUCHED 0x5A5A5A5A
static const char untouched[] = "untouched";

/* --- values --- */

static void check_numbers(apr_pool_t *pool, const char *arg)
{
    const apr_interval_time_t min = apr_time_from_msec(100);
    const apr_interval_time_t max = apr_time_from_sec(60);
    apr_interval_time_t duration = UNTOUCHED;
    apr_size_t bytes = UNTOUCHED;

    if (us_value_duration(pool, arg, min, max, &duration) == NULL) {
        require(duration >= min && duration <= max, "durations keep bounds");
    }
    else {
        require(duration == UNTOUCHED, "a refused duration is not stored");
    }
    if (us_value_bytes(pool, arg, 256, 1048576, &bytes) == NULL) {
        require(bytes >= 256 && bytes <= 1048576
                    && strspn(arg, "0123456789") == strlen(arg),
                "bytes are digits within bounds");
    }
    else {
        require(bytes == UNTOUCHED, "refused bytes are not stored");
    }
}

/* The host of an accepted URL, without port and brackets. */
static char *host_of(apr_pool_t *pool, const char *url)
{
    const char *start = strstr(url, "://") + 3;
    apr_size_t len
        = *start == '[' ? strcspn(++start, "]") : strcspn(start, ":/");

    return apr_pstrmemdup(pool, start, len);
}

/* Checks the URL that was made from arg. */
static void check_url_text(apr_pool_t *pool, const char *arg, const char *url)
{
    const char *host = host_of(pool, url);
    const char *port = strstr(strstr(url, "://") + 3, host) + strlen(host);
    const char *p;

    require(*host != '\0' && strpbrk(host, "@[]%,;\"'<>") == NULL,
            "a URL has a host");
    port += *port == ']';
    if (*port == ':') {
        long number = strtol(port + 1, NULL, 10);

        require(strspn(port + 1, "0123456789") == strcspn(port + 1, "/")
                    && number >= 1 && number <= 65535,
                "a port is a port");
    }
    p = strstr(arg, "://") + 3;
    require(memchr(p, '@', strcspn(p, "/")) == NULL,
            "a URL with a user is refused");
    require(strpbrk(arg, "?#\\") == NULL,
            "a URL with query or fragment is refused");
    for (p = url; *p != '\0'; p++) {
        require(*p > ' ' && *p < 0x7F, "a URL is printable ASCII");
    }
}

static int is_loopback(const char *host)
{
    struct in_addr address;

    return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0
           || (inet_pton(AF_INET, host, &address) == 1
               && (ntohl(address.s_addr) >> 24) == 127);
}

static void check_urls(apr_pool_t *pool, const char *arg)
{
    static const char suffix[] = "/auth/v1";
    const char *url = untouched;
    const char *again = untouched;

    if (us_value_supabase_url(pool, arg, &url) == NULL) {
        apr_size_t len = strlen(url);

        check_url_text(pool, arg, url);
        require(strncasecmp(url, "https://", 8) == 0
                    || (strncasecmp(url, "http://", 7) == 0
                        && is_loopback(host_of(pool, url))),
                "passwords go nowhere in the clear");
        require(len > sizeof(suffix)
                    && strcmp(url + len - sizeof(suffix) + 1, suffix) == 0,
                "the base ends in /auth/v1");
        require(us_value_supabase_url(pool, url, &again) == NULL
                    && strcmp(url, again) == 0,
                "what a URL becomes is the same URL");
    }
    else {
        require(url == untouched, "a refused URL is not stored");
    }
    url = untouched;
    if (us_value_proxy_url(pool, arg, &url) == NULL) {
        check_url_text(pool, arg, url);
        require(us_value_proxy_url(pool, url, &again) == NULL
                    && strcmp(url, again) == 0,
                "what a proxy becomes is the same proxy");
    }
    else {
        require(url == untouched, "a refused proxy is not stored");
    }
}

/* After the quoted identifier at p; NULL: there is none. */
static const char *skip_quoted(const char *p)
{
    if (*p != '"') {
        return NULL;
    }
    for (p++; *p != '\0'; p++) {
        if (*p == '"' && *++p != '"') {
            return p;
        }
    }
    return NULL;
}

static void check_names(apr_pool_t *pool, const char *arg)
{
    const char *quoted = untouched;
    const char *plain = untouched;
    const char *again = NULL;
    const char *same = NULL;

    if (us_value_identifier(pool, arg, &quoted, &plain) == NULL) {
        const char *end = skip_quoted(quoted);

        require(*plain != '\0' && strlen(plain) <= US_IDENTIFIER_MAX,
                "an identifier has a length that is allowed");
        require(end != NULL && *end == '\0', "a quoted name is one token");
        require(us_value_identifier(pool, quoted, &again, &same) == NULL
                    && strcmp(quoted, again) == 0 && strcmp(plain, same) == 0,
                "a quoted name is the same name");
    }
    quoted = untouched;
    if (us_value_table(pool, arg, &quoted) == NULL) {
        const char *end = skip_quoted(quoted);

        if (end != NULL && *end == '.') {
            end = skip_quoted(end + 1);
        }
        require(end != NULL && *end == '\0', "a table is one or two tokens");
        require(us_value_table(pool, quoted, &again) == NULL
                    && strcmp(quoted, again) == 0,
                "a quoted table is the same table");
    }
    else {
        require(quoted == untouched, "a refused table is not stored");
    }
}

static void check_uuid(const char *arg)
{
    int good = strlen(arg) == 36;
    int i;

    for (i = 0; i < 36 && good; i++) {
        good = i == 8 || i == 13 || i == 18 || i == 23
                   ? arg[i] == '-'
                   : strchr("0123456789abcdefABCDEF", arg[i]) != NULL;
    }
    require(!us_value_is_uuid(arg) == !good, "a UUID is a UUID");
}

/* --- keys --- */

static int reads_elsewhere(const char *spec)
{
    return strncmp(spec, "file:", 5) == 0 || strncmp(spec, "exec:", 5) == 0;
}

static void check_key(apr_pool_t *pool, const char *arg)
{
    us_secret *key = NULL;
    const char *wrong;
    const char *p;

    if (reads_elsewhere(arg)) {
        return;
    }
    wrong = us_secret_load(pool, pool, arg, &key);
    require((wrong == NULL) == (key != NULL), "a key or what is wrong");
    if (key != NULL) {
        require(key->len > 0 && key->len <= US_SECRET_MAX
                    && strlen(key->value) == key->len
                    && strncmp(key->value, arg, key->len) == 0,
                "a key is what was written");
        for (p = key->value; *p != '\0'; p++) {
            require(*p > ' ' && *p <= '~', "a key is printable ASCII");
        }
        require(us_secret_key_kind(pool, key) <= US_KEY_OTHER,
                "a key is of some kind");
    }
    else {
        require(strlen(arg) < 8 || strstr(wrong, arg) == NULL,
                "a refused key is not told");
    }
}

/* --- directives --- */

typedef struct config {
    stub_server *server;
    us_dir_conf *dir;
} config;

static config make_config(apr_pool_t *pool)
{
    config made = {stub_server_make(pool), us_config_create_dir(pool, NULL)};

    return made;
}

/* Passes a line on as httpd does; 0: it is not one of our directives. */
static int run_directive(apr_pool_t *pool, config *to, const char *line)
{
    char *rest = apr_pstrdup(pool, line);
    const char *name = apr_strtok(rest, " ", &rest);
    const char *first = apr_strtok(NULL, " ", &rest);
    const char *second = apr_strtok(NULL, " ", &rest);
    const command_rec *cmd = name != NULL ? stub_directive(name) : NULL;
    const char *wrong;

    if (cmd == NULL || first == NULL) {
        return 0;
    }
    if (reads_elsewhere(first) || (second != NULL && reads_elsewhere(second))
        || strcmp(cmd->name, "UserSyncCACertificateFile") == 0) {
        return 1;
    }
    wrong = stub_line(pool, to->server, to->dir, name, first, second);
    require(wrong == NULL || strncmp(wrong, cmd->name, strlen(cmd->name)) == 0,
            "a refusal names the directive");
    return 1;
}

static void check_config(apr_pool_t *pool, const us_server_conf *conf,
                         const us_dir_conf *dir)
{
    apr_array_header_t *columns = us_config_columns(pool, conf);
    int i;

    require(columns->nelts >= 1 && columns->nelts <= US_MAX_COLUMNS,
            "there is at least one column, and not too many");
    require(APR_ARRAY_IDX(columns, 0, us_column).field == US_FIELD_ID,
            "the id comes first");
    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);
        int has_key = column->field == US_FIELD_USER_METADATA
                      || column->field == US_FIELD_APP_METADATA;

        require(column->quoted != NULL && column->plain != NULL,
                "a column has its name");
        require(has_key == (column->key != NULL), "metadata has its key");
        require(i == 0 || column->field != US_FIELD_ID, "there is one id");
    }
    require(us_config_timeout(conf) > 0 && us_config_connect_timeout(conf) > 0
                && us_config_register_timeout(conf) > 0
                && us_config_store_timeout(conf) > 0
                && us_config_max_body_size(dir) > 0
                && us_config_cache_timeout(conf) >= apr_time_from_sec(1)
                && us_config_cache_timeout(conf) <= apr_time_from_sec(86400)
                && us_config_forward_ip(conf) <= US_FORWARD_X
                && us_config_on_error(dir) <= US_ON_ERROR_ALLOW
                && skip_quoted(us_config_table(conf)) != NULL,
            "every value is good or the default");
    require(!us_config_ensure(dir) || us_config_has_gate(conf),
            "a server knows of its gates");
    require(!us_config_ensure_headers(dir) || us_config_has_headers(conf),
            "and of its headers");
    require(us_config_response(dir) == US_RESPONSE_OFF
                || us_config_has_response(conf),
            "a server knows of what is forwarded");
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    char *rest = apr_pstrmemdup(pool, data, size);
    char *line;
    config own = make_config(pool);
    config base = make_config(pool);
    int i;

    for (i = 0; i < MAX_LINES && rest != NULL; i++) {
        line = strsep(&rest, "\n");
        /* directives go to the virtual host and the main server in turn */
        if (!run_directive(pool, i % 2 != 0 ? &base : &own, line)) {
            check_numbers(pool, line);
            check_urls(pool, line);
            check_names(pool, line);
            check_uuid(line);
            check_key(pool, line);
        }
    }
    check_config(pool, us_config_server(&own.server->s), own.dir);
    check_config(pool,
                 us_config_merge_server(pool,
                                        us_config_server(&base.server->s),
                                        us_config_server(&own.server->s)),
                 us_config_merge_dir(pool, base.dir, own.dir));
}
