/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "slots.h"
#include "us_clock.h"

#include <apr_general.h>
#include <apr_shm.h>

#include <stdatomic.h>
#include <string.h>

/* So many that a change makes one user in some thousands unknown. */
#define SLOTS 4096

/* A module that is loaded again may be another version: the name changes with
 * the layout. */
#define RETAINED "mod_usersync-slots-1-" APR_STRINGIFY(SLOTS)

/* Any child can write here; see us_shm.h. */
typedef struct slot {
    _Atomic apr_uint32_t count;
    _Atomic apr_int64_t changed; /* on us_clock_now() */
} slot;

/* What the parent keeps when it reads its configuration again. */
typedef struct slots {
    slot *memory; /* SLOTS of them */
    apr_uint32_t instance;
} slots;

static slots *shared; /* NULL: nobody needs them */

apr_status_t us_slots_share(server_rec *s)
{
    apr_pool_t *process = s->process->pool;
    apr_shm_t *segment;
    apr_status_t rv;
    apr_size_t i;
    void *kept = NULL;

    apr_pool_userdata_get(&kept, RETAINED, process);
    shared = kept;
    if (shared != NULL) {
        return APR_SUCCESS;
    }
    rv = apr_shm_create(&segment, SLOTS * sizeof(slot), NULL, process);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    shared = apr_pcalloc(process, sizeof(*shared));
    shared->memory = apr_shm_baseaddr_get(segment);
    memset(shared->memory, 0, SLOTS * sizeof(slot));
    for (i = 0; i < SLOTS; i++) {
        /* an httpd that ended a moment ago may have changed anything */
        atomic_init(&shared->memory[i].changed, us_clock_now());
    }
    rv = apr_generate_random_bytes((unsigned char *)&shared->instance,
                                   sizeof(shared->instance));
    if (rv != APR_SUCCESS) {
        return rv;
    }
    /* a key of the process: this module may be unloaded and loaded again */
    return apr_pool_userdata_set(shared, RETAINED, NULL, process);
}

/* FNV-1a over the characters of a canonical UUID. */
static slot *slot_of(const char *id)
{
    apr_uint32_t hash = 2166136261U;

    for (; *id != '\0'; id++) {
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    }
    return &shared->memory[(hash ^ hash >> 16) % SLOTS];
}

us_sight us_slots_sight(const char *id)
{
    us_sight sight = {0, 0};

    if (shared != NULL) {
        sight.instance = shared->instance;
        sight.count = atomic_load(&slot_of(id)->count);
    }
    return sight;
}

void us_slots_change(const char *id)
{
    if (shared != NULL) {
        slot *changed = slot_of(id);

        atomic_store(&changed->changed, us_clock_now());
        atomic_fetch_add(&changed->count, 1);
    }
}

int us_slots_hold(const char *id, us_sight sight, apr_interval_time_t lately)
{
    const slot *now;

    if (shared == NULL) {
        return 1;
    }
    now = slot_of(id);
    if (sight.instance == shared->instance) {
        return sight.count == atomic_load(&now->count);
    }
    return us_clock_now() - atomic_load(&now->changed) > lately;
}
