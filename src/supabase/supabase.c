/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer.h"
#include "us_breaker.h"
#include "us_client.h"
#include "us_http.h"
#include "us_json.h"
#include "us_limits.h"
#include "us_supabase.h"
#include "us_wipe.h"

#include <apr_strings.h>

#include <string.h>

#define CLIENT_NAME "mod_usersync/" US_VERSION

/* A probe that is not back this long after its timeout has ended with its
 * child: then another may go. */
#define PROBE_GRACE apr_time_from_sec(1)

struct us_supabase {
    us_http_client *http;
    us_http_url *session_url[US_OPERATION_COUNT]; /* NULL: gives no session */
    us_http_url *logout_url[US_SCOPE_COUNT];
    apr_interval_time_t timeout[US_OPERATION_COUNT];
    us_breaker *breaker[US_OPERATION_COUNT];
    const char *authorization; /* the header with our key; NULL: none */
    us_forward_ip forward_ip;
    const apr_array_header_t *columns;
};

/* Creates all URLs; returns 0 on failure. */
static int create_urls(us_supabase *supabase, apr_pool_t *pool,
                       const char *base)
{
    static const char *const sessions[US_OPERATION_COUNT]
        = {"/signup", "/token?grant_type=password",
           "/token?grant_type=refresh_token"};
    static const char *const logouts[US_SCOPE_COUNT] = {
        "/logout?scope=local", "/logout?scope=global", "/logout?scope=others"};
    int good = 1;
    int i;

    for (i = 0; i < US_OPERATION_COUNT; i++) {
        if (sessions[i] != NULL) {
            supabase->session_url[i] = us_http_url_create(
                pool, apr_pstrcat(pool, base, sessions[i], NULL));
            good &= supabase->session_url[i] != NULL;
        }
    }
    for (i = 0; i < US_SCOPE_COUNT; i++) {
        supabase->logout_url[i] = us_http_url_create(
            pool, apr_pstrcat(pool, base, logouts[i], NULL));
        good &= supabase->logout_url[i] != NULL;
    }
    return good;
}

/* Our key as a Bearer token.  Only a legacy key is a JWT; sb_ keys are refused
 * there. */
static const char *key_as_bearer(apr_pool_t *pool, const us_secret *key)
{
    us_key_kind kind = us_secret_key_kind(pool, key);
    char *header;

    if (kind != US_KEY_JWT && kind != US_KEY_JWT_SERVICE) {
        return NULL;
    }
    header = apr_pstrcat(pool, "Authorization: Bearer ", key->value, NULL);
    us_wipe_with(pool, header, strlen(header));
    return header;
}

us_supabase *us_supabase_create(apr_pool_t *pool, const us_server_conf *conf)
{
    us_supabase *supabase = apr_pcalloc(pool, sizeof(*supabase));
    char *apikey = apr_pstrcat(pool, "apikey: ", conf->key->value, NULL);
    const char *headers[] = {apikey,
                             "Content-Type: application/json",
                             "Accept: application/json",
                             "X-Client-Info: " CLIENT_NAME,
                             "X-Supabase-Api-Version: 2024-01-01",
                             "Expect:",
                             NULL};
    us_http_options options = {
        .headers = headers,
        .user_agent = CLIENT_NAME " (httpd)",
        .ca_file = conf->ca_file,
        .proxy = *us_config_proxy(conf) != '\0' ? conf->proxy : NULL,
        .connect_timeout = us_config_connect_timeout(conf),
        .advice = {"UserSyncSupabaseURL", "UserSyncCACertificateFile",
                   "UserSyncConnectTimeout"},
    };
    int i;

    /* before the client: its handles refer to them */
    if (!create_urls(supabase, pool, conf->url)) {
        us_wipe(apikey, strlen(apikey));
        return NULL;
    }
    supabase->http = us_http_client_create(pool, &options);
    us_wipe(apikey, strlen(apikey));
    for (i = 0; i < US_OPERATION_COUNT; i++) {
        supabase->timeout[i] = i == US_SIGN_UP
                                   ? us_config_register_timeout(conf)
                                   : us_config_timeout(conf);
        supabase->breaker[i] = us_breaker_find(conf->url, (us_operation)i);
    }
    supabase->authorization = key_as_bearer(pool, conf->key);
    supabase->forward_ip = us_config_forward_ip(conf);
    supabase->columns = us_config_columns(pool, conf);
    return supabase->http != NULL ? supabase : NULL;
}

/* A piece of text for apr_pstrcatv. */
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

static struct iovec slice(us_slice of)
{
    return piece(of.text, of.len);
}

#define LITERAL(text) piece(text, sizeof(text) - 1)

/* The most pieces that a text is put together from. */
#define PIECES 9

/* Puts a text together that holds secrets: wiped with the pool. */
static char *join(apr_pool_t *pool, const struct iovec *parts,
                  apr_size_t count, apr_size_t *len)
{
    char *text = apr_pstrcatv(pool, parts, count, len);

    us_wipe_with(pool, text, *len);
    return text;
}

static apr_size_t refresh_parts(struct iovec *parts,
                                const us_credentials *credentials)
{
    apr_size_t count = 0;

    parts[count++] = LITERAL("{\"refresh_token\":");
    parts[count++] = slice(credentials->refresh_token);
    parts[count++] = LITERAL("}");
    return count;
}

static apr_size_t password_parts(apr_pool_t *pool, struct iovec *parts,
                                 const us_credentials *credentials)
{
    const char *email = us_json_quote(pool, credentials->email);
    apr_size_t count = 0;

    parts[count++] = LITERAL("{\"email\":");
    parts[count++] = piece(email, strlen(email));
    parts[count++] = LITERAL(",\"password\":");
    parts[count++] = slice(credentials->password);
    if (credentials->data.text != NULL) {
        parts[count++] = LITERAL(",\"data\":");
        parts[count++] = slice(credentials->data);
    }
    if (credentials->captcha_token.text != NULL) {
        parts[count++]
            = LITERAL(",\"gotrue_meta_security\":{\"captcha_token\":");
        parts[count++] = slice(credentials->captcha_token);
        parts[count++] = LITERAL("}}");
    }
    else {
        parts[count++] = LITERAL("}");
    }
    return count;
}

/*
 * Builds the request body: of the client's body, only the members that were
 * understood are sent (a second "Email" could make GoTrue read another address
 * than the one that was checked).
 */
static char *request_body(apr_pool_t *pool, us_operation operation,
                          const us_credentials *credentials, apr_size_t *len)
{
    struct iovec parts[PIECES];
    apr_size_t count = operation == US_REFRESH
                           ? refresh_parts(parts, credentials)
                           : password_parts(pool, parts, credentials);

    return join(pool, parts, count, len);
}

/* The header with the user's own token. */
static const char *user_as_bearer(apr_pool_t *pool, us_slice token)
{
    struct iovec parts[] = {LITERAL("Authorization: Bearer "), slice(token)};
    apr_size_t len;

    return join(pool, parts, 2, &len);
}

/* The header that tells Supabase the client's address, or NULL. */
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

static us_outcome circuit_open(us_call *call, int seconds)
{
    call->retry_after = seconds;
    return us_fail(call, US_CIRCUIT_OPEN,
                   "the circuit to Supabase is open: see the line that says "
                   "so, and UserSyncCircuitBreaker");
}

us_outcome us_supabase_ready(us_supabase *supabase, us_call *call,
                             us_operation operation)
{
    int seconds;

    if (us_breaker_is_open(supabase->breaker[operation],
                           us_client_of(call->log.r), &seconds)) {
        return circuit_open(call, seconds);
    }
    return us_limits_is_full(call->log.r, &call->cause) ? US_BUSY : US_OK;
}

/*
 * Sends the request and judges the answer.
 *
 * request  needs URL, body and the header Authorization; the rest is set here
 */
static us_outcome exchange(us_supabase *supabase, us_call *call,
                           const us_question *question,
                           us_http_request *request, const char *client_ip,
                           us_identity *identity)
{
    us_http_answer answer;
    us_outcome outcome;

    request->headers[1] = client_ip_header(supabase, call->pool, client_ip);
    request->timeout = supabase->timeout[question->operation];
    request->fresh_connection = question->operation == US_SIGN_UP;
    request->wanted = us_answer_headers;
    us_http_post(supabase->http, call->pool, &call->log, request, &answer);
    call->upstream_time = answer.elapsed;
    outcome = us_answer_judge(call, question, &answer, identity);
    /* a 2xx with unexpected content may be the answer to another request */
    us_http_done(supabase->http, &answer,
                 !call->foreign
                     && (answer.status / 100 != 2
                         || (outcome != US_UPSTREAM_BAD_ANSWER
                             && outcome != US_UNKNOWN_BROKEN)));
    return outcome;
}

/* The same, unless the circuit is open. */
static us_outcome ask(us_supabase *supabase, us_call *call,
                      const us_question *question, us_http_request *request,
                      us_slice account, const char *client_ip,
                      us_identity *identity)
{
    us_breaker *breaker = supabase->breaker[question->operation];
    us_attempt attempt
        = {.client = us_client_of(call->log.r),
           .account = us_client_account(account.text, account.len)};
    us_outcome outcome;
    int seconds;

    if (!us_breaker_permit(
            breaker, &attempt,
            supabase->timeout[question->operation] + PROBE_GRACE, &seconds)) {
        return circuit_open(call, seconds);
    }
    outcome = exchange(supabase, call, question, request, client_ip, identity);
    us_breaker_report(breaker, &call->log, &attempt, call->health);
    return outcome;
}

us_outcome us_supabase_ask(us_supabase *supabase, us_call *call,
                           us_operation operation,
                           const us_credentials *credentials,
                           const char *client_ip, us_identity *identity)
{
    us_question question = {operation, credentials->email, supabase->columns};
    us_http_request request = {.url = supabase->session_url[operation],
                               .headers = {supabase->authorization}};
    us_slice account = credentials->refresh_token;

    if (operation != US_REFRESH) {
        account.text = credentials->email;
        account.len = strlen(credentials->email);
    }
    request.body
        = request_body(call->pool, operation, credentials, &request.body_len);
    return ask(supabase, call, &question, &request, account, client_ip,
               identity);
}

us_outcome us_supabase_log_out(us_supabase *supabase, us_call *call,
                               const us_farewell *farewell,
                               const char *client_ip)
{
    us_question question = {US_LOG_OUT, NULL, supabase->columns};
    us_http_request request
        = {.url = supabase->logout_url[farewell->scope],
           .body = "",
           .headers = {user_as_bearer(call->pool, farewell->token)}};
    us_identity nobody;

    return ask(supabase, call, &question, &request, farewell->token, client_ip,
               &nobody);
}
