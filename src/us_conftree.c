/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_conftree.h"
#include "us_headers.h"

#include <http_core.h>
#include <util_cfgtree.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* mod_dbd's directives; the first is looked at, all are compared. */
static const char *const dbd_names[]
    = {"DBDriver", "DBDParams",  "DBDPersist",    "DBDMin",    "DBDKeep",
       "DBDMax",   "DBDExptime", "DBDPrepareSQL", "DBDInitSQL"};

#define DBD_COUNT (sizeof(dbd_names) / sizeof(dbd_names[0]))

#define DRIVER 0
#define PARAMS 1

/* What is collected for one server. */
typedef struct collection {
    apr_pool_t *pool;
    us_conftree *tree;
    const char *dbd[DBD_COUNT]; /* arguments, NULL: no such line */
    int skip;                   /* sections at the same file and line */
} collection;

/* Does node stand where s was defined? */
static int is_place_of(const ap_directive_t *node, const server_rec *s)
{
    return s->is_virtual && s->defn_name != NULL && node->filename != NULL
           && (unsigned)node->line_num == s->defn_line_number
           && strcmp(node->filename, s->defn_name) == 0;
}

/*
 * A file that is included twice makes two servers of one place.  httpd puts
 * each new server in front of the list: those behind s came before it.
 */
static int count_before(const server_rec *s)
{
    const server_rec *other;
    int count = 0;

    for (other = s->next; other != NULL; other = other->next) {
        count += other->defn_line_number == s->defn_line_number
                 && other->defn_name != NULL && s->defn_name != NULL
                 && strcmp(other->defn_name, s->defn_name) == 0;
    }
    return count;
}

/* Is node the <VirtualHost> section that made s? */
static int is_section_of(collection *into, const ap_directive_t *node,
                         const server_rec *s)
{
    return is_place_of(node, s) && into->skip-- == 0;
}

static void note_handler(collection *into, const char *args)
{
    const char *name = ap_getword_conf(into->pool, &args);
    int i;

    if (strncmp(name, "usersync-", 9) != 0) {
        return;
    }
    for (i = 0; us_route_names[i] != NULL; i++) {
        if (strcmp(name, us_route_names[i]) == 0) {
            into->tree->route = us_route_names[i];
            return;
        }
    }
    into->tree->unknown = name;
}

/* Does a word of this expression name a header of ours? */
static void note_expression(collection *into, const char *args)
{
    const char *p = args;

    while (*p != '\0') {
        const char *start = p;

        while (apr_isalnum(*p) || *p == '-' || *p == '_') {
            p++;
        }
        if (p == start) {
            p++;
        }
        else if (us_headers_is_ours(apr_pstrmemdup(into->pool, start,
                                                   (apr_size_t)(p - start)))) {
            into->tree->circular = args;
        }
    }
}

/* The last line counts, but DBDPrepareSQL and DBDInitSQL add up. */
static void note_dbd(collection *into, const char *name, const char *args)
{
    apr_size_t i;

    for (i = 0; i < DBD_COUNT; i++) {
        if (strcasecmp(name, dbd_names[i]) == 0) {
            into->dbd[i]
                = into->dbd[i] != NULL && i >= DBD_COUNT - 2
                      ? apr_pstrcat(into->pool, into->dbd[i], "\n", args, NULL)
                      : args;
        }
    }
}

/* Walk the lines from node on that belong to server s. */
static void walk(collection *into, const ap_directive_t *node,
                 const server_rec *s, int inside)
{
    for (; node != NULL; node = node->next) {
        int vhost = strcasecmp(node->directive, "<VirtualHost") == 0;
        int belongs = vhost ? is_section_of(into, node, s) : inside;

        if (belongs && strcasecmp(node->directive, "SetHandler") == 0) {
            note_handler(into, node->args);
        }
        else if (belongs && strncasecmp(node->directive, "DBD", 3) == 0) {
            note_dbd(into, node->directive, node->args);
        }
        else if (belongs
                 && (strcasecmp(node->directive, "UserSyncEnsureUser") == 0
                     || strcasecmp(node->directive, "UserSyncEnsureEmail")
                            == 0)) {
            note_expression(into, node->args);
        }
        if (belongs || !vhost) {
            walk(into, node->first_child, s, belongs);
        }
    }
}

us_conftree us_conftree_read(apr_pool_t *pool, const server_rec *s,
                             const server_rec *main_server)
{
    us_conftree tree = {NULL, NULL, NULL, NULL, "", ""};
    us_conftree ignored = {NULL, NULL, NULL, NULL, "", ""};
    collection own = {pool, &tree, {NULL}, count_before(s)};
    collection inherited = {pool, &ignored, {NULL}, 0};
    apr_size_t i;

    walk(&own, ap_conftree, s, !s->is_virtual);
    if (s->is_virtual) {
        walk(&inherited, ap_conftree, main_server, 1);
    }
    for (i = 0; i < DBD_COUNT; i++) {
        const char *args = own.dbd[i] != NULL ? own.dbd[i] : inherited.dbd[i];

        if ((i == DRIVER || i == PARAMS) && args != NULL) {
            const char *rest = args;
            const char *word = ap_getword_conf(pool, &rest);

            tree.driver = i == DRIVER ? word : tree.driver;
            tree.database = apr_pstrcat(pool, tree.database, word, "\n", NULL);
        }
        tree.dbd = apr_pstrcat(pool, tree.dbd, args != NULL ? args : "", "\n",
                               NULL);
    }
    return tree;
}
