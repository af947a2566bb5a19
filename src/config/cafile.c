/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_cafile.h"

#include <apr_strings.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "OpenSSL 3 is needed (X509_STORE_load_file)"
#endif

const char *us_cafile_check(apr_pool_t *pool, const char *path)
{
    X509_STORE *store = X509_STORE_new();
    const char *wrong = NULL;

    if (store == NULL) {
        return "out of memory";
    }
    if (X509_STORE_load_file(store, path) != 1) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());

        wrong = apr_psprintf(pool,
                             "cannot be loaded as PEM certificates "
                             "(%s)",
                             reason != NULL ? reason : "unknown reason");
    }
    ERR_clear_error();
    X509_STORE_free(store);
    return wrong;
}
