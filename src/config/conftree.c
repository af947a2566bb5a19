/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_conftree.h"

#include <http_core.h>
#include <util_cfgtree.h>

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* mod_dbd's directives.  Some are read, all are compared. */
static const char *const dbd_names[]
    = {"DBDriver", "DBDParams",  "DBDPersist",    "DBDMin",    "DBDKeep",
       "DBDMax",   "DBDExptime", "DBDPrepareSQL", "DBDInitSQL"};

#define DBD_COUNT (sizeof(dbd_names) / sizeof(dbd_names[0]))

#define DRIVER 0
#define PARAMS 1
#define PERSIST 2
#define SIZES 3 /* the first of US_DBD_SIZES */

/* mod_dbd's defaults (mod_dbd.c, DEFAULT_NMIN ...). */
static const int default_sizes[US_DBD_SIZES] = {1, 2, 10};

/* What is collected for one server. */
typedef struct collection {
    apr_pool_t *pool;
    us_conftree *tree;
    const char *dbd[DBD_COUNT]; /* arguments, NULL: no such line */
    const ap_directive_t *dbd_line[DBD_COUNT]; /* the last one */
    int skip; /* how many sections of the same file and line to skip */
} collection;

/* Where a line is, as seen from one server. */
typedef enum place { ELSEWHERE, SERVER_LEVEL, IN_SECTION } place;

/* Is node at the place where s was defined? */
static int is_place_of(const ap_directive_t *node, const server_rec *s)
{
    return s->is_virtual && s->defn_name != NULL && node->filename != NULL
           && (unsigned)node->line_num == s->defn_line_number
           && strcmp(node->filename, s->defn_name) == 0;
}

/*
 * A file that is included twice creates two servers at one place.  httpd adds
 * each new server at the head of the list: those after s were created before
 * it.
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

/* Is node the <VirtualHost> section that created s? */
static int is_section_of(collection *into, const ap_directive_t *node,
                         const server_rec *s)
{
    return is_place_of(node, s) && into->skip-- == 0;
}

static void note_handler(collection *into, const char *args)
{
#define NAME(handler, operation) handler,
    static const char *const names[] = {US_ROUTES(NAME) NULL};
#undef NAME
    const char *name = ap_getword_conf(into->pool, &args);
    int i;

    if (strncmp(name, US_ROUTE_PREFIX, sizeof(US_ROUTE_PREFIX) - 1) != 0) {
        return;
    }
    for (i = 0; names[i] != NULL; i++) {
        if (strcmp(name, names[i]) == 0) {
            into->tree->route = names[i];
            return;
        }
    }
    if (strcmp(name, US_HOOK_HANDLER) == 0) {
        into->tree->hook = US_HOOK_HANDLER;
    }
    else if (strcmp(name, US_EVENT_HANDLER) == 0) {
        into->tree->event = US_EVENT_HANDLER;
    }
    else if (strcmp(name, US_STATUS_HANDLER) != 0) {
        into->tree->unknown = name;
    }
}

/* The last line wins, except that DBDPrepareSQL and DBDInitSQL accumulate. */
static void note_dbd(collection *into, const ap_directive_t *node)
{
    const char *args = node->args;
    apr_size_t i;

    for (i = 0; i < DBD_COUNT; i++) {
        if (strcasecmp(node->directive, dbd_names[i]) == 0) {
            into->dbd_line[i] = node;
            into->dbd[i]
                = into->dbd[i] != NULL && i >= DBD_COUNT - 2
                      ? apr_pstrcat(into->pool, into->dbd[i], "\n", args, NULL)
                      : args;
        }
    }
}

/* Walks the lines from node on that belong to server s. */
static void walk(collection *into, const ap_directive_t *node,
                 const server_rec *s, place where)
{
    for (; node != NULL; node = node->next) {
        int vhost = strcasecmp(node->directive, "<VirtualHost") == 0;

        if (vhost) {
            if (is_section_of(into, node, s)) {
                walk(into, node->first_child, s, SERVER_LEVEL);
            }
            continue;
        }
        if (where != ELSEWHERE) {
            if (strcasecmp(node->directive, "SetHandler") == 0) {
                note_handler(into, node->args);
            }
            else if (strncasecmp(node->directive, "DBD", 3) == 0) {
                note_dbd(into, node);
            }
        }
        walk(into, node->first_child, s,
             where == SERVER_LEVEL ? IN_SECTION : where);
    }
}

/* mod_dbd's directive i in effect: the server's own line, else the main
 * server's, else NULL. */
static const ap_directive_t *line_in_force(const collection *own,
                                           const collection *inherited,
                                           apr_size_t i)
{
    return own->dbd_line[i] != NULL ? own->dbd_line[i]
                                    : inherited->dbd_line[i];
}

/* The size of mod_dbd's pool.  A vhost inherits each line separately. */
static void find_sizes(us_conftree *tree, const collection *own,
                       const collection *inherited)
{
    const ap_directive_t *persist = line_in_force(own, inherited, PERSIST);
    apr_size_t i;

    for (i = 0; i < US_DBD_SIZES; i++) {
        const ap_directive_t *line = line_in_force(own, inherited, SIZES + i);
        us_dbd_size *size = &tree->sizes[i];

        size->name = dbd_names[SIZES + i];
        size->value = default_sizes[i];
        if (line != NULL) {
            const char *rest = line->args;

            /* mod_dbd has checked that these are digits */
            size->value
                = (int)strtol(ap_getword_conf(own->pool, &rest), NULL, 10);
            size->where = apr_psprintf(own->pool, "%s:%d", line->filename,
                                       line->line_num);
        }
        tree->own_sizes |= own->dbd_line[SIZES + i] != NULL;
    }
    if (persist != NULL) {
        const char *rest = persist->args;

        tree->unpooled
            = strcasecmp(ap_getword_conf(own->pool, &rest), "off") == 0;
        tree->own_sizes |= own->dbd_line[PERSIST] != NULL;
    }
}

us_conftree us_conftree_read(apr_pool_t *pool, const server_rec *s,
                             const server_rec *main_server)
{
    us_conftree tree = {.dbd = "", .database = ""};
    us_conftree ignored = {.dbd = "", .database = ""};
    collection own = {.pool = pool, .tree = &tree, .skip = count_before(s)};
    collection inherited = {.pool = pool, .tree = &ignored};
    apr_size_t i;

    walk(&own, ap_conftree, s, s->is_virtual ? ELSEWHERE : SERVER_LEVEL);
    if (s->is_virtual) {
        walk(&inherited, ap_conftree, main_server, SERVER_LEVEL);
    }
    find_sizes(&tree, &own, &inherited);
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

/* The <VirtualHost> section of s among these lines. */
static const ap_directive_t *find_section(const ap_directive_t *node,
                                          const server_rec *s, int skip)
{
    for (; node != NULL; node = node->next) {
        if (strcasecmp(node->directive, "<VirtualHost") == 0
            && is_place_of(node, s) && skip-- == 0) {
            return node->first_child;
        }
    }
    return NULL;
}

const ap_directive_t *us_conftree_lines(const server_rec *s)
{
    return s->is_virtual ? find_section(ap_conftree, s, count_before(s))
                         : ap_conftree;
}
