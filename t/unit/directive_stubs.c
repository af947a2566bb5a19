/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "directive_stubs.h"

#include <http_log.h>

#include <apr_strings.h>

#include <string.h>

const char *stub_section;

stub_server *stub_server_make(apr_pool_t *pool)
{
    stub_server *made = apr_pcalloc(pool, sizeof(*made));

    made->s.log.level = APLOG_WARNING;
    made->s.module_config = (ap_conf_vector_t *)made->configs;
    made->configs[0] = us_config_create_server(pool, &made->s);
    return made;
}

const command_rec *stub_directive(const char *name)
{
    const command_rec *cmd = us_directives;

    while (cmd->name != NULL && strcasecmp(cmd->name, name) != 0) {
        cmd++;
    }
    return cmd->name != NULL ? cmd : NULL;
}

static const char *invoke(cmd_parms *parms, void *dir, const char *first,
                          const char *second)
{
    const command_rec *cmd = parms->cmd;

    if (cmd->args_how == TAKE12
        || (cmd->args_how == TAKE2 && second != NULL)) {
        return cmd->func.take2(parms, dir, first, second);
    }
    if (second != NULL || cmd->args_how == TAKE2) {
        return apr_psprintf(parms->pool, "%s takes %s", cmd->name,
                            second != NULL ? "one argument" : "two arguments");
    }
    if (cmd->args_how != FLAG) {
        return cmd->func.take1(parms, dir, first);
    }
    if (strcasecmp(first, "on") != 0 && strcasecmp(first, "off") != 0) {
        return apr_pstrcat(parms->pool, cmd->name, " must be On or Off", NULL);
    }
    return cmd->func.flag(parms, dir, strcasecmp(first, "off") != 0);
}

const char *stub_line(apr_pool_t *pool, stub_server *server, us_dir_conf *dir,
                      const char *name, const char *first, const char *second)
{
    cmd_parms parms;

    memset(&parms, 0, sizeof(parms));
    parms.pool = pool;
    parms.temp_pool = pool;
    parms.server = &server->s;
    parms.path = apr_pstrdup(pool, stub_section);
    parms.cmd = stub_directive(name);
    if (parms.cmd == NULL) {
        return "there is no such directive";
    }
    parms.info = parms.cmd->cmd_data;
    return invoke(&parms, dir, first, second);
}
