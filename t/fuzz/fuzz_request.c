/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_request_parse, us_request_parse_farewell and us_request_parse_bearer.
 * Input: one byte whose two lowest bits are the us_operation, then the body;
 * for a logout a line with the header Authorization is before it.
 */
#include "fuzz.h"
#include "doors/request.h"

#include <apr_strings.h>

#include <string.h>

/* Is the slice of the body the value of the member? */
static void check_slice(const char *slice, apr_size_t len,
                        const strict_node *member, strict_kind kind)
{
    require(member != NULL && member->kind == kind, "a slice has its type");
    require(slice == member->text && len == member->len,
            "a slice is exactly the member's text");
}

static void check_email(const char *email)
{
    const char *p;

    require(email != NULL && strlen(email) <= US_EMAIL_MAX,
            "there is an e-mail address, of a limited length");
    require(strchr(email, '@') != NULL && *email != '@', "it has its @");
    for (p = email; *p != '\0'; p++) {
        require((unsigned char)*p > ' ' && *p != 0x7F,
                "it holds no blanks and no control characters");
        require(*p < 'A' || *p > 'Z', "it is lower-cased");
    }
}

static void check_credentials(us_operation operation, const strict_node *body,
                              const us_credentials *credentials)
{
    const strict_node *password = strict_member(body, "password");
    apr_size_t len;

    require(body != NULL, "what is taken is JSON");
    require(strict_member(body, "email") != NULL
                && strict_member(body, "email")->kind == STRICT_STRING,
            "the e-mail address was a string");
    check_email(credentials->email);
    check_slice(credentials->password.text, credentials->password.len,
                password, STRICT_STRING);
    len = strlen(password->string);
    require(len > 0 && (operation == US_LOG_IN || len <= US_PASSWORD_MAX),
            "the password has a length that is allowed");
    if (credentials->data.text != NULL) {
        require(operation == US_SIGN_UP, "a login has no data");
        check_slice(credentials->data.text, credentials->data.len,
                    strict_member(body, "data"), STRICT_OBJECT);
    }
    if (credentials->captcha_token.text != NULL) {
        check_slice(credentials->captcha_token.text,
                    credentials->captcha_token.len,
                    strict_member(body, "captcha_token"), STRICT_STRING);
    }
}

static void check_refresh(const strict_node *body,
                          const us_credentials *credentials)
{
    const strict_node *token = strict_member(body, "refresh_token");

    require(body != NULL, "what is taken is JSON");
    check_slice(credentials->refresh_token.text,
                credentials->refresh_token.len, token, STRICT_STRING);
    require(*token->string != '\0'
                && strlen(token->string) <= US_REFRESH_TOKEN_MAX,
            "the token has a length that is allowed");
    require(credentials->email == NULL && credentials->password.text == NULL,
            "a refresh has nothing else");
}

/* A token that can end its header, or is another part of it. */
static void check_bearer(const char *header, us_slice token)
{
    apr_size_t i;

    require(token.len > 0 && token.len <= US_ACCESS_TOKEN_MAX
                && token.text > header
                && strcmp(header + strlen(header) - token.len, token.text)
                       == 0,
            "the token is the end of the header");
    for (i = 0; i < token.len; i++) {
        require(token.text[i] > ' ' && token.text[i] < 0x7F
                    && strchr("\"\\,;:<>@", token.text[i]) == NULL,
                "it holds nothing that ends or parts a header");
    }
}

static void check_scope(const strict_node *body, us_scope scope)
{
    static const char *const names[] = {"local", "global", "others"};
    const strict_node *member
        = body != NULL ? strict_member(body, "scope") : NULL;

    require((int)scope >= 0 && scope < US_SCOPE_COUNT, "the scope is known");
    if (member != NULL && member->kind == STRICT_STRING) {
        require(strcmp(member->string, names[scope]) == 0,
                "it is the one that was sent");
    }
    else {
        require(scope == US_SCOPE_LOCAL, "else it is the least");
    }
}

static void check_complaints(const us_call *call)
{
    int i;

    require(call->cause != NULL && call->fields != NULL
                && call->fields->nelts > 0,
            "a refusal says why");
    for (i = 0; i < call->fields->nelts; i++) {
        const us_field_error *error
            = &APR_ARRAY_IDX(call->fields, i, us_field_error);

        require(error->field != NULL && error->message != NULL,
                "a complaint has its field and its text");
    }
}

static void try_logout(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    const char *end = memchr(data, '\n', size);
    const char *header = apr_pstrmemdup(
        pool, data, end != NULL ? (apr_size_t)(end - data) : size);
    const char *body = end != NULL ? end + 1 : data + size;
    apr_size_t len = (apr_size_t)(data + size - body);
    us_farewell farewell;
    us_slice token;
    us_outcome outcome = us_request_parse_bearer(&call, header, &token);

    if (outcome == US_OK) {
        check_bearer(header, token);
    }
    else {
        require((outcome == US_NO_TOKEN || outcome == US_INVALID_TOKEN)
                    && token.text == NULL && call.cause != NULL,
                "or there is none, and a cause");
    }
    outcome = us_request_parse_farewell(&call, body, len, &farewell);
    if (outcome == US_OK) {
        check_scope(strict_parse(pool, body, len, NULL), farewell.scope);
    }
    else {
        require(outcome == US_INVALID_REQUEST, "the outcome is one of two");
        check_complaints(&call);
    }
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    us_credentials credentials;
    us_operation operation;
    us_outcome outcome;

    if (size == 0) {
        return;
    }
    operation = (us_operation)(*data & 3);
    if (operation == US_LOG_OUT) {
        try_logout(pool, data + 1, size - 1);
        return;
    }
    outcome
        = us_request_parse(&call, operation, data + 1, size - 1, &credentials);
    require(outcome == US_OK || outcome == US_INVALID_REQUEST,
            "the outcome is one of two");
    if (outcome == US_OK) {
        require(call.fields == NULL, "nothing is wrong with what is taken");
        const strict_node *body = strict_parse(pool, data + 1, size - 1, NULL);

        if (operation == US_REFRESH) {
            check_refresh(body, &credentials);
        }
        else {
            check_credentials(operation, body, &credentials);
        }
    }
    else {
        check_complaints(&call);
    }
}
