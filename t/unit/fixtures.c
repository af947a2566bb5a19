/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fixtures.h"

#include <apr_file_io.h>
#include <apr_strings.h>

#include <json-c/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *fixtures_directory(int argc, const char *const *argv)
{
    const char *directory = argc > 1 ? argv[1] : getenv("FIXTURES");

    return directory != NULL ? directory : "t/fixtures/supabase";
}

char *fixtures_read(apr_pool_t *pool, const char *path, apr_size_t *len)
{
    apr_file_t *file;
    apr_finfo_t info;
    char *content = NULL;

    if (apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, pool)
        != APR_SUCCESS) {
        (void)fprintf(stderr, "# cannot open %s\n", path);
        return NULL;
    }
    if (apr_file_info_get(&info, APR_FINFO_SIZE, file) == APR_SUCCESS) {
        *len = (apr_size_t)info.size;
        content = apr_pcalloc(pool, *len + 1);
        if (*len > 0
            && apr_file_read_full(file, content, *len, NULL) != APR_SUCCESS) {
            content = NULL;
        }
    }
    apr_file_close(file);
    return content;
}

/* A string member, or a header in any case; NULL: none. */
static const char *text_of(apr_pool_t *pool, json_object *object,
                           const char *name)
{
    json_object_object_foreach(object, key, value)
    {
        if (strcasecmp(key, name) == 0 && value != NULL) {
            return apr_pstrdup(pool, json_object_get_string(value));
        }
    }
    return NULL;
}

static int load_one(apr_pool_t *pool, const char *directory,
                    json_object *entry, fixture *out)
{
    json_object *headers = NULL;
    json_object *status = NULL;

    out->file = text_of(pool, entry, "file");
    if (out->file == NULL
        || !json_object_object_get_ex(entry, "headers", &headers)) {
        return 0;
    }
    json_object_object_get_ex(entry, "status", &status);
    out->status = json_object_get_int(status);
    out->content_type = text_of(pool, headers, "Content-Type");
    out->error_code = text_of(pool, headers, "x-sb-error-code");
    out->retry_after = text_of(pool, headers, "Retry-After");
    out->user_id = text_of(pool, headers, "sb-auth-user-id");
    out->body = fixtures_read(
        pool, apr_pstrcat(pool, directory, "/", out->file, NULL), &out->len);
    return out->body != NULL;
}

const fixture *fixtures_load(apr_pool_t *pool, const char *directory,
                             int *count)
{
    const char *path = apr_pstrcat(pool, directory, "/index.json", NULL);
    json_object *index = json_object_from_file(path);
    fixture *fixtures = NULL;
    size_t i;

    *count = 0;
    if (!json_object_is_type(index, json_type_array)) {
        (void)fprintf(stderr, "# no list of fixtures in %s\n", path);
        json_object_put(index);
        return NULL;
    }
    *count = (int)json_object_array_length(index);
    fixtures = apr_pcalloc(pool, sizeof(*fixtures) * (apr_size_t)*count);
    for (i = 0; i < (size_t)*count; i++) {
        if (!load_one(pool, directory, json_object_array_get_idx(index, i),
                      &fixtures[i])) {
            (void)fprintf(stderr, "# cannot read entry %zu of %s\n", i, path);
            fixtures = NULL;
            break;
        }
    }
    json_object_put(index);
    return fixtures;
}

const fixture *fixtures_find(const fixture *fixtures, int count,
                             const char *file)
{
    int i;

    for (i = 0; i < count; i++) {
        if (strcmp(fixtures[i].file, file) == 0) {
            return &fixtures[i];
        }
    }
    return NULL;
}
