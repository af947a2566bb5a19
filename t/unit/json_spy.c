/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The functions below override json-c's: the program's own symbol comes first
 * when the tested code is linked.
 */
#include "json_spy.h"

#include <json-c/json.h>

#include <dlfcn.h>
#include <string.h>

static const char *watched;
static int readings;
static int leaks;
static int releases;

void spy_on(const char *secret)
{
    watched = secret;
    readings = 0;
    leaks = 0;
    releases = 0;
}

int spy_readings(void)
{
    return readings;
}

int spy_leaks(void)
{
    return leaks;
}

int spy_releases(void)
{
    return releases;
}

/* json-c's function of that name, stored where function points to. */
static void real(const char *name, void *function)
{
    void *found = dlsym(RTLD_NEXT, name);

    memcpy(function, &found, sizeof(found));
}

static int holds(const char *memory, size_t len)
{
    return watched != NULL
           && memmem(memory, len, watched, strlen(watched)) != NULL;
}

int json_object_put(json_object *node)
{
    int (*put)(json_object *);

    real("json_object_put", &put);
    releases += node != NULL;
    return put(node);
}

json_object *json_object_new_string(const char *text)
{
    json_object *(*create)(const char *);

    real("json_object_new_string", &create);
    leaks += holds(text, strlen(text));
    return create(text);
}

json_object *json_object_new_string_len(const char *text, const int len)
{
    json_object *(*create)(const char *, int);

    real("json_object_new_string_len", &create);
    leaks += holds(text, (size_t)len);
    return create(text, len);
}

json_object *json_tokener_parse(const char *text)
{
    json_object *(*parse)(const char *);

    real("json_tokener_parse", &parse);
    readings++;
    return parse(text);
}

json_object *json_tokener_parse_verbose(const char *text,
                                        enum json_tokener_error *error)
{
    json_object *(*parse)(const char *, enum json_tokener_error *);

    real("json_tokener_parse_verbose", &parse);
    readings++;
    return parse(text, error);
}

json_object *json_tokener_parse_ex(json_tokener *tokener, const char *text,
                                   int len)
{
    json_object *(*parse)(json_tokener *, const char *, int);

    real("json_tokener_parse_ex", &parse);
    readings++;
    return parse(tokener, text, len);
}
