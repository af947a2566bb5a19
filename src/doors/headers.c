/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "headers.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define USER_ID "X-User-Id"
#define USER_EMAIL "X-User-Email"
#define OUTCOME "X-Usersync-Outcome"

static const char *const names[] = {USER_ID, USER_EMAIL, OUTCOME, NULL};

/* Could a back end read this text of len bytes as name? */
static int spells(const char *text, apr_size_t len, const char *name)
{
    apr_size_t i;

    if (len != strlen(name)) {
        return 0;
    }
    for (i = 0; i < len; i++) {
        if (apr_isalnum(name[i]) ? apr_tolower(text[i]) != apr_tolower(name[i])
                                 : apr_isalnum(text[i])) {
            return 0;
        }
    }
    return 1;
}

static int is_ours(const char *text, apr_size_t len)
{
    int i;

    for (i = 0; names[i] != NULL; i++) {
        if (spells(text, len, names[i])) {
            return 1;
        }
    }
    return 0;
}

int us_headers_is_ours(const char *name)
{
    return is_ours(name, strlen(name));
}

/* --- Connection --- */

/* What separates two words.  It should be commas and blanks, but mod_proxy,
 * for one, also accepts semicolons and any white space. */
static const char between[] = ",; \t\n\v\f\r";

/*
 * The list without our names: NULL if nothing is left, the unchanged text if
 * it has none of them.  Reads each byte once: a client may send as many words
 * as httpd accepts bytes.
 */
static const char *without_ours(apr_pool_t *pool, const char *list)
{
    char *kept = apr_palloc(pool, strlen(list) + 1);
    char *end = kept;
    const char *p = list;
    const char *word = p + strspn(p, between);
    int dropped = 0;

    while (*word != '\0') {
        apr_size_t len = strcspn(word, between);

        if (is_ours(word, len)) {
            dropped = 1;
        }
        else {
            /* with the separator before it, unless it is the first word */
            const char *from = end == kept ? word : p;
            apr_size_t size = (apr_size_t)(word - from) + len;

            memcpy(end, from, size);
            end += size;
        }
        p = word + len;
        word = p + strspn(p, between);
    }
    *end = '\0';
    if (!dropped) {
        return list;
    }
    return end != kept ? kept : NULL;
}

/* What one pass over the headers finds. */
typedef struct strip_state {
    apr_pool_t *pool;
    apr_array_header_t *spoofed; /* names as sent; NULL: none */
    const char *connection;      /* lines so far, as one list; NULL: none */
    int connection_changed;
} strip_state;

static int look_at(void *data, const char *name, const char *value)
{
    strip_state *state = data;

    if (us_headers_is_ours(name)) {
        if (state->spoofed == NULL) {
            state->spoofed
                = apr_array_make(state->pool, 2, sizeof(const char *));
        }
        APR_ARRAY_PUSH(state->spoofed, const char *) = name;
    }
    else if (strcasecmp(name, "Connection") == 0) {
        const char *kept = without_ours(state->pool, value);

        state->connection_changed |= kept != value;
        if (kept != NULL) {
            state->connection
                = state->connection != NULL ? apr_pstrcat(
                      state->pool, state->connection, ", ", kept, NULL)
                                            : kept;
        }
    }
    return 1;
}

void us_headers_strip(apr_pool_t *pool, apr_table_t *headers)
{
    strip_state state = {pool, NULL, NULL, 0};
    int i;

    apr_table_do(look_at, &state, headers, NULL);
    for (i = 0; state.spoofed != NULL && i < state.spoofed->nelts; i++) {
        apr_table_unset(headers,
                        APR_ARRAY_IDX(state.spoofed, i, const char *));
    }
    if (state.connection_changed && state.connection != NULL) {
        apr_table_setn(headers, "Connection", state.connection);
    }
    else if (state.connection_changed) {
        apr_table_unset(headers, "Connection");
    }
}

/* --- ours --- */

void us_headers_clear(apr_table_t *headers)
{
    int i;

    for (i = 0; names[i] != NULL; i++) {
        apr_table_unset(headers, names[i]);
    }
}

int us_headers_can_carry(const char *value)
{
    for (; *value > ' ' && *value < 0x7F; value++) {
    }
    return *value == '\0';
}

void us_headers_set(apr_table_t *headers, const char *id, const char *email,
                    const char *outcome)
{
    apr_table_setn(headers, USER_ID, id);
    if (email != NULL && us_headers_can_carry(email)) {
        apr_table_setn(headers, USER_EMAIL, email);
    }
    else {
        apr_table_unset(headers, USER_EMAIL);
    }
    apr_table_setn(headers, OUTCOME, outcome);
}
