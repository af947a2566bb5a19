/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/redact.c: no secret is left, however it is written, and what is no
 * secret is.
 */
#include "tap.h"
#include "us_redact.h"

#include <apr_general.h>

#include <string.h>

static apr_pool_t *pool;

/* A value with a secret, which is called hunter2 everywhere, and what is
 * shown. */
typedef struct value {
    const char *is;
    const char *shown;
} value;

static const value params[] = {
    {"", ""},
    {"host=db dbname=app user=httpd", "host=db dbname=app user=httpd"},
    {"host=db password=hunter2 dbname=app", "host=db password=*** dbname=app"},
    {"password = hunter2  host = db", "password=*** host=db"},
    {"password='hunter2 is long' host=db", "password=*** host=db"},
    {"password='a\\'hunter2' host=db", "password=*** host=db"},
    {"password=a\\ hunter2 host=db", "password=*** host=db"},
    {"host='a b' port=5433", "host='a b' port=5433"},
    {"passfile=/etc/x sslpassword=hunter2", "passfile=/etc/x sslpassword=***"},
    {"PASSWORD=hunter2", "PASSWORD=***"},
    {"password=", "password=***"},
    {"host=db options='-c my.key=hunter2'", "host=db options=***"},
    {"oauth_client_secret=hunter2 host=db", "oauth_client_secret=*** host=db"},
    /* libpq would refuse these */
    {"host=db password='hunter2", "host=db ***"},
    {"host=db hunter2", "host=db ***"},
    {"=hunter2", "***"},
    {"host=db\tpassword\n=\nhunter2", "host=db password=***"},
    /* URIs */
    {"postgresql://db/app", "postgresql://db/app"},
    {"postgresql://u:hunter2@db:5432/app", "postgresql://***@db:5432/app"},
    {"postgres://u:a@hunter2@db/app", "postgres://***@db/app"},
    {"postgres://u:a/hunter2@db/app", "postgres://***@db/app"},
    {"postgresql://u:?hunter2@db/app", "postgresql://***"},
    {"postgresql://db/app?password=hunter2", "postgresql://***"},
    {"postgresql://db/app?password=a@hunter2", "postgresql://***"},
    {"  postgresql://u:hunter2@db", "postgresql://***@db"},
    {"POSTGRESQL://u:hunter2@db", "***"},
};

static const value urls[] = {
    {"http://proxy:3128", "http://proxy:3128"},
    {"https://u:hunter2@proxy", "https://***@proxy"},
    {"https://u:hunter2/@@proxy", "https://***@proxy"},
    {"https://h/path@x", "https://***@x"}, /* nobody knows */
    {"h/path@x", "h/path@x"},
};

static void try(const char *what, const char *shown, const value *of)
{
    is_str(shown, of->shown, "%s: %s", what, of->is);
    ok(strstr(shown, "hunter2") == NULL, "no secret");
}

int main(void)
{
    size_t i;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    for (i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        try("parameters", us_redact_params(pool, params[i].is), &params[i]);
    }
    for (i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        try("URL", us_redact_url(pool, urls[i].is), &urls[i]);
    }
    apr_terminate();
    return done();
}
