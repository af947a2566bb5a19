/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A main() for a fuzz target without libFuzzer: runs it over files.
 *
 *   replay_NAME [DIRECTORY|FILE ...]    default: t/fuzz/corpus/NAME
 *
 * Prints TAP, one test for each argument.  Every argument has its own process,
 * so that a crash fails its test and names the file.
 */
#include "fuzz.h"
#include "tap.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_tables.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The time for one file in seconds, with a sanitizer on a busy machine. */
#define FILE_LIMIT 60

/* The current file, shared with the process that runs it. */
static char *current;
#define CURRENT_SIZE 4096

static void add_directory(apr_pool_t *pool, const char *path,
                          apr_array_header_t *files)
{
    apr_dir_t *directory;
    apr_finfo_t info;

    if (apr_dir_open(&directory, path, pool) != APR_SUCCESS) {
        APR_ARRAY_PUSH(files, const char *) = path;
        return;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, directory) == APR_SUCCESS) {
        if (*info.name != '.') {
            APR_ARRAY_PUSH(files, const char *)
                = apr_pstrcat(pool, path, "/", info.name, NULL);
        }
    }
    apr_dir_close(directory);
}

/* Runs the target over one file; 0: the file cannot be read. */
static int run_file(apr_pool_t *pool, const char *path)
{
    apr_file_t *file;
    apr_finfo_t info;
    char *content;
    apr_status_t rv
        = apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, pool);

    if (rv == APR_SUCCESS) {
        rv = apr_file_info_get(&info, APR_FINFO_SIZE, file);
    }
    if (rv != APR_SUCCESS) {
        return 0;
    }
    content = apr_palloc(pool, (apr_size_t)info.size + 1);
    if (info.size > 0) {
        rv = apr_file_read_full(file, content, (apr_size_t)info.size, NULL);
    }
    apr_file_close(file);
    if (rv == APR_SUCCESS) {
        alarm(FILE_LIMIT);
        (void)LLVMFuzzerTestOneInput((const uint8_t *)content,
                                     (size_t)info.size);
        alarm(0);
    }
    return rv == APR_SUCCESS;
}

/* In the child: all the files; does not return. */
static void run_files(apr_pool_t *pool, const apr_array_header_t *files)
{
    int i;

    for (i = 0; i < files->nelts; i++) {
        const char *path = APR_ARRAY_IDX(files, i, const char *);
        apr_pool_t *sub = NULL;

        (void)apr_cpystrn(current, path, CURRENT_SIZE);
        if (apr_pool_create(&sub, pool) != APR_SUCCESS
            || !run_file(sub, path)) {
            exit(1);
        }
        apr_pool_destroy(sub);
    }
    *current = '\0';
    exit(0);
}

static void test_path(apr_pool_t *pool, const char *path)
{
    apr_array_header_t *files = apr_array_make(pool, 100, sizeof(char *));
    int status = -1;
    pid_t child;

    add_directory(pool, path, files);
    *current = '\0';
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        run_files(pool, files);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!ok(child > 0 && status == 0 && files->nelts > 0, "%s: %d inputs",
            path, files->nelts)) {
        (void)fprintf(stderr, "# %s: status %d, signal %d%s%s\n", path,
                      WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                      WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                      *current != '\0' ? " at " : "", current);
    }
}

int main(int argc, const char *const *argv)
{
    static const char prefix[] = "replay_";
    const char *name = apr_filepath_name_get(argv[0]);
    apr_pool_t *pool = NULL;
    int i;

    if (apr_initialize() != APR_SUCCESS
        || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return 2;
    }
    current = mmap(NULL, CURRENT_SIZE, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (current == MAP_FAILED) {
        return 2;
    }
    if (strncmp(name, prefix, sizeof(prefix) - 1) == 0) {
        name += sizeof(prefix) - 1;
    }
    for (i = 1; i < argc; i++) {
        test_path(pool, argv[i]);
    }
    if (argc < 2) {
        test_path(pool, apr_pstrcat(pool, "t/fuzz/corpus/", name, NULL));
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
