/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer_cases.h"

#define ADA "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define INVENTED "e4b1d7a6-2c08-4f93-b5de-90a7c3f16b22"
#define MAY_BE_TAKEN                                              \
    "No account was created. Perhaps this address has just been " \
    "registered: try to log in, and register again if that fails."
#define FAILED                                                        \
    "No account was created, for the authentication service failed: " \
    "try again later."

#define BOTH(outcome) .signup = (outcome), .login = (outcome)

/* An unusable answer: a sign-up may have been done all the same. */
#define BROKEN .signup = US_UNKNOWN_BROKEN, .login = US_UPSTREAM_BAD_ANSWER

/* A session proves its user, whatever was asked. */
#define SESSION(name, who)                                    \
    {                                                         \
        .file = (name), BOTH(US_OK), .id = (who), .proven = 1 \
    }

/* A bare user answers a sign-up; a login needs a session. */
#define USER(name, who, is_proven)                                          \
    {                                                                       \
        .file = (name), .signup = US_PENDING,                               \
        .login = US_UPSTREAM_BAD_ANSWER, .id = (who), .proven = (is_proven) \
    }

/* A user without the e-mail that was sent is another user. */
#define OTHER(name)                          \
    {                                        \
        .file = (name), BROKEN, .foreign = 1 \
    }

/* The same as the answer to a sign-up; a login needs a session. */
#define OTHER_USER(name)                            \
    {                                               \
        .file = (name), BROKEN, .foreign_signup = 1 \
    }

/* Not an answer to either question; and a failure of GoTrue itself. */
#define NONSENSE(name)         \
    {                          \
        .file = (name), BROKEN \
    }
#define FAILURE(name, its_code)                    \
    {                                              \
        .file = (name), BROKEN, .code = (its_code) \
    }

/* A failure before the account is created. */
#define NONE_MADE(name, its_code, text)                                   \
    {                                                                     \
        .file = (name), BOTH(US_UPSTREAM_BAD_ANSWER), .code = (its_code), \
        .signup_message = (text)                                          \
    }

#define ERROR(name, outcome, its_code)                    \
    {                                                     \
        .file = (name), BOTH(outcome), .code = (its_code) \
    }

/* A hook of the project is away; without an account, and with an account that
 * has no session. */
#define AWAY(name, its_code) ERROR(name, US_UPSTREAM_UNAVAILABLE, its_code)
#define AWAY_LATE(name, its_code)                            \
    {                                                        \
        .file = (name), .signup = US_UNKNOWN_BROKEN,         \
        .login = US_UPSTREAM_UNAVAILABLE, .code = (its_code) \
    }

#define RATE(name, its_code, seconds)                              \
    {                                                              \
        .file = (name), BOTH(US_RATE_LIMITED), .code = (its_code), \
        .retry_after = (seconds)                                   \
    }

#define SHOWN(name, its_code, text)                           \
    {                                                         \
        .file = (name), BOTH(US_REFUSED), .code = (its_code), \
        .message = (text)                                     \
    }

#define WEAK(name, why)                                                  \
    {                                                                    \
        .file = (name), BOTH(US_WEAK_PASSWORD), .code = "weak_password", \
        .reasons = (why)                                                 \
    }

#define LATE(name)                                              \
    {                                                           \
        .file = (name), .signup = US_UNKNOWN_TIMEOUT,           \
        .login = US_UPSTREAM_TIMEOUT, .code = "request_timeout" \
    }

const answer_case answer_cases[] = {
    /* POST /signup */
    SESSION("signup_autoconfirm_session.json", ADA),
    USER("signup_pending_confirmation_user.json", ADA, 1),
    USER("signup_existing_confirmed_fake_user.json", INVENTED, 0),
    USER("signup_existing_confirmed_fake_user_with_data.json", INVENTED, 0),
    USER("signup_existing_confirmed_fake_user_was_invited.json", INVENTED, 0),
    USER("signup_existing_unconfirmed_real_user.json", ADA, 1),
    USER("signup_invited_unconfirmed_real_user.json", ADA, 0),
    OTHER("signup_anonymous_session.json"),
    OTHER_USER("signup_phone_existing_fake_user.json"),
    ERROR("err_user_already_exists.v2024.json", US_USER_EXISTS,
          "user_already_exists"),
    ERROR("err_user_already_exists.legacy.json", US_USER_EXISTS,
          "user_already_exists"),
    WEAK("err_weak_password.v2024.json", "[\"length\"]"),
    WEAK("err_weak_password.legacy.json", "[\"length\"]"),
    WEAK("err_weak_password_multi.v2024.json",
         "[\"length\",\"characters\",\"pwned\"]"),
    ERROR("err_signup_disabled.v2024.json", US_NOT_ALLOWED, "signup_disabled"),
    ERROR("err_signup_disabled.legacy.json", US_NOT_ALLOWED,
          "signup_disabled"),
    ERROR("err_validation_failed_email.v2024.json", US_REFUSED,
          "validation_failed"),
    ERROR("err_validation_failed_email.legacy.json", US_REFUSED,
          "validation_failed"),
    ERROR("err_validation_failed_password_missing.v2024.json", US_REFUSED,
          "validation_failed"),
    ERROR("err_validation_failed_password_too_long.v2024.json", US_REFUSED,
          "validation_failed"),
    ERROR("err_email_address_invalid.v2024.json", US_REFUSED,
          "email_address_invalid"),
    SHOWN("err_email_address_not_authorized.v2024.json",
          "email_address_not_authorized",
          "Email address \"ada@example.com\" cannot be used as it is not "
          "authorized"),
    ERROR("err_email_provider_disabled_signup.v2024.json", US_NOT_ALLOWED,
          "email_provider_disabled"),
    ERROR("err_anonymous_provider_disabled.v2024.json", US_NOT_ALLOWED,
          "anonymous_provider_disabled"),
    RATE("err_over_email_send_rate_limit_user.v2024.json",
         "over_email_send_rate_limit", 42),
    RATE("err_over_email_send_rate_limit_user.legacy.json",
         "over_email_send_rate_limit", 42),
    RATE("err_over_email_send_rate_limit_global.v2024.json",
         "over_email_send_rate_limit", 0),
    RATE("err_over_request_rate_limit.v2024.json", "over_request_rate_limit",
         0),
    RATE("err_over_request_rate_limit.legacy.json", "over_request_rate_limit",
         0),
    ERROR("err_captcha_failed_missing.v2024.json", US_REFUSED,
          "captcha_failed"),
    ERROR("err_captcha_failed_missing.legacy.json", US_REFUSED,
          "captcha_failed"),
    ERROR("err_captcha_failed_rejected.v2024.json", US_REFUSED,
          "captcha_failed"),
    ERROR("err_bad_json.v2024.json", US_REFUSED, "bad_json"),
    ERROR("err_request_entity_too_large.v2024.json", US_REFUSED,
          "request_entity_too_large"),
    SHOWN("err_hook_rejected.v2024.json", "unknown",
          "Only company emails are allowed to sign up."),
    SHOWN("err_hook_rejected.legacy.json", "unknown",
          "Only company emails are allowed to sign up."),
    ERROR("err_hook_timeout.v2024.json", US_UPSTREAM_UNAVAILABLE,
          "hook_timeout"),
    NONE_MADE("err_unexpected_failure_db.v2024.json", "unexpected_failure",
              MAY_BE_TAKEN),
    NONE_MADE("err_unexpected_failure_db.legacy.json", "unexpected_failure",
              MAY_BE_TAKEN),
    NONE_MADE("err_unexpected_failure_mail.v2024.json", "unexpected_failure",
              FAILED),
    FAILURE("err_pg_trigger_raise.legacy.json", "P0001"),
    ERROR("err_pg_unique_violation.legacy.json", US_USER_EXISTS,
          "user_already_exists"),
    LATE("err_request_timeout.v2024.json"),
    LATE("err_request_timeout.legacy.json"),
    /* POST /token */
    SESSION("token_password_session.json", ADA),
    SESSION("token_password_session_rt_v2.json", ADA),
    SESSION("token_password_session_weak.json", ADA),
    SESSION("token_password_session_escapes.json", ADA),
    SESSION("token_refresh_session.json", ADA),
    ERROR("err_invalid_credentials.v2024.json", US_INVALID_CREDENTIALS,
          "invalid_credentials"),
    ERROR("err_invalid_credentials.legacy.json", US_INVALID_CREDENTIALS,
          "invalid_credentials"),
    ERROR("err_unsupported_grant_type.v2024.json", US_INVALID_CREDENTIALS,
          "invalid_credentials"),
    ERROR("err_missing_email_or_phone.v2024.json", US_REFUSED,
          "validation_failed"),
    ERROR("err_email_not_confirmed.v2024.json", US_NOT_ALLOWED,
          "email_not_confirmed"),
    ERROR("err_email_not_confirmed.legacy.json", US_NOT_ALLOWED,
          "email_not_confirmed"),
    ERROR("err_user_banned_login.v2024.json", US_NOT_ALLOWED, "user_banned"),
    ERROR("err_email_provider_disabled_login.v2024.json", US_NOT_ALLOWED,
          "email_provider_disabled"),
    ERROR("err_refresh_token_malformed.v2024.json", US_REFUSED,
          "validation_failed"),
    ERROR("err_refresh_token_not_found.v2024.json", US_REFUSED,
          "refresh_token_not_found"),
    ERROR("err_refresh_token_not_found.legacy.json", US_REFUSED,
          "refresh_token_not_found"),
    ERROR("err_refresh_token_already_used.v2024.json", US_REFUSED,
          "refresh_token_already_used"),
    ERROR("err_refresh_token_already_used.legacy.json", US_REFUSED,
          "refresh_token_already_used"),
    ERROR("err_refresh_session_not_found.v2024.json", US_REFUSED,
          "session_not_found"),
    ERROR("err_refresh_session_expired.v2024.json", US_REFUSED,
          "session_expired"),
    ERROR("err_refresh_user_banned.v2024.json", US_NOT_ALLOWED, "user_banned"),
    ERROR("err_refresh_conflict.v2024.json", US_REFUSED, "conflict"),
    ERROR("err_oauth_invalid_client.json", US_REFUSED, "invalid_client"),
    /* other endpoints: never asked, yet a proxy may mix answers up */
    USER("user_get.json", ADA, 1),
    USER("user_get_mfa.json", ADA, 1),
    OTHER_USER("user_get_phone_only.json"),
    OTHER_USER("user_get_anonymous.json"),
    USER("user_get_banned.json", ADA, 1),
    USER("user_update_email_pending.json", ADA, 1),
    NONSENSE("verify_email_change_single_confirmation.json"),
    ERROR("err_no_authorization.v2024.json", US_KEY_REFUSED,
          "no_authorization"),
    ERROR("err_no_authorization.legacy.json", US_KEY_REFUSED,
          "no_authorization"),
    ERROR("err_bad_jwt_expired.v2024.json", US_KEY_REFUSED, "bad_jwt"),
    ERROR("err_bad_jwt_expired.legacy.json", US_KEY_REFUSED, "bad_jwt"),
    ERROR("err_bad_jwt_missing_sub.v2024.json", US_KEY_REFUSED, "bad_jwt"),
    ERROR("err_session_not_found.v2024.json", US_REFUSED, "session_not_found"),
    ERROR("err_session_not_found.legacy.json", US_REFUSED,
          "session_not_found"),
    ERROR("err_user_not_found_jwt.v2024.json", US_REFUSED, "user_not_found"),
    ERROR("err_user_banned_token.v2024.json", US_NOT_ALLOWED, "user_banned"),
    NONSENSE("logout_no_content.txt"),
    NONSENSE("jwks_es256_rs256.json"),
    NONSENSE("jwks_empty.json"),
    NONSENSE("health.json"),
    NONSENSE("settings.json"),
    NONSENSE("admin_users_page.json"),
    NONSENSE("admin_users_empty.json"),
    NONSENSE("admin_users_cursor.json"),
    USER("admin_user_get.json", ADA, 1),
    OTHER_USER("admin_user_soft_deleted.json"),
    NONSENSE("admin_user_delete.json"),
    ERROR("err_not_admin.v2024.json", US_KEY_REFUSED, "not_admin"),
    ERROR("err_not_admin.legacy.json", US_KEY_REFUSED, "not_admin"),
    ERROR("err_admin_user_not_found.v2024.json", US_REFUSED, "user_not_found"),
    ERROR("err_admin_user_id_not_uuid.v2024.json", US_REFUSED,
          "validation_failed"),
    /* gateways in front of GoTrue */
    ERROR("gw_hosted_no_api_key.json", US_KEY_REFUSED, NULL),
    ERROR("gw_hosted_invalid_api_key.json", US_KEY_REFUSED, NULL),
    ERROR("gw_hosted_secret_key_browser_ua.json", US_KEY_REFUSED, NULL),
    ERROR("gw_kong_no_api_key.json", US_KEY_REFUSED, NULL),
    ERROR("gw_kong_invalid_api_key.json", US_KEY_REFUSED, NULL),
    ERROR("gw_envoy_unauthorized.txt", US_KEY_REFUSED, NULL),
    NONSENSE("gw_envoy_upstream_timeout.txt"),
    NONSENSE("gw_cloudflare_522.html"),
    NONSENSE("auth_404_unknown_route.txt"),
    ERROR("gw_cloudflare_403.html", US_UPSTREAM_UNAVAILABLE, NULL),
    /* hooks of the project */
    FAILURE("err_hook_panic.v2024.json", "unexpected_failure"),
    AWAY("err_hook_unreachable.v2024.json", "hook_timeout_after_retry"),
    AWAY("err_hook_content_type.v2024.json",
         "hook_payload_invalid_content_type"),
    AWAY("err_hook_503.v2024.json", "unexpected_failure"),
    AWAY("err_hook_403.v2024.json", "unexpected_failure"),
    AWAY("err_hook_no_json.v2024.json", "unexpected_failure"),
    AWAY_LATE("err_hook_after_signup.v2024.json", "unexpected_failure"),
    SHOWN("err_hook_send_email.v2024.json", "unknown", "we do not mail there"),
    {.file = "err_hook_token_signup.v2024.json",
     BOTH(US_STORE_UNAVAILABLE),
     .code = "unknown",
     .message = "The user database is not available: try again later."},
    SHOWN("err_hook_token_text.v2024.json", "unknown", "refused"),
    AWAY_LATE("err_hook_token_no_claims.v2024.json", "unexpected_failure"),
    AWAY_LATE("err_hook_token_empty_claims.v2024.json", "unexpected_failure"),
    AWAY_LATE("err_hook_token_401.v2024.json", "unexpected_failure"),
    {.file = "err_hook_password_reject.v2024.json",
     BOTH(US_INVALID_CREDENTIALS),
     .code = "invalid_credentials",
     .message = "Too many attempts, wait a minute"},
    {.file = "err_hook_password_429.v2024.json",
     BOTH(US_RATE_LIMITED),
     .code = "unknown",
     .message = "slow down"},
    NONE_MADE("err_unexpected_failure_db_down.v2024.json",
              "unexpected_failure", FAILED),
    NONE_MADE("err_unexpected_failure_captcha.v2024.json",
              "unexpected_failure", FAILED),
    /* before GoTrue had codes */
    ERROR("err_old_invalid_credentials.json", US_INVALID_CREDENTIALS,
          "invalid_credentials"),
    ERROR("err_old_email_not_confirmed.json", US_NOT_ALLOWED,
          "email_not_confirmed"),
    ERROR("err_old_user_already_registered.json", US_USER_EXISTS,
          "user_already_exists"),
    WEAK("err_old_weak_password.json", "[\"length\"]"),
    ERROR("err_old_signup_disabled.json", US_NOT_ALLOWED, "signup_disabled"),
    ERROR("err_old_email_signups_disabled.json", US_NOT_ALLOWED,
          "email_provider_disabled"),
    ERROR("err_old_password_missing.json", US_REFUSED, "validation_failed"),
    RATE("err_old_over_email_send_rate_limit.json",
         "over_email_send_rate_limit", 42),
    NONE_MADE("err_old_unexpected_failure_db.json", NULL, MAY_BE_TAKEN),
    ERROR("err_old_other.json", US_REFUSED, NULL),
    /* what others send or change, given as an answer */
    NONSENSE("hook_before_user_created.request.json"),
    NONSENSE("hook_after_user_created.request.json"),
    NONSENSE("hook_response_allow.json"),
    NONSENSE("hook_response_reject.json"),
    NONSENSE("dbwebhook_auth_users_insert.request.json"),
    NONSENSE("dbwebhook_auth_users_update.request.json"),
    NONSENSE("dbwebhook_auth_users_delete.request.json"),
    NONSENSE("client_fastapi_login.json"),
    NONSENSE("client_fastapi_register_autoconfirm.json"),
    NONSENSE("client_fastapi_register_pending.json"),
    NONSENSE("client_supabase_js_signin.json"),
    NONSENSE("jwt_tokens.json"),
    NONSENSE("jwt_test_keys.json"),
    {.file = NULL},
};
