/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mpm_stubs.h: how a test controls the stand-ins for the MPM and the core.
 */
#ifndef MPM_STUBS_H
#define MPM_STUBS_H

#include <httpd.h>
#include <http_config.h>

/* The answers of ap_mpm_query. */
typedef struct stub_mpm_numbers {
    int hard_limit_daemons;
    int max_daemons;
    int max_threads;
    int is_threaded; /* AP_MPMQ_... */
} stub_mpm_numbers;

/* Initially event with 4 children of 8 threads. */
extern stub_mpm_numbers stub_mpm;

/* The only module that ap_find_linked_module finds; initially NULL. */
extern module *stub_linked_module;

#endif /* MPM_STUBS_H */
