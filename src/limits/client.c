/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_client.h"

#include <httpd.h>

#include <apr_general.h>
#include <apr_network_io.h>
#include <apr_siphash.h>

#include <string.h>

static unsigned char salt[APR_SIPHASH_KSIZE];

apr_status_t us_client_create(void)
{
    return apr_generate_random_bytes(salt, sizeof(salt));
}

static apr_uint64_t hash(const void *bytes, apr_size_t len)
{
    apr_uint64_t value = apr_siphash24(bytes, len, salt);

    return value != 0 ? value : 1;
}

#if APR_HAVE_IPV6
/* Hashes the last four bytes of ::ffff:0:0/96, the first eight of others. */
static apr_uint64_t hash_ipv6(const unsigned char *bytes)
{
    static const unsigned char mapped[12]
        = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return memcmp(bytes, mapped, sizeof(mapped)) == 0
               ? hash(bytes + sizeof(mapped), 4)
               : hash(bytes, 8);
}
#endif

apr_uint64_t us_client_of(const request_rec *r)
{
    const apr_sockaddr_t *address = r->useragent_addr;

    if (address != NULL && address->family == APR_INET) {
        return hash(&address->sa.sin.sin_addr, 4);
    }
#if APR_HAVE_IPV6
    if (address != NULL && address->family == APR_INET6) {
        return hash_ipv6(address->sa.sin6.sin6_addr.s6_addr);
    }
#endif
    return hash("", 0);
}

apr_uint64_t us_client_account(const char *text, apr_size_t len)
{
    return hash(text, len);
}
