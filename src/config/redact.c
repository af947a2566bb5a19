/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_redact.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* Everybody may see these. */
static const char *const harmless[] = {"host",
                                       "hostaddr",
                                       "port",
                                       "dbname",
                                       "user",
                                       "passfile",
                                       "service",
                                       "connect_timeout",
                                       "target_session_attrs",
                                       "sslmode",
                                       "sslrootcert",
                                       "sslcert",
                                       "sslkey",
                                       "application_name",
                                       "client_encoding",
                                       "keepalives",
                                       "keepalives_idle",
                                       "keepalives_interval",
                                       "load_balance_hosts"};

static int is_harmless(const char *keyword)
{
    apr_size_t i;

    for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        if (strcmp(keyword, harmless[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

/* User information may have a "@", or even a "/", that nobody has encoded: it
 * ends at the last "@" there is. */
static const char *without_user(apr_pool_t *pool, const char *url)
{
    const char *slashes = strstr(url, "://");
    const char *at = strrchr(url, '@');

    if (slashes == NULL || at == NULL || at < slashes) {
        return url;
    }
    return apr_pstrcat(
        pool, apr_pstrmemdup(pool, url, (apr_size_t)(slashes - url) + 3),
        US_REDACTED, at, NULL);
}

const char *us_redact_url(apr_pool_t *pool, const char *url)
{
    return without_user(pool, url);
}

/* A URI: behind "?" there may be a password, too. */
static const char *redact_uri(apr_pool_t *pool, const char *uri)
{
    const char *query = strchr(uri, '?');
    const char *slashes = strstr(uri, "://");

    if (query == NULL) {
        return without_user(pool, uri);
    }
    /* or the "?" is a character of the password */
    return apr_pstrcat(
        pool, apr_pstrmemdup(pool, uri, (apr_size_t)(slashes - uri) + 3),
        US_REDACTED, NULL);
}

static const char *skip_blanks(const char *text)
{
    while (apr_isspace(*text)) {
        text++;
    }
    return text;
}

/* The end of a value, as libpq finds it; NULL: its quote is not closed. */
static const char *end_of_value(const char *value)
{
    int quoted = *value == '\'';
    const char *p = value + quoted;

    while (*p != '\0' && (quoted ? *p != '\'' : !apr_isspace(*p))) {
        p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
    }
    if (!quoted) {
        return p;
    }
    return *p == '\'' ? p + 1 : NULL;
}

/* The next "keyword=value" of the text, which moves on; NULL: it is none. */
static const char *next_pair(apr_pool_t *pool, const char **text)
{
    apr_size_t len = strcspn(*text, "= \t\r\n\v\f");
    const char *keyword = apr_pstrmemdup(pool, *text, len);
    const char *value = skip_blanks(*text + len);
    const char *end;

    if (len == 0 || *value != '=') {
        return NULL;
    }
    value = skip_blanks(value + 1);
    end = end_of_value(value);
    if (end == NULL) {
        return NULL;
    }
    *text = end;
    return apr_pstrcat(pool, keyword, "=",
                       is_harmless(keyword) ? apr_pstrmemdup(
                           pool, value, (apr_size_t)(end - value))
                                            : US_REDACTED,
                       NULL);
}

const char *us_redact_params(apr_pool_t *pool, const char *params)
{
    const char *shown = "";

    params = skip_blanks(params);
    if (strncmp(params, "postgresql://", 13) == 0
        || strncmp(params, "postgres://", 11) == 0) {
        return redact_uri(pool, params);
    }
    while (*params != '\0') {
        const char *pair = next_pair(pool, &params);

        shown = apr_pstrcat(pool, shown, *shown != '\0' ? " " : "",
                            pair != NULL ? pair : US_REDACTED, NULL);
        if (pair == NULL) {
            break;
        }
        params = skip_blanks(params);
    }
    return shown;
}
