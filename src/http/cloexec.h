/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * http/cloexec.h: keeps sockets from programs that httpd starts.
 */
#ifndef US_CLOEXEC_H
#define US_CLOEXEC_H

/*
 * Marks as close-on-exec every socket pair that has both ends in this process.
 * libcurl before 8.9 makes two without the mark: one for each handle, one for
 * each name look-up.  They carry only a byte that wakes a thread.
 *
 * A pair that is made for a program is not affected: it reaches the program as
 * a duplicate, which has no such mark.  Any thread may call this.
 */
void us_cloexec_pairs(void);

#endif /* US_CLOEXEC_H */
