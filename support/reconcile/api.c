/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The admin API as a source: cursor mode where the server has it, else offset
 * mode.
 */
#include "answer.h"
#include "source.h"
#include "ids.h"
#include "us_http.h"
#include "us_wipe.h"
#include "walk.h"

#include <apr_date.h>
#include <apr_escape.h>
#include <apr_strings.h>

#include <string.h>

/* A thousand users with much metadata. */
#define MAX_BODY ((apr_size_t)16 * 1024 * 1024)

/* The longest that the server may ask us to wait. */
#define LONGEST_PAUSE 900 /* s */

/* Supabase's newest error format. */
#define API_VERSION "X-Supabase-Api-Version: 2024-01-01"

#define LIST_PATH "/admin/users"

/* How often a crowd of one time is read before it counts as hopeless. */
#define ROUNDS_MAX 60

typedef enum mode { UNKNOWN, CURSOR, OFFSET } mode;

typedef struct api {
    us_rec_run *run;
    us_http_client *http;
    mode mode;
    const char *cursor; /* of the next page, in run->pool; NULL: the first */
    int limit;          /* of a page in cursor mode */
    us_rec_walk walk;
    us_rec_ids *crowd; /* who was seen of it */
    apr_pool_t *crowd_pool;
} api;

/* What a request has come to, besides failing. */
typedef struct reply {
    const char *body;
    apr_size_t len;
    const char *asked; /* when, as PostgreSQL reads it */
    int is_missing;    /* 404 user_not_found */
    int is_too_big;
    apr_int64_t total; /* -1: not told */
} reply;

/* --- one request --- */

/*
 * When was the request sent, by the server's clock?  The Date header is cut to
 * seconds, and never later than the answer.  The earlier of both clocks is
 * taken: then at worst a row is left alone that could have been written.
 */
static apr_time_t asked_at(const us_http_answer *answer, apr_time_t sent)
{
    apr_time_t date = answer->wanted[0] != NULL
                          ? apr_date_parse_http(answer->wanted[0])
                          : APR_DATE_BAD;

    if (date == APR_DATE_BAD || date - answer->elapsed > sent) {
        return sent;
    }
    return date - answer->elapsed;
}

/* Seconds, or a date. */
static apr_interval_time_t retry_after(const char *text)
{
    apr_int64_t seconds = apr_atoi64(text);
    apr_time_t date = apr_date_parse_http(text);

    if (date != APR_DATE_BAD) {
        seconds = apr_time_sec(date - apr_time_now()) + 1;
    }
    seconds = seconds > 0 ? seconds : 0;
    return apr_time_from_sec(seconds < LONGEST_PAUSE ? seconds
                                                     : LONGEST_PAUSE);
}

/* A refusal that no repetition changes. */
static us_rec_end refused(us_rec_run *run, apr_pool_t *pool,
                          const us_http_answer *answer)
{
    const char *code
        = us_rec_answer_code(pool, answer->body, answer->body_len);

    code = code != NULL ? apr_pescape_echo(pool, code, 0) : "no code";
    if (answer->status == 401 || answer->status == 403) {
        return us_rec_fail(
            run,
            "Supabase refuses the key (status %ld, %s): --key must name the "
            "secret key, or the legacy service_role key, of the project in "
            "--url",
            answer->status, code);
    }
    return us_rec_fail(run,
                       "Supabase answers GET " LIST_PATH
                       " with status %ld, %s: check --url",
                       answer->status, code);
}

/* May the same request work later? */
static int is_passing(const us_http_answer *answer)
{
    return answer->result != US_HTTP_ANSWERED || answer->status == 429
           || answer->status == 408 || answer->status / 100 == 5;
}

static us_rec_end wait_for_server(api *a, const us_http_answer *answer,
                                  int tries)
{
    apr_interval_time_t wait = us_rec_backoff(tries);

    if (tries > a->run->options->retries) {
        return answer->result == US_HTTP_ANSWERED
                   ? us_rec_fail(a->run,
                                 "Supabase answers with status %ld; tried %d "
                                 "times: try again later",
                                 answer->status, tries)
                   : us_rec_fail(a->run,
                                 "Supabase gives no answer: %s; tried %d "
                                 "times: check --url and the network, or try "
                                 "again later",
                                 answer->problem, tries);
    }
    if (answer->wanted[1] != NULL && retry_after(answer->wanted[1]) > wait) {
        wait = retry_after(answer->wanted[1]);
    }
    return us_rec_sleep(wait);
}

static void take_reply(apr_pool_t *pool, const us_http_answer *answer,
                       apr_time_t sent, reply *r)
{
    r->body = answer->body;
    r->len = answer->body_len;
    r->asked = us_rec_time_text(pool, asked_at(answer, sent));
    r->total = answer->wanted[2] != NULL ? apr_atoi64(answer->wanted[2]) : -1;
}

/* GET path, which begins behind the URL, with patience. */
static us_rec_end get(api *a, apr_pool_t *pool, const char *path, reply *r)
{
    static const char *const wanted[]
        = {"Date", "Retry-After", "X-Total-Count", NULL};
    us_log log = {NULL, "-"};
    us_http_request request
        = {.url = us_http_url_create(
               pool, apr_pstrcat(pool, a->run->options->url, path, NULL)),
           .timeout = a->run->options->timeout,
           .wanted = wanted};
    us_rec_end end = US_REC_OK;
    int tries;

    memset(r, 0, sizeof(*r));
    if (request.url == NULL) {
        return us_rec_fail(a->run, "out of memory");
    }
    for (tries = 1; end == US_REC_OK; tries++) {
        us_http_answer answer;
        apr_time_t sent = apr_time_now();

        if (us_rec_stop) {
            return US_REC_STOPPED;
        }
        us_http_get(a->http, pool, &log, &request, &answer);
        us_http_done(a->http, &answer, 1);
        if (answer.result == US_HTTP_TOO_BIG) {
            r->is_too_big = 1;
            return US_REC_OK;
        }
        if (is_passing(&answer)) {
            end = wait_for_server(a, &answer, tries);
            continue;
        }
        take_reply(pool, &answer, sent, r);
        if (answer.status == 200) {
            return US_REC_OK;
        }
        if (answer.status == 404) {
            const char *code
                = us_rec_answer_code(pool, answer.body, answer.body_len);

            r->is_missing
                = code != NULL && strcmp(code, "user_not_found") == 0;
        }
        return r->is_missing ? US_REC_OK : refused(a->run, pool, &answer);
    }
    return end;
}

/* --- pages --- */

static us_rec_end unusable(us_rec_run *run, const char *wrong)
{
    return us_rec_fail(run,
                       "Supabase's answer is not what it should be: %s; "
                       "check --url",
                       wrong);
}

static us_rec_end get_list(api *a, apr_pool_t *pool, const char *query,
                           reply *r, us_rec_list *list)
{
    const char *wrong;
    us_rec_end end
        = get(a, pool, apr_pstrcat(pool, LIST_PATH "?", query, NULL), r);

    if (end != US_REC_OK || r->is_too_big) {
        return end;
    }
    if (r->is_missing) {
        return unusable(a->run, "a list is missing");
    }
    wrong = us_rec_answer_list(pool, r->body, r->len, a->run->options->columns,
                               list);
    return wrong != NULL ? unusable(a->run, wrong) : US_REC_OK;
}

static void fill_page(us_rec_page *page, const us_rec_list *list,
                      const reply *r, int from, int to)
{
    page->users = list->users + from;
    page->count = to - from;
    page->asked = r->asked;
}

/* A page whose answer is too large is asked for in parts. */
static us_rec_end halve(api *a, int *size)
{
    if (*size <= 8) {
        return us_rec_fail(a->run,
                           "the answer with %d users is larger than "
                           "16 MiB: use --from-db",
                           *size);
    }
    *size /= 2;
    return US_REC_OK;
}

static us_rec_end next_by_cursor(us_rec_source *source, apr_pool_t *pool,
                                 us_rec_page *page)
{
    api *a = source->data;
    /* oldest first: whoever is new during the walk comes at its end */
    const char *query
        = apr_psprintf(pool, "sort=created_at%%20asc&limit=%d", a->limit);
    us_rec_list list = {0};
    us_rec_end end;
    reply r;

    if (a->cursor != NULL) {
        query = apr_pstrcat(pool, query, "&cursor=",
                            apr_pescape_urlencoded(pool, a->cursor), NULL);
    }
    end = get_list(a, pool, query, &r, &list);
    if (end != US_REC_OK) {
        return end;
    }
    if (r.is_too_big) {
        return halve(a, &a->limit);
    }
    if (!list.has_cursor && a->mode == UNKNOWN) {
        a->mode = OFFSET; /* the server has never heard of limit */
        source->total = r.total;
        return US_REC_OK;
    }
    if (!list.has_cursor) {
        return unusable(a->run, "the server has stopped paging by cursor");
    }
    a->mode = CURSOR;
    fill_page(page, &list, &r, 0, list.count);
    page->is_last = list.cursor == NULL;
    if (list.cursor != NULL) {
        a->cursor = apr_pstrdup(a->run->pool, list.cursor);
    }
    return US_REC_OK;
}

/* --- offset mode --- */

/* Counts who is new in a crowd of one time. */
static us_rec_end count_crowd(api *a, const us_rec_list *list,
                              const us_rec_yield *yield)
{
    int i;

    if (list->users == NULL) { /* nobody at all */
        return US_REC_OK;
    }
    if (a->crowd == NULL) {
        apr_pool_create(&a->crowd_pool, a->run->pool);
        a->crowd = us_rec_ids_create(a->crowd_pool);
    }
    for (i = yield->from; i < yield->to && a->crowd != NULL; i++) {
        unsigned char bytes[US_REC_ID_SIZE];

        us_rec_id_bytes(list->users[i]->identity.id, bytes);
        if (us_rec_ids_add(a->crowd, bytes) < 0) {
            return us_rec_fail(a->run, "out of memory");
        }
    }
    return a->crowd != NULL ? US_REC_OK : us_rec_fail(a->run, "out of memory");
}

/* The crowd has been read to its end, for once. */
static us_rec_end end_crowd(api *a, us_rec_yield *yield)
{
    if (us_rec_walk_crowd_ends(&a->walk,
                               (apr_int64_t)us_rec_ids_count(a->crowd),
                               yield->crowd_size)) {
        apr_pool_destroy(a->crowd_pool);
        a->crowd = NULL;
        return US_REC_OK;
    }
    yield->is_last = 0;
    return a->walk.rounds < ROUNDS_MAX
               ? US_REC_OK
               : us_rec_fail(a->run, "many users were created at the same "
                                     "time, and the server lists them in "
                                     "another order each time: use --from-db");
}

static us_rec_end next_by_offset(us_rec_source *source, apr_pool_t *pool,
                                 us_rec_page *page)
{
    api *a = source->data;
    us_rec_request request = us_rec_walk_request(&a->walk);
    apr_time_t *created;
    us_rec_yield yield;
    us_rec_list list = {0};
    us_rec_end end;
    reply r;
    int i;

    end = get_list(a, pool,
                   apr_psprintf(pool,
                                "sort=created_at%%20asc&page=%" APR_INT64_T_FMT
                                "&per_page=%d",
                                request.page, request.per_page),
                   &r, &list);
    if (end != US_REC_OK) {
        return end;
    }
    if (r.is_too_big) {
        return halve(a, &a->walk.per_page_max);
    }
    created
        = apr_palloc(pool, sizeof(*created) * (apr_size_t)(list.count + 1));
    for (i = 0; i < list.count; i++) {
        created[i] = list.users[i]->created;
    }
    if (!us_rec_walk_take(&a->walk, &request, created, list.count, &yield)) {
        return unusable(a->run, "the users are not sorted by created_at");
    }
    source->total = r.total >= 0 ? r.total : source->total;
    fill_page(page, &list, &r, yield.from, yield.to);
    if (yield.is_crowd) {
        end = count_crowd(a, &list, &yield);
    }
    if (end == US_REC_OK && yield.crowd_size > 0) {
        end = end_crowd(a, &yield);
    }
    page->is_last = yield.is_last;
    return end;
}

/* --- the source --- */

static us_rec_end api_next(us_rec_source *source, apr_pool_t *pool,
                           us_rec_page *page)
{
    const api *a = source->data;

    memset(page, 0, sizeof(*page));
    return a->mode == OFFSET ? next_by_offset(source, pool, page)
                             : next_by_cursor(source, pool, page);
}

static us_rec_end api_find(us_rec_source *source, apr_pool_t *pool,
                           const char *const *ids, int count,
                           us_rec_page *page)
{
    api *a = source->data;
    int i;

    memset(page, 0, sizeof(*page));
    page->users = apr_pcalloc(pool, sizeof(us_rec_user *) * (apr_size_t)count);
    for (i = 0; i < count; i++) {
        us_rec_user *user;
        const char *wrong;
        reply r;
        us_rec_end end
            = get(a, pool, apr_pstrcat(pool, LIST_PATH "/", ids[i], NULL), &r);

        if (end != US_REC_OK) {
            return end;
        }
        if (r.is_too_big) {
            return us_rec_fail(a->run,
                               "the answer about user %s is larger "
                               "than 16 MiB",
                               ids[i]);
        }
        /* the earliest holds for all of them */
        page->asked = page->asked == NULL ? r.asked : page->asked;
        if (r.is_missing) {
            continue;
        }
        wrong = us_rec_answer_user(pool, r.body, r.len,
                                   a->run->options->columns, &user);
        if (wrong != NULL || strcmp(user->identity.id, ids[i]) != 0) {
            return unusable(a->run,
                            wrong != NULL ? wrong : "it is another user");
        }
        page->users[page->count++] = user;
    }
    return US_REC_OK;
}

static const char *api_place(const us_rec_source *source, apr_pool_t *pool)
{
    const api *a = source->data;
    const us_rec_walk *walk = &a->walk;

    if (a->mode == CURSOR && a->cursor != NULL) {
        return apr_pstrcat(pool, "cursor ", a->cursor, NULL);
    }
    if (a->mode != OFFSET) {
        return "start";
    }
    return apr_psprintf(pool, "offset %" APR_INT64_T_FMT " %" APR_INT64_T_FMT,
                        walk->in_crowd ? walk->crowd_begin : walk->next,
                        walk->done);
}

static int api_resume(us_rec_source *source, const char *place)
{
    api *a = source->data;
    char *end;

    if (strncmp(place, "cursor ", 7) == 0) {
        a->mode = CURSOR;
        a->cursor = apr_pstrdup(a->run->pool, place + 7);
        return a->cursor[0] != '\0';
    }
    if (strncmp(place, "offset ", 7) == 0) {
        a->mode = OFFSET;
        a->walk.next = apr_strtoi64(place + 7, &end, 10);
        if (*end != ' ' || a->walk.next < 0) {
            return 0;
        }
        a->walk.done = apr_strtoi64(end + 1, &end, 10);
        return *end == '\0';
    }
    return strcmp(place, "start") == 0;
}

us_rec_end us_rec_api_create(us_rec_run *run, us_rec_source **out)
{
    const us_rec_options *options = run->options;
    const char *key = options->key->value;
    us_key_kind kind = us_secret_key_kind(run->pool, options->key);
    char *apikey = apr_pstrcat(run->pool, "apikey: ", key, NULL);
    char *bearer = apr_pstrcat(run->pool, "Authorization: Bearer ", key, NULL);
    /* a key of the new kind is no token: Supabase refuses it as one */
    const char *headers[] = {"Accept: application/json", API_VERSION, apikey,
                             kind == US_KEY_SECRET ? NULL : bearer, NULL};
    us_http_options http = {.headers = headers,
                            .user_agent = "usersync-reconcile/" US_VERSION,
                            .ca_file = options->ca_file,
                            .proxy = options->proxy,
                            .connect_timeout = options->timeout,
                            .max_body = MAX_BODY,
                            .advice = {"--url", "--ca-file", "--timeout"}};
    us_rec_source *source = apr_pcalloc(run->pool, sizeof(*source));
    api *a = apr_pcalloc(run->pool, sizeof(*a));

    if (us_http_start(run->pool)) {
        a->http = us_http_client_create(run->pool, &http);
    }
    us_wipe(apikey, strlen(apikey));
    us_wipe(bearer, strlen(bearer));
    if (a->http == NULL) {
        return us_rec_fail(run, "libcurl does not start");
    }
    a->run = run;
    a->limit = 500;
    us_rec_walk_start(&a->walk);
    *source = (us_rec_source){.data = a,
                              .name = options->url,
                              .total = -1,
                              .next = api_next,
                              .find = api_find,
                              .place = api_place,
                              .resume = api_resume};
    *out = source;
    return US_REC_OK;
}
