/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer.h"
#include "session.h"
#include "us_json.h"
#include "us_json_scan.h"

#include <apr_lib.h>

#include <string.h>

const char *const us_answer_headers[]
    = {"x-sb-error-code", "Retry-After", "Sb-Auth-User-Id", NULL};

/* --- whose answer it is --- */

/*
 * The character at *text as GoTrue and PostgreSQL compare addresses, in lower
 * case: the next ASCII character in lower case, '\0' at the end.  Other
 * characters are skipped, because their lower case depends on the database's
 * locale; GoTrue registers no address that has any.  The exceptions are the
 * two that become ASCII in lower case.
 */
static char next_folded(const char **text)
{
    static const char dotted_i[] = "\xC4\xB0";
    static const char kelvin[] = "\xE2\x84\xAA";
    const char *p = *text;
    char c;

    for (; (*p & 0x80) != 0; p++) {
        if (strncmp(p, dotted_i, sizeof(dotted_i) - 1) == 0) {
            *text = p + sizeof(dotted_i) - 1;
            return 'i';
        }
        if (strncmp(p, kelvin, sizeof(kelvin) - 1) == 0) {
            *text = p + sizeof(kelvin) - 1;
            return 'k';
        }
    }
    c = (char)apr_tolower(*p);
    *text = c != '\0' ? p + 1 : p;
    return c;
}

static int is_same_email(const char *one, const char *two)
{
    char c;

    do {
        c = next_folded(&one);
        if (c != next_folded(&two)) {
            return 0;
        }
    } while (c != '\0');
    return 1;
}

/* Did GoTrue invent this user, see us_session_take_pending?  It has no role,
 * either. */
static int is_invented(const us_json *doc, const us_identity *identity)
{
    const char *role = us_json_string(doc, US_JSON_PATH("role"), NULL);

    return !identity->proven && role != NULL && *role == '\0';
}

/*
 * Is the user of the answer the one whose address was sent?  nested: in a
 * session.
 *
 * An invented user stands for nobody, and may have another address: if the
 * sent address belongs to a further identity of an account (from a provider,
 * or from before a change), GoTrue makes the user up from that account.
 */
static int is_asked_for(const us_json *doc, int nested,
                        const us_identity *identity, const char *sent)
{
    const char *email = us_json_string(
        doc, nested ? US_JSON_PATH("user", "email") : US_JSON_PATH("email"),
        NULL);

    return email != NULL && *email != '\0'
           && (is_same_email(email, sent) || is_invented(doc, identity));
}

/* --- judging --- */

/* A 2xx without a user: a hook's refusal, or nonsense. */
static us_outcome judge_nobody(us_call *call, const us_json *doc,
                               const us_http_answer *answer)
{
    if (us_answer_error_is_refusal(call, doc, answer)) {
        return US_REFUSED;
    }
    return us_fail(call, US_UPSTREAM_BAD_ANSWER,
                   "Supabase answered %ld without a user: check "
                   "UserSyncSupabaseURL",
                   answer->status);
}

/* The answer to another request: nothing of it may be used. */
static us_outcome judge_foreign(us_call *call, us_identity *identity)
{
    memset(identity, 0, sizeof(*identity));
    call->foreign = 1;
    return us_fail(call, US_UPSTREAM_BAD_ANSWER,
                   "Supabase's answer is about another user: its e-mail is "
                   "not the one that was sent; nothing of it is used and the "
                   "connection is closed; does a proxy mix answers up?");
}

/* A 2xx: the expected object, or something else. */
static us_outcome judge_success(us_call *call, const us_question *question,
                                const us_json *doc,
                                const us_http_answer *answer,
                                us_identity *identity)
{
    int session = us_session_take(call, doc, question->columns, identity);

    if (!session
        && (question->operation != US_SIGN_UP
            || !us_session_take_pending(call, doc, question->columns,
                                        identity))) {
        return judge_nobody(call, doc, answer);
    }
    if (session) {
        identity->session.text = answer->body;
        identity->session.len = answer->body_len;
    }
    if (question->email != NULL
        && !is_asked_for(doc, session, identity, question->email)) {
        return judge_foreign(call, identity);
    }
    call->health = US_HEALTH_GOOD;
    return session ? US_OK : US_PENDING;
}

/* A 2xx to a logout: only one has a meaning. */
static us_outcome judge_logout(us_call *call, const us_http_answer *answer)
{
    if (answer->status != 204) {
        return us_fail(call, US_UPSTREAM_BAD_ANSWER,
                       "Supabase answered %ld to a logout, which must be "
                       "204: check UserSyncSupabaseURL",
                       answer->status);
    }
    call->health = US_HEALTH_GOOD;
    return US_LOGGED_OUT;
}

/* A 2xx that cannot be parsed. */
static us_outcome judge_unread(us_call *call, const us_http_answer *answer,
                               const char *wrong)
{
    if (strcmp(wrong, US_JSON_TOO_DEEP) == 0) {
        call->about = us_answer_error_user(call->pool, answer);
        return us_fail(call, US_UPSTREAM_BAD_ANSWER,
                       "Supabase's answer is nested too deep: see the user's "
                       "metadata");
    }
    return us_fail(
        call, US_UPSTREAM_BAD_ANSWER,
        "Supabase answered %ld with a body that is not a JSON object "
        "(%s): check UserSyncSupabaseURL",
        answer->status, wrong);
}

static us_outcome judge_answered(us_call *call, const us_question *question,
                                 const us_http_answer *answer,
                                 us_identity *identity, int *certain)
{
    us_json *doc = NULL;
    const char *wrong
        = us_json_parse(call->pool, answer->body, answer->body_len,
                        US_JSON_ANSWER_DEPTH, &doc);
    us_outcome outcome;

    call->health = US_HEALTH_UNKNOWN;
    if (answer->status / 100 != 2) {
        outcome = us_answer_error_judge(call, question->operation, doc, answer,
                                        certain);
    }
    else if (question->operation == US_LOG_OUT) {
        outcome = judge_logout(call, answer);
    }
    else if (wrong == NULL) {
        outcome = judge_success(call, question, doc, answer, identity);
    }
    else {
        outcome = judge_unread(call, answer, wrong);
    }
    if (doc != NULL) {
        us_json_free(doc); /* wipes the decoded strings at once */
    }
    return outcome;
}

/*
 * Only a user can make an answer large: GoTrue sends the metadata several
 * times.  That says nothing against Supabase.
 */
static us_outcome judge_too_big(us_call *call, const us_http_answer *answer)
{
    call->health = US_HEALTH_UNKNOWN;
    call->about = us_answer_error_user(call->pool, answer);
    return us_fail(call, US_UPSTREAM_BAD_ANSWER,
                   "Supabase's answer is larger than 1 MiB, the most that is "
                   "read: the user's metadata is too large");
}

/* No complete answer; a timeout names the directive that ended the wait. */
static us_outcome judge_silence(us_call *call, us_operation operation,
                                const us_http_answer *answer)
{
    const char *hint = "";
    us_outcome outcome = US_UPSTREAM_BAD_ANSWER;

    call->health = US_HEALTH_BAD;
    if (answer->result == US_HTTP_UNREACHABLE) {
        outcome = US_UPSTREAM_UNAVAILABLE;
    }
    else if (answer->result == US_HTTP_TIMEOUT) {
        outcome = US_UPSTREAM_TIMEOUT;
        hint = operation == US_SIGN_UP ? "; see UserSyncRegisterTimeout"
                                       : "; see UserSyncTimeout";
    }
    return us_fail(call, outcome, "no answer from Supabase: %s%s",
                   answer->problem, hint);
}

/*
 * A sign-up that was sent and got no clear yes or no may have created an
 * account: the client must be told that, never "failed".
 */
static us_outcome for_sign_up(us_outcome outcome)
{
    if (outcome == US_UPSTREAM_TIMEOUT) {
        return US_UNKNOWN_TIMEOUT;
    }
    return outcome == US_UPSTREAM_BAD_ANSWER ? US_UNKNOWN_BROKEN : outcome;
}

us_outcome us_answer_judge(us_call *call, const us_question *question,
                           const us_http_answer *answer, us_identity *identity)
{
    us_outcome outcome;
    int certain = 0;

    memset(identity, 0, sizeof(*identity));
    switch (answer->result) {
    case US_HTTP_ANSWERED:
        outcome = judge_answered(call, question, answer, identity, &certain);
        break;
    case US_HTTP_TOO_BIG:
        outcome = judge_too_big(call, answer);
        break;
    case US_HTTP_UNREACHABLE:
    case US_HTTP_TIMEOUT:
    case US_HTTP_BROKEN:
    default:
        outcome = judge_silence(call, question->operation, answer);
        break;
    }
    return question->operation == US_SIGN_UP && !certain ? for_sign_up(outcome)
                                                         : outcome;
}
