/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/options.h: the members that the directives set, one line for each.
 *
 * OPTION(type, name, unset, fallback, directive, kind)
 *     A member of that type and name.  It is "unset" until a line sets it,
 *     and merges like httpd's own: an inner value overrides an outer one.
 *     The getter us_config_NAME() returns the value, or the fallback.
 *
 * MERGED(type, name, start, rule, directive, kind)
 *     A member that merges differently: rule is the merged value, an
 *     expression of pool, base (outer) and add (inner).  It has no getter.
 *
 * directive and kind are for -D DUMP_USERSYNC: show_KIND() of config/dump.c
 * prints the member as the argument of that directive.  A member that is
 * shown with another one, or that no directive sets, has NULL and part.
 *
 * us_config.h makes the structs and getters from these lines, config.c the
 * functions that create and merge them, and dump.c those that print them.
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
    OPTION(const char *, url, NULL, NULL, "UserSyncSupabaseURL", text)        \
    OPTION(us_secret *, key, NULL, NULL, "UserSyncSupabaseKey", secret)       \
    OPTION(const char *, ca_file, NULL, NULL, "UserSyncCACertificateFile",    \
           text)                                                              \
    OPTION(const char *, proxy, NULL, "", "UserSyncProxy", proxy)             \
    /* us_forward_ip */                                                       \
    OPTION(int, forward_ip, US_UNSET, US_FORWARD_OFF,                         \
           "UserSyncForwardClientIP", forward_ip)                             \
    OPTION(apr_interval_time_t, timeout, US_UNSET, apr_time_from_sec(5),      \
           "UserSyncTimeout", duration)                                       \
    OPTION(apr_interval_time_t, register_timeout, US_UNSET,                   \
           apr_time_from_sec(12), "UserSyncRegisterTimeout", duration)        \
    OPTION(apr_interval_time_t, connect_timeout, US_UNSET,                    \
           apr_time_from_sec(2), "UserSyncConnectTimeout", duration)          \
    /* the users table, quoted for SQL; columns are of us_column */           \
    OPTION(const char *, table, NULL, "\"public\".\"users\"",                 \
           "UserSyncTable", text)                                             \
    MERGED(apr_array_header_t *, columns, NULL,                               \
           merge_columns(pool, base->columns, add->columns),                  \
           "UserSyncColumn", columns)                                         \
    OPTION(apr_interval_time_t, store_timeout, US_UNSET,                      \
           apr_time_from_sec(3), "UserSyncStoreTimeout", duration)            \
    /* us_on_delete */                                                        \
    OPTION(int, on_delete, US_UNSET, US_UNSET, "UserSyncOnDelete", on_delete) \
    /* limits: a number, or a percentage if the number is 0 */                \
    OPTION(int, max_concurrent, US_UNSET, 0, "UserSyncMaxConcurrent",         \
           max_concurrent)                                                    \
    OPTION(int, max_concurrent_percent, US_UNSET, 50, NULL, part)             \
    /* both 0: Off */                                                         \
    OPTION(int, max_per_client, US_UNSET, 0, "UserSyncMaxPerClient",          \
           max_per_client)                                                    \
    OPTION(int, max_per_client_percent, US_UNSET, 25, NULL, part)             \
    /* 0: Off */                                                              \
    OPTION(int, breaker_failures, US_UNSET, 5, "UserSyncCircuitBreaker",      \
           breaker)                                                           \
    OPTION(apr_interval_time_t, breaker_duration, US_UNSET,                   \
           apr_time_from_sec(10), NULL, part)                                 \
    /* the cache of known users */                                            \
    OPTION(us_cache_choice *, cache, NULL, NULL, "UserSyncCache", cache)      \
    OPTION(apr_interval_time_t, cache_timeout, US_UNSET,                      \
           apr_time_from_sec(300), "UserSyncCacheTimeout", duration)          \
    /* the hooks: secrets are of us_hook_secret, forward "" is None */        \
    OPTION(apr_array_header_t *, hook_secrets, NULL, NULL,                    \
           "UserSyncHookSecret", hook_secrets)                                \
    OPTION(const char *, hook_forward, NULL, "", "UserSyncHookForward",       \
           proxy)                                                             \
    /* events that are not signed */                                          \
    OPTION(us_event_header *, event_header, NULL, NULL,                       \
           "UserSyncEventHeader", event_header)                               \
    /* UserSyncEnsure and UserSyncEnsureHeaders: the server's own line, and   \
     * whether one of its sections says On; a section of the main server      \
     * applies to its virtual hosts, too */                                   \
    OPTION(int, gate_level, US_UNSET, 0, NULL, part)                          \
    MERGED(int, gate_inside, 0, base->gate_inside || add->gate_inside, NULL,  \
           part)                                                              \
    OPTION(int, headers_level, US_UNSET, 0, NULL, part)                       \
    MERGED(int, headers_inside, 0,                                            \
           base->headers_inside || add->headers_inside, NULL, part)           \
    /* the same for UserSyncEnsureResponse, On or Report */                   \
    OPTION(int, response_level, US_UNSET, 0, NULL, part)                      \
    MERGED(int, response_inside, 0,                                           \
           base->response_inside || add->response_inside, NULL, part)         \
    /* a block in mod_status' page */                                         \
    OPTION(int, server_status, US_UNSET, 1, "UserSyncServerStatus", flag)     \
    /* this server itself has a UserSync directive */                         \
    MERGED(int, own_lines, 0, add->own_lines, NULL, part)                     \
    /* what this server itself says, before it was merged; NULL: all of it */ \
    MERGED(const struct us_server_conf *, own, NULL, add, NULL, part)

#define US_DIR_OPTIONS(OPTION, MERGED)                                        \
    OPTION(apr_size_t, max_body_size, (apr_size_t)US_UNSET, 8192,             \
           "UserSyncMaxBodySize", bytes)                                      \
    OPTION(int, ensure, US_UNSET, 0, "UserSyncEnsure", flag)                  \
    /* NULL: r->user; text is what the directive says */                      \
    OPTION(const ap_expr_info_t *, user_expr, NULL, NULL, NULL, part)         \
    OPTION(const char *, user_text, NULL, "%{REMOTE_USER}",                   \
           "UserSyncEnsureUser", text)                                        \
    /* UserSyncEnsureEmail sets these; no_email: it says None */              \
    MERGED(const ap_expr_info_t *, email_expr, NULL,                          \
           add->no_email != US_UNSET ? add->email_expr : base->email_expr,    \
           NULL, part)                                                        \
    MERGED(const char *, email_text, NULL,                                    \
           add->no_email != US_UNSET ? add->email_text : base->email_text,    \
           NULL, part)                                                        \
    OPTION(int, no_email, US_UNSET, 0, "UserSyncEnsureEmail", email)          \
    /* us_on_error */                                                         \
    OPTION(int, on_error, US_UNSET, US_ON_ERROR_DENY,                         \
           "UserSyncEnsureOnError", deny_allow)                               \
    OPTION(int, ensure_headers, US_UNSET, 0, "UserSyncEnsureHeaders", flag)   \
    OPTION(int, hook_on_error, US_UNSET, US_ON_ERROR_DENY,                    \
           "UserSyncHookOnError", deny_allow)                                 \
    /* what mod_proxy forwards; us_response_mode */                           \
    OPTION(int, response, US_UNSET, US_RESPONSE_OFF,                          \
           "UserSyncEnsureResponse", response)                                \
    OPTION(int, proxy_admin, US_UNSET, 0, "UserSyncProxyAdmin", deny_allow)   \
    OPTION(int, proxy_headers, US_UNSET, 0, "UserSyncProxyHeaders",           \
           remove_keep)                                                       \
    /* what this section itself says, before it was merged; NULL: all of it */\
    MERGED(const struct us_dir_conf *, own, NULL, add, NULL, part)
/* clang-format on */

#endif /* US_OPTIONS_H */
