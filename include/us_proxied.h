/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_proxied.h: what Supabase's own clients ask Supabase Auth through this
 * server, and who is in the answers.  Pure: texts in, findings out.
 */
#ifndef US_PROXIED_H
#define US_PROXIED_H

#include "usersync.h"

#include <apr_tables.h>

/* What the body of a good answer may hold. */
typedef enum us_proxied_body {
    US_PROXIED_NOBODY,  /* it is for the client alone */
    US_PROXIED_SESSION, /* perhaps a session */
    US_PROXIED_SIGN_UP, /* a session, or a user who has to confirm */
    US_PROXIED_USER     /* the user whose token was sent */
} us_proxied_body;

/* A request, as its method and path tell. */
typedef struct us_proxied {
    us_proxied_body body;
    int is_admin; /* an admin's request; the rest is unset then */
    int guarded;  /* it uses up what cannot be had again: a code, a link, a
                   * refresh token; so the table is asked first */
    int creates;  /* a user may come of it */
    int is_page;  /* a browser goes there: a person reads the answer */
    us_operation circuit; /* whose circuit breaker it shares, or
                           * US_OPERATION_COUNT: that of none */
} us_proxied;

/*
 * What a request is.  Paths are compared as a server reads them: decoded, and
 * without empty segments and dots.
 *
 * url  that it is forwarded to: what follows "/auth/v1/" in its path counts.
 *      If that is not there, Supabase Auth may be at any segment of it, for
 *      another gateway may have another prefix.  The other services of
 *      Supabase carry nobody
 */
us_proxied us_proxied_of(apr_pool_t *pool, const char *method, const char *url,
                         const char *query);

/* Who was found in an answer. */
typedef enum us_found {
    US_FOUND_NOBODY,
    US_FOUND_USER,    /* without a session */
    US_FOUND_SESSION, /* only to be handed out to a user with a row */
    US_FOUND_UNREAD   /* a session, but nobody can say whose; call->cause says
                       * why */
} us_found;

/*
 * Who is in the body of a good answer.
 *
 * body      what it may hold
 * text      must outlive the identity
 * columns   of us_column: the identity's values
 * identity  filled in if a user was found
 */
us_found us_proxied_take_body(us_call *call, us_proxied_body body,
                              us_slice text, const apr_array_header_t *columns,
                              us_identity *identity);

/* May there be a session in this Location?  Its last fragment has an access
 * token then. */
int us_proxied_has_token(const char *location);

/*
 * Who is in a Location that may have a session; arguments and result as for
 * us_proxied_take_body.  Clients choose where they want to go, and could write
 * a token there: none that Supabase has not appended is believed.
 *
 * user_id  the answer's Sb-Auth-User-Id, which Supabase sets wherever it
 *          appends a token; NULL: none, as of old servers
 */
us_found us_proxied_take_location(us_call *call, const char *location,
                                  const char *user_id,
                                  const apr_array_header_t *columns,
                                  us_identity *identity);

/*
 * A Location with an error in place of the session: Supabase's own form, which
 * its clients read.
 *
 * error  the class (RFC 6749, section 4.1.2.1), such as "server_error"
 * code   what Supabase calls error_code
 * text   for people
 */
const char *us_proxied_error_location(apr_pool_t *pool, const char *location,
                                      const char *error, const char *code,
                                      const char *text);

#endif /* US_PROXIED_H */
