/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_answer_judge.  Input:
 *
 *   OPERATION STATUS    S for sign-up, L for login, R for refresh or O for
 *                       logout, then up to 3 digits; below 10 they are a
 *                       us_http_result
 *   NAME: VALUE         headers that the judge is told of; "Sent" is the
 *                       e-mail that was sent, ada@example.com without it;
 *                       R and O have sent none
 *                       an empty line
 *   BODY
 */
#include "fuzz.h"
#include "identity.h"
#include "supabase/answer.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* As supabase/answer_error.c has them. */
#define CODE_MAX 64
#define MESSAGE_MAX 300

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

/* --- the input --- */

/* The line at *at without its end; *at is moved after it.  NULL: none. */
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

static void take_header(us_http_answer *answer, us_question *question,
                        const char *line)
{
    static const char type[] = "Content-Type: ";
    static const char email[] = "Sent: ";
    int i;

    if (strncmp(line, email, sizeof(email) - 1) == 0) {
        question->email = line + sizeof(email) - 1;
    }
    if (strncasecmp(line, type, sizeof(type) - 1) == 0) {
        answer->content_type = line + sizeof(type) - 1;
    }
    for (i = 0; us_answer_headers[i] != NULL; i++) {
        apr_size_t len = strlen(us_answer_headers[i]);

        if (strncasecmp(line, us_answer_headers[i], len) == 0
            && strncmp(line + len, ": ", 2) == 0
            && (answer->status / 100 != 2
                || answer->result == US_HTTP_TOO_BIG)) {
            answer->wanted[i] = line + len + 2;
        }
    }
}

/* Returns 0 if the input has no answer.  The caller frees body. */
static int take_answer(apr_pool_t *pool, const char *data, apr_size_t size,
                       us_question *question, us_http_answer *answer)
{
    static const char letters[] = "SLRO"; /* by us_operation */
    const char *at = data;
    const char *end = data + size;
    const char *line = next_line(pool, &at, end);

    if (line == NULL || *line == '\0' || strchr(letters, *line) == NULL
        || strlen(line) > 4) {
        return 0;
    }
    question->operation = (us_operation)(strchr(letters, *line) - letters);
    answer->status = strtol(line + 1, NULL, 10);
    if (answer->status < 0) {
        return 0;
    }
    if (answer->status <= US_HTTP_TOO_BIG) {
        answer->result = (us_http_result)answer->status;
        answer->problem = "a problem";
    }
    while ((line = next_line(pool, &at, end)) != NULL && *line != '\0') {
        take_header(answer, question, line);
    }
    if (question->operation == US_REFRESH
        || question->operation == US_LOG_OUT) {
        question->email = NULL;
    }
    answer->body_len = (apr_size_t)(end - at);
    answer->body = malloc(answer->body_len + 1);
    require(answer->body != NULL, "there is memory");
    memcpy(answer->body, at, answer->body_len);
    answer->body[answer->body_len] = '\0';
    return 1;
}

/* --- what must hold --- */

static void check_findings(apr_pool_t *pool, us_outcome outcome,
                           const us_call *call)
{
    const char *p;

    require_plain(call->code, CODE_MAX, "a code is short and plain");
    for (p = call->code; p != NULL && *p != '\0'; p++) {
        require(apr_isalnum(*p) || *p == '_', "a code is of [A-Za-z0-9_]");
    }
    require_plain(call->message, MESSAGE_MAX, "a message is short and plain");
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
    require(call->retry_after >= 0
                && call->retry_after <= US_ANSWER_RETRY_AFTER_MAX,
            "a wait is believable");
    require_plain(call->cause, 1000, "a cause is one plain line");
    require_plain(call->about, 80, "so is whom it is about");
    require(outcome == US_OK || outcome == US_PENDING
                || outcome == US_LOGGED_OUT || call->cause != NULL,
            "a failure has a cause");
}

/* Does the array have an object with this user_id? */
static int has_identity(const strict_node *identities, const char *id)
{
    const strict_node *item = identities->first;

    while (item != NULL && !strict_is(strict_member(item, "user_id"), id)) {
        item = item->next;
    }
    return item != NULL;
}

static int is_ascii(const char *text)
{
    while (*text != '\0' && (*text & 0x80) == 0) {
        text++;
    }
    return *text == '\0';
}

/* The answer's address is the one that was sent, except for case; the unit
 * test checks characters beyond ASCII. */
static void check_email(const strict_node *email, const char *sent,
                        int invented)
{
    require(email != NULL && email->string != NULL && *email->string != '\0',
            "a user has an e-mail");
    require(invented || !is_ascii(sent) || !is_ascii(email->string)
                || strcasecmp(sent, email->string) == 0,
            "it is the one that was sent");
}

static void check_identity(apr_pool_t *pool, us_outcome outcome,
                           const us_question *question,
                           const us_http_answer *answer,
                           const us_identity *identity)
{
    const strict_node *doc
        = strict_parse(pool, answer->body, answer->body_len, NULL);
    const strict_node *user
        = outcome == US_OK ? strict_member(doc, "user") : doc;
    const strict_node *id = strict_member(user, "id");
    const strict_node *token = strict_member(doc, "access_token");
    const strict_node *role = strict_member(user, "role");

    require(answer->result == US_HTTP_ANSWERED && answer->status / 100 == 2,
            "only a 2xx has a user");
    identity_check(identity, user, "id");
    if (question->email != NULL) {
        check_email(strict_member(user, "email"), question->email,
                    !identity->proven && role != NULL && strict_is(role, ""));
    }
    if (outcome == US_OK) {
        require(identity->proven && token != NULL && token->string != NULL
                    && *token->string != '\0',
                "a session has its token and proves the user");
        require(identity->session.text >= answer->body
                    && identity->session.text + identity->session.len
                           <= answer->body + answer->body_len
                    && strict_is_kind(pool, identity->session.text,
                                      identity->session.len, STRICT_OBJECT),
                "the session is an object in the body");
    }
    else {
        const strict_node *identities = strict_member(doc, "identities");

        require(identity->session.text == NULL,
                "who is pending has no session");
        require(identities != NULL && identities->kind == STRICT_ARRAY,
                "a bare user has identities");
        require(!identity->proven == !has_identity(identities, id->string),
                "a bare user is proven by an identity of that id alone");
    }
}

/* Does the message start as in supabase/answer_error.c? */
static int is_told_none_made(const us_call *call)
{
    return call->message != NULL
           && strncmp(call->message, "No account was created", 22) == 0;
}

static void check_outcome(us_operation operation, us_outcome outcome,
                          const us_call *call, const us_identity *identity)
{
    require(outcome >= US_OK && outcome < US_OUTCOME_COUNT,
            "there is an outcome");
    require(operation == US_LOG_OUT
                ? outcome != US_OK
                : outcome != US_LOGGED_OUT && outcome != US_INVALID_TOKEN,
            "only other operations give a session, only a logout ends one");
    require(
        operation == US_REFRESH
            || (outcome != US_INVALID_REFRESH && outcome != US_SESSION_BUSY),
        "only a refresh has a refresh token");
    if (operation != US_SIGN_UP) {
        require(outcome != US_PENDING && outcome != US_UNKNOWN_TIMEOUT
                    && outcome != US_UNKNOWN_BROKEN,
                "only a sign-up is pending or unknown");
    }
    else {
        require(outcome != US_UPSTREAM_TIMEOUT
                    && (outcome != US_UPSTREAM_BAD_ANSWER
                        || is_told_none_made(call)),
                "a sign-up that may have worked is unknown");
    }
    if (outcome != US_OK && outcome != US_PENDING) {
        require(identity->id == NULL && !identity->proven
                    && identity->session.text == NULL,
                "a failure has no identity");
    }
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    us_http_answer answer = {.result = US_HTTP_ANSWERED};
    us_question question
        = {US_LOG_IN, "ada@example.com", identity_columns(pool)};
    us_identity identity;
    us_outcome outcome;

    if (!take_answer(pool, data, size, &question, &answer)) {
        return;
    }
    memset(&identity, UNTOUCHED, sizeof(identity));
    outcome = us_answer_judge(&call, &question, &answer, &identity);
    check_outcome(question.operation, outcome, &call, &identity);
    check_findings(pool, outcome, &call);
    require(!call.foreign || outcome == US_UPSTREAM_BAD_ANSWER
                || outcome == US_UNKNOWN_BROKEN,
            "somebody else's answer is a bad one");
    if (outcome == US_OK || outcome == US_PENDING) {
        check_identity(pool, outcome, &question, &answer, &identity);
    }
    free(answer.body);
}
