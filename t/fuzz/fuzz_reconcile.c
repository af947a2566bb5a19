/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What usersync-reconcile reads: a state file, an answer of the admin API, and
 * times.  Input: a character that is "S" for a state, "L" for a list, "U" for
 * a user, "C" for an error's code and "T" for a time, and the text.
 */
#include "fuzz.h"
#include "identity.h"
#include "reconcile/answer.h"
#include "reconcile/state.h"
#include "us_json.h"

#include <apr_strings.h>

#include <string.h>
#include <strings.h>

/* The columns of identity.c. */
enum { EMAIL = 1, PHONE = 2, DELETED_AT = 8, UPDATED_AT = 9 };

/* --- users --- */

static void check_user(const us_rec_user *user, const strict_node *node)
{
    const strict_node *id = strict_member(node, "id");
    const strict_node *deleted = strict_member(node, "deleted_at");
    int is_deleted = deleted != NULL && deleted->kind == STRICT_STRING;
    int i;

    require(id != NULL && id->string != NULL
                && strcasecmp(id->string, user->identity.id) == 0
                && identity_is_canonical(user->identity.id),
            "the id is the user's, as a canonical UUID");
    require(user->identity.values[0].text != NULL
                && strcmp(user->identity.values[0].text, user->identity.id)
                       == 0,
            "the id comes first");
    require(user->identity.life == (is_deleted ? US_DELETED : US_LIVES)
                && (user->deleted_at != NULL) == is_deleted,
            "the user lives, or not");
    require(user->identity.proven, "Supabase proves its users");
    for (i = 1; i < IDENTITY_COLUMNS; i++) {
        const us_value *value = &user->identity.values[i];

        if (is_deleted && (i == EMAIL || i == PHONE)) {
            require(value->text == NULL && value->json == NULL,
                    "nothing is told of the deleted");
        }
        else if (i != DELETED_AT && i != UPDATED_AT) {
            identity_check_value(node, 0, i, value);
        }
    }
}

static void try_user(apr_pool_t *pool, us_slice text)
{
    int depth = 0;
    const strict_node *node = strict_parse(pool, text.text, text.len, &depth);
    us_rec_user *user = NULL;
    const char *wrong = us_rec_answer_user(pool, text.text, text.len,
                                           identity_columns(pool), &user);

    require_plain(wrong, 100, "what is wrong is one plain line");
    if (wrong == NULL) {
        require(node != NULL && node->kind == STRICT_OBJECT
                    && depth <= US_JSON_ANSWER_DEPTH,
                "a user is an object");
        check_user(user, node);
    }
}

static void try_list(apr_pool_t *pool, us_slice text)
{
    const strict_node *node = strict_parse(pool, text.text, text.len, NULL);
    us_rec_list list;
    const char *wrong = us_rec_answer_list(pool, text.text, text.len,
                                           identity_columns(pool), &list);
    int i;

    require_plain(wrong, 100, "what is wrong is one plain line");
    if (wrong != NULL) {
        return;
    }
    require(node != NULL && strict_member(node, "users") != NULL
                && strict_member(node, "users")->kind == STRICT_ARRAY,
            "a list has an array of users");
    require(list.count >= 0 && (list.cursor == NULL || list.has_cursor),
            "only a server with cursors has another page by cursor");
    for (i = 0; i < list.count; i++) {
        require(list.users[i] != NULL
                    && identity_is_canonical(list.users[i]->identity.id),
                "each of them is a user");
    }
}

/* --- the others --- */

/* What is taken is written in the same way, and read as the same. */
static void try_state(apr_pool_t *pool, us_slice text)
{
    us_rec_notes notes;
    us_rec_notes again;
    const char *written;
    int i;

    if (!us_rec_notes_parse(pool, text.text, text.len, &notes)) {
        return;
    }
    require(strchr(notes.source, '\n') == NULL
                && strchr(notes.place, '\n') == NULL
                && strchr(notes.target, '\n') == NULL
                && strchr(notes.work, '\n') == NULL,
            "each is one line");
    require(notes.users >= 0 && notes.applied >= 0 && notes.ids >= 0,
            "no number is negative");
    for (i = 0; i < US_REC_CLASSES; i++) {
        require(notes.counts[i] >= 0, "nor is a count");
    }
    written = us_rec_notes_text(pool, &notes);
    require(us_rec_notes_parse(pool, written, strlen(written), &again)
                && strcmp(us_rec_notes_text(pool, &again), written) == 0,
            "a state is read as it was written");
}

static void try_code(apr_pool_t *pool, us_slice text)
{
    const strict_node *node = strict_parse(pool, text.text, text.len, NULL);
    const char *code = us_rec_answer_code(pool, text.text, text.len);

    require(code == NULL || node != NULL, "only JSON has a code");
    require(code == NULL || strict_is(strict_member(node, "error_code"), code)
                || strict_is(strict_member(node, "code"), code),
            "it is the answer's");
}

static void try_time(apr_pool_t *pool, us_slice text)
{
    apr_time_t when = 0;
    apr_time_t again = 0;
    apr_time_exp_t fields;

    if (!us_rec_answer_time(apr_pstrmemdup(pool, text.text, text.len),
                            &when)) {
        return;
    }
    require(apr_time_exp_gmt(&fields, when) == APR_SUCCESS, "it is a time");
    if (fields.tm_year < 0 || fields.tm_year >= 8100) {
        return; /* an offset has led out of the years of four digits */
    }
    require(us_rec_answer_time(
                apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                             fields.tm_year + 1900, fields.tm_mon + 1,
                             fields.tm_mday, fields.tm_hour, fields.tm_min,
                             fields.tm_sec, fields.tm_usec),
                &again)
                && when == again,
            "in UTC it is the same");
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_slice text = {data + 1, size - 1};

    if (size == 0) {
        return;
    }
    switch (*data) {
    case 'S':
        try_state(pool, text);
        break;
    case 'L':
        try_list(pool, text);
        break;
    case 'U':
        try_user(pool, text);
        break;
    case 'C':
        try_code(pool, text);
        break;
    default:
        try_time(pool, text);
        break;
    }
}
