/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_gate.h"
#include "headers.h"
#include "us_json.h"
#include "us_log.h"
#include "us_reply.h"
#include "us_values.h"
#include "unsynced.h"

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* The key of the passes in a request's pool. */
#define PASSES_KEY "usersync-passes"

/* The longest e-mail accepted (RFC 5321, section 4.5.3.1: 64 + 1 + 255). */
#define EMAIL_MAX 320

struct us_gate {
    us_users *users;
    us_unsynced *unsynced;
};

/*
 * What was found out about a user during one request, so that its internal
 * redirects and subrequests need not ask again.
 */
typedef struct pass {
    const us_gate *gate;
    const char *id;
    us_outcome outcome; /* of the table, before OnError applies */
    struct pass *next;
} pass;

/* --- set-up --- */

us_gate *us_gate_create(apr_pool_t *pchild, server_rec *s, us_users *users)
{
    us_gate *gate = apr_pcalloc(pchild, sizeof(*gate));

    gate->users = users;
    gate->unsynced = us_unsynced_create(
        pchild, s, "requests were let through without a row",
        "UserSyncEnsureOnError", US_TALLY_UNSYNCED_GATE);
    return gate;
}

void us_gate_receive(request_rec *r)
{
    if (us_config_has_headers(us_config_server(r->server))) {
        us_headers_strip(r->pool, r->headers_in);
    }
}

/* --- the course of a request --- */

/* Internal redirects share the pool of the request; a subrequest's pool is
 * below it. */
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
    p->id = apr_pstrdup(pool, id); /* a subrequest's pool ends earlier */
    p->outcome = outcome;
    p->next = first;
    apr_pool_userdata_setn(p, PASSES_KEY, NULL, pool);
}

/*
 * The request from which httpd has copied r->user to r.  httpd does that
 * without another authentication if the same sections apply to both
 * (ap_process_request_internal).  NULL: r has been authenticated itself.
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

/* Does the user come from a request that httpd has refused and that is now at
 * its error document?  Then the name may be unproved. */
static int is_unproved_user(const request_rec *r)
{
    while ((r = source_of_user(r)) != NULL) {
        if (r->status != HTTP_OK) {
            return 1;
        }
    }
    return 0;
}

/* Did this request have to be authenticated to get here? */
static int authentication_was_required(request_rec *r)
{
    char *user = r->user;
    int required;

    r->user = NULL; /* a module may have set "" where there is no user */
    required = ap_some_authn_required(r);
    r->user = user;
    return required;
}

/* --- the user --- */

static const char *value_of(request_rec *r, const ap_expr_info_t *expr,
                            const char **wrong)
{
    *wrong = NULL;
    return ap_expr_str_exec(r, expr, wrong);
}

/*
 * Sets identity->id.  It stays NULL if there is no user and none is required;
 * that is US_OK, too.
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
        return us_fail(call, US_NOT_CONFIGURED,
                       "UserSyncEnsureUser cannot be evaluated: %s", wrong);
    }
    if (user == NULL || *user == '\0') {
        /* a lookup subrequest runs before the authentication */
        if (source_of_user(r) != NULL || !authentication_was_required(r)) {
            return US_OK;
        }
        return us_fail(call, US_NO_USER_ID,
                       "UserSyncEnsureUser is empty though authentication "
                       "was required: does the token have a sub?");
    }
    if (!us_value_is_uuid(user)) {
        /* not the value itself: it may be an e-mail address */
        return us_fail(call, US_NO_USER_ID,
                       "UserSyncEnsureUser is not a UUID but a text of "
                       "%" APR_SIZE_T_FMT " bytes: take the claim that has "
                       "Supabase's user id",
                       strlen(user));
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

/* The e-mail is the second column (us_config_columns).  An unusable e-mail is
 * no reason to refuse the user. */
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

/* --- the user's row --- */

static us_outcome ensure_row(request_rec *r, us_gate *gate, us_call *call,
                             us_identity *identity)
{
    us_value *email = &identity->values[1];
    us_outcome outcome;

    if (email->text != NULL) { /* for a column of type json */
        email->json = us_json_quote(call->pool, email->text);
    }
    outcome = us_users_ensure(gate->users, call, identity);
    if (outcome == US_OK && call->store_time >= 0) {
        us_unsynced_is_over(gate->unsynced);
    }
    add_pass(r, gate, identity->id, outcome);
    return outcome;
}

/* --- the gate --- */

/* Tells CGI and the like who the user is, and a back end if configured. */
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
 * Answers at once: if a handler had to do it, another handler might run first.
 * httpd has not added the output filters yet.  The filters of its own error
 * answers are the right ones: they apply mod_headers' "always" (CORS), but
 * nothing that is meant for the application's answers.
 */
static int refuse(request_rec *r, us_call *call, us_outcome outcome,
                  const us_identity *identity)
{
    int rv;

    us_reply_name(r, call);
    if (r->main != NULL) {
        us_reply_note(r, call, outcome, identity);
        us_reply_log(r, call, outcome, identity);
        return us_reply_status(outcome);
    }
    ap_run_insert_error_filter(r);
    rv = us_reply_send(r, call, outcome, identity);
    return rv == OK ? DONE : rv;
}

int us_gate_stands(request_rec *r)
{
    /* internal redirects have been through us_gate_receive */
    if (r->main != NULL
        && us_config_has_headers(us_config_server(r->server))) {
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

    us_reply_begin(r, &call, US_DOOR_GATE);
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
        outcome = us_fail(&call, US_NOT_CONFIGURED,
                          "UserSyncEnsure: nothing was set up for this "
                          "server");
    }
    else if (outcome == US_OK) {
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
    us_reply_note(r, &call, outcome, &identity);
    if (earlier == NULL) {
        if (outcome == US_UNSYNCED && gate != NULL) {
            us_unsynced_count(gate->unsynced);
        }
        us_reply_log(r, &call, outcome, &identity);
    }
    return let_through(r, conf, outcome, &identity);
}
