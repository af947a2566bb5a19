/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_request_parse.  Input: one byte whose lowest bit says login, then the
 * body.
 */
#include "fuzz.h"
#include "us_request.h"

#include <string.h>

/* Does the slice of the body hold what the member holds? */
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

static void check_credentials(us_request_kind kind, const strict_node *body,
                              const us_credentials *credentials)
{
    const strict_node *password = strict_member(body, "password");
    apr_size_t len;

    require(body != NULL, "what is taken is JSON");
    require(strict_member(body, "email") != NULL
                && strict_member(body, "email")->kind == STRICT_STRING,
            "the e-mail address was a string");
    check_email(credentials->email);
    check_slice(credentials->password, credentials->password_len, password,
                STRICT_STRING);
    len = strlen(password->string);
    require(len > 0 && (kind == US_REQUEST_LOGIN || len <= US_PASSWORD_MAX),
            "the password has a length that is allowed");
    if (credentials->data != NULL) {
        require(kind == US_REQUEST_REGISTER, "a login has no data");
        check_slice(credentials->data, credentials->data_len,
                    strict_member(body, "data"), STRICT_OBJECT);
    }
    if (credentials->captcha_token != NULL) {
        check_slice(credentials->captcha_token, credentials->captcha_token_len,
                    strict_member(body, "captcha_token"), STRICT_STRING);
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

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    us_credentials credentials;
    us_request_kind kind;
    us_outcome outcome;

    if (size == 0) {
        return;
    }
    kind = (*data & 1) != 0 ? US_REQUEST_LOGIN : US_REQUEST_REGISTER;
    outcome = us_request_parse(&call, kind, data + 1, size - 1, &credentials);
    require(outcome == US_OK || outcome == US_INVALID_REQUEST,
            "the outcome is one of two");
    if (outcome == US_OK) {
        require(call.fields == NULL, "nothing is wrong with what is taken");
        check_credentials(kind, strict_parse(pool, data + 1, size - 1, NULL),
                          &credentials);
    }
    else {
        check_complaints(&call);
    }
}
