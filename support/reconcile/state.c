/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "state.h"
#include "ids.h"

#include <apr_file_io.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define TITLE "usersync-reconcile state 1"

/* The longest state file. */
#define SIZE_MAX_OF_FILE 65536

struct us_rec_state {
    us_rec_run *run;
    us_rec_source *source;
    const char *path; /* NULL: no state is kept */
    const char *ids_path;
    apr_file_t *ids;
    us_rec_notes notes;
};

/* --- the text --- */

/* The value of the next line, which begins with name; NULL: it does not. */
static const char *value_of(char **at, const char *name)
{
    apr_size_t len = strlen(name);
    char *line = *at;
    char *end = strchr(line, '\n');

    if (end == NULL || strncmp(line, name, len) != 0 || line[len] != ' ') {
        return NULL;
    }
    *end = '\0';
    *at = end + 1;
    return line + len + 1;
}

/* A number that is not negative, and what follows. */
static int number_at(const char **at, apr_int64_t *number)
{
    char *end;

    if (*at == NULL || **at < '0' || **at > '9') {
        return 0;
    }
    *number = apr_strtoi64(*at, &end, 10);
    *at = end;
    return *number >= 0 && *number < APR_INT64_MAX;
}

static int numbers_of(const char *text, apr_int64_t *numbers, int count)
{
    int i;

    for (i = 0; i < count; i++) {
        if (!number_at(&text, &numbers[i])) {
            return 0;
        }
        if (i < count - 1 && *text++ != ' ') {
            return 0;
        }
    }
    return *text == '\0';
}

int us_rec_notes_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                       us_rec_notes *notes)
{
    char *at = apr_pstrmemdup(pool, text, len);

    memset(notes, 0, sizeof(*notes));
    if (strncmp(at, TITLE "\n", strlen(TITLE) + 1) != 0) {
        return 0;
    }
    at += strlen(TITLE) + 1;
    notes->source = value_of(&at, "source");
    notes->target = value_of(&at, "target");
    notes->work = value_of(&at, "work");
    notes->place = value_of(&at, "place");
    if (notes->source == NULL || notes->target == NULL || notes->work == NULL
        || notes->place == NULL) {
        return 0;
    }
    notes->is_walked = strcmp(notes->place, "end") == 0;
    return numbers_of(value_of(&at, "users"), &notes->users, 1)
           && numbers_of(value_of(&at, "applied"), &notes->applied, 1)
           && numbers_of(value_of(&at, "ids"), &notes->ids, 1)
           && numbers_of(value_of(&at, "counts"), notes->counts,
                         US_REC_CLASSES)
           && *at == '\0';
}

const char *us_rec_notes_text(apr_pool_t *pool, const us_rec_notes *notes)
{
    const char *text = apr_psprintf(
        pool,
        TITLE
        "\nsource %s\ntarget %s\nwork %s\nplace %s\nusers %" APR_INT64_T_FMT
        "\napplied %" APR_INT64_T_FMT "\nids %" APR_INT64_T_FMT "\ncounts",
        notes->source, notes->target, notes->work,
        notes->is_walked ? "end" : notes->place, notes->users, notes->applied,
        notes->ids);
    int i;

    for (i = 0; i < US_REC_CLASSES; i++) {
        text = apr_psprintf(pool, "%s %" APR_INT64_T_FMT, text,
                            notes->counts[i]);
    }
    return apr_pstrcat(pool, text, "\n", NULL);
}

/* --- files --- */

static us_rec_end cannot(const us_rec_state *state, const char *what,
                         const char *path, apr_status_t rv)
{
    char reason[120];

    return us_rec_fail(state->run, "--state: cannot %s %s (%s)", what, path,
                       apr_strerror(rv, reason, sizeof(reason)));
}

/* What the walk compares: a state of other work does not fit. */
static const char *describe_work(apr_pool_t *pool,
                                 const us_rec_options *options)
{
    const char *text
        = apr_psprintf(pool, "%s %d", options->apply ? "apply" : "dry-run",
                       (int)options->on_delete);
    int i;

    for (i = 0; i < options->columns->nelts; i++) {
        const us_column *column
            = &APR_ARRAY_IDX(options->columns, i, us_column);

        text = apr_psprintf(pool, "%s %d%s%s=%s", text, (int)column->field,
                            column->key != NULL ? "." : "",
                            column->key != NULL ? column->key : "",
                            column->quoted);
    }
    return text;
}

/* The ids of the users who were seen; what came after the last save is cut
 * off. */
static us_rec_end read_ids(us_rec_state *state)
{
    apr_int64_t i;
    apr_status_t rv = APR_SUCCESS;

    for (i = 0; i < state->notes.ids && rv == APR_SUCCESS; i++) {
        unsigned char bytes[US_REC_ID_SIZE];

        rv = apr_file_read_full(state->ids, bytes, sizeof(bytes), NULL);
        if (rv == APR_SUCCESS && us_rec_ids_add(state->run->seen, bytes) < 0) {
            rv = APR_ENOMEM;
        }
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_trunc(state->ids,
                            (apr_off_t)(state->notes.ids * US_REC_ID_SIZE));
    }
    return rv == APR_SUCCESS ? US_REC_OK
                             : cannot(state, "read", state->ids_path, rv);
}

static us_rec_end open_ids(us_rec_state *state, int anew)
{
    apr_status_t rv
        = apr_file_open(&state->ids, state->ids_path,
                        APR_READ | APR_WRITE | APR_CREATE | APR_BUFFERED
                            | (anew ? APR_TRUNCATE : 0),
                        APR_FPROT_UREAD | APR_FPROT_UWRITE, state->run->pool);

    if (rv != APR_SUCCESS) {
        return cannot(state, "open", state->ids_path, rv);
    }
    return anew ? US_REC_OK : read_ids(state);
}

/* The notes of the former run; *found: there are some. */
static us_rec_end read_notes(us_rec_state *state, int *found)
{
    us_rec_run *run = state->run;
    apr_size_t len = 0;
    char *text;
    apr_file_t *file;
    apr_status_t rv = apr_file_open(&file, state->path, APR_READ,
                                    APR_OS_DEFAULT, run->pool);

    *found = 0;
    if (APR_STATUS_IS_ENOENT(rv)) {
        return US_REC_OK;
    }
    if (rv != APR_SUCCESS) {
        return cannot(state, "open", state->path, rv);
    }
    text = apr_palloc(run->pool, SIZE_MAX_OF_FILE);
    rv = apr_file_read_full(file, text, SIZE_MAX_OF_FILE, &len);
    apr_file_close(file);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_EOF(rv)) {
        return cannot(state, "read", state->path, rv);
    }
    *found = 1;
    return us_rec_notes_parse(run->pool, text, len, &state->notes)
               ? US_REC_OK
               : us_rec_fail(run,
                             "--state: %s is no state of "
                             "usersync-reconcile: remove it, or name "
                             "another file",
                             state->path);
}

/* Does the state belong to what is to be done now? */
static us_rec_end continue_there(us_rec_state *state, const us_rec_notes *now)
{
    us_rec_run *run = state->run;
    us_rec_notes *then = &state->notes;
    const char *other = strcmp(then->source, now->source) != 0   ? "source"
                        : strcmp(then->target, now->target) != 0 ? "table"
                        : strcmp(then->work, now->work) != 0 ? "set of options"
                                                             : NULL;

    if (other != NULL) {
        return us_rec_fail(run,
                           "--state: %s is about another %s: remove it, "
                           "or name another file",
                           state->path, other);
    }
    if (!then->is_walked
        && !state->source->resume(state->source, then->place)) {
        return us_rec_fail(run, "--state: %s has no usable place: remove it",
                           state->path);
    }
    run->users = then->users;
    run->applied = then->applied;
    memcpy(run->counts, then->counts, sizeof(run->counts));
    return open_ids(state, 0);
}

us_rec_end us_rec_state_open(us_rec_run *run, us_rec_source *source,
                             us_rec_target *target, us_rec_state **out)
{
    us_rec_state *state = apr_pcalloc(run->pool, sizeof(*state));
    us_rec_notes now = {.source = source->name,
                        .target = target->identity,
                        .work = describe_work(run->pool, run->options)};
    us_rec_end end;
    int found;

    state->run = run;
    state->source = source;
    *out = state;
    if (run->options->state == NULL) {
        return US_REC_OK;
    }
    state->path = run->options->state;
    state->ids_path = apr_pstrcat(run->pool, state->path, ".ids", NULL);
    end = read_notes(state, &found);
    if (end != US_REC_OK) {
        return end;
    }
    if (found) {
        return continue_there(state, &now);
    }
    state->notes = now;
    return open_ids(state, 1);
}

int us_rec_state_is_walked(const us_rec_state *state)
{
    return state->notes.is_walked;
}

/* Who is deleted at Supabase and not yet here is asked for once more. */
static us_rec_end write_ids(us_rec_state *state, const us_rec_target *target,
                            const us_rec_page *page)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < page->count && rv == APR_SUCCESS; i++) {
        unsigned char bytes[US_REC_ID_SIZE];

        us_rec_id_bytes(page->users[i]->identity.id, bytes);
        if (!us_rec_ids_has(target->doubtful, bytes)) {
            rv = apr_file_write_full(state->ids, bytes, sizeof(bytes), NULL);
            state->notes.ids++;
        }
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_sync(state->ids);
    }
    return rv == APR_SUCCESS ? US_REC_OK
                             : cannot(state, "write", state->ids_path, rv);
}

/* Another file takes the place of the old one when it is complete. */
static us_rec_end write_notes(us_rec_state *state, apr_pool_t *pool)
{
    const char *text = us_rec_notes_text(pool, &state->notes);
    const char *path = apr_pstrcat(pool, state->path, ".new", NULL);
    apr_file_t *file;
    apr_status_t rv
        = apr_file_open(&file, path, APR_WRITE | APR_CREATE | APR_TRUNCATE,
                        APR_FPROT_UREAD | APR_FPROT_UWRITE, pool);

    if (rv == APR_SUCCESS) {
        rv = apr_file_write_full(file, text, strlen(text), NULL);
        if (rv == APR_SUCCESS) {
            rv = apr_file_sync(file);
        }
        apr_file_close(file);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_rename(path, state->path, pool);
    }
    return rv == APR_SUCCESS ? US_REC_OK
                             : cannot(state, "write", state->path, rv);
}

us_rec_end us_rec_state_save(us_rec_state *state, apr_pool_t *pool,
                             const us_rec_target *target,
                             const us_rec_page *page)
{
    us_rec_notes *notes = &state->notes;
    us_rec_end end;

    if (state->path == NULL) {
        return US_REC_OK;
    }
    end = write_ids(state, target, page);
    notes->place = state->source->place(state->source, pool);
    notes->is_walked = page->is_last;
    notes->users = state->run->users;
    notes->applied = state->run->applied;
    memcpy(notes->counts, state->run->counts, sizeof(notes->counts));
    return end == US_REC_OK ? write_notes(state, pool) : end;
}

void us_rec_state_remove(us_rec_state *state)
{
    if (state->path != NULL) {
        apr_file_close(state->ids);
        apr_file_remove(state->path, state->run->pool);
        apr_file_remove(state->ids_path, state->run->pool);
    }
}
