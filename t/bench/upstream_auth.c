/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "upstream_auth.h"

#include <openssl/evp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The user of the recorded answers. */
static const char recorded_id[] = "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117";
static const char recorded_email[] = "ada@example.com";

#define ID_LEN (sizeof(recorded_id) - 1)
#define EMAIL_MAX ((size_t)255)
#define PIECES_MAX 64

/* A text that is always the same, and the user's value that follows it. */
typedef enum { NOTHING, ID, EMAIL } insertion;

typedef struct {
    const char *text;
    size_t len;
    insertion then;
} piece;

typedef struct {
    piece pieces[PIECES_MAX];
    size_t count;
    size_t fixed; /* length of all texts */
    size_t ids;
    size_t emails;
} recording;

static recording login_answer;
static recording signup_answer;

/* --- the recordings --- */

static char *read_file(const char *name)
{
    FILE *file = fopen(name, "rb");
    char *text = calloc(1, AUTH_ANSWER_MAX);
    size_t len;

    if (file == NULL || text == NULL) {
        perror(name);
        if (file != NULL) {
            (void)fclose(file);
        }
        free(text);
        return NULL;
    }
    len = fread(text, 1, AUTH_ANSWER_MAX - 1, file);
    (void)fclose(file);
    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0'; /* GoTrue ends without one */
    }
    return text;
}

static void add_piece(recording *to, const char *text, size_t len,
                      insertion then)
{
    piece *last = &to->pieces[to->count++];

    last->text = text;
    last->len = len;
    last->then = then;
    to->fixed += len;
    to->ids += then == ID;
    to->emails += then == EMAIL;
}

/* Cuts the text, which stays in memory, where id and e-mail are. */
static int cut(recording *to, const char *text)
{
    while (to->count < PIECES_MAX - 1) {
        const char *id = strstr(text, recorded_id);
        const char *email = strstr(text, recorded_email);

        if (id == NULL && email == NULL) {
            break;
        }
        if (email == NULL || (id != NULL && id < email)) {
            add_piece(to, text, (size_t)(id - text), ID);
            text = id + ID_LEN;
        }
        else {
            add_piece(to, text, (size_t)(email - text), EMAIL);
            text = email + sizeof(recorded_email) - 1;
        }
    }
    add_piece(to, text, strlen(text), NOTHING);
    return to->ids > 0 && to->emails > 0
           && to->fixed + to->ids * ID_LEN + to->emails * EMAIL_MAX + 1024
                  < AUTH_ANSWER_MAX;
}

int auth_load(const char *login_file, const char *signup_file)
{
    const char *login = read_file(login_file);
    const char *signup = read_file(signup_file);

    if (login == NULL || signup == NULL) {
        return 0;
    }
    if (!cut(&login_answer, login) || !cut(&signup_answer, signup)) {
        (void)fprintf(stderr, "no use: %s, %s\n", login_file, signup_file);
        return 0;
    }
    return 1;
}

/* --- one answer --- */

/* The MD5 of the e-mail: md5(email)::uuid in PostgreSQL is the same. */
static void id_of(const char *email, size_t len, char id[ID_LEN])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char md5[EVP_MAX_MD_SIZE];
    size_t at = 0;
    size_t i;

    EVP_Digest(email, len, md5, NULL, EVP_md5(), NULL);
    for (i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            id[at++] = '-';
        }
        id[at++] = digits[md5[i] >> 4];
        id[at++] = digits[md5[i] & 15];
    }
}

/* The e-mail in a JSON body, which must not need unescaping. */
static const char *find_email(const char *body, size_t body_len, size_t *len)
{
    static const char name[] = "\"email\"";
    const char *end = body + body_len;
    const char *p = memmem(body, body_len, name, sizeof(name) - 1);
    const char *start;

    if (p == NULL) {
        return NULL;
    }
    p += sizeof(name) - 1;
    while (p < end && (*p == ' ' || *p == ':')) {
        p++;
    }
    if (p == end || *p != '"') {
        return NULL;
    }
    start = ++p;
    while (p < end && *p != '"' && *p != '\\') {
        p++;
    }
    *len = (size_t)(p - start);
    return p < end && *p == '"' && *len > 0 && *len <= EMAIL_MAX ? start
                                                                 : NULL;
}

/* The headers that a hosted project's gateway adds, because of their size. */
static size_t put_head(char *out, const char *status, size_t body_len)
{
    static time_t last;
    static char date[64];
    time_t now = time(NULL);
    int len;

    if (now != last) {
        struct tm tm;

        gmtime_r(&now, &tm);
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        last = now;
    }
    len = snprintf(out, AUTH_ANSWER_MAX,
                   "HTTP/1.1 %s\r\nDate: %s\r\n"
                   "Content-Type: application/json\r\n"
                   "Content-Length: %zu\r\n"
                   "Vary: Origin, Accept-Encoding\r\n"
                   "Strict-Transport-Security: max-age=31536000\r\n"
                   "X-Content-Type-Options: nosniff\r\n"
                   "sb-project-ref: abcdefghijklmnopqrst\r\n"
                   "x-envoy-upstream-service-time: 71\r\n\r\n",
                   status, date, body_len);
    return (size_t)len;
}

static size_t put_text(char *out, const char *status, const char *body)
{
    size_t head = put_head(out, status, strlen(body));

    return head
           + (size_t)snprintf(out + head, AUTH_ANSWER_MAX - head, "%s", body);
}

static size_t put_user(char *out, const recording *from, const char *email,
                       size_t email_len)
{
    char id[ID_LEN];
    size_t i;
    char *p;

    id_of(email, email_len, id);
    p = out
        + put_head(out, "200 OK",
                   from->fixed + from->ids * ID_LEN
                       + from->emails * email_len);
    for (i = 0; i < from->count; i++) {
        const piece *next = &from->pieces[i];

        memcpy(p, next->text, next->len);
        p += next->len;
        if (next->then == ID) {
            memcpy(p, id, ID_LEN);
            p += ID_LEN;
        }
        else if (next->then == EMAIL) {
            memcpy(p, email, email_len);
            p += email_len;
        }
    }
    return (size_t)(p - out);
}

size_t auth_answer(const char *method, const char *target, const char *body,
                   size_t body_len, char *out)
{
    const recording *answer = NULL;
    const char *email;
    size_t len = 0;

    if (strcmp(method, "GET") == 0) {
        return put_text(out, "200 OK", "{\"application\":\"bench\"}");
    }
    if (strcmp(target, "/auth/v1/token?grant_type=password") == 0) {
        answer = &login_answer;
    }
    else if (strcmp(target, "/auth/v1/signup") == 0) {
        answer = &signup_answer;
    }
    if (answer == NULL || strcmp(method, "POST") != 0) {
        return put_text(out, "404 Not Found", "{}");
    }
    email = find_email(body, body_len, &len);
    if (email == NULL) {
        return put_text(out, "400 Bad Request",
                        "{\"code\":\"bad_json\",\"message\":\"no e-mail\"}");
    }
    return put_user(out, answer, email, len);
}
