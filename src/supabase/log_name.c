/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "log_name.h"

#include <apr_lib.h>

#include <string.h>

/* The longest name that is logged. */
#define NAME_MAX_LEN 64

const char *us_log_name(const us_json *doc, const char *const *path)
{
    apr_size_t len = 0;
    const char *name = us_json_string(doc, path, &len);
    apr_size_t i;

    if (name == NULL || len == 0 || len > NAME_MAX_LEN) {
        return "?";
    }
    for (i = 0; i < len; i++) {
        if (!apr_isalnum(name[i]) && strchr("-_/.", name[i]) == NULL) {
            return "?";
        }
    }
    return name;
}
