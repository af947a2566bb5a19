/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_values.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <arpa/inet.h>
#include <string.h>

/* --- numbers --- */

/* The digits at the start of arg; *end is set behind them.  -1: none or
 * more than fits. */
static apr_int64_t leading_number(const char *arg, const char **end)
{
    apr_int64_t number = 0;
    const char *p = arg;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (number > (APR_INT64_MAX - 9) / 10) {
            return -1;
        }
        number = number * 10 + (*p - '0');
    }
    *end = p;
    return p == arg ? -1 : number;
}

/* How a bound is written in a message. */
static const char *duration_text(apr_pool_t *pool, apr_interval_time_t value)
{
    if (value % APR_USEC_PER_SEC == 0) {
        return apr_psprintf(pool, "%" APR_TIME_T_FMT "s",
                            value / APR_USEC_PER_SEC);
    }
    return apr_psprintf(pool, "%" APR_TIME_T_FMT "ms", value / 1000);
}

const char *us_value_duration(apr_pool_t *pool, const char *arg,
                              apr_interval_time_t min, apr_interval_time_t max,
                              apr_interval_time_t *value)
{
    static const struct {
        const char *name;
        apr_interval_time_t usec;
    } units[] = {{"", APR_USEC_PER_SEC},
                 {"ms", 1000},
                 {"s", APR_USEC_PER_SEC},
                 {"mi", 60 * APR_USEC_PER_SEC},
                 {"h", 3600 * APR_USEC_PER_SEC}};
    const char *unit = arg;
    apr_int64_t number = leading_number(arg, &unit);
    apr_size_t i;

    for (i = 0; number >= 0 && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].name) == 0) {
            if (number <= max / units[i].usec
                && number * units[i].usec >= min) {
                *value = number * units[i].usec;
                return NULL;
            }
            break;
        }
    }
    return apr_psprintf(pool,
                        "takes a duration from %s to %s, such as 5s or "
                        "500ms (units: ms, s, mi, h), not \"%s\"",
                        duration_text(pool, min), duration_text(pool, max),
                        arg);
}

const char *us_value_bytes(apr_pool_t *pool, const char *arg, apr_size_t min,
                           apr_size_t max, apr_size_t *value)
{
    const char *end = arg;
    apr_int64_t number = leading_number(arg, &end);

    if (number < 0 || *end != '\0' || (apr_uint64_t)number < min
        || (apr_uint64_t)number > max) {
        return apr_psprintf(pool,
                            "takes a number of bytes from %" APR_SIZE_T_FMT
                            " to %" APR_SIZE_T_FMT ", not \"%s\"",
                            min, max, arg);
    }
    *value = (apr_size_t)number;
    return NULL;
}

const char *us_value_count(apr_pool_t *pool, const char *arg, int min, int max,
                           int *value)
{
    const char *end = arg;
    apr_int64_t number = leading_number(arg, &end);

    if (number < min || number > max || *end != '\0') {
        return apr_psprintf(pool, "takes a number from %d to %d, not \"%s\"",
                            min, max, arg);
    }
    *value = (int)number;
    return NULL;
}

const char *us_value_share(apr_pool_t *pool, const char *arg, int max,
                           int *value, int *percent)
{
    const char *end = arg;
    apr_int64_t number = leading_number(arg, &end);
    int is_percent = strcmp(end, "%") == 0;

    if (number < 1 || number > (is_percent ? 100 : max)
        || (!is_percent && *end != '\0')) {
        return apr_psprintf(pool,
                            "takes a number from 1 to %d or a percentage "
                            "from 1%% to 100%%, not \"%s\"",
                            max, arg);
    }
    *value = (int)number;
    *percent = is_percent;
    return NULL;
}

/* --- URLs --- */

/* Letters, digits, '.', '-', '_'; or what apr_uri leaves of [IPv6]. */
static int is_host(const char *host)
{
    int ipv6 = strchr(host, ':') != NULL;
    const char *p;

    if (*host == '\0') {
        return 0;
    }
    for (p = host; *p != '\0'; p++) {
        int fits
            = ipv6 ? (apr_isxdigit(*p) || *p == ':' || *p == '.')
                   : (apr_isalnum(*p) || *p == '.' || *p == '-' || *p == '_');

        if (!fits) {
            return 0;
        }
    }
    return 1;
}

/* 127.0.0.0/8 as an address: "127.evil.example" is a name to look up. */
static int is_loopback(const char *host)
{
    struct in_addr address;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0) {
        return 1;
    }
    return strncmp(host, "127.", 4) == 0
           && inet_pton(AF_INET, host, &address) == 1;
}

/* apr_uri keeps the port in 16 bits, so that 65537 would become 1. */
static int is_port(const char *text)
{
    const char *end = text;
    apr_int64_t port = leading_number(text, &end);

    return port >= 1 && port <= 65535 && *end == '\0';
}

static int has_blank_or_control(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 127) {
            return 1;
        }
    }
    return 0;
}

/* The parts of a URL that every kind here shares; NULL or what is wrong. */
static const char *parse_url(apr_pool_t *pool, const char *arg, apr_uri_t *uri)
{
    if (has_blank_or_control(arg) || strchr(arg, '\\') != NULL
        || apr_uri_parse(pool, arg, uri) != APR_SUCCESS
        || uri->scheme == NULL) {
        return "is not a URL";
    }
    if (uri->hostname == NULL || !is_host(uri->hostname)) {
        return "has no valid host";
    }
    if (uri->port_str != NULL && !is_port(uri->port_str)) {
        return "has no valid port";
    }
    if (uri->user != NULL || uri->password != NULL) {
        return "must not hold a user name or password";
    }
    if (uri->query != NULL || strchr(arg, '?') != NULL) {
        return "must not hold a query";
    }
    if (uri->fragment != NULL || strchr(arg, '#') != NULL) {
        return "must not hold a fragment";
    }
    return NULL;
}

/* scheme://host[:port], the host as it must be written in a URL. */
static const char *origin_text(apr_pool_t *pool, const apr_uri_t *uri)
{
    int ipv6 = strchr(uri->hostname, ':') != NULL;

    return apr_pstrcat(pool, uri->scheme, "://", ipv6 ? "[" : "",
                       uri->hostname, ipv6 ? "]" : "",
                       uri->port_str != NULL ? ":" : "",
                       uri->port_str != NULL ? uri->port_str : "", NULL);
}

const char *us_value_supabase_url(apr_pool_t *pool, const char *arg,
                                  const char **url)
{
    static const char suffix[] = "/auth/v1";
    const apr_size_t suffix_len = sizeof(suffix) - 1;
    apr_uri_t uri;
    const char *wrong = parse_url(pool, arg, &uri);
    const char *path;
    apr_size_t len;

    if (wrong == NULL && strcasecmp(uri.scheme, "https") != 0
        && (strcasecmp(uri.scheme, "http") != 0
            || !is_loopback(uri.hostname))) {
        wrong = "would send passwords in the clear";
    }
    if (wrong != NULL) {
        return apr_psprintf(pool,
                            "takes https://HOST[:PORT][/PATH], or http:// to "
                            "a loopback address (the project's URL, with or "
                            "without /auth/v1); \"%s\" %s",
                            arg, wrong);
    }
    path = uri.path != NULL ? uri.path : "";
    len = strlen(path);
    while (len > 0 && path[len - 1] == '/') {
        len--;
    }
    if (len >= suffix_len
        && strncmp(path + len - suffix_len, suffix, suffix_len) == 0) {
        len -= suffix_len;
    }
    *url = apr_pstrcat(pool, origin_text(pool, &uri),
                       apr_pstrmemdup(pool, path, len), suffix, NULL);
    return NULL;
}

const char *us_value_proxy_url(apr_pool_t *pool, const char *arg,
                               const char **url)
{
    static const char *const schemes[]
        = {"http", "https", "socks5", "socks5h", NULL};
    apr_uri_t uri;
    const char *wrong = parse_url(pool, arg, &uri);
    int i;

    if (wrong == NULL && uri.path != NULL && strcmp(uri.path, "/") != 0) {
        wrong = "must not hold a path";
    }
    for (i = 0; wrong == NULL && schemes[i] != NULL; i++) {
        if (strcasecmp(uri.scheme, schemes[i]) == 0) {
            *url = origin_text(pool, &uri);
            return NULL;
        }
    }
    return apr_psprintf(pool,
                        "takes None or http://, https://, socks5:// or "
                        "socks5h://HOST[:PORT]; \"%s\" %s",
                        arg, wrong != NULL ? wrong : "has another scheme");
}

/* --- identifiers --- */

static int is_identifier_start(char c)
{
    return apr_isalpha(c) || c == '_' || (unsigned char)c >= 0x80;
}

/*
 * Read one identifier at *at and append its quoted form; *at is moved behind
 * it.  Inside double quotes a doubled quote stands for one.
 */
static const char *read_identifier(apr_pool_t *pool, const char **at,
                                   const char **quoted, const char **plain)
{
    char name[US_IDENTIFIER_MAX + 1];
    const char *p = *at;
    const char *piece;
    apr_size_t len = 0;
    int in_quotes = *p == '"';

    if (in_quotes) {
        p++;
    }
    else if (!is_identifier_start(*p)) {
        return "is not an identifier";
    }
    for (; *p != '\0'; p++) {
        if (in_quotes && *p == '"' && *++p != '"') {
            in_quotes = 0;
            break;
        }
        if (!in_quotes && !is_identifier_start(*p) && !apr_isdigit(*p)
            && *p != '$') {
            break;
        }
        if ((unsigned char)*p < ' ') {
            return "holds a control character";
        }
        if (len == US_IDENTIFIER_MAX) {
            return "is longer than 63 bytes";
        }
        name[len++] = *p;
    }
    if (in_quotes) {
        return "has no closing quote";
    }
    if (len == 0) {
        return "is empty";
    }
    name[len] = '\0';
    *at = p;
    *plain = apr_pstrdup(pool, name);
    *quoted = "\"";
    for (piece = *plain; *piece != '\0'; piece++) {
        *quoted = apr_psprintf(pool, *piece == '"' ? "%s\"%c" : "%s%c",
                               *quoted, *piece);
    }
    *quoted = apr_pstrcat(pool, *quoted, "\"", NULL);
    return NULL;
}

const char *us_value_identifier(apr_pool_t *pool, const char *arg,
                                const char **quoted, const char **plain)
{
    const char *at = arg;
    const char *wrong = read_identifier(pool, &at, quoted, plain);

    if (wrong == NULL && *at != '\0') {
        wrong = "is not an identifier";
    }
    return wrong == NULL
               ? NULL
               : apr_psprintf(pool,
                              "takes a column name (letters, digits and _, "
                              "at most 63 bytes; anything else in double "
                              "quotes); \"%s\" %s",
                              arg, wrong);
}

const char *us_value_table(apr_pool_t *pool, const char *arg,
                           const char **quoted)
{
    const char *at = arg;
    const char *first;
    const char *second = NULL;
    const char *plain;
    const char *wrong = read_identifier(pool, &at, &first, &plain);

    if (wrong == NULL && *at == '.') {
        at++;
        wrong = read_identifier(pool, &at, &second, &plain);
    }
    if (wrong == NULL && *at != '\0') {
        wrong = "is not an identifier";
    }
    if (wrong != NULL) {
        return apr_psprintf(pool,
                            "takes [SCHEMA.]TABLE (letters, digits and _, at "
                            "most 63 bytes each; anything else in double "
                            "quotes); \"%s\" %s",
                            arg, wrong);
    }
    *quoted
        = second == NULL ? first : apr_pstrcat(pool, first, ".", second, NULL);
    return NULL;
}

int us_value_is_uuid(const char *s)
{
    int i;

    for (i = 0; i < 36; i++) {
        int dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? s[i] != '-' : !apr_isxdigit(s[i])) {
            return 0;
        }
    }
    return s[36] == '\0';
}
