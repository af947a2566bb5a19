/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "options.h"
#include "pg/pq.h"
#include "us_columns.h"
#include "us_wipe.h"

#include <apr_file_io.h>
#include <apr_getopt.h>
#include <apr_strings.h>

#include <string.h>

/* Longer than any connection string. */
#define CONNINFO_MAX 4096

const char us_rec_usage[]
    = "usage: usersync-reconcile (--url URL --key file:PATH | --from-db "
      "CONNINFO)\n"
      "           --db CONNINFO [OPTION...]\n"
      "Compares all users of a Supabase project with the users table, and "
      "says what\n"
      "differs; --apply mends it.  usersync-reconcile(8) has the details.\n"
      "\n"
      "  --url URL               the project, as in UserSyncSupabaseURL\n"
      "  --key file:PATH         its secret key: sb_secret_... or "
      "service_role\n"
      "  --from-db CONNINFO      read auth.users in the project's database "
      "instead\n"
      "  --db CONNINFO           the database of the users table\n"
      "                          both: NAME=VALUE..., postgresql://..., or "
      "file:PATH\n"
      "  --table NAME            as in UserSyncTable (users)\n"
      "  --column FIELD=COLUMN   as in UserSyncColumn; may be repeated\n"
      "  --on-delete ACTION      Keep, Mark or Delete, as in "
      "UserSyncOnDelete\n"
      "  --ca-file PATH          trust these CAs only\n"
      "  --proxy URL             ask Supabase through it\n"
      "  --apply                 write; without it nothing is written\n"
      "  --max-delete N|N%       more deletions than that: none is done (1%)\n"
      "  --batch N               rows of a transaction (300)\n"
      "  --timeout TIME          of a request or a statement (30s)\n"
      "  --retries N             of what failed, before giving up (7)\n"
      "  --state PATH            continue there after an interruption\n"
      "  --list                  a line for each difference: class, id, "
      "reason\n"
      "  --json                  the result as one line of JSON, the last "
      "one\n"
      "  --quiet                 no progress, no summary\n"
      "  --help, --version\n"
      "\n"
      "Exit status: 0 no difference, or all are mended; 1 differences, or "
      "rows that\n"
      "the table refuses; 2 an error.\n";

enum {
    URL = 256,
    KEY,
    FROM_DB,
    DB,
    TABLE,
    COLUMN,
    ON_DELETE,
    CA_FILE,
    PROXY,
    APPLY,
    MAX_DELETE,
    BATCH,
    TIMEOUT,
    RETRIES,
    STATE,
    LIST,
    JSON,
    QUIET,
    HELP,
    VERSION
};

static const apr_getopt_option_t known[]
    = {{"url", URL, 1, NULL},
       {"key", KEY, 1, NULL},
       {"from-db", FROM_DB, 1, NULL},
       {"db", DB, 1, NULL},
       {"table", TABLE, 1, NULL},
       {"column", COLUMN, 1, NULL},
       {"on-delete", ON_DELETE, 1, NULL},
       {"ca-file", CA_FILE, 1, NULL},
       {"proxy", PROXY, 1, NULL},
       {"apply", APPLY, 0, NULL},
       {"max-delete", MAX_DELETE, 1, NULL},
       {"batch", BATCH, 1, NULL},
       {"timeout", TIMEOUT, 1, NULL},
       {"retries", RETRIES, 1, NULL},
       {"state", STATE, 1, NULL},
       {"list", LIST, 0, NULL},
       {"json", JSON, 0, NULL},
       {"quiet", QUIET, 0, NULL},
       {"help", HELP, 0, NULL},
       {"version", VERSION, 0, NULL},
       {NULL, 0, 0, NULL}};

/* --- the values --- */

/* The first line of a file; a password may be in it. */
static const char *read_line(apr_pool_t *pool, const char *path,
                             const char **line)
{
    char *text = apr_palloc(pool, CONNINFO_MAX);
    char reason[120];
    apr_file_t *file;
    apr_status_t rv
        = apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, pool);

    us_wipe_with(pool, text, CONNINFO_MAX);
    if (rv == APR_SUCCESS) {
        rv = apr_file_gets(text, CONNINFO_MAX, file);
        apr_file_close(file);
    }
    if (rv != APR_SUCCESS) {
        return apr_psprintf(pool, "cannot read the file %s (%s)", path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    text[strcspn(text, "\r\n")] = '\0';
    *line = text;
    return NULL;
}

/* Everybody on the machine can read a command line: a password in it is
 * refused. */
static const char *take_conninfo(apr_pool_t *pool, const char *arg,
                                 const char **conninfo)
{
    const char *wrong = NULL;
    int has_password = 0;
    int is_file = strncmp(arg, "file:", 5) == 0;

    *conninfo = arg;
    if (is_file) {
        wrong = read_line(pool, arg + 5, conninfo);
    }
    if (wrong == NULL && !us_pq_is_conninfo(*conninfo, &has_password)) {
        wrong = "takes NAME=VALUE ..., a postgresql:// URI, the name of a "
                "database, or file:PATH";
    }
    if (wrong == NULL && has_password && !is_file) {
        wrong = "shows a password to everybody on this machine; use "
                "passfile=PATH or service=NAME in it, or file:PATH";
    }
    return wrong;
}

static const char *take_key(apr_pool_t *pool, const char *arg,
                            const us_secret **key)
{
    us_secret *secret = NULL;
    const char *wrong;

    if (strncmp(arg, "file:", 5) != 0) {
        return "takes file:PATH: everybody on this machine can read a "
               "command line";
    }
    wrong = us_secret_load(pool, pool, arg, &secret);
    if (wrong != NULL) {
        return wrong;
    }
    *key = secret;
    switch (us_secret_key_kind(pool, secret)) {
    case US_KEY_PUBLISHABLE:
    case US_KEY_JWT:
        return "names a public key, which may not read the users; it takes "
               "the project's secret key (sb_secret_... or the legacy "
               "service_role key)";
    case US_KEY_SECRET:
    case US_KEY_JWT_SERVICE:
    case US_KEY_OTHER:
        break;
    }
    return NULL;
}

static const char *take_column(apr_pool_t *pool, const char *arg,
                               apr_array_header_t *columns)
{
    const char *equals = strchr(arg, '=');
    us_column column;
    const char *wrong;

    if (equals == NULL) {
        return apr_psprintf(pool, "takes FIELD=COLUMN, not \"%s\"", arg);
    }
    wrong = us_column_parse(
        pool, apr_pstrmemdup(pool, arg, (apr_size_t)(equals - arg)),
        equals + 1, &column);
    if (wrong == NULL && columns->nelts == US_MAX_COLUMNS) {
        wrong = "is given too often";
    }
    if (wrong == NULL) {
        us_columns_set(columns, &column);
    }
    return wrong;
}

static const char *take_on_delete(apr_pool_t *pool, const char *arg,
                                  us_rec_on_delete *action)
{
    static const char *const names[] = {"", "Keep", "Mark", "Delete"};
    int i;

    for (i = US_REC_KEEP; i <= US_REC_DELETE; i++) {
        if (strcasecmp(arg, names[i]) == 0) {
            *action = (us_rec_on_delete)i;
            return NULL;
        }
    }
    return apr_psprintf(pool, "takes Keep, Mark or Delete, not \"%s\"", arg);
}

/* --- the command line --- */

/* An option for what is compared. */
static const char *take_subject(apr_pool_t *pool, int option, const char *arg,
                                us_rec_options *o, apr_array_header_t *columns)
{
    switch (option) {
    case URL:
        return us_value_supabase_url(pool, arg, &o->url);
    case KEY:
        return take_key(pool, arg, &o->key);
    case FROM_DB:
        return take_conninfo(pool, arg, &o->from_db);
    case DB:
        return take_conninfo(pool, arg, &o->db);
    case TABLE:
        return us_value_table(pool, arg, &o->table);
    case COLUMN:
        return take_column(pool, arg, columns);
    default:
        return take_on_delete(pool, arg, &o->on_delete);
    }
}

/* An option for how it is done. */
static const char *take_manner(apr_pool_t *pool, int option, const char *arg,
                               us_rec_options *o)
{
    switch (option) {
    case CA_FILE:
        o->ca_file = arg;
        return NULL;
    case PROXY:
        return us_value_proxy_url(pool, arg, &o->proxy);
    case MAX_DELETE:
        return us_value_share(pool, arg, 0, APR_INT32_MAX, &o->max_delete);
    case BATCH:
        return us_value_count(pool, arg, 1, 1000, &o->batch);
    case TIMEOUT:
        return us_value_duration(pool, arg, apr_time_from_sec(1),
                                 apr_time_from_sec(600), &o->timeout);
    case RETRIES:
        return us_value_count(pool, arg, 0, 100, &o->retries);
    case STATE:
        o->state = arg;
        return NULL;
    case APPLY:
        o->apply = 1;
        return NULL;
    case LIST:
        o->list = 1;
        return NULL;
    case JSON:
        o->json = 1;
        return NULL;
    default:
        o->quiet = 1;
        return NULL;
    }
}

/* What only several options together can get wrong. */
static const char *check_together(us_rec_options *o)
{
    int marks = us_columns_find(o->columns, US_FIELD_DELETED_AT) >= 0;

    if (o->url != NULL && o->from_db != NULL) {
        return "--url and --from-db are two sources: take one";
    }
    if (o->url == NULL && o->from_db == NULL) {
        return "--url or --from-db is needed: where the users are";
    }
    if (o->url != NULL && o->key == NULL) {
        return "--url needs --key";
    }
    if (o->db == NULL) {
        return "--db is needed: where the users table is";
    }
    if (o->on_delete == US_REC_ON_DELETE_DEFAULT) {
        o->on_delete = marks ? US_REC_MARK : US_REC_KEEP;
    }
    if (o->on_delete == US_REC_MARK && !marks) {
        return "--on-delete Mark needs --column deleted_at=COLUMN";
    }
    return NULL;
}

static const char *name_of(int option)
{
    const apr_getopt_option_t *at = known;

    while (at->optch != option) {
        at++;
    }
    return at->name;
}

/* Reads option by option; *wish changes with --help, --version and what is
 * wrong. */
static const char *read_options(apr_pool_t *pool, apr_getopt_t *line,
                                us_rec_options *o, apr_array_header_t *columns,
                                us_rec_wish *wish)
{
    const char *arg = NULL;
    const char *wrong = NULL;
    int option = 0;
    apr_status_t rv;

    while (wrong == NULL
           && (rv = apr_getopt_long(line, known, &option, &arg))
                  == APR_SUCCESS) {
        if (option == HELP || option == VERSION) {
            *wish = option == HELP ? US_REC_HELP : US_REC_VERSION;
            return NULL;
        }
        wrong = option <= ON_DELETE
                    ? take_subject(pool, option, arg, o, columns)
                    : take_manner(pool, option, arg, o);
        if (wrong != NULL) {
            wrong = apr_pstrcat(pool, "--", name_of(option), " ", wrong, NULL);
        }
    }
    if (wrong == NULL && !APR_STATUS_IS_EOF(rv)) {
        wrong = "unknown option, or one without its value";
    }
    if (wrong == NULL && line->ind < line->argc) {
        wrong = "takes options only";
    }
    return wrong;
}

us_rec_wish us_rec_options_read(apr_pool_t *pool, int argc,
                                const char *const *argv,
                                us_rec_options *options, const char **wrong)
{
    apr_array_header_t *columns
        = apr_array_make(pool, US_MAX_COLUMNS, sizeof(us_column));
    us_rec_options o = {.table = "\"users\"",
                        .max_delete = {0, 1},
                        .batch = 300,
                        .retries = 7,
                        .timeout = apr_time_from_sec(30)};
    us_rec_wish wish = US_REC_WORK;
    apr_getopt_t *line;

    if (apr_getopt_init(&line, pool, argc, argv) != APR_SUCCESS) {
        *wrong = "no command line";
        return US_REC_WRONG;
    }
    line->errfn = NULL; /* the caller says what is wrong */
    *wrong = read_options(pool, line, &o, columns, &wish);
    if (*wrong == NULL && wish == US_REC_WORK) {
        o.columns = us_columns_complete(pool, columns);
        *wrong = check_together(&o);
    }
    *options = o;
    return *wrong != NULL ? US_REC_WRONG : wish;
}
