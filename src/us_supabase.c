/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_answer.h"
#include "us_http.h"
#include "us_json.h"
#include "us_limits.h"
#include "us_supabase.h"

#include <apr_strings.h>

#include <string.h>

#define CLIENT_NAME "mod_usersync/" US_VERSION

/* A probe that is not back so long after its time has died with its child:
 * another may go. */
#define PROBE_GRACE apr_time_from_sec(1)

struct us_supabase {
    us_http_client *http;
    us_http_url *signup_url;
    us_http_url *login_url;
    apr_interval_time_t signup_timeout;
    apr_interval_time_t login_timeout;
    us_breaker *breaker[2]; /* by us_operation */
    us_forward_ip forward_ip;
    const apr_array_header_t *columns;
};

us_supabase *us_supabase_create(apr_pool_t *pool, const us_server_conf *conf)
{
    us_supabase *supabase = apr_pcalloc(pool, sizeof(*supabase));
    us_key_kind kind = us_secret_key_kind(pool, conf->key);
    int jwt = kind == US_KEY_JWT || kind == US_KEY_JWT_SERVICE;
    char *apikey = apr_pstrcat(pool, "apikey: ", conf->key->value, NULL);
    char *bearer
        = apr_pstrcat(pool, "Authorization: Bearer ", conf->key->value, NULL);
    /* Only a legacy key is a JWT; sb_ keys are refused as Bearer. */
    const char *headers[] = {apikey,
                             "Content-Type: application/json",
                             "Accept: application/json",
                             "X-Client-Info: " CLIENT_NAME,
                             "X-Supabase-Api-Version: 2024-01-01",
                             "Expect:",
                             jwt ? bearer : NULL,
                             NULL};
    us_http_options options = {
        .headers = headers,
        .user_agent = CLIENT_NAME " (httpd)",
        .ca_file = conf->ca_file,
        .proxy
        = conf->proxy != NULL && *conf->proxy != '\0' ? conf->proxy : NULL,
        .connect_timeout = us_config_connect_timeout(conf),
    };

    /* before the client: its handles refer to them */
    supabase->signup_url = us_http_url_create(
        pool, apr_pstrcat(pool, conf->url, "/signup", NULL));
    supabase->login_url = us_http_url_create(
        pool,
        apr_pstrcat(pool, conf->url, "/token?grant_type=password", NULL));
    supabase->http = us_http_client_create(pool, &options);
    us_secret_wipe(apikey, strlen(apikey));
    us_secret_wipe(bearer, strlen(bearer));
    supabase->signup_timeout = us_config_register_timeout(conf);
    supabase->login_timeout = us_config_timeout(conf);
    supabase->breaker[US_SIGNUP] = us_breaker_find(conf->url, US_SIGNUP);
    supabase->breaker[US_LOGIN] = us_breaker_find(conf->url, US_LOGIN);
    supabase->forward_ip = us_config_forward_ip(conf);
    supabase->columns = us_config_columns(pool, conf);
    return supabase->http != NULL && supabase->signup_url != NULL
                   && supabase->login_url != NULL
               ? supabase
               : NULL;
}

/* A piece of text for writev-style joining. */
static struct iovec piece(const char *text, apr_size_t len)
{
    union {
        const char *in;
        void *out;
    } pointer;
    struct iovec vec;

    pointer.in = text; /* iovec is not const; it is only read here */
    vec.iov_base = pointer.out;
    vec.iov_len = len;
    return vec;
}

#define LITERAL(text) piece(text, sizeof(text) - 1)

/*
 * The request body, built anew: nothing of the client's body goes out but
 * the members that were understood (a second "Email" would make GoTrue see
 * another address than the one that was checked).  Wiped with the pool.
 */
static char *request_body(apr_pool_t *pool, const us_credentials *credentials,
                          apr_size_t *len)
{
    const char *email = us_json_quote(pool, credentials->email);
    struct iovec parts[9];
    apr_size_t count = 0;
    char *body;

    parts[count++] = LITERAL("{\"email\":");
    parts[count++] = piece(email, strlen(email));
    parts[count++] = LITERAL(",\"password\":");
    parts[count++] = piece(credentials->password, credentials->password_len);
    if (credentials->data != NULL) {
        parts[count++] = LITERAL(",\"data\":");
        parts[count++] = piece(credentials->data, credentials->data_len);
    }
    if (credentials->captcha_token != NULL) {
        parts[count++]
            = LITERAL(",\"gotrue_meta_security\":{\"captcha_token\":");
        parts[count++] = piece(credentials->captcha_token,
                               credentials->captcha_token_len);
        parts[count++] = LITERAL("}}");
    }
    else {
        parts[count++] = LITERAL("}");
    }
    body = apr_pstrcatv(pool, parts, count, len);
    us_secret_wipe_with(pool, body, *len);
    return body;
}

/* The header that tells Supabase whose request this is, or NULL. */
static const char *client_ip_header(const us_supabase *supabase,
                                    apr_pool_t *pool, const char *client_ip)
{
    const char *name = supabase->forward_ip == US_FORWARD_SB
                           ? "Sb-Forwarded-For: "
                           : "X-Forwarded-For: ";
    const char *address;
    const char *zone;

    if (supabase->forward_ip == US_FORWARD_OFF || client_ip == NULL) {
        return NULL;
    }
    zone = strchr(client_ip, '%'); /* fe80::1%eth0: GoTrue refuses it */
    address = zone == NULL ? client_ip
                           : apr_pstrmemdup(pool, client_ip,
                                            (apr_size_t)(zone - client_ip));
    return apr_pstrcat(pool, name, address, NULL);
}

static us_outcome busy(us_call *call)
{
    call->cause = "UserSyncMaxConcurrent is reached: Supabase is slow, or "
                  "there are more sign-ins than this server has threads for";
    return US_BUSY;
}

static us_outcome circuit_open(us_call *call, int seconds)
{
    call->retry_after = seconds;
    call->cause = "the circuit to Supabase is open: see the line that says "
                  "so, and UserSyncCircuitBreaker";
    return US_CIRCUIT_OPEN;
}

us_outcome us_supabase_ready(us_supabase *supabase, us_call *call,
                             us_operation operation)
{
    int seconds;

    if (us_breaker_is_open(supabase->breaker[operation], &seconds)) {
        return circuit_open(call, seconds);
    }
    return us_limits_is_full(call->log.r) ? busy(call) : US_OK;
}

static apr_interval_time_t timeout_of(const us_supabase *supabase,
                                      us_operation operation)
{
    return operation == US_SIGNUP ? supabase->signup_timeout
                                  : supabase->login_timeout;
}

static us_outcome exchange(us_supabase *supabase, us_call *call,
                           us_operation operation,
                           const us_credentials *credentials,
                           const char *client_ip, us_identity *identity)
{
    us_http_request request = {
        .url
        = operation == US_SIGNUP ? supabase->signup_url : supabase->login_url,
        .header = client_ip_header(supabase, call->pool, client_ip),
        .timeout = timeout_of(supabase, operation),
        .fresh_connection = operation == US_SIGNUP,
        .wanted = us_answer_headers,
    };
    us_http_answer answer;

    request.body = request_body(call->pool, credentials, &request.body_len);
    us_http_post(supabase->http, call->pool, &call->log, &request, &answer);
    call->upstream_time = answer.elapsed;
    return us_answer_judge(call, operation, &answer, supabase->columns,
                           identity);
}

/* One question to Supabase, if it may be asked just now. */
static us_outcome ask(us_supabase *supabase, us_call *call,
                      us_operation operation,
                      const us_credentials *credentials, const char *client_ip,
                      us_identity *identity)
{
    us_breaker *breaker = supabase->breaker[operation];
    us_outcome outcome;
    int seconds;
    apr_int64_t probe;

    if (!us_limits_enter(call->log.r)) {
        return busy(call);
    }
    if (us_breaker_permit(breaker,
                          timeout_of(supabase, operation) + PROBE_GRACE,
                          &seconds, &probe)) {
        outcome = exchange(supabase, call, operation, credentials, client_ip,
                           identity);
        us_breaker_report(breaker, &call->log, call->health, probe);
    }
    else {
        outcome = circuit_open(call, seconds);
    }
    us_limits_leave(call->log.r);
    return outcome;
}

us_outcome us_supabase_signup(us_supabase *supabase, us_call *call,
                              const us_credentials *credentials,
                              const char *client_ip, us_identity *identity)
{
    return ask(supabase, call, US_SIGNUP, credentials, client_ip, identity);
}

us_outcome us_supabase_login(us_supabase *supabase, us_call *call,
                             const us_credentials *credentials,
                             const char *client_ip, us_identity *identity)
{
    return ask(supabase, call, US_LOGIN, credentials, client_ip, identity);
}
