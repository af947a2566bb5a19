/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * usersync.h: the types that every part of mod_usersync shares.
 *
 * A request goes one way: the credentials are read, Supabase's answer becomes
 * an identity, the row is ensured, the reply is written.  Each step returns
 * one us_outcome and puts its other findings into the us_call.
 */
#ifndef USERSYNC_H
#define USERSYNC_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#define US_VERSION "0.1.0"

/* The most columns of the users table that the module fills. */
#define US_MAX_COLUMNS 16

/* Length of a UUID in its canonical text form (RFC 9562, section 4). */
#define US_UUID_LEN 36

struct request_rec;

/*
 * The request that a lower layer logs about, and its id; nothing else of it is
 * used.  If r is NULL, as outside httpd (unit tests, fuzzing), nothing is
 * logged.
 */
typedef struct us_log {
    const struct request_rec *r;
    const char *request_id;
} us_log;

/*
 * Every way a request can end, in the order of the table in reply/reply.c,
 * which alone turns an outcome into status, code and log level.
 */
typedef enum us_outcome {
    US_OK,         /* session issued, row in place */
    US_PENDING,    /* registered, no session yet */
    US_LOGGED_OUT, /* the session is gone */
    US_APPLIED,    /* the table is in the state that an event tells of */
    US_OPTIONS,    /* OPTIONS answered */
    US_NOT_FOUND,  /* a path below the route */
    US_METHOD_NOT_ALLOWED,
    US_UNSUPPORTED_MEDIA,
    US_BODY_TOO_LARGE,
    US_BODY_TIMEOUT,
    US_INVALID_REQUEST, /* us_call.fields says what is wrong */
    US_INVALID_CREDENTIALS,
    US_INVALID_REFRESH, /* the refresh token does not work any more */
    US_NO_TOKEN,        /* no access token in the request */
    US_INVALID_TOKEN,   /* an access token that Supabase does not accept */
    US_NOT_ALLOWED,     /* not confirmed, banned, switched off */
    US_USER_EXISTS,
    US_WEAK_PASSWORD, /* us_call.reasons says why */
    US_REFUSED,       /* any other GoTrue 4xx */
    US_RATE_LIMITED,
    US_SESSION_BUSY,         /* other requests refresh the same session */
    US_KEY_REFUSED,          /* our API key was refused */
    US_UPSTREAM_UNAVAILABLE, /* nothing was sent, or the project is paused */
    US_UPSTREAM_BAD_ANSWER,
    US_UPSTREAM_TIMEOUT,
    US_UNKNOWN_TIMEOUT, /* sign-up sent, no answer in time */
    US_UNKNOWN_BROKEN,  /* sign-up sent, answer lost or not usable */
    US_STORE_UNAVAILABLE,
    US_TABLE_MISFIT, /* the table does not match; needs a fix */
    US_ROW_REFUSED,
    US_ROW_CONFLICT,
    US_USER_BANNED,    /* according to the row, or to the cache */
    US_USER_DELETED,   /* the same */
    US_NO_USER_ID,     /* the gate: authenticated, without a user id */
    US_UNSYNCED,       /* let through while the store is away */
    US_UNSIGNED,       /* a hook's request without a good signature */
    US_WRONG_HOOK,     /* a hook that this module does not serve */
    US_FORWARD_FAILED, /* UserSyncHookForward gave no usable answer */
    US_ADMIN_REFUSED,  /* an admin's request through UserSyncEnsureResponse */
    US_BUSY,           /* too many requests wait for Supabase */
    US_CIRCUIT_OPEN,   /* Supabase failed too often and is not asked */
    US_NOT_CONFIGURED, /* a route without a configured project */
    US_ANSWERED_ALREADY, /* httpd itself has refused the body */
    US_OUTCOME_COUNT
} us_outcome;

/*
 * The texts of outcomes that Supabase can bring back: it passes on what a hook
 * says, and the hook may be another request to a server with this module.
 */
#define US_TEXT_STORE_UNAVAILABLE \
    "The user database is not available: try again later."
#define US_TEXT_ROW_REFUSED "The user database does not accept this user."
#define US_TEXT_BUSY "Too many sign-ins are in progress: try again."
#define US_TEXT_FORWARD_FAILED \
    "Signing in is not possible at the moment: try again later."
#define US_TEXT_ROW_CONFLICT \
    "Another user in the user database has the same address."
#define US_TEXT_USER_BANNED "This account is banned."
#define US_TEXT_USER_DELETED "This account has been deleted."

/* One problem with one member of the request body. */
typedef struct us_field_error {
    const char *field;
    const char *message;
} us_field_error;

/* What Supabase is asked for. */
typedef enum us_operation {
    US_SIGN_UP,
    US_LOG_IN,
    US_REFRESH,
    US_LOG_OUT,
    US_OPERATION_COUNT
} us_operation;

/* Where requests come in. */
typedef enum us_door {
    US_DOOR_REGISTER,
    US_DOOR_LOGIN,
    US_DOOR_REFRESH,
    US_DOOR_LOGOUT,
    US_DOOR_HOOK,
    US_DOOR_EVENT,
    US_DOOR_GATE,
    US_DOOR_RESPONSE, /* what mod_proxy forwards */
    US_DOOR_REPORT,   /* the same, and it is only reported */
    US_DOOR_COUNT
} us_door;

/* What the project tells a hook or an event door about. */
typedef enum us_topic {
    US_TOPIC_NONE, /* the request is neither */
    US_TOPIC_TOKEN,
    US_TOPIC_BEFORE_CREATED,
    US_TOPIC_AFTER_CREATED,
    US_TOPIC_UNKNOWN_HOOK, /* one that is not served, not signed, not read */
    US_TOPIC_INSERT,
    US_TOPIC_UPDATE,
    US_TOPIC_DELETE,
    US_TOPIC_UNKNOWN_EVENT,
    US_TOPIC_COUNT
} us_topic;

/* The routes: the name for SetHandler, and what Supabase is asked for. */
#define US_ROUTE_PREFIX "usersync-"
#define US_HOOK_HANDLER "usersync-hook"
#define US_EVENT_HANDLER "usersync-event"
#define US_STATUS_HANDLER "usersync-status"
#define US_ROUTES(ROUTE)                   \
    ROUTE("usersync-register", US_SIGN_UP) \
    ROUTE("usersync-login", US_LOG_IN)     \
    ROUTE("usersync-refresh", US_REFRESH)  \
    ROUTE("usersync-logout", US_LOG_OUT)

/* What an answer, or a missing answer, says about Supabase itself. */
typedef enum us_health {
    US_HEALTH_UNKNOWN, /* nothing: GoTrue's own server error, which a client
                        * may have provoked, or an unusable body */
    US_HEALTH_GOOD,    /* it answered the question */
    US_HEALTH_BAD      /* no answer, or a gateway's error in its place */
} us_health;

/*
 * One request on its way through the flow.  Everything is allocated from pool.
 * The members under "findings" are set by the step whose outcome needs them;
 * the reply and the log line are made from them.
 */
typedef struct us_call {
    apr_pool_t *pool;
    us_log log;
    us_door door;
    const char *authorization; /* the value of the header with a secret: of a
                                * logout Authorization, of an event that of
                                * UserSyncEventHeader; NULL: none */
    int is_hook; /* the client is Supabase: each refusal is worth a line */
    /* --- findings --- */
    const char *code;    /* Supabase's code, [A-Za-z0-9_] only, or NULL */
    const char *message; /* the text for the client: Supabase's if it may be
                          * shown, or ours; NULL: the outcome's */
    const char *reasons; /* weak_password.reasons, a JSON array as sent */
    apr_array_header_t *fields; /* of us_field_error */
    int retry_after;            /* seconds; 0: the default of the outcome */
    const char *cause;          /* for the log: what happened and what to do */
    const char *about; /* for the log: what differs between the lines of one
                        * cause, such as the user; or NULL */
    us_topic topic;    /* for counting; its sender has been verified */
    us_health health;  /* of Supabase, according to its answer */
    int foreign;     /* the answer belonged to another request: do not use its
                      * connection again */
    int email_stale; /* the row exists, but its e-mail could not be updated */
    int has_warning; /* it went well, but cause is worth a line */
    int created;     /* a row was made */
    int updated;     /* a row was changed */
    int deleted;     /* a row was deleted */
    int store_late;  /* PostgreSQL was there but did not answer in time */
    int has_seat;    /* one of those that UserSyncMaxConcurrent admits */
    apr_interval_time_t store_limit;   /* usec for the table; users.c makes it
                                      * UserSyncStoreTimeout if it is 0 or
                                      * longer than that */
    apr_interval_time_t upstream_time; /* usec, -1: not called */
    apr_interval_time_t store_time;    /* usec, -1: not called */
} us_call;

/*
 * Records why a call ends as it does: the text becomes call->cause, allocated
 * from call->pool.
 *
 * Returns outcome, for "return us_fail(call, US_..., "...", ...);".
 */
us_outcome us_fail(us_call *call, us_outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A piece of JSON text, not a copy: a string with its quotes, an object ... */
typedef struct us_slice {
    const char *text; /* not terminated; NULL: nothing is there */
    apr_size_t len;
} us_slice;

/* The answer of the project's own hook, which goes back as it is. */
typedef struct us_hook_reply {
    int status;
    const char *type;        /* Content-Type; NULL: none */
    const char *retry_after; /* NULL: none */
    us_slice body;           /* lives as long as the request */
} us_hook_reply;

/* What a client sends; doors/request.h says who wipes these secrets.  A
 * refresh has only its token, the others have all but that. */
typedef struct us_credentials {
    const char *email; /* trimmed, lower-cased, not empty */
    us_slice password; /* a JSON string */
    us_slice data;     /* a JSON object, or nothing */
    us_slice captcha_token;
    us_slice refresh_token; /* a JSON string */
} us_credentials;

/* Which sessions of a user a logout ends. */
typedef enum us_scope {
    US_SCOPE_LOCAL, /* the one of the token */
    US_SCOPE_GLOBAL,
    US_SCOPE_OTHERS,
    US_SCOPE_COUNT
} us_scope;

/* What a client sends to log out; wiped like us_credentials. */
typedef struct us_farewell {
    us_slice token; /* the access token: the characters of a JWT */
    us_scope scope;
} us_farewell;

/* A value for a column, as text and as the JSON that it came from. */
typedef struct us_value {
    const char *text; /* decoded string, else the JSON text; NULL: SQL NULL */
    const char *json; /* the JSON text; NULL: SQL NULL */
} us_value;

/* May a user be let in, according to their row? */
typedef enum us_standing_kind {
    US_MAY_ENTER,
    US_IS_BANNED,
    US_IS_DELETED
} us_standing_kind;

typedef struct us_standing {
    us_standing_kind kind;
    int seconds; /* US_IS_BANNED: until the ban ends, or is to be looked at
                  * again */
} us_standing;

/* Does Supabase still have a user? */
typedef enum us_life {
    US_LIVES,
    US_DELETED, /* softly: deleted_at is set, e-mail and phone are hashes */
    US_GONE     /* nothing is left of them */
} us_life;

/*
 * The user, according to Supabase.  Only a proven identity may be written; an
 * unproven one (an invented id, see supabase-auth-wire 1.1) is only shown.
 */
typedef struct us_identity {
    const char *id; /* canonical lower-case UUID */
    int proven;
    int pending;   /* a sign-up without a session: always looked up, so that it
                   * takes as long as one for an address that is taken */
    int snapshot;  /* id and e-mail only, as they were when a token was made:
                   * used for a new row, never to change one */
    us_life life;  /* other than US_LIVES in events only */
    int may_enter; /* Supabase says now that they are neither banned nor
                    * deleted: it has just given them a session, and its user
                    * says so, too */
    const char *as_of; /* when Supabase knew this: a time stamp as PostgreSQL
                        * reads it; NULL: unknown.  A row that has been given
                        * a later state is not changed */
    us_value values[US_MAX_COLUMNS]; /* in the order of the columns */
    us_slice session;                /* a JSON object, or nothing */
} us_identity;

#endif /* USERSYNC_H */
