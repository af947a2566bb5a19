/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "directives.h"
#include "us_log.h"

#include <apr_strings.h>

#include <string.h>

/* --- the gate --- */

/* AllowOverrideList would allow these in .htaccess, which is read when threads
 * already run, too late for what the server has to prepare. */
static const char *not_in_htaccess(cmd_parms *cmd)
{
    return ap_check_cmd_context(cmd, NOT_IN_HTACCESS);
}

/* On or Off in a section, or in the server itself (where cmd has no path).
 * There the last line counts, and a virtual host can say Off to override what
 * it inherits. */
static void note_place(cmd_parms *cmd, int on, int *level, int *inside)
{
    if (cmd->path != NULL) {
        *inside |= on;
    }
    else {
        *level = on;
    }
    us_directive_own_conf(cmd);
}

const char *us_set_ensure(cmd_parms *cmd, void *dir, int on)
{
    const char *wrong = not_in_htaccess(cmd);
    us_server_conf *server = us_config_server(cmd->server);
    us_dir_conf *conf = dir;

    if (wrong == NULL) {
        conf->ensure = on;
        note_place(cmd, on, &server->gate_level, &server->gate_inside);
    }
    return wrong;
}

const char *us_set_ensure_headers(cmd_parms *cmd, void *dir, int on)
{
    const char *wrong = not_in_htaccess(cmd);
    us_server_conf *server = us_config_server(cmd->server);
    us_dir_conf *conf = dir;

    if (wrong == NULL) {
        conf->ensure_headers = on;
        note_place(cmd, on, &server->headers_level, &server->headers_inside);
    }
    return wrong;
}

/*
 * A string expression.  It says who the user is, and not which of several
 * answers they get: a header in it adds nothing to Vary.
 */
static const char *parse_expr(cmd_parms *cmd, const char *arg,
                              const ap_expr_info_t **expr)
{
    const char *wrong = not_in_htaccess(cmd);
    const ap_expr_info_t *parsed;

    if (wrong != NULL) {
        return wrong;
    }
    parsed = ap_expr_parse_cmd(
        cmd, arg, AP_EXPR_FLAG_STRING_RESULT | AP_EXPR_FLAG_DONT_VARY, &wrong,
        NULL);
    if (wrong != NULL) {
        return apr_psprintf(cmd->pool,
                            "%s takes a string expression such as "
                            "%%{REMOTE_USER}: \"%s\": %s",
                            cmd->cmd->name, arg, wrong);
    }
    us_directive_own_conf(cmd);
    *expr = parsed;
    return NULL;
}

const char *us_set_ensure_user(cmd_parms *cmd, void *dir, const char *arg)
{
    us_dir_conf *conf = dir;
    const char *wrong = parse_expr(cmd, arg, &conf->user_expr);

    if (wrong == NULL) {
        conf->user_text = arg;
    }
    return wrong;
}

const char *us_set_ensure_email(cmd_parms *cmd, void *dir, const char *arg)
{
    us_dir_conf *conf = dir;
    const ap_expr_info_t *expr = NULL;
    int none = strcasecmp(arg, "None") == 0;
    const char *wrong
        = none ? not_in_htaccess(cmd) : parse_expr(cmd, arg, &expr);

    if (wrong == NULL) {
        us_directive_own_conf(cmd);
        conf->email_expr = expr;
        conf->email_text = none ? NULL : arg;
        conf->no_email = none;
    }
    return wrong;
}

const char *us_set_on_error(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *wrong = not_in_htaccess(cmd);
    int *on_error = (int *)(void *)((char *)dir + (apr_size_t)cmd->info);
    int allow = strcasecmp(arg, "Allow") == 0;

    if (wrong != NULL) {
        return wrong;
    }
    if (!allow && strcasecmp(arg, "Deny") != 0) {
        return apr_psprintf(cmd->pool, "%s takes Deny or Allow, not \"%s\"",
                            cmd->cmd->name, arg);
    }
    us_directive_own_conf(cmd);
    *on_error = allow ? US_ON_ERROR_ALLOW : US_ON_ERROR_DENY;
    return NULL;
}

/* --- what mod_proxy forwards --- */

/* One of the words, whose place in the list is the value; the last one is
 * NULL. */
static const char *set_word(cmd_parms *cmd, const char *arg,
                            const char *const *words, const char *list,
                            int *value)
{
    const char *wrong = not_in_htaccess(cmd);
    int i;

    if (wrong != NULL) {
        return wrong;
    }
    for (i = 0; words[i] != NULL; i++) {
        if (strcasecmp(arg, words[i]) == 0) {
            us_directive_own_conf(cmd);
            *value = i;
            return NULL;
        }
    }
    return apr_psprintf(cmd->pool, "%s takes %s, not \"%s\"", cmd->cmd->name,
                        list, arg);
}

const char *us_set_response(cmd_parms *cmd, void *dir, const char *arg)
{
    static const char *const words[] = {[US_RESPONSE_OFF] = "Off",
                                        [US_RESPONSE_REPORT] = "Report",
                                        [US_RESPONSE_ON] = "On",
                                        NULL};
    us_server_conf *server = us_config_server(cmd->server);
    us_dir_conf *conf = dir;
    const char *wrong
        = set_word(cmd, arg, words, "On, Report or Off", &conf->response);

    if (wrong == NULL) {
        note_place(cmd, conf->response != US_RESPONSE_OFF,
                   &server->response_level, &server->response_inside);
    }
    return wrong;
}

const char *us_set_proxy_admin(cmd_parms *cmd, void *dir, const char *arg)
{
    static const char *const words[] = {"Deny", "Allow", NULL};
    us_dir_conf *conf = dir;

    return set_word(cmd, arg, words, "Deny or Allow", &conf->proxy_admin);
}

const char *us_set_proxy_headers(cmd_parms *cmd, void *dir, const char *arg)
{
    static const char *const words[] = {"Remove", "Keep", NULL};
    us_dir_conf *conf = dir;

    return set_word(cmd, arg, words, "Remove or Keep", &conf->proxy_headers);
}
