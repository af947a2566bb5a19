/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The functions below stand in front of json-c's: the program's own symbol
 * comes first when the tested code is linked.
 */
#include "json_spy.h"

#include <json-c/json.h>
#include <json-c/printbuf.h>

#include <dlfcn.h>
#include <string.h>

static const char *watched;
static int leaks;
static int releases;
static int growths;

void spy_on(const char *secret)
{
    watched = secret;
    leaks = 0;
    releases = 0;
    growths = 0;
}

int spy_leaks(void)
{
    return leaks;
}

int spy_releases(void)
{
    return releases;
}

int spy_growths(void)
{
    return growths;
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

static int tree_holds(json_object *node)
{
    int found = 0;
    size_t i;

    switch (json_object_get_type(node)) {
    case json_type_string:
        return holds(json_object_get_string(node),
                     (size_t)json_object_get_string_len(node));
    case json_type_array:
        for (i = 0; i < json_object_array_length(node); i++) {
            found |= tree_holds(json_object_array_get_idx(node, i));
        }
        return found;
    case json_type_object: {
        json_object_object_foreach(node, key, value)
        {
            found |= holds(key, strlen(key)) || tree_holds(value);
        }
        return found;
    }
    default:
        return 0;
    }
}

int json_object_put(json_object *node)
{
    int (*put)(json_object *);

    real("json_object_put", &put);
    if (node != NULL) {
        releases++;
        leaks += tree_holds(node);
    }
    return put(node);
}

void json_tokener_free(json_tokener *tokener)
{
    void (*release)(json_tokener *);
    int i;

    real("json_tokener_free", &release);
    releases++;
    leaks += holds(tokener->pb->buf, (size_t)tokener->pb->size);
    for (i = 0; i <= tokener->depth; i++) {
        leaks += tree_holds(tokener->stack[i].current);
    }
    release(tokener);
}

json_object *json_tokener_parse_ex(json_tokener *tokener, const char *text,
                                   int len)
{
    json_object *(*parse)(json_tokener *, const char *, int);
    int size = tokener->pb->size;
    json_object *root;

    real("json_tokener_parse_ex", &parse);
    root = parse(tokener, text, len);
    growths += tokener->pb->size != size;
    return root;
}
