/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer_code.h"

#include <string.h>

/*
 * GoTrue's codes that mean more than "refused".  The status does not matter: a
 * wrong password is a 400 there, a disabled provider 400 or 422.
 */
static const struct {
    const char *code;
    us_outcome outcome;
} known_codes[] = {
    {"invalid_credentials", US_INVALID_CREDENTIALS},
    {"invalid_grant", US_INVALID_CREDENTIALS}, /* before GoTrue had codes */
    {"email_not_confirmed", US_NOT_ALLOWED},
    {"phone_not_confirmed", US_NOT_ALLOWED},
    {"user_banned", US_NOT_ALLOWED},
    {"signup_disabled", US_NOT_ALLOWED},
    {"email_provider_disabled", US_NOT_ALLOWED},
    {"phone_provider_disabled", US_NOT_ALLOWED},
    {"anonymous_provider_disabled", US_NOT_ALLOWED},
    {"provider_disabled", US_NOT_ALLOWED},
    {"user_already_exists", US_USER_EXISTS},
    {"email_exists", US_USER_EXISTS},
    {"weak_password", US_WEAK_PASSWORD},
    {"over_request_rate_limit", US_RATE_LIMITED},
    {"over_email_send_rate_limit", US_RATE_LIMITED},
    {"over_sms_send_rate_limit", US_RATE_LIMITED},
    /* where no user's token was sent, they can only be about our own key */
    {"no_authorization", US_KEY_REFUSED},
    {"bad_jwt", US_KEY_REFUSED},
    {"not_admin", US_KEY_REFUSED},
    {"request_timeout", US_UPSTREAM_TIMEOUT},
    {"unexpected_failure", US_UPSTREAM_BAD_ANSWER},
    {"unknown", US_REFUSED}, /* a hook's refusal, with any status */
};

/* What some of the codes mean where a token was sent. */
static const struct {
    const char *code;
    us_operation operation;
    us_outcome outcome;
} token_codes[] = {
    {"refresh_token_not_found", US_REFRESH, US_INVALID_REFRESH},
    {"refresh_token_already_used", US_REFRESH, US_INVALID_REFRESH},
    {"session_not_found", US_REFRESH, US_INVALID_REFRESH},
    {"session_expired", US_REFRESH, US_INVALID_REFRESH},
    {"user_not_found", US_REFRESH, US_INVALID_REFRESH},
    {"validation_failed", US_REFRESH, US_INVALID_REFRESH}, /* its form */
    {"invalid_grant", US_REFRESH, US_INVALID_REFRESH},
    {"invalid_credentials", US_REFRESH, US_INVALID_REFRESH},
    {"conflict", US_REFRESH, US_SESSION_BUSY},
    /* what was to be ended is gone */
    {"session_not_found", US_LOG_OUT, US_LOGGED_OUT},
    {"user_not_found", US_LOG_OUT, US_LOGGED_OUT},
    {"bad_jwt", US_LOG_OUT, US_INVALID_TOKEN},
};

/* The outcomes of a usersync-hook, in this server or another, by the texts that
 * it gives Supabase for them.  What the project's own hook has failed in is, as
 * for any other hook that is away, a failure of the project. */
static const struct {
    const char *text;
    us_outcome outcome;
} hook_outcomes[] = {
    {US_TEXT_STORE_UNAVAILABLE, US_STORE_UNAVAILABLE},
    {US_TEXT_ROW_REFUSED, US_ROW_REFUSED},
    {US_TEXT_ROW_CONFLICT, US_ROW_CONFLICT},
    {US_TEXT_USER_BANNED, US_USER_BANNED},
    {US_TEXT_USER_DELETED, US_USER_DELETED},
    {US_TEXT_BUSY, US_BUSY},
    {US_TEXT_FORWARD_FAILED, US_UPSTREAM_UNAVAILABLE},
};

us_outcome us_answer_code_outcome(us_operation operation, const char *code)
{
    apr_size_t i;

    for (i = 0; i < sizeof(token_codes) / sizeof(token_codes[0]); i++) {
        if (token_codes[i].operation == operation
            && strcmp(code, token_codes[i].code) == 0) {
            return token_codes[i].outcome;
        }
    }
    for (i = 0; i < sizeof(known_codes) / sizeof(known_codes[0]); i++) {
        if (strcmp(code, known_codes[i].code) == 0) {
            return known_codes[i].outcome;
        }
    }
    return US_OUTCOME_COUNT;
}

us_outcome us_answer_code_of_hook(const char *message)
{
    apr_size_t i;

    for (i = 0; i < sizeof(hook_outcomes) / sizeof(hook_outcomes[0]); i++) {
        if (message != NULL && strcmp(message, hook_outcomes[i].text) == 0) {
            return hook_outcomes[i].outcome;
        }
    }
    return US_OUTCOME_COUNT;
}
