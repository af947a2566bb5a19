/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "cloexec.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Is the address without a name?  A socket pair has no other. */
static int is_nameless(const struct sockaddr_un *address, socklen_t len)
{
    return address->sun_family == AF_UNIX && len == sizeof(sa_family_t);
}

static int is_pair(int fd)
{
    struct sockaddr_un here = {.sun_family = AF_UNSPEC};
    struct sockaddr_un there = {.sun_family = AF_UNSPEC};
    struct sockaddr *here_generic = (struct sockaddr *)&here;
    struct sockaddr *there_generic = (struct sockaddr *)&there;
    socklen_t here_len = sizeof(here);
    socklen_t there_len = sizeof(there);

    return getsockname(fd, here_generic, &here_len) == 0
           && is_nameless(&here, here_len)
           && getpeername(fd, there_generic, &there_len) == 0
           && is_nameless(&there, there_len);
}

static int is_ours(int fd)
{
#ifdef SO_PEERCRED
    struct ucred peer = {.pid = 0};
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0
           && peer.pid == getpid();
#else
    (void)fd;
    return 0;
#endif
}

void us_cloexec_pairs(void)
{
    DIR *descriptors = opendir("/proc/self/fd");
    const struct dirent *entry;

    if (descriptors == NULL) {
        return;
    }
    while ((entry = readdir(descriptors)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        int flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;

        if (flags >= 0 && (flags & FD_CLOEXEC) == 0 && is_pair(fd)
            && is_ours(fd)) {
            (void)fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
        }
    }
    closedir(descriptors);
}
