/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * json_spy.h: looks over json-c's shoulder.  Whatever json-c is about to free
 * is searched for a secret: after the wiping none of it may be left.
 */
#ifndef JSON_SPY_H
#define JSON_SPY_H

/*
 * Look for this text from now on and start counting at zero.  Only the
 * releases that the tested code asks for are seen, not json-c's own.
 */
void spy_on(const char *secret);

/* How often the secret was found in memory that was being freed. */
int spy_leaks(void);

/* How often memory was freed at all: a spy who saw nothing proves nothing. */
int spy_releases(void);

/* How often a parse made its collecting buffer grow, leaving a copy of what
 * was in it in freed memory. */
int spy_growths(void);

#endif /* JSON_SPY_H */
