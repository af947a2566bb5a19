/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/pool.c: which servers share a pool, and how a child ends in the middle of
 * a request or with a thread inside mod_dbd.
 */
#include "borrowers.h"

#include <ap_mpm.h>

#include <signal.h>

/* --- the child ends --- */

static void test_end_with_lent_ones(void)
{
    const char *cause = NULL;
    us_pg_conn *spoiled;

    start(4, 1, LONG);
    ok(borrow(pchild, LONG, &cause) != NULL, "the child ends: one is lent");
    spoiled = borrow(pchild, LONG, &cause);
    ok(spoiled != NULL, "the child ends: another one, too");
    if (spoiled != NULL) {
        spoiled->spoiled = 1;
    }
    is_int(dbd_double_look().out, 2, "the child ends: mod_dbd misses two");
    apr_pool_destroy(pchild);
    is_int(dbd_double_look().out, 0, "the child ends: they are back");
    is_int(dbd_double_look().strange, 0, "the child ends: each once");
    start(4, 1, LONG);
    ok(work(LONG, 0), "the next life begins");
    end("the next life", 4);
}

/*
 * The child ends while a thread is inside mod_dbd and a returned connection is
 * warm: nothing may touch either, or wait for it.  Runs in its own process,
 * which cannot continue after that.
 */
static void go_while_inside(int child, int thread)
{
    const char *cause = NULL;
    us_pg_conn *conn;

    (void)child;
    if (thread == 1) {
        while (found.done == 0) {
            crew_pause();
        }
        work(LONG, 0); /* for ever */
        return;
    }
    conn = borrow(root, LONG, &cause);
    if (conn == NULL) {
        _exit(3);
    }
    dbd_double_set(DBD_HANGS);
    found.done = 1;
    dbd_double_await_hanging();
    us_pg_return(conn);
    apr_pool_destroy(pchild);
    _exit(dbd_double_look().out == 1 && dbd_double_look().strange == 0 ? 0
                                                                       : 4);
}

static void start_four(int child)
{
    (void)child;
    start(4, 1, LONG);
}

static void test_end_while_inside(void)
{
    ok(crew_wait(crew_fork(0, 2, start_four, go_while_inside)),
       "the child ends while mod_dbd is busy: it is left alone");
}

/* --- prefork: SIGTERM would end the child inside mod_dbd --- */

static int term_is_held(void)
{
    sigset_t mask;

    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, SIGTERM);
}

static void test_signals(void)
{
    const char *cause = NULL;
    us_pg_conn *conn;

    stub_mpm.is_threaded = AP_MPMQ_NOT_SUPPORTED;
    start(1, 1, LONG);
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && !term_is_held(), "prefork: SIGTERM may come again");
    if (conn != NULL) {
        us_pg_return(conn);
    }
    ok(!term_is_held(), "prefork: and after giving back");
    dbd_double_set(DBD_REFUSED);
    conn = borrow(pchild, SHORT, &cause);
    if (conn != NULL) {
        conn->spoiled = 1; /* mod_dbd replaces it, and cannot */
        us_pg_return(conn);
    }
    ok(!work(SHORT, 0), "prefork: refused");
    ok(!term_is_held(), "prefork: SIGTERM may come after a failure");
    is_int(dbd_double_look().unguarded, 0, "prefork: never inside mod_dbd");
    end("prefork", 1);
    stub_mpm.is_threaded = AP_MPMQ_DYNAMIC;
}

/* A server as mod_dbd sees it: with its own pointer, and lines. */
static us_pg_pool *pool_with(const char *lines, void *pointer)
{
    server_rec *s = apr_pcalloc(pchild, sizeof(*s));
    void **configs = apr_palloc(pchild, sizeof(*configs));

    configs[0] = pointer;
    s->module_config = (ap_conf_vector_t *)configs;
    s->defn_name = lines;
    return us_pg_pool_get(pchild, s, LONG, &history);
}

static void test_same_lines(void)
{
    static module dbd = {.name = "mod_dbd.c"};
    static char pointers[3];

    stub_linked_module = &dbd;
    apr_pool_create(&pchild, root);
    pool = pool_with("lines", &pointers[0]);
    ok(pool_with("lines", &pointers[0]) == pool, "inherited: one pool");
    ok(pool_with("lines", &pointers[1]) == pool, "equal lines: one pool");
    ok(pool_with("others", &pointers[2]) != pool, "other lines: another");
    ok(pool_with("lines", &pointers[1]) == pool, "and still the same");
    apr_pool_destroy(pchild);
    stub_linked_module = NULL;
}

/* If two of our pools share one of mod_dbd's, neither keeps connections from
 * the other. */
static void test_partners(void)
{
    static module dbd = {.name = "mod_dbd.c"};
    static char pointers[2];
    static const char *const lines[][3] = {
        {"one database", "one database", "in other words: nothing is kept"},
        {"one database", "another", "another database: one is kept"},
    };
    int i;

    stub_linked_module = &dbd;
    for (i = 0; i < 2; i++) {
        dbd_double_reset(4, 1);
        dbd_double_keep(2, 0);
        apr_pool_create(&pchild, root);
        pool = pool_with("lines", &pointers[0]);
        database = lines[i][1];
        pool_with("other lines", &pointers[1]);
        database = lines[i][0];
        ok(work(SHORT, 0), "%s: lent", lines[i][2]);
        is_int(dbd_double_look().out, i, "%s", lines[i][2]);
        apr_pool_destroy(pchild);
    }
    stub_linked_module = NULL;
}

int main(void)
{
    begin("test_pg_pool_life");
    test_end_with_lent_ones();
    test_end_while_inside();
    test_signals();
    test_same_lines();
    test_partners();
    return done();
}
