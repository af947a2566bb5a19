/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_secret.h"
#include "us_jwt.h"
#include "us_wipe.h"

#include <httpd.h>
#include <http_config.h>

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>

/* The longest key, its line end, and one byte more to notice a longer one. */
#define BUFFER_SIZE (US_SECRET_MAX + 3)

/* Reads the file's beginning; len shows whether it is too long. */
static const char *read_file(apr_pool_t *temp, const char *path, char *buffer,
                             apr_size_t *len, us_secret *secret)
{
    apr_file_t *file;
    apr_finfo_t info = {0};
    char reason[120];
    apr_status_t rv
        = apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, temp);

    if (rv == APR_SUCCESS) {
        rv = apr_file_info_get(
            &info, APR_FINFO_PROT | APR_FINFO_TYPE | APR_FINFO_OWNER, file);
        if (rv == APR_SUCCESS && info.filetype == APR_DIR) {
            rv = APR_FROM_OS_ERROR(EISDIR);
        }
        if (rv == APR_SUCCESS) {
            rv = apr_file_read_full(file, buffer, BUFFER_SIZE, len);
        }
        apr_file_close(file);
    }
    if (rv != APR_SUCCESS && rv != APR_EOF) {
        return apr_psprintf(temp, "cannot read the file %s (%s)", path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    secret->exposed
        = (info.protection
           & (APR_FPROT_GWRITE | APR_FPROT_WREAD | APR_FPROT_WWRITE))
          != 0;
    secret->user = info.user;
    secret->group = info.group;
    secret->group_reads = (info.protection & APR_FPROT_GREAD) != 0;
    return NULL;
}

/* The first line of the command's output. */
static const char *read_command(apr_pool_t *temp, const char *command,
                                char *buffer, apr_size_t *len)
{
    char **argv;
    char *line;

    if (apr_tokenize_to_argv(command, &argv, temp) != APR_SUCCESS
        || argv[0] == NULL) {
        return "exec: names no command";
    }
    line = ap_get_exec_line(temp, argv[0], (const char *const *)argv);
    if (line == NULL || *line == '\0') {
        return apr_psprintf(temp, "the command %s failed or wrote nothing",
                            argv[0]);
    }
    *len = strlen(line);
    memcpy(buffer, line, *len < BUFFER_SIZE ? *len : BUFFER_SIZE);
    us_wipe(line, *len);
    return NULL;
}

#define NOTHING_BUT "; it must be one line with nothing but the key"

/* Is this NAME=VALUE, as in a shell file?  Then it is not a key: base64 has
 * "=" only at its end. */
static int is_assignment(const char *text, apr_size_t len)
{
    apr_size_t i = 0;

    while (i < len && (apr_isalnum(text[i]) || text[i] == '_')) {
        i++;
    }
    return i > 0 && i + 1 < len && text[i] == '=' && text[i + 1] != '=';
}

/* Returns what was copied along with the key, or instead of it, or NULL. */
static const char *check_copy(const char *text, apr_size_t len)
{
    if (strchr("\"'`", text[0]) != NULL
        || strchr("\"'`", text[len - 1]) != NULL) {
        return "is in quotes" NOTHING_BUT;
    }
    if (is_assignment(text, len)) {
        return "has the form NAME=VALUE" NOTHING_BUT;
    }
    if (len >= 2 && text[0] == '$' && text[1] == '{') {
        return "is the name of a variable that is not set";
    }
    if ((len >= 8 && strncasecmp(text, "https://", 8) == 0)
        || (len >= 7 && strncasecmp(text, "http://", 7) == 0)) {
        return "is a URL; that belongs to UserSyncSupabaseURL";
    }
    return NULL;
}

/* Checks for one line of printable ASCII without blanks; removes its end. */
static const char *check_value(char *buffer, apr_size_t *len)
{
    apr_size_t i;

    if (*len >= BUFFER_SIZE) {
        return "is longer than 4096 bytes";
    }
    if (*len > 0 && buffer[*len - 1] == '\n') {
        (*len)--;
    }
    if (*len > 0 && buffer[*len - 1] == '\r') {
        (*len)--;
    }
    if (*len == 0) {
        return "is empty";
    }
    if (*len > US_SECRET_MAX) {
        return "is longer than 4096 bytes";
    }
    for (i = 0; i < *len; i++) {
        if (buffer[i] <= ' ' || buffer[i] > '~') {
            return "contains a blank, a line end or a character that is not "
                   "ASCII" NOTHING_BUT;
        }
    }
    return check_copy(buffer, *len);
}

const char *us_secret_load(apr_pool_t *pool, apr_pool_t *temp,
                           const char *spec, us_secret **out)
{
    char buffer[BUFFER_SIZE];
    us_secret *secret = apr_pcalloc(pool, sizeof(*secret));
    const char *wrong = NULL;
    apr_size_t len = 0;

    if (strncmp(spec, "file:", 5) == 0) {
        const char *path = ap_server_root_relative(temp, spec + 5);

        secret->source = US_SECRET_FILE;
        wrong = path == NULL || spec[5] == '\0'
                    ? "file: names no file"
                    : read_file(temp, path, buffer, &len, secret);
    }
    else if (strncmp(spec, "exec:", 5) == 0) {
        secret->source = US_SECRET_EXEC;
        wrong = read_command(temp, spec + 5, buffer, &len);
    }
    else {
        secret->source = US_SECRET_INLINE;
        len = strlen(spec);
        memcpy(buffer, spec, len < BUFFER_SIZE ? len : BUFFER_SIZE);
    }
    if (wrong == NULL) {
        wrong = check_value(buffer, &len);
        if (wrong != NULL) {
            wrong = apr_pstrcat(temp, "the key ", wrong, NULL);
        }
    }
    if (wrong == NULL) {
        char *value = apr_pstrmemdup(pool, buffer, len);

        us_wipe_with(pool, value, len);
        secret->value = value;
        secret->len = len;
        *out = secret;
    }
    us_wipe(buffer, sizeof(buffer));
    return wrong;
}

int us_secret_is_readable_by(const us_secret *secret, apr_uid_t user,
                             apr_gid_t group)
{
    return secret->source == US_SECRET_FILE
           && (secret->user == user
               || (secret->group_reads && secret->group == group));
}

/* Does the payload of this JWT name the role service_role? */
static int jwt_is_service_role(apr_pool_t *temp, const us_secret *secret)
{
    us_slice token = {secret->value, strlen(secret->value)};
    us_slice payload = us_jwt_payload(temp, token);

    return payload.text != NULL
           && strstr(payload.text, "\"service_role\"") != NULL;
}

us_key_kind us_secret_key_kind(apr_pool_t *temp, const us_secret *secret)
{
    if (strncmp(secret->value, "sb_publishable_", 15) == 0) {
        return US_KEY_PUBLISHABLE;
    }
    if (strncmp(secret->value, "sb_secret_", 10) == 0) {
        return US_KEY_SECRET;
    }
    if (strncmp(secret->value, "eyJ", 3) == 0) {
        return jwt_is_service_role(temp, secret) ? US_KEY_JWT_SERVICE
                                                 : US_KEY_JWT;
    }
    return US_KEY_OTHER;
}
