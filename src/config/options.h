/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/options.h: the members that the directives set, one line for each.
 *
 * OPTION(type, name, unset, fallback)
 *     A member of that type and name.  It is "unset" until a line sets it,
 *     and merges like httpd's own: an inner value overrides an outer one.
 *     The getter us_config_NAME() returns the value, or the fallback.
 *
 * MERGED(type, name, start, rule)
 *     A member that merges differently: rule is the merged value, an
 *     expression of pool, base (outer) and add (inner).  It has no getter.
 *
 * us_config.h makes the structs and getters from these lines, config.c the
 * functions that create and merge them.
 */
#ifndef US_OPTIONS_H
#define US_OPTIONS_H

/* Not set, for members where 0 is a value. */
#define US_UNSET (-1)

/*
 * GoTrue sends the confirmation mail during the sign-up and gives up after ten
 * seconds: with a shorter register_timeout, the state of accounts would be
 * unknown.
 */
/* clang-format off */
#define US_SERVER_OPTIONS(OPTION, MERGED)                                     \
    /* the project; url ends in /auth/v1, proxy "" is None */                 \
    OPTION(const char *, url, NULL, NULL)                                     \
    OPTION(us_secret *, key, NULL, NULL)                                      \
    OPTION(const char *, ca_file, NULL, NULL)                                 \
    OPTION(const char *, proxy, NULL, "")                                     \
    OPTION(int, forward_ip, US_UNSET, US_FORWARD_OFF) /* us_forward_ip */     \
    OPTION(apr_interval_time_t, timeout, US_UNSET, apr_time_from_sec(5))      \
    OPTION(apr_interval_time_t, register_timeout, US_UNSET,                   \
           apr_time_from_sec(12))                                             \
    OPTION(apr_interval_time_t, connect_timeout, US_UNSET,                    \
           apr_time_from_sec(2))                                              \
    /* the users table, quoted for SQL; columns are of us_column */           \
    OPTION(const char *, table, NULL, "\"public\".\"users\"")                 \
    MERGED(apr_array_header_t *, columns, NULL,                               \
           merge_columns(pool, base->columns, add->columns))                  \
    OPTION(apr_interval_time_t, store_timeout, US_UNSET,                      \
           apr_time_from_sec(3))                                              \
    OPTION(int, on_delete, US_UNSET, US_UNSET) /* us_on_delete */             \
    /* limits: a number, or a percentage if the number is 0 */                \
    OPTION(int, max_concurrent, US_UNSET, 0)                                  \
    OPTION(int, max_concurrent_percent, US_UNSET, 50)                         \
    OPTION(int, max_per_client, US_UNSET, 0) /* both 0: Off */                \
    OPTION(int, max_per_client_percent, US_UNSET, 25)                         \
    OPTION(int, breaker_failures, US_UNSET, 5) /* 0: Off */                   \
    OPTION(apr_interval_time_t, breaker_duration, US_UNSET,                   \
           apr_time_from_sec(10))                                             \
    /* the cache of known users */                                            \
    OPTION(us_cache_choice *, cache, NULL, NULL)                              \
    OPTION(apr_interval_time_t, cache_timeout, US_UNSET,                      \
           apr_time_from_sec(300))                                            \
    /* the hooks: secrets are of us_hook_secret, forward "" is None */        \
    OPTION(apr_array_header_t *, hook_secrets, NULL, NULL)                    \
    OPTION(const char *, hook_forward, NULL, "")                              \
    /* events that are not signed */                                          \
    OPTION(us_event_header *, event_header, NULL, NULL)                       \
    /* UserSyncEnsure and UserSyncEnsureHeaders: the server's own line, and   \
     * whether one of its sections says On; a section of the main server      \
     * applies to its virtual hosts, too */                                   \
    OPTION(int, gate_level, US_UNSET, 0)                                      \
    MERGED(int, gate_inside, 0, base->gate_inside || add->gate_inside)        \
    OPTION(int, headers_level, US_UNSET, 0)                                   \
    MERGED(int, headers_inside, 0,                                            \
           base->headers_inside || add->headers_inside)                       \
    /* the same for UserSyncEnsureResponse, On or Report */                   \
    OPTION(int, response_level, US_UNSET, 0)                                  \
    MERGED(int, response_inside, 0,                                           \
           base->response_inside || add->response_inside)                     \
    /* a block in mod_status' page */                                         \
    OPTION(int, server_status, US_UNSET, 1)                                   \
    /* this server itself has a UserSync directive */                         \
    MERGED(int, own_lines, 0, add->own_lines)

#define US_DIR_OPTIONS(OPTION, MERGED)                                        \
    OPTION(apr_size_t, max_body_size, (apr_size_t)US_UNSET, 8192)             \
    OPTION(int, ensure, US_UNSET, 0)                                          \
    OPTION(const ap_expr_info_t *, user_expr, NULL, NULL) /* NULL: r->user */ \
    /* UserSyncEnsureEmail sets both; no_email: it says None */               \
    MERGED(const ap_expr_info_t *, email_expr, NULL,                          \
           add->no_email != US_UNSET ? add->email_expr : base->email_expr)    \
    OPTION(int, no_email, US_UNSET, 0)                                        \
    OPTION(int, on_error, US_UNSET, US_ON_ERROR_DENY) /* us_on_error */       \
    OPTION(int, ensure_headers, US_UNSET, 0)                                  \
    OPTION(int, hook_on_error, US_UNSET, US_ON_ERROR_DENY) /* us_on_error */  \
    /* what mod_proxy forwards */                                             \
    OPTION(int, response, US_UNSET, US_RESPONSE_OFF) /* us_response_mode */   \
    OPTION(int, proxy_admin, US_UNSET, 0)                                     \
    OPTION(int, proxy_headers, US_UNSET, 0)
/* clang-format on */

#endif /* US_OPTIONS_H */
