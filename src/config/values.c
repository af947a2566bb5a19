/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_values.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <arpa/inet.h>
#include <string.h>

/* --- numbers --- */

/* The digits at the start of arg; *end is set to the character after them.
 * Returns -1 if there are none or the number is too large. */
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

/* A bound as it is written in a message. */
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

const char *us_value_share(apr_pool_t *pool, const char *arg, int has_off,
                           int max, us_share *share)
{
    const char *end = arg;
    apr_int64_t number = leading_number(arg, &end);
    int is_percent = strcmp(end, "%") == 0;

    share->number = 0;
    share->percent = 0;
    if (has_off && strcasecmp(arg, "Off") == 0) {
        return NULL;
    }
    if (number < 1 || number > (is_percent ? 100 : max)
        || (!is_percent && *end != '\0')) {
        return apr_psprintf(pool,
                            "takes %sa number from 1 to %d or a percentage "
                            "from 1%% to 100%%, not \"%s\"",
                            has_off ? "Off, " : "", max, arg);
    }
    *(is_percent ? &share->percent : &share->number) = (int)number;
    return NULL;
}

/* --- URLs --- */

/* Letters, digits, '.', '-', '_'; or an IPv6 address, from which apr_uri has
 * removed the brackets. */
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

/* 127.0.0.0/8 must be an address: "127.evil.example" is a name to look up. */
static int is_loopback(const char *host)
{
    struct in_addr address;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0) {
        return 1;
    }
    return strncmp(host, "127.", 4) == 0
           && inet_pton(AF_INET, host, &address) == 1;
}

/* apr_uri keeps the port in 16 bits, which turns 65537 into 1. */
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

/* Parses and checks what all kinds of URLs here have in common.  Returns NULL,
 * or what is wrong. */
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
        return "must not contain a user name or password";
    }
    if (uri->query != NULL || strchr(arg, '?') != NULL) {
        return "must not contain a query";
    }
    if (uri->fragment != NULL || strchr(arg, '#') != NULL) {
        return "must not contain a fragment";
    }
    return NULL;
}

/* Does nobody on the way see what is sent there: https, or not away? */
static int is_confidential(const apr_uri_t *uri)
{
    return strcasecmp(uri->scheme, "https") == 0
           || (strcasecmp(uri->scheme, "http") == 0
               && is_loopback(uri->hostname));
}

/* scheme://host[:port], with the host as a URL needs it. */
static const char *origin_text(apr_pool_t *pool, const apr_uri_t *uri)
{
    int ipv6 = strchr(uri->hostname, ':') != NULL;

    return apr_pstrcat(pool, uri->scheme, "://", ipv6 ? "[" : "",
                       uri->hostname, ipv6 ? "]" : "",
                       uri->port_str != NULL ? ":" : "",
                       uri->port_str != NULL ? uri->port_str : "", NULL);
}

/* The value for a message, unless it may contain a password or a key. */
static const char *quotable(apr_pool_t *pool, const char *arg)
{
    static const char *const secrets[]
        = {"@", "eyJ", "sb_publishable_", "sb_secret_", NULL};
    int i;

    for (i = 0; secrets[i] != NULL; i++) {
        if (strstr(arg, secrets[i]) != NULL) {
            return "the value";
        }
    }
    return apr_psprintf(pool, "\"%s\"", arg);
}

/* Is this an API key, given to the wrong directive? */
static int is_api_key(const char *arg)
{
    return strncmp(arg, "sb_publishable_", 15) == 0
           || strncmp(arg, "sb_secret_", 10) == 0
           || (strncmp(arg, "eyJ", 3) == 0 && strchr(arg, '/') == NULL);
}

/* Is name the host, or a domain above it?  *len is set to the length of the
 * host's part before that domain, without the dot. */
static int is_below(const char *host, const char *name, apr_size_t *len)
{
    apr_size_t host_len = strlen(host);
    apr_size_t name_len = strlen(name);

    *len = 0;
    if (host_len < name_len
        || strcasecmp(host + host_len - name_len, name) != 0) {
        return 0;
    }
    *len = host_len > name_len ? host_len - name_len - 1 : 0;
    return host_len == name_len || host[*len] == '.';
}

/*
 * Supabase's own hosts other than REF.supabase.co: the dashboard, its API, the
 * poolers, db.REF.supabase.co and the like.  None of them answers a login.
 */
static const char *check_host(const char *host, int *hosted)
{
    static const char *const not_projects[]
        = {"supabase.com", "supabase.io", NULL};
    static const char *const names[] = {"www", "app", "api", NULL};
    apr_size_t len;
    int i;

    *hosted = 0;
    for (i = 0; not_projects[i] != NULL; i++) {
        if (is_below(host, not_projects[i], &len)) {
            return "is an address of Supabase's own, such as the dashboard; "
                   "the project's is https://REF.supabase.co";
        }
    }
    if (!is_below(host, "supabase.co", &len)) {
        return NULL;
    }
    *hosted = 1;
    if (memchr(host, '.', len) != NULL) {
        return "is the project's database or another of its services; the "
               "project's own address is https://REF.supabase.co";
    }
    for (i = 0; names[i] != NULL; i++) {
        if (len == 0
            || (len == strlen(names[i])
                && strncasecmp(host, names[i], len) == 0)) {
            return "names no project; its address is https://REF.supabase.co";
        }
    }
    return NULL;
}

/* Checks what comes before /auth/v1. */
static const char *check_prefix(const char *prefix, int hosted)
{
    static const char *const services[]
        = {"/auth/v1",      "/rest/v1",    "/storage/v1",
           "/functions/v1", "/graphql/v1", "/realtime/v1",
           "/dashboard/",   "/project/",   NULL};
    int i;

    for (i = 0; services[i] != NULL; i++) {
        if (strstr(prefix, services[i]) != NULL) {
            return "has the path of a service, a call or a page: give the "
                   "project's URL alone";
        }
    }
    return hosted && *prefix != '\0'
               ? "has a path, but a project at supabase.co has none"
               : NULL;
}

const char *us_value_supabase_url(apr_pool_t *pool, const char *arg,
                                  const char **url)
{
    static const char suffix[] = "/auth/v1";
    const apr_size_t suffix_len = sizeof(suffix) - 1;
    apr_uri_t uri;
    const char *wrong = is_api_key(arg) ? "is an API key: that belongs to "
                                          "UserSyncSupabaseKey"
                                        : parse_url(pool, arg, &uri);
    const char *prefix = "";
    int hosted = 0;

    if (wrong == NULL && !is_confidential(&uri)) {
        wrong = "would send passwords in the clear";
    }
    if (wrong == NULL) {
        wrong = check_host(uri.hostname, &hosted);
    }
    if (wrong == NULL && uri.path != NULL) {
        apr_size_t len = strlen(uri.path);

        while (len > 0 && uri.path[len - 1] == '/') {
            len--;
        }
        if (len >= suffix_len
            && strncmp(uri.path + len - suffix_len, suffix, suffix_len) == 0) {
            len -= suffix_len;
        }
        prefix = apr_pstrmemdup(pool, uri.path, len);
        wrong = check_prefix(prefix, hosted);
    }
    if (wrong != NULL) {
        return apr_psprintf(pool,
                            "takes https://HOST[:PORT][/PATH], or http:// to "
                            "a loopback address (the project's URL, with or "
                            "without /auth/v1); %s %s",
                            quotable(pool, arg), wrong);
    }
    *url = apr_pstrcat(pool, origin_text(pool, &uri), prefix, suffix, NULL);
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
        wrong = "must not contain a path";
    }
    for (i = 0; wrong == NULL && schemes[i] != NULL; i++) {
        if (strcasecmp(uri.scheme, schemes[i]) == 0) {
            *url = origin_text(pool, &uri);
            return NULL;
        }
    }
    return apr_psprintf(pool,
                        "takes None or http://, https://, socks5:// or "
                        "socks5h://HOST[:PORT]; %s %s",
                        quotable(pool, arg),
                        wrong != NULL ? wrong : "has another scheme");
}

const char *us_value_hook_url(apr_pool_t *pool, const char *arg,
                              const char **url)
{
    apr_uri_t uri;
    const char *wrong = parse_url(pool, arg, &uri);

    if (wrong == NULL && !is_confidential(&uri)) {
        wrong = "would send the users' data in the clear";
    }
    if (wrong != NULL) {
        return apr_psprintf(pool,
                            "takes None or https://HOST[:PORT][/PATH], or "
                            "http:// to a loopback address; %s %s",
                            quotable(pool, arg), wrong);
    }
    *url = apr_pstrcat(pool, origin_text(pool, &uri),
                       uri.path != NULL ? uri.path : "/", NULL);
    return NULL;
}

int us_value_is_loopback_url(apr_pool_t *pool, const char *url)
{
    apr_uri_t uri;

    return parse_url(pool, url, &uri) == NULL && is_loopback(uri.hostname);
}

/* --- identifiers --- */

static int is_identifier_start(char c)
{
    return apr_isalpha(c) || c == '_' || (unsigned char)c >= 0x80;
}

/*
 * Reads one identifier at *at and sets its quoted and plain form; *at is moved
 * after it.  Inside double quotes a doubled quote stands for one.
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
