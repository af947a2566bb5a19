/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_answer_judge.  Input:
 *
 *   OPERATION STATUS    S for sign-up or L for login, then up to 3 digits;
 *                       below 10 they are a us_http_result
 *   NAME: VALUE         headers that the judge is told of
 *                       an empty line
 *   BODY
 */
#include "fuzz.h"
#include "us_answer.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* As us_answer.c has them. */
#define CODE_MAX 64
#define MESSAGE_MAX 300
#define RETRY_AFTER_MAX 86400

/* Filled first, so that what is left as it was shows. */
#define UNTOUCHED 0x55

static const us_column columns[] = {
    {US_FIELD_ID, NULL, NULL, NULL},
    {US_FIELD_EMAIL, NULL, NULL, NULL},
    {US_FIELD_PHONE, NULL, NULL, NULL},
    {US_FIELD_USER_METADATA, "name", NULL, NULL},
    {US_FIELD_USER_METADATA, "email", NULL, NULL},
    {US_FIELD_APP_METADATA, "providers", NULL, NULL},
};
#define COLUMNS ((int)(sizeof(columns) / sizeof(columns[0])))

/* --- the input --- */

/* The line at *at without its end; *at is moved behind it.  NULL: none. */
static char *next_line(apr_pool_t *pool, const char **at, const char *end)
{
    apr_size_t left = (apr_size_t)(end - *at);
    const char *stop = left > 0 ? memchr(*at, '\n', left) : NULL;
    char *line = NULL;

    if (stop != NULL) {
        line = apr_pstrmemdup(pool, *at, (apr_size_t)(stop - *at));
        *at = stop + 1;
    }
    return line;
}

static void take_header(us_http_answer *answer, const char *line)
{
    static const char type[] = "Content-Type: ";
    int i;

    if (strncasecmp(line, type, sizeof(type) - 1) == 0) {
        answer->content_type = line + sizeof(type) - 1;
    }
    for (i = 0; us_answer_headers[i] != NULL; i++) {
        apr_size_t len = strlen(us_answer_headers[i]);

        if (strncasecmp(line, us_answer_headers[i], len) == 0
            && strncmp(line + len, ": ", 2) == 0
            && answer->status / 100 != 2) {
            answer->wanted[i] = line + len + 2;
        }
    }
}

/* 0 when there is no answer in the input.  body is for the caller to free. */
static int take_answer(apr_pool_t *pool, const char *data, apr_size_t size,
                       us_operation *operation, us_http_answer *answer)
{
    const char *at = data;
    const char *end = data + size;
    const char *line = next_line(pool, &at, end);

    if (line == NULL || (*line != 'S' && *line != 'L') || strlen(line) > 4) {
        return 0;
    }
    *operation = *line == 'S' ? US_SIGNUP : US_LOGIN;
    answer->status = strtol(line + 1, NULL, 10);
    if (answer->status < 0) {
        return 0;
    }
    if (answer->status <= US_HTTP_TOO_BIG) {
        answer->result = (us_http_result)answer->status;
        answer->problem = "a problem";
    }
    while ((line = next_line(pool, &at, end)) != NULL && *line != '\0') {
        take_header(answer, line);
    }
    answer->body_len = (apr_size_t)(end - at);
    answer->body = malloc(answer->body_len + 1);
    require(answer->body != NULL, "there is memory");
    memcpy(answer->body, at, answer->body_len);
    answer->body[answer->body_len] = '\0';
    return 1;
}

/* --- what must hold --- */

static void check_text(const char *text, apr_size_t max, const char *invariant)
{
    const char *p;

    require(text == NULL || strlen(text) <= max, invariant);
    for (p = text; p != NULL && *p != '\0'; p++) {
        require(!apr_iscntrl(*p), invariant);
    }
}

static void check_findings(apr_pool_t *pool, us_outcome outcome,
                           const us_call *call)
{
    const char *p;

    check_text(call->code, CODE_MAX, "a code is short and plain");
    for (p = call->code; p != NULL && *p != '\0'; p++) {
        require(apr_isalnum(*p) || *p == '_', "a code is of [A-Za-z0-9_]");
    }
    check_text(call->message, MESSAGE_MAX, "a message is short and plain");
    if (call->message != NULL) {
        const char *literal
            = apr_pstrcat(pool, "\"", call->message, "\"", NULL);
        char *c;

        for (c = strchr(literal, '\0') - 2; c > literal; c--) {
            *c = (char)(*c == '"' || *c == '\\' ? ' ' : *c);
        }
        require(strict_is_kind(pool, literal, strlen(literal), STRICT_STRING),
                "a message is UTF-8");
    }
    if (call->reasons != NULL) {
        require(outcome == US_WEAK_PASSWORD
                    && strict_is_kind(pool, call->reasons,
                                      strlen(call->reasons), STRICT_ARRAY),
                "reasons are an array, of a weak password");
    }
    require(call->retry_after >= 0 && call->retry_after <= RETRY_AFTER_MAX,
            "a wait is believable");
    check_text(call->cause, 1000, "a cause is one plain line");
    require(outcome == US_OK || outcome == US_PENDING || call->cause != NULL,
            "a failure has a cause");
}

static int is_canonical_uuid(const char *id)
{
    int i;

    for (i = 0; i < US_UUID_LEN; i++) {
        int dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (id[i] == '\0'
            || strchr(dash ? "-" : "0123456789abcdef", id[i]) == NULL) {
            return 0;
        }
    }
    return id[US_UUID_LEN] == '\0';
}

/* Has the array an object whose user_id is this one? */
static int has_identity(const strict_node *identities, const char *id)
{
    const strict_node *item = identities->first;

    while (item != NULL && !strict_is(strict_member(item, "user_id"), id)) {
        item = item->next;
    }
    return item != NULL;
}

/* What a column's value must be, from the user object. */
static void check_value(const strict_node *user, const us_column *column,
                        const us_value *value)
{
    static const char *const names[]
        = {"id", "email", "phone", "user_metadata", "app_metadata"};
    const strict_node *node = strict_member(user, names[column->field]);
    int may_be_empty = column->key != NULL;

    if (column->key != NULL) {
        node = strict_member(node, column->key);
    }
    if (node == NULL || node->kind == STRICT_NULL
        || (!may_be_empty && strict_is(node, ""))) {
        require(value->text == NULL && value->json == NULL,
                "what is not there is NULL");
        return;
    }
    require(value->json != NULL && strlen(value->json) == node->len
                && memcmp(value->json, node->text, node->len) == 0,
            "a value's JSON is the member's");
    require(node->kind == STRICT_STRING
                ? strict_is(node, value->text)
                : value->text != NULL && strcmp(value->text, value->json) == 0,
            "a value's text is the string, or the JSON");
}

static void check_identity(apr_pool_t *pool, us_outcome outcome,
                           const us_http_answer *answer,
                           const us_identity *identity)
{
    const strict_node *doc
        = strict_parse(pool, answer->body, answer->body_len, NULL);
    const strict_node *user
        = outcome == US_OK ? strict_member(doc, "user") : doc;
    const strict_node *id = strict_member(user, "id");
    const strict_node *token = strict_member(doc, "access_token");
    int i;

    require(answer->result == US_HTTP_ANSWERED && answer->status / 100 == 2,
            "only a 2xx has a user");
    require(id != NULL && id->string != NULL && identity->id != NULL
                && strcasecmp(id->string, identity->id) == 0
                && is_canonical_uuid(identity->id),
            "the id is the user's, as a canonical UUID");
    if (outcome == US_OK) {
        require(identity->proven && token != NULL && token->string != NULL
                    && *token->string != '\0',
                "a session has its token and proves the user");
        require(identity->session >= answer->body
                    && identity->session + identity->session_len
                           <= answer->body + answer->body_len
                    && strict_is_kind(pool, identity->session,
                                      identity->session_len, STRICT_OBJECT),
                "the session is an object in the body");
    }
    else {
        const strict_node *identities = strict_member(doc, "identities");

        require(identity->session == NULL, "who is pending has no session");
        require(identities != NULL && identities->kind == STRICT_ARRAY,
                "a bare user has identities");
        require(!identity->proven == !has_identity(identities, id->string),
                "a bare user is proven by an identity of that id alone");
    }
    require(identity->values[0].text == identity->id, "the id comes first");
    for (i = 1; i < COLUMNS; i++) {
        check_value(user, &columns[i], &identity->values[i]);
    }
}

static void check_outcome(us_operation operation, us_outcome outcome,
                          const us_identity *identity)
{
    require(outcome >= US_OK && outcome < US_OUTCOME_COUNT,
            "there is an outcome");
    if (operation == US_LOGIN) {
        require(outcome != US_PENDING && outcome != US_UNKNOWN_TIMEOUT
                    && outcome != US_UNKNOWN_BROKEN,
                "a login is never pending or unknown");
    }
    else {
        require(outcome != US_UPSTREAM_TIMEOUT
                    && outcome != US_UPSTREAM_BAD_ANSWER,
                "a sign-up that may have worked is unknown");
    }
    if (outcome != US_OK && outcome != US_PENDING) {
        require(identity->id == NULL && !identity->proven
                    && identity->session == NULL,
                "a failure has no identity");
    }
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    us_http_answer answer = {.result = US_HTTP_ANSWERED};
    apr_array_header_t *wanted
        = apr_array_make(pool, COLUMNS, sizeof(us_column));
    us_operation operation = US_LOGIN;
    us_identity identity;
    us_outcome outcome;
    int i;

    if (!take_answer(pool, data, size, &operation, &answer)) {
        return;
    }
    for (i = 0; i < COLUMNS; i++) {
        APR_ARRAY_PUSH(wanted, us_column) = columns[i];
    }
    memset(&identity, UNTOUCHED, sizeof(identity));
    outcome = us_answer_judge(&call, operation, &answer, wanted, &identity);
    check_outcome(operation, outcome, &identity);
    check_findings(pool, outcome, &call);
    if (outcome == US_OK || outcome == US_PENDING) {
        check_identity(pool, outcome, &answer, &identity);
    }
    free(answer.body);
}
