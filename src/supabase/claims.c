/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "claims.h"
#include "timestamp.h"
#include "us_jwt.h"
#include "user.h"

#include <apr_strings.h>

/* The latest time that a time stamp can tell (seconds): the year 9999. */
#define LATEST APR_INT64_C(253402300799)

/* When the token was made: Supabase had read the user shortly before. */
static const char *take_issue_time(apr_pool_t *pool, const us_json *doc,
                                   const char *object)
{
    const char *const *path
        = object == NULL ? US_JSON_PATH("iat") : US_JSON_PATH(object, "iat");
    us_slice raw = us_json_raw(doc, path);
    apr_int64_t seconds
        = raw.text == NULL
              ? 0
              : apr_atoi64(apr_pstrmemdup(pool, raw.text, raw.len));

    return seconds <= 0 || seconds > LATEST
               ? NULL
               : us_timestamp_text(pool, apr_time_from_sec(seconds));
}

int us_claims_take(apr_pool_t *pool, const us_json *doc, const char *object,
                   const apr_array_header_t *columns, us_identity *identity)
{
    us_user_place place = {.object = object, .id = "sub"};

    if (!us_user_take(pool, doc, &place, columns, identity)) {
        return 0;
    }
    identity->as_of = take_issue_time(pool, doc, object);
    return 1;
}

int us_claims_take_token(apr_pool_t *pool, us_slice token,
                         const apr_array_header_t *columns,
                         us_identity *identity)
{
    us_slice payload = us_jwt_payload(pool, token);
    us_json *doc = NULL;
    int found;

    if (payload.text == NULL
        || us_json_parse(pool, payload.text, payload.len, US_JSON_ANSWER_DEPTH,
                         &doc)
               != NULL) {
        return 0;
    }
    found = us_claims_take(pool, doc, NULL, columns, identity);
    us_json_free(doc);
    identity->proven = found;
    return found;
}
