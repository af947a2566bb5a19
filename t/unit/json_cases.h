/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * json_cases.h: texts that are a JSON object by RFC 8259, and texts that are
 * not, each for one reason.  json-c accepts many of the latter.
 */
#ifndef JSON_CASES_H
#define JSON_CASES_H

#include <stddef.h>

/* May contain NUL bytes. */
typedef struct json_case {
    const char *text; /* NULL at the end */
    size_t len;
} json_case;

extern const json_case json_accepted[];
extern const json_case json_refused[];

#endif /* JSON_CASES_H */
