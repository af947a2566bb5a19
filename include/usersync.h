/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * usersync.h: the nouns that every part of mod_usersync shares.
 *
 * A request walks one way: credentials in, Supabase's answer judged into an
 * identity, the row ensured, the reply written.  Each step returns one
 * us_outcome; what it found out beside that goes into the us_call.
 */
#ifndef USERSYNC_H
#define USERSYNC_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#define US_VERSION "0.1.0"

/* At most this many columns of the users table are filled by the module. */
#define US_MAX_COLUMNS 16

/* Length of a UUID in its canonical text form (RFC 9562, section 4). */
#define US_UUID_LEN 36

struct request_rec;

/*
 * Where a lower layer may log: a request and its id, nothing else of it is
 * used.  r is NULL outside httpd (unit tests, fuzzing): nothing is logged.
 */
typedef struct us_log {
    const struct request_rec *r;
    const char *request_id;
} us_log;

/*
 * Every way a request can end.  The order is that of the table in
 * us_response.c, which alone turns an outcome into status, code and log level.
 */
typedef enum us_outcome {
    US_OK,        /* session issued, row in place */
    US_PENDING,   /* registered, no session yet */
    US_OPTIONS,   /* OPTIONS answered */
    US_NOT_FOUND, /* a path below the route */
    US_METHOD_NOT_ALLOWED,
    US_UNSUPPORTED_MEDIA,
    US_BODY_TOO_LARGE,
    US_BODY_TIMEOUT,
    US_INVALID_REQUEST, /* us_call.fields says what is wrong */
    US_INVALID_CREDENTIALS,
    US_NOT_ALLOWED, /* not confirmed, banned, switched off */
    US_USER_EXISTS,
    US_WEAK_PASSWORD, /* us_call.reasons says why */
    US_REFUSED,       /* any other GoTrue 4xx */
    US_RATE_LIMITED,
    US_KEY_REFUSED,          /* our API key, not the user's fault */
    US_UPSTREAM_UNAVAILABLE, /* nothing was sent, or the project is paused */
    US_UPSTREAM_BAD_ANSWER,
    US_UPSTREAM_TIMEOUT,
    US_UNKNOWN_TIMEOUT, /* sign-up sent, no answer in time */
    US_UNKNOWN_BROKEN,  /* sign-up sent, answer lost or not usable */
    US_STORE_UNAVAILABLE,
    US_ROW_REFUSED,
    US_ROW_CONFLICT,
    US_NO_USER_ID,       /* the gate: authenticated, but as nobody we know */
    US_UNSYNCED,         /* the gate: let through though the store is away */
    US_BUSY,             /* too many wait for Supabase already */
    US_CIRCUIT_OPEN,     /* Supabase failed too often: not asked */
    US_NOT_CONFIGURED,   /* a route where no project is configured */
    US_ANSWERED_ALREADY, /* httpd itself has refused the body */
    US_OUTCOME_COUNT
} us_outcome;

/* One complaint about one member of the request body. */
typedef struct us_field_error {
    const char *field;
    const char *message;
} us_field_error;

/* What Supabase is asked for. */
typedef enum us_operation { US_SIGNUP, US_LOGIN } us_operation;

/* What an answer, or its absence, says about Supabase itself. */
typedef enum us_health {
    US_HEALTH_UNKNOWN, /* nothing: a server error with a GoTrue code, which a
                        * client may have provoked, or a body of no use */
    US_HEALTH_GOOD,    /* it answered what it was asked */
    US_HEALTH_BAD      /* no answer, or a server error without a code */
} us_health;

/*
 * One request on its way through the flow.  Everything lives in pool.  The
 * members below the line are findings: a step fills those that its outcome
 * calls for, and the reply and the log line are made from them.
 */
typedef struct us_call {
    apr_pool_t *pool;
    us_log log;
    const char *name; /* of the route, or what else it is, for the log */
    /* --- findings --- */
    const char *code;    /* Supabase's code, [A-Za-z0-9_] only, or NULL */
    const char *message; /* Supabase's text where it may be shown */
    const char *reasons; /* weak_password.reasons, a JSON array as sent */
    apr_array_header_t *fields; /* of us_field_error */
    int retry_after;            /* seconds; 0: what the outcome's row says */
    const char *cause;          /* for the log: what happened and what to do */
    us_health health;           /* of Supabase, as its answer tells */
    int email_stale; /* the row exists, its e-mail could not follow */
    int store_late;  /* PostgreSQL was there but did not answer in time */
    apr_interval_time_t upstream_time; /* usec, -1: not called */
    apr_interval_time_t store_time;    /* usec, -1: not called */
} us_call;

/* What a client sends.  secrets: see us_request.h for who wipes what. */
typedef struct us_credentials {
    const char *email;       /* trimmed, lower-cased, not empty */
    const char *password;    /* the JSON string literal, quotes included */
    apr_size_t password_len; /* length of that literal */
    const char *data;        /* the JSON object as sent, or NULL */
    apr_size_t data_len;
    const char *captcha_token; /* the JSON string literal, or NULL */
    apr_size_t captcha_token_len;
} us_credentials;

/* A value for a column: as text, and as the JSON it came from. */
typedef struct us_value {
    const char *text; /* decoded string, else the JSON text; NULL: SQL NULL */
    const char *json; /* the JSON text; NULL: SQL NULL */
} us_value;

/*
 * Who Supabase says the user is.  Only a proven identity may be written; an
 * unproven one (an invented id, see supabase-auth-wire 1.1) is only shown.
 */
typedef struct us_identity {
    const char *id; /* canonical lower-case UUID */
    int proven;
    int snapshot; /* id and e-mail only, as they were when a token was made:
                   * for a new row, never to change one */
    us_value values[US_MAX_COLUMNS]; /* in the order of the columns */
    const char *session;             /* JSON as received, or NULL */
    apr_size_t session_len;
} us_identity;

#endif /* USERSYNC_H */
