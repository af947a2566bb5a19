/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_conftree.h"
#include "us_headers.h"

#include <http_core.h>
#include <util_cfgtree.h>

#include <apr_strings.h>

#include <string.h>

/* mod_dbd's directives; the first is looked at, all are compared. */
static const char *const dbd_names[]
    = {"DBDriver", "DBDParams",  "DBDPersist",    "DBDMin",    "DBDKeep",
       "DBDMax",   "DBDExptime", "DBDPrepareSQL", "DBDInitSQL"};

#define DBD_COUNT (sizeof(dbd_names) / sizeof(dbd_names[0]))

#define DRIVER 0
#define PARAMS 1

/* Those with an expression. */
static const char *const expr_names[]
    = {"UserSyncEnsureUser", "UserSyncEnsureEmail"};

#define EXPR_COUNT (sizeof(expr_names) / sizeof(expr_names[0]))

/* What is collected for one server. */
typedef struct collection {
    apr_pool_t *pool;
    us_conftree *tree;
    const char *dbd[DBD_COUNT];   /* arguments, NULL: no such line */
    const char *expr[EXPR_COUNT]; /* outside of sections: the same */
    const char *section_circular; /* an expression in any section */
    int skip;                     /* sections at the same file and line */
} collection;

/* Where a line stands, for one server. */
typedef enum place { ELSEWHERE, SERVER_LEVEL, IN_SECTION } place;

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

/* A function of expressions that takes the name of a request header. */
static int reads_headers(const char *function)
{
    return strcasecmp(function, "http") == 0
           || strcasecmp(function, "req") == 0
           || strcasecmp(function, "req_novary") == 0;
}

/* Does this expression read a header of ours, as %{HTTP:NAME} or
 * req('NAME')? */
static int is_circular(apr_pool_t *pool, const char *args)
{
    /* what names consist of (RFC 9110, section 5.6.2), without the quote */
    static const char in_names[] = "abcdefghijklmnopqrstuvwxyz0123456789"
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "!#$%&*+-.^_`|~";
    const char *before = "";
    const char *p = args;

    for (;;) {
        apr_size_t gap = strcspn(p, in_names);
        apr_size_t len = strspn(p + gap, in_names);
        const char *word = apr_pstrmemdup(pool, p + gap, len);

        if (len == 0) {
            return 0;
        }
        if (strspn(p, ":( \t\\\"'") == gap && reads_headers(before)
            && us_headers_is_ours(word)) {
            return 1;
        }
        before = word;
        p += gap + len;
    }
}

static void note_expression(collection *into, const ap_directive_t *node,
                            place where)
{
    apr_size_t i;

    for (i = 0; i < EXPR_COUNT; i++) {
        if (strcasecmp(node->directive, expr_names[i]) != 0) {
            continue;
        }
        if (where == SERVER_LEVEL) {
            into->expr[i] = node->args;
        }
        else if (is_circular(into->pool, node->args)) {
            into->section_circular = node->args;
        }
    }
}

/* An expression of one server that reads a header of ours, but for those that
 * other has lines instead of; NULL: there is none. */
static const char *find_circular(const collection *of, const collection *other)
{
    const char *found = of->section_circular;
    apr_size_t i;

    for (i = 0; i < EXPR_COUNT && found == NULL; i++) {
        if (of->expr[i] != NULL && (other == NULL || other->expr[i] == NULL)
            && is_circular(of->pool, of->expr[i])) {
            found = of->expr[i];
        }
    }
    return found;
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
            note_expression(into, node, where);
            if (strcasecmp(node->directive, "SetHandler") == 0) {
                note_handler(into, node->args);
            }
            else if (strncasecmp(node->directive, "DBD", 3) == 0) {
                note_dbd(into, node->directive, node->args);
            }
        }
        walk(into, node->first_child, s,
             where == SERVER_LEVEL ? IN_SECTION : where);
    }
}

us_conftree us_conftree_read(apr_pool_t *pool, const server_rec *s,
                             const server_rec *main_server)
{
    us_conftree tree = {NULL, NULL, NULL, NULL, NULL, "", ""};
    us_conftree ignored = {NULL, NULL, NULL, NULL, NULL, "", ""};
    collection own = {pool, &tree, {NULL}, {NULL}, NULL, count_before(s)};
    collection inherited = {pool, &ignored, {NULL}, {NULL}, NULL, 0};
    apr_size_t i;

    walk(&own, ap_conftree, s, s->is_virtual ? ELSEWHERE : SERVER_LEVEL);
    if (s->is_virtual) {
        walk(&inherited, ap_conftree, main_server, SERVER_LEVEL);
    }
    tree.circular = find_circular(&own, NULL);
    tree.circular_above = find_circular(&inherited, &own);
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
