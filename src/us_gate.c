/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_flight.h"
#include "us_gate.h"
#include "us_headers.h"
#include "us_json.h"
#include "us_log.h"
#include "us_response.h"
#include "us_values.h"

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include <apr_atomic.h>
#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define NAME "usersync-gate"

/* Where the pool of a request keeps its passes. */
#define PASSES_KEY "usersync-passes"

/* Longest e-mail that is believed (RFC 5321, section 4.5.3.1: 64 + 1 + 255). */
#define EMAIL_MAX 320

/* After so many looks in a row that got no answer in time, of one user and
 * another, the database counts as hung. */
#define LATE_MAX 3

struct us_gate {
    server_rec *server;
    us_store *store;
    us_cache *cache;
    volatile apr_uint32_t late;      /* looks in a row */
    volatile apr_uint32_t late_last; /* a hash of the last one's user */
    volatile apr_uint32_t probing; /* somebody tries whether it still hangs */
    volatile apr_uint32_t let_through; /* since the store failed, unsynced */
};

/*
 * What was found out about a user in the course of one request.  Its internal
 * redirects and subrequests do not ask again.
 */
typedef struct pass {
    const us_gate *gate;
    const char *id;
    us_outcome outcome; /* of the table, whatever OnError makes of it */
    struct pass *next;
} pass;

/* --- set-up --- */

/* How many requests went through while the store was away: told once it is
 * back, or when the child ends. */
static void tell_let_through(us_gate *gate, const char *when)
{
    apr_uint32_t count = apr_atomic_read32(&gate->let_through) == 0
                             ? 0
                             : apr_atomic_xchg32(&gate->let_through, 0);

    if (count > 0) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, gate->server,
                     "US014: %s: %u requests were let through without a row "
                     "(UserSyncEnsureOnError Allow)",
                     when, count);
    }
}

static apr_status_t gate_ends(void *gate)
{
    tell_let_through(gate, "this child ends while the user database is away");
    return APR_SUCCESS;
}

us_gate *us_gate_create(apr_pool_t *pchild, server_rec *s, us_store *store,
                        us_cache *cache)
{
    us_gate *gate = apr_pcalloc(pchild, sizeof(*gate));

    gate->server = s;
    gate->store = store;
    gate->cache = cache;
    apr_pool_cleanup_register(pchild, gate, gate_ends, apr_pool_cleanup_null);
    return gate;
}

void us_gate_receive(request_rec *r)
{
    if (us_config_server(r->server)->headers) {
        us_headers_strip(r->pool, r->headers_in);
    }
}

/* --- the course of a request --- */

/* Internal redirects share their pool; subrequests have one below it. */
static apr_pool_t *pool_of_course(const request_rec *r)
{
    while (r->main != NULL) {
        r = r->main;
    }
    return r->pool;
}

static const pass *find_pass(const request_rec *r, const us_gate *gate,
                             const char *id)
{
    void *first = NULL;
    const pass *p;

    apr_pool_userdata_get(&first, PASSES_KEY, pool_of_course(r));
    for (p = first; p != NULL; p = p->next) {
        if (p->gate == gate && strcmp(p->id, id) == 0) {
            return p;
        }
    }
    return NULL;
}

static void add_pass(const request_rec *r, const us_gate *gate, const char *id,
                     us_outcome outcome)
{
    apr_pool_t *pool = pool_of_course(r);
    pass *p = apr_palloc(pool, sizeof(*p));
    void *first = NULL;

    apr_pool_userdata_get(&first, PASSES_KEY, pool);
    p->gate = gate;
    p->id = apr_pstrdup(pool, id); /* a subrequest's pool dies earlier */
    p->outcome = outcome;
    p->next = first;
    apr_pool_userdata_setn(p, PASSES_KEY, NULL, pool);
}

/*
 * The request around r from which httpd has taken r->user, without another
 * authentication, because the same sections apply to both
 * (ap_process_request_internal); NULL: r has been authenticated itself.
 */
static const request_rec *source_of_user(const request_rec *r)
{
    if (r->prev != NULL && r->prev->per_dir_config == r->per_dir_config) {
        return r->prev;
    }
    return r->main != NULL && r->main->per_dir_config == r->per_dir_config
               ? r->main
               : NULL;
}

/* Comes the user from a request that httpd has refused, so that it is now at
 * its error document?  Then nobody may have proved the name. */
static int is_unproved_user(const request_rec *r)
{
    while ((r = source_of_user(r)) != NULL) {
        if (r->status != HTTP_OK) {
            return 1;
        }
    }
    return 0;
}

/* Did this request need a user to get here? */
static int authentication_was_required(request_rec *r)
{
    char *user = r->user;
    int required;

    r->user = NULL; /* a module may have set "" where it found nobody */
    required = ap_some_authn_required(r);
    r->user = user;
    return required;
}

/* --- who it is --- */

static const char *value_of(request_rec *r, const ap_expr_info_t *expr,
                            const char **wrong)
{
    *wrong = NULL;
    return ap_expr_str_exec(r, expr, wrong);
}

/*
 * Fill in identity->id.  It stays NULL when nobody is there and nobody has to
 * be: US_OK then, too.
 */
static us_outcome find_user(request_rec *r, us_call *call,
                            const us_dir_conf *conf, us_identity *identity)
{
    const char *wrong = NULL;
    const char *user = conf->user_expr != NULL
                           ? value_of(r, conf->user_expr, &wrong)
                           : r->user;
    char *id;

    if (wrong != NULL) {
        call->cause = apr_psprintf(
            call->pool, "UserSyncEnsureUser cannot be evaluated: %s", wrong);
        return US_NOT_CONFIGURED;
    }
    if (user == NULL || *user == '\0') {
        /* a look ahead comes before the authentication */
        if (source_of_user(r) != NULL || !authentication_was_required(r)) {
            return US_OK;
        }
        call->cause = "UserSyncEnsureUser is empty though authentication was "
                      "required: does the token have a sub?";
        return US_NO_USER_ID;
    }
    if (!us_value_is_uuid(user)) {
        /* not the value itself: it may be an e-mail address */
        call->cause = apr_psprintf(
            call->pool,
            "UserSyncEnsureUser is no UUID but a text of %" APR_SIZE_T_FMT
            " bytes: take the claim that has Supabase's user id",
            strlen(user));
        return US_NO_USER_ID;
    }
    id = apr_pstrdup(call->pool, user);
    ap_str_tolower(id);
    identity->id = id;
    identity->proven = 1;
    identity->snapshot = 1;
    identity->values[0].text = id;
    return US_OK;
}

static int has_control(const char *s)
{
    for (; *s != '\0' && !apr_iscntrl(*s); s++) {
    }
    return *s != '\0';
}

/* The e-mail goes second (us_config_columns).  One that cannot be used is no
 * reason to refuse anybody. */
static void find_email(request_rec *r, const us_call *call,
                       const us_dir_conf *conf, us_identity *identity)
{
    const ap_expr_info_t *expr = conf->email_expr;
    const char *wrong = NULL;
    const char *email = expr != NULL ? value_of(r, expr, &wrong) : NULL;

    if (email == NULL || *email == '\0' || wrong != NULL) {
        return;
    }
    if (strlen(email) <= EMAIL_MAX
        && (us_headers_can_carry(email)
            || (!has_control(email)
                && us_json_quote_checked(call->pool, email) != NULL))) {
        identity->values[1].text = email;
    }
    else {
        us_trace(&call->log, APLOG_DEBUG,
                 "[%s] UserSyncEnsureEmail is too long or no text: not used",
                 call->log.request_id);
    }
}

/* --- his row --- */

/*
 * A database that hangs would take a thread for all of UserSyncStoreTimeout
 * with each new user, and in the end all threads.
 */
static int is_hung(us_gate *gate)
{
    return apr_atomic_read32(&gate->late) >= LATE_MAX;
}

/* Take note of how a look ended.  One user whose row is locked says nothing
 * of the database, however often he comes. */
static void judge_look(us_gate *gate, const us_call *call, const char *id,
                       us_outcome outcome)
{
    apr_ssize_t len = APR_HASH_KEY_STRING;
    apr_uint32_t hash = apr_hashfunc_default(id, &len);

    if (outcome != US_STORE_UNAVAILABLE) {
        apr_atomic_set32(&gate->late, 0);
    }
    else if (call->store_late
             && apr_atomic_xchg32(&gate->late_last, hash) != hash) {
        apr_atomic_inc32(&gate->late);
    }
}

/* Look for the row and make it.  Once the database is known to hang one
 * request of a child at a time finds out whether it still does. */
static us_outcome look(us_gate *gate, us_call *call,
                       const us_identity *identity)
{
    int probe = is_hung(gate);
    us_outcome outcome;

    if (probe && apr_atomic_cas32(&gate->probing, 1, 0) != 0) {
        call->cause = "PostgreSQL did not answer several times within "
                      "UserSyncStoreTimeout: one request at a time finds out "
                      "whether it does again";
        return US_STORE_UNAVAILABLE;
    }
    outcome = us_store_ensure_user(gate->store, call, identity);
    judge_look(gate, call, identity->id, outcome);
    if (probe) {
        apr_atomic_set32(&gate->probing, 0);
    }
    if (outcome == US_OK) {
        us_cache_add(gate->cache, call->pool, &call->log, identity->id);
    }
    return outcome;
}

/* The same, or wait for a request of this user's that is at it. */
static us_outcome visit_store(us_gate *gate, us_call *call,
                              const us_identity *identity)
{
    apr_time_t start = us_clock_now();
    apr_time_t patience = is_hung(gate) ? 0 : us_store_timeout(gate->store);
    us_flight flight;
    us_outcome outcome;

    if (us_flight_begin(&flight, gate->store, identity->id, start + patience,
                        &outcome)) {
        outcome = look(gate, call, identity);
        us_flight_end(&flight, outcome);
    }
    else {
        call->store_time = us_clock_now() - start;
        if (outcome != US_OK) {
            call->cause = "another request of this user's that was at his row "
                          "has failed or takes too long: see its line";
        }
    }
    if (outcome == US_OK) {
        tell_let_through(gate, "the user database answers again");
    }
    return outcome;
}

/* Random bytes only for those who want to read them, and once. */
static void name_request(request_rec *r, us_call *call)
{
    if (*call->log.request_id == '\0') {
        call->log.request_id = us_response_request_id(r);
    }
}

static us_outcome ensure_row(request_rec *r, us_gate *gate, us_call *call,
                             us_identity *identity)
{
    us_value *email = &identity->values[1];
    us_outcome outcome = US_OK;

    if (!us_cache_has(gate->cache, call->pool, identity->id)) {
        name_request(r, call);
        if (email->text != NULL) { /* for a column of type json */
            email->json = us_json_quote(call->pool, email->text);
        }
        outcome = visit_store(gate, call, identity);
    }
    add_pass(r, gate, identity->id, outcome);
    return outcome;
}

/* --- the gate --- */

/* For CGI and its like, and for a back end where it is to be told. */
static int let_through(request_rec *r, const us_dir_conf *conf,
                       us_outcome outcome, const us_identity *identity)
{
    const char *word = outcome == US_OK ? "ok" : "unsynced";
    const char *email = identity->values[1].text;

    apr_table_setn(r->subprocess_env, "USERSYNC_USER_ID", identity->id);
    apr_table_setn(r->subprocess_env, "USERSYNC_OUTCOME", word);
    if (email != NULL) {
        apr_table_setn(r->subprocess_env, "USERSYNC_USER_EMAIL", email);
    }
    if (us_config_ensure_headers(conf)) {
        us_headers_set(r->headers_in, identity->id, email, word);
    }
    return DECLINED;
}

/*
 * Answer here and now: were it left to a handler, another one might come
 * first.  httpd has put no output filters in place yet; those of its own
 * error answers are the right ones: mod_headers' "always" (CORS), but not
 * what is meant for the application's answers.
 */
static int refuse(request_rec *r, us_call *call, us_outcome outcome,
                  const us_identity *identity)
{
    int rv;

    name_request(r, call);
    if (r->main != NULL) {
        us_response_note(r, call, outcome, identity);
        us_response_log(r, call, outcome, identity);
        return us_response_status(outcome);
    }
    ap_run_insert_error_filter(r);
    rv = us_response_send(r, call, outcome, identity);
    return rv == OK ? DONE : rv;
}

static void begin_call(request_rec *r, us_call *call)
{
    memset(call, 0, sizeof(*call));
    call->pool = r->pool;
    call->name = NAME;
    call->log.r = r;
    call->log.request_id = "";
    if (APLOG_R_IS_LEVEL(r, APLOG_DEBUG)) {
        name_request(r, call);
    }
    call->upstream_time = -1;
    call->store_time = -1;
}

int us_gate_stands(request_rec *r)
{
    /* internal redirects have been through us_gate_receive */
    if (r->main != NULL && us_config_server(r->server)->headers) {
        us_headers_clear(r->headers_in);
    }
    return us_config_ensure(us_config_dir(r));
}

int us_gate_check(request_rec *r, us_gate *gate)
{
    const us_dir_conf *conf = us_config_dir(r);
    us_identity identity = {0};
    const pass *earlier = NULL;
    us_outcome outcome;
    us_call call;

    begin_call(r, &call);
    outcome = find_user(r, &call, conf, &identity);
    if (outcome == US_OK && identity.id == NULL) {
        return DECLINED;
    }
    if (outcome == US_OK) {
        earlier = find_pass(r, gate, identity.id);
    }
    if (earlier == NULL && is_unproved_user(r)) {
        return DECLINED;
    }
    if (gate == NULL) {
        call.cause = "UserSyncEnsure: nothing was set up for this server";
        outcome = US_NOT_CONFIGURED;
    }
    if (outcome == US_OK) {
        find_email(r, &call, conf, &identity);
        outcome = earlier != NULL ? earlier->outcome
                                  : ensure_row(r, gate, &call, &identity);
    }
    if (outcome == US_STORE_UNAVAILABLE
        && us_config_on_error(conf) == US_ON_ERROR_ALLOW) {
        outcome = US_UNSYNCED;
    }
    if (outcome != US_OK && outcome != US_UNSYNCED) {
        return refuse(r, &call, outcome, &identity);
    }
    us_response_note(r, &call, outcome, &identity);
    if (earlier == NULL) {
        if (outcome == US_UNSYNCED) {
            apr_atomic_inc32(&gate->let_through);
        }
        us_response_log(r, &call, outcome, &identity);
    }
    return let_through(r, conf, outcome, &identity);
}
