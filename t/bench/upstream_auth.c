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
typedef enum { NOTHING, ID, EMAIL, PAYLOAD } insertion;

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

/* A session: its body, and the payload of its access token before base64url. */
typedef struct {
    recording body;
    recording payload;
    char text[AUTH_ANSWER_MAX]; /* the payload's */
} session;

static session login_session;
static session signup_session;
static const char *settings;

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
static void cut(recording *to, const char *text)
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
}

static void replace(char *text, char old, char new)
{
    while ((text = strchr(text, old)) != NULL) {
        *text++ = new;
    }
}

/* The text of a base64url without padding; 0 if it is none. */
static int decode(char *out, const char *coded, size_t len)
{
    size_t whole = (len + 3) / 4 * 4;
    char padded[AUTH_ANSWER_MAX];
    int got;

    if (whole >= sizeof(padded)) {
        return 0;
    }
    (void)snprintf(padded, sizeof(padded), "%.*s%.*s", (int)len, coded,
                   (int)(whole - len), "===");
    replace(padded, '-', '+');
    replace(padded, '_', '/');
    got = EVP_DecodeBlock((unsigned char *)out, (unsigned char *)padded,
                          (int)whole);
    if (got < 3) {
        return 0;
    }
    out[got - (int)(whole - len)] = '\0';
    return 1;
}

static size_t length(const recording *r, size_t email_len)
{
    return r->fixed + r->ids * ID_LEN + r->emails * email_len;
}

static size_t coded_length(size_t len)
{
    return (len * 4 + 2) / 3;
}

static int is_usable(const session *s)
{
    return s->body.ids > 0 && s->body.emails > 0 && s->payload.ids > 0
           && s->payload.emails > 0
           && length(&s->body, EMAIL_MAX)
                      + coded_length(length(&s->payload, EMAIL_MAX)) + 1024
                  < AUTH_ANSWER_MAX;
}

/* The token is the user's own, too, but for its signature. */
static int load_session(session *to, const char *file)
{
    static const char name[] = "\"access_token\":\"";
    const char *text = read_file(file);
    const char *token = text == NULL ? NULL : strstr(text, name);
    const char *start = token == NULL ? NULL : strchr(token, '.');
    const char *end = start == NULL ? NULL : strchr(++start, '.');

    if (end != NULL && decode(to->text, start, (size_t)(end - start))) {
        cut(&to->payload, to->text);
        add_piece(&to->body, text, (size_t)(start - text), PAYLOAD);
        cut(&to->body, end);
    }
    if (!is_usable(to)) {
        (void)fprintf(stderr, "not a session of use: %s\n", file);
        return 0;
    }
    return 1;
}

int auth_load(const char *login_file, const char *signup_file,
              const char *settings_file)
{
    settings = read_file(settings_file);
    return settings != NULL && load_session(&login_session, login_file)
           && load_session(&signup_session, signup_file);
}

/* --- one answer --- */

/* The MD5 of the e-mail: md5(email)::uuid in PostgreSQL is the same. */
static void id_of(const char *email, size_t len, char id[ID_LEN + 1])
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
    id[at] = '\0';
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
static size_t put_head(char *out, const char *status, const char *user,
                       size_t body_len)
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
                   "%s"
                   "Vary: Origin, Accept-Encoding\r\n"
                   "Strict-Transport-Security: max-age=31536000\r\n"
                   "X-Content-Type-Options: nosniff\r\n"
                   "sb-project-ref: abcdefghijklmnopqrst\r\n"
                   "x-envoy-upstream-service-time: 71\r\n\r\n",
                   status, date, body_len, user);
    return (size_t)len;
}

static size_t put_text(char *out, const char *status, const char *body)
{
    size_t head = put_head(out, status, "", strlen(body));

    return head
           + (size_t)snprintf(out + head, AUTH_ANSWER_MAX - head, "%s", body);
}

/* As base64url without padding; out has room for padding and a NUL. */
static size_t encode(char *out, const char *text, size_t len)
{
    size_t coded_len = coded_length(len);

    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text,
                    (int)len);
    out[coded_len] = '\0';
    replace(out, '+', '-');
    replace(out, '/', '_');
    return coded_len;
}

static char *append(char *p, const char *text, size_t len)
{
    memcpy(p, text, len);
    return p + len;
}

/* What belongs to one user. */
typedef struct {
    char id[ID_LEN + 1];
    const char *email;
    size_t email_len;
    char payload[AUTH_ANSWER_MAX]; /* of the token, in base64url */
    size_t payload_len;
} user;

static size_t put_recording(char *out, const recording *from, const user *u)
{
    char *p = out;
    size_t i;

    for (i = 0; i < from->count; i++) {
        const piece *next = &from->pieces[i];

        p = append(p, next->text, next->len);
        if (next->then == ID) {
            p = append(p, u->id, ID_LEN);
        }
        else if (next->then == EMAIL) {
            p = append(p, u->email, u->email_len);
        }
        else if (next->then == PAYLOAD) {
            p = append(p, u->payload, u->payload_len);
        }
    }
    return (size_t)(p - out);
}

/* GoTrue names the user and their session in headers, too. */
static size_t put_session(char *out, const session *from, const char *email,
                          size_t email_len)
{
    static user u;
    char payload[AUTH_ANSWER_MAX];
    char headers[256];
    size_t head;

    id_of(email, email_len, u.id);
    u.email = email;
    u.email_len = email_len;
    u.payload_len = encode(u.payload, payload,
                           put_recording(payload, &from->payload, &u));
    (void)snprintf(headers, sizeof(headers),
                   "Sb-Auth-Session-Id: "
                   "5e8d2f40-91b7-4c3a-8e6d-0f1a2b3c4d5e\r\n"
                   "Sb-Auth-User-Id: %s\r\n",
                   u.id);
    head = put_head(out, "200 OK", headers,
                    length(&from->body, email_len) + u.payload_len);
    return head + put_recording(out + head, &from->body, &u);
}

static size_t answer_post(const char *path, const char *body, size_t body_len,
                          char *out)
{
    const session *answer = NULL;
    const char *email;
    size_t len = 0;

    if (strcmp(path, "/auth/v1/otp") == 0) {
        return put_text(out, "200 OK", "{}");
    }
    if (strcmp(path, "/auth/v1/token?grant_type=password") == 0) {
        answer = &login_session;
    }
    else if (strcmp(path, "/auth/v1/signup") == 0) {
        answer = &signup_session;
    }
    if (answer == NULL) {
        return put_text(out, "404 Not Found", "{}");
    }
    email = find_email(body, body_len, &len);
    if (email == NULL) {
        return put_text(out, "400 Bad Request",
                        "{\"code\":\"bad_json\",\"message\":\"no e-mail\"}");
    }
    return put_session(out, answer, email, len);
}

size_t auth_answer(const char *method, const char *target, const char *body,
                   size_t body_len, char *out)
{
    if (strcmp(method, "POST") == 0) {
        return answer_post(target, body, body_len, out);
    }
    if (strcmp(method, "GET") != 0) {
        return put_text(out, "404 Not Found", "{}");
    }
    if (strcmp(target, "/auth/v1/settings") == 0) {
        return put_text(out, "200 OK", settings);
    }
    return put_text(out, "200 OK", "{\"application\":\"bench\"}");
}
