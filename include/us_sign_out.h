/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_sign_out.h: the flow of a logout, from top to bottom.
 */
#ifndef US_SIGN_OUT_H
#define US_SIGN_OUT_H

#include "us_supabase.h"

#include <httpd.h>

/*
 * Handles a request to log out; only its method has been checked.  It needs no
 * users table: no token leaves, so no row is ensured.  Returns what httpd's
 * handler hook expects.
 */
int us_sign_out(request_rec *r, us_call *call, us_supabase *supabase);

#endif /* US_SIGN_OUT_H */
