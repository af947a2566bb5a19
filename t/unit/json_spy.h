/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * json_spy.h: looks over json-c's shoulder, which frees what it was given
 * without wiping it.  It must be given no text to read, no secret to write,
 * and what it was given to write must be freed.
 */
#ifndef JSON_SPY_H
#define JSON_SPY_H

/* Look for this text from now on and start counting at zero. */
void spy_on(const char *secret);

/* How often json-c was asked to read. */
int spy_readings(void);

/* How often it was given the secret to write. */
int spy_leaks(void);

/* How often the tested code had a value freed: a spy who never saw anything
 * proves nothing. */
int spy_releases(void);

#endif /* JSON_SPY_H */
