/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer_text.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/*
 * GoTrue's fixed texts: their meaning if no code comes with them, as before
 * GoTrue had codes, and what they add to a code.  "#" is a number, "*" at the
 * end is anything.  Only texts of this table may be logged: others can quote
 * an address.
 */
static const us_answer_text known_texts[] = {
    {"Invalid login credentials", "invalid_credentials", 0},
    {"Invalid email or password", "invalid_credentials", 0},
    {"No user found with *", "invalid_credentials", 0},
    {"unsupported_grant_type", NULL, 0},
    {"Email not confirmed", "email_not_confirmed", 0},
    {"Phone not confirmed", "phone_not_confirmed", 0},
    {"User is banned", "user_banned", 0},
    {"User already registered", "user_already_exists", 0},
    {"A user with this email address has already been registered",
     "user_already_exists", 0},
    {"duplicate key value violates unique constraint \"users_email_*",
     "user_already_exists", 0},
    {"Signups not allowed *", "signup_disabled", 0},
    {"Email signups are disabled", "email_provider_disabled", 0},
    {"Email logins are disabled", "email_provider_disabled", 0},
    {"Password should be at least # characters*", "weak_password", 0},
    {"Password should contain at least one character of each*",
     "weak_password", 0},
    {"Password is known to be weak*", "weak_password", 0},
    {"Signup requires a valid password", "validation_failed", 0},
    {"Password cannot be longer than # characters", "validation_failed", 0},
    {"Unable to validate email address*", "validation_failed", 0},
    {"captcha protection: request disallowed*", "captcha_failed", 0},
    {"For security purposes, you can only request this *",
     "over_email_send_rate_limit", 0},
    {"email rate limit exceeded", "over_email_send_rate_limit", 0},
    {"Invalid Refresh Token: User Banned", "user_banned", US_TEXT_TOKEN},
    {"Invalid Refresh Token*", "refresh_token_not_found", US_TEXT_TOKEN},
    {"Refresh token is not valid", "validation_failed", US_TEXT_TOKEN},
    {"Session from session_id claim in JWT does not exist",
     "session_not_found", US_TEXT_TOKEN},
    {"User from sub claim in JWT does not exist", "user_not_found",
     US_TEXT_TOKEN},
    {"invalid JWT*", "bad_jwt", US_TEXT_TOKEN},
    {"invalid token*", "bad_jwt", US_TEXT_TOKEN},
    {"invalid claim*", "bad_jwt", US_TEXT_TOKEN},
    {"Request rate limit reached", "over_request_rate_limit", 0},
    {"Rate limit exceeded", "over_request_rate_limit", 0},
    /* before the transaction of a sign-up, or inside, which is rolled back */
    {"Database error finding user", NULL, US_TEXT_TELL | US_TEXT_NONE_MADE},
    {"Database error creating user", NULL, US_TEXT_TELL | US_TEXT_NONE_MADE},
    {"Database error saving new user", NULL,
     US_TEXT_TELL | US_TEXT_NONE_MADE | US_TEXT_TAKEN},
    {"Database error updating user", NULL, US_TEXT_TELL | US_TEXT_NONE_MADE},
    {"Database error loading user after sign-up", NULL,
     US_TEXT_TELL | US_TEXT_NONE_MADE},
    {"Error sending confirmation email", NULL,
     US_TEXT_TELL | US_TEXT_NONE_MADE},
    {"Error sending confirmation mail", NULL,
     US_TEXT_TELL | US_TEXT_NONE_MADE},
    {"captcha verification process failed", NULL,
     US_TEXT_TELL | US_TEXT_NONE_MADE},
    /* anywhere */
    {"Database error querying schema", NULL, US_TEXT_TELL},
    {"Database error granting user", NULL, US_TEXT_TELL},
    {"Database error *", NULL, US_TEXT_TELL},
    {"Failed to create new session", NULL, US_TEXT_TELL},
    {"Failed to setup refresh token data for session", NULL, US_TEXT_TELL},
    {"Failed to get session's refresh token key", NULL, US_TEXT_TELL},
    {"error generating jwt token", NULL, US_TEXT_TELL},
    {"Processing this request timed out*", NULL, US_TEXT_TELL},
    /* these two, and "output claims", come without X-Sb-Error-Code */
    {"Internal Server Error", NULL, US_TEXT_TELL},
    {"Unexpected failure, please check server logs for more information", NULL,
     US_TEXT_TELL},
    {"output claims field is missing", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"output claims do not conform to the expected schema*", NULL,
     US_TEXT_TELL | US_TEXT_HOOK},
    {"Failed to reach hook *", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"Service currently unavailable due to hook", NULL,
     US_TEXT_TELL | US_TEXT_HOOK},
    {"Invalid payload sent to hook", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"Hook requires authorization token", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"Hook failed to make request object", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"Unexpected status code returned from hook: #", NULL,
     US_TEXT_TELL | US_TEXT_HOOK},
    {"Error unmarshaling JSON output.", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"Error generating signatures: *", NULL, US_TEXT_TELL | US_TEXT_HOOK},
    {"Error invoking hook", NULL, US_TEXT_TELL | US_TEXT_HOOK | US_TEXT_AFTER},
};

/* Does text match a row of known_texts? */
static int fits(const char *form, const char *text)
{
    for (; *form != '\0' && *form != '*'; form++) {
        if (*form == '#' && apr_isdigit(*text)) {
            while (apr_isdigit(*text)) {
                text++;
            }
        }
        else if (*text == '\0' || apr_tolower(*form) != apr_tolower(*text)) {
            return 0;
        }
        else {
            text++;
        }
    }
    return *form == '*' || *text == '\0';
}

const us_answer_text *us_answer_text_find(const char *message)
{
    apr_size_t i;

    for (i = 0; i < sizeof(known_texts) / sizeof(known_texts[0]); i++) {
        if (message != NULL && fits(known_texts[i].text, message)) {
            return &known_texts[i];
        }
    }
    return NULL;
}

const char *us_answer_text_known(apr_pool_t *pool, const us_answer_text *text,
                                 const char *message)
{
    const char *star = strchr(text->text, '*');

    return star == NULL ? message
                        : apr_psprintf(pool, "%.*s...",
                                       (int)(star - text->text), text->text);
}
