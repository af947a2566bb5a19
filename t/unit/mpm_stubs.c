/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Stand-ins for what the layers that children and threads share need from the
 * MPM and the core.
 */
#include "mpm_stubs.h"

#include <ap_mpm.h>
#include <http_config.h>
#include <http_main.h>
#include <httpd.h>
#include <util_cfgtree.h>

#include <string.h>

stub_mpm_numbers stub_mpm = {4, 4, 8, AP_MPMQ_DYNAMIC};

AP_DECLARE(apr_status_t) ap_mpm_query(int query_code, int *result)
{
    switch (query_code) {
    case AP_MPMQ_HARD_LIMIT_DAEMONS:
        *result = stub_mpm.hard_limit_daemons;
        return APR_SUCCESS;
    case AP_MPMQ_MAX_DAEMONS:
        *result = stub_mpm.max_daemons;
        return APR_SUCCESS;
    case AP_MPMQ_MAX_THREADS:
        *result = stub_mpm.max_threads;
        return APR_SUCCESS;
    case AP_MPMQ_IS_THREADED:
        *result = stub_mpm.is_threaded;
        return APR_SUCCESS;
    default:
        return APR_ENOTIMPL;
    }
}

AP_DECLARE_DATA ap_directive_t *ap_conftree;
AP_DECLARE_DATA server_rec *ap_server_conf;

module *stub_linked_module;

AP_DECLARE(module *) ap_find_linked_module(const char *name)
{
    return stub_linked_module != NULL
                   && strcmp(stub_linked_module->name, name) == 0
               ? stub_linked_module
               : NULL;
}
