/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What each server has in the end, and where it comes from: config/options.h
 * says which members there are and which show_KIND() below prints them.
 */
#include "us_config.h"
#include "us_conftree.h"
#include "us_dump.h"
#include "us_log.h"
#include "us_redact.h"

#include <http_core.h>

#include <apr_file_io.h>
#include <apr_strings.h>

#include <string.h>

#define ASKED_FOR "DUMP_USERSYNC"

/* Where a value comes from. */
typedef enum origin { DEFAULT, INHERITED, OWN, UNKNOWN } origin;

/* One server while it is printed. */
typedef struct dump {
    apr_pool_t *pool;
    apr_file_t *out;
    const us_server_conf *conf;        /* with the defaults filled in */
    const us_dir_conf *dir;            /* the same */
    const apr_array_header_t *columns; /* what lines say, merged, or NULL */
    const apr_array_header_t *own_columns; /* what its own say, or NULL */
} dump;

/* --- one line --- */

static void print(const dump *d, origin from, const char *directive,
                  const char *value)
{
    static const char *const words[] = {[DEFAULT] = "default",
                                        [INHERITED] = "inherited",
                                        [OWN] = "set",
                                        [UNKNOWN] = "unknown"};

    apr_file_printf(d->out, "    %-10s %-26s %s\n", words[from], directive,
                    value);
}

#define SHOW(kind)                                                \
    static void show_##kind(const dump *d, const char *directive, \
                            origin from, const void *member)

SHOW(text)
{
    const char *text = *(const char *const *)member;

    print(d, from, directive, text != NULL ? text : "(none)");
}

/* A URL, or "" for None. */
SHOW(proxy)
{
    const char *url = *(const char *const *)member;

    print(d, from, directive,
          *url != '\0' ? us_redact_url(d->pool, url) : "None");
}

SHOW(flag)
{
    print(d, from, directive, *(const int *)member ? "On" : "Off");
}

SHOW(deny_allow)
{
    print(d, from, directive, *(const int *)member ? "Allow" : "Deny");
}

SHOW(remove_keep)
{
    print(d, from, directive, *(const int *)member ? "Keep" : "Remove");
}

SHOW(bytes)
{
    print(d, from, directive,
          apr_psprintf(d->pool, "%" APR_SIZE_T_FMT,
                       *(const apr_size_t *)member));
}

static const char *duration(apr_pool_t *pool, apr_interval_time_t time)
{
    return time % APR_USEC_PER_SEC == 0
               ? apr_psprintf(pool, "%" APR_TIME_T_FMT "s", apr_time_sec(time))
               : apr_psprintf(pool, "%" APR_TIME_T_FMT "ms",
                              apr_time_as_msec(time));
}

SHOW(duration)
{
    print(d, from, directive,
          duration(d->pool, *(const apr_interval_time_t *)member));
}

SHOW(forward_ip)
{
    static const char *const words[] = {[US_FORWARD_OFF] = "Off",
                                        [US_FORWARD_SB] = "Sb-Forwarded-For",
                                        [US_FORWARD_X] = "X-Forwarded-For"};

    print(d, from, directive, words[*(const int *)member]);
}

SHOW(response)
{
    static const char *const words[] = {[US_RESPONSE_OFF] = "Off",
                                        [US_RESPONSE_REPORT] = "Report",
                                        [US_RESPONSE_ON] = "On"};

    print(d, from, directive, words[*(const int *)member]);
}

/* Without the directive it follows from the columns. */
SHOW(on_delete)
{
    static const char *const words[] = {[US_ON_DELETE_KEEP] = "Keep",
                                        [US_ON_DELETE_MARK] = "Mark",
                                        [US_ON_DELETE_DELETE] = "Delete"};
    us_on_delete rule
        = us_config_delete_rule(d->conf, us_config_columns(d->pool, d->conf));

    (void)member;
    print(d, from, directive, words[rule]);
}

static const char *share(apr_pool_t *pool, int number, int percent)
{
    if (number == 0 && percent == 0) {
        return "Off";
    }
    return number > 0 ? apr_itoa(pool, number)
                      : apr_psprintf(pool, "%d%%", percent);
}

SHOW(max_concurrent)
{
    (void)member;
    print(d, from, directive,
          share(d->pool, d->conf->max_concurrent,
                d->conf->max_concurrent_percent));
}

SHOW(max_per_client)
{
    (void)member;
    print(d, from, directive,
          share(d->pool, d->conf->max_per_client,
                d->conf->max_per_client_percent));
}

SHOW(breaker)
{
    int failures = *(const int *)member;

    print(d, from, directive,
          failures == 0
              ? "Off"
              : apr_psprintf(d->pool, "%d %s", failures,
                             duration(d->pool, d->conf->breaker_duration)));
}

SHOW(cache)
{
    const us_cache_choice *choice = *(us_cache_choice *const *)member;

    print(d, from, directive, choice != NULL ? choice->text : "shmcb");
}

SHOW(email)
{
    (void)member;
    print(d, from, directive,
          d->dir->email_text != NULL ? d->dir->email_text : "None");
}

static int has_field(const apr_array_header_t *list, const us_column *column)
{
    int i;

    for (i = 0; list != NULL && i < list->nelts; i++) {
        if (us_column_same_field(&APR_ARRAY_IDX(list, i, us_column), column)) {
            return 1;
        }
    }
    return 0;
}

SHOW(columns)
{
    apr_array_header_t *all = us_config_columns(d->pool, d->conf);
    int i;

    (void)from;
    (void)member;
    for (i = 0; d->columns != NULL && i < d->columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(d->columns, i, us_column);

        if (column->quoted == NULL) { /* None: it is not in the list */
            APR_ARRAY_PUSH(all, us_column) = *column;
        }
    }
    for (i = 0; i < all->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(all, i, us_column);

        print(d,
              has_field(d->own_columns, column) ? OWN
              : has_field(d->columns, column)   ? INHERITED
                                                : DEFAULT,
              directive,
              apr_pstrcat(d->pool, us_column_field(d->pool, column), " ",
                          column->quoted != NULL ? column->plain : "None",
                          NULL));
    }
}

/* --- secrets --- */

/* That there is one, and where it is. */
static const char *secret_text(const us_secret *secret)
{
    static const char *const words[]
        = {[US_SECRET_INLINE] = "(set, in the configuration itself)",
           [US_SECRET_FILE] = "(set, from a file)",
           [US_SECRET_EXEC] = "(set, from a command)"};

    return words[secret->source];
}

/* There is none, or it is not known: with -S, httpd loads no secrets. */
static void print_no_secret(const dump *d, origin from, const char *directive)
{
    if (us_config_is_dump()) {
        print(d, UNKNOWN, directive, "(not read)");
    }
    else {
        print(d, from, directive, "(none)");
    }
}

SHOW(secret)
{
    const us_secret *secret = *(us_secret *const *)member;

    if (secret == NULL) {
        print_no_secret(d, from, directive);
        return;
    }
    print(d, from, directive, secret_text(secret));
}

SHOW(hook_secrets)
{
    const apr_array_header_t *list = *(apr_array_header_t *const *)member;
    int i;

    if (list == NULL) {
        print_no_secret(d, from, directive);
        return;
    }
    for (i = 0; i < list->nelts; i++) {
        print(d, from, directive,
              secret_text(APR_ARRAY_IDX(list, i, us_hook_secret).source));
    }
}

SHOW(event_header)
{
    const us_event_header *header = *(us_event_header *const *)member;

    if (header == NULL) {
        print_no_secret(d, from, directive);
        return;
    }
    print(d, from, directive,
          apr_pstrcat(d->pool, header->name, " ", secret_text(header->value),
                      NULL));
}

/* --- all members --- */

#define ORIGIN(conf, own, name, unset)                   \
    ((own) != NULL && (own)->name != (unset) ? OWN       \
     : (conf)->name != (unset)               ? INHERITED \
                                             : DEFAULT)

/* Members of the kind part are shown with another one. */
#define show_part(d, directive, from, member) (void)(from)

#define SHOW_MEMBER(type, name, unset, rest, directive, kind) \
    show_##kind(d, directive, ORIGIN(conf, own, name, unset), &full->name);

#define FILL(type, name, unset, fallback, directive, kind) \
    full->name = us_config_##name(conf);
#define LEAVE(type, name, start, rule, directive, kind)

static void show_server(dump *d, const us_server_conf *conf,
                        const us_server_conf *own)
{
    us_server_conf *full = apr_pmemdup(d->pool, conf, sizeof(*conf));

    US_SERVER_OPTIONS(FILL, LEAVE)
    d->conf = full;
    d->columns = conf->columns;
    d->own_columns = own != NULL ? own->columns : NULL;
    US_SERVER_OPTIONS(SHOW_MEMBER, SHOW_MEMBER)
}

static void show_dir(dump *d, const us_dir_conf *conf, const us_dir_conf *own)
{
    us_dir_conf *full = apr_pmemdup(d->pool, conf, sizeof(*conf));

    US_DIR_OPTIONS(FILL, LEAVE)
    d->dir = full;
    US_DIR_OPTIONS(SHOW_MEMBER, SHOW_MEMBER)
}

/* --- the database --- */

/* The last line of a directive among a server's own, or NULL. */
static const ap_directive_t *find_line(const server_rec *s, const char *name)
{
    const ap_directive_t *node = us_conftree_lines(s);
    const ap_directive_t *found = NULL;

    for (; node != NULL; node = node->next) {
        if (strcasecmp(node->directive, name) == 0) {
            found = node;
        }
    }
    return found;
}

/* mod_dbd's lines.  The other database drivers have parameters of which
 * nothing is known. */
static void show_database(const dump *d, const server_rec *s,
                          const server_rec *main_server)
{
    static const struct {
        const char *name;
        const char *fallback;
    } lines[] = {{"DBDriver", "(none)"}, {"DBDParams", "(none)"},
                 {"DBDPersist", "On"},   {"DBDMin", "1"},
                 {"DBDKeep", "2"},       {"DBDMax", "10"}};
    int is_pgsql = 0;
    apr_size_t i;

    for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const ap_directive_t *line = find_line(s, lines[i].name);
        origin from = line != NULL ? OWN : INHERITED;
        const char *value = lines[i].fallback;

        if (line == NULL) {
            line = find_line(main_server, lines[i].name);
        }
        if (line != NULL) {
            const char *args = line->args;

            value = ap_getword_conf(d->pool, &args);
            is_pgsql |= i == 0 && strcasecmp(value, "pgsql") == 0;
            if (i == 1) {
                value = is_pgsql ? us_redact_params(d->pool, value)
                                 : US_REDACTED;
            }
        }
        print(d, line != NULL ? from : DEFAULT, lines[i].name, value);
    }
}

/* --- sections --- */

/* The name of a directive that sections may have, as httpd writes it; NULL:
 * the line is none of ours. */
static const char *name_in_section(const ap_directive_t *node)
{
    const command_rec *command;

    if (strcasecmp(node->directive, "SetHandler") == 0) {
        return strncmp(node->args, US_ROUTE_PREFIX,
                       sizeof(US_ROUTE_PREFIX) - 1)
                       == 0
                   ? "SetHandler"
                   : NULL;
    }
    for (command = us_directives; command->name != NULL; command++) {
        if ((command->req_override & ACCESS_CONF) != 0
            && strcasecmp(node->directive, command->name) == 0) {
            return command->name;
        }
    }
    return NULL;
}

/* Is a line of ours in a section, or in one inside? */
static int is_ours(const ap_directive_t *section)
{
    const ap_directive_t *node = section->first_child;

    while (node != NULL && name_in_section(node) == NULL && !is_ours(node)) {
        node = node->next;
    }
    return node != NULL;
}

static void show_section(const dump *d, const ap_directive_t *section,
                         int depth)
{
    apr_size_t len = strlen(section->args);
    const ap_directive_t *node = section->first_child;

    len -= len > 0 && section->args[len - 1] == '>';
    apr_file_printf(d->out, "%*s%s %.*s> (%s:%d)\n", 4 * depth, "",
                    section->directive, (int)len, section->args,
                    section->filename, section->line_num);
    for (; node != NULL; node = node->next) {
        const char *name = name_in_section(node);

        if (name != NULL) {
            apr_file_printf(d->out, "%*s%-26s %s\n", 4 * depth + 4, "", name,
                            node->args);
        }
        else if (is_ours(node)) {
            show_section(d, node, depth + 1);
        }
    }
}

/* A server's own sections that have lines of ours. */
static void show_sections(const dump *d, const server_rec *s)
{
    const ap_directive_t *node = us_conftree_lines(s);

    for (; node != NULL; node = node->next) {
        if (*node->directive == '<'
            && strcasecmp(node->directive, "<VirtualHost") != 0
            && is_ours(node)) {
            show_section(d, node, 1);
        }
    }
}

/* --- all servers --- */

static void print_name(const dump *d, const server_rec *s)
{
    if (!s->is_virtual) {
        apr_file_printf(d->out, "main server\n");
        return;
    }
    apr_file_printf(d->out, "vhost %s:%d (%s:%u)\n",
                    s->server_hostname != NULL ? s->server_hostname : "-",
                    s->addrs != NULL ? s->addrs->host_port : s->port,
                    s->defn_name != NULL ? s->defn_name : "-",
                    s->defn_line_number);
}

/* A virtual host without a line of ours has the very structs of the main
 * server. */
static void dump_server(dump *d, const server_rec *s,
                        const server_rec *main_server)
{
    const us_server_conf *conf = us_config_server(s);
    const us_dir_conf *dir
        = ap_get_module_config(s->lookup_defaults, &usersync_module);
    const us_server_conf *own = s == main_server ? conf : conf->own;
    const us_dir_conf *own_dir = dir->own;

    if (s == main_server) {
        own_dir = dir;
    }
    print_name(d, s);
    show_server(d, conf, own);
    show_dir(d, dir, own_dir);
    show_database(d, s, main_server);
    show_sections(d, s);
}

void us_dump_config(apr_pool_t *pconf, server_rec *s)
{
    dump d = {.pool = pconf};
    apr_array_header_t *servers;
    const server_rec *each;
    int i;

    if (!ap_exists_config_define(ASKED_FOR)
        || apr_file_open_stdout(&d.out, pconf) != APR_SUCCESS) {
        return;
    }
    apr_file_printf(d.out, "mod_usersync " US_VERSION " configuration:\n");
    dump_server(&d, s, s);
    /* httpd has the last one of the files first */
    servers = apr_array_make(pconf, 4, sizeof(const server_rec *));
    for (each = s->next; each != NULL; each = each->next) {
        APR_ARRAY_PUSH(servers, const server_rec *) = each;
    }
    for (i = servers->nelts - 1; i >= 0; i--) {
        dump_server(&d, APR_ARRAY_IDX(servers, i, const server_rec *), s);
    }
}
