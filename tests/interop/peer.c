/* A client or a server in C, over libzmq alone, which has never heard of this project.

       peer LIBZMQ ROLE ENDPOINT COUNT MECHANISM [KEY...]

   ROLE is one of
     req      sends COUNT requests, one after another
     dealer   sends COUNT requests at once, each with a correlation frame of its own
     rep      answers until its standard input ends
     router   the same, five at a time in reverse order, with all frames up to the delimiter as they came

   The payload of a request is two frames; that of its reply is the same two in upper case. A client binds
   nothing and prints how many replies were right; a server prints its endpoint, and then how many it
   gave. MECHANISM is null, plain (user, password: a server lets nobody else in) or curve (a server's secret key; or the server's, the
   own public and the own secret one). */

#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQ = 3, REP = 4, DEALER = 5, ROUTER = 6 };
enum { SNDMORE = 2, DONTWAIT = 1 };
enum { FD = 14, RCVMORE = 13, RCVTIMEO = 27, SNDTIMEO = 28, LINGER = 17, LAST_ENDPOINT = 32 };
enum { PLAIN_SERVER = 44, PLAIN_USERNAME = 45, PLAIN_PASSWORD = 46 };
enum { CURVE_SERVER = 47, CURVE_PUBLICKEY = 48, CURVE_SECRETKEY = 49, CURVE_SERVERKEY = 50 };
enum { MAX_FRAMES = 16, MAX_SIZE = 256, BATCH = 5, PATIENCE = 20000 };

typedef struct {
    int frames;
    int size[MAX_FRAMES];
    char frame[MAX_FRAMES][MAX_SIZE];
} message_t;

static void *(*ctx_new)(void);
static int (*ctx_term)(void *);
static void *(*open_socket)(void *, int);
static int (*close_socket)(void *);
static int (*bind_socket)(void *, const char *);
static int (*connect_socket)(void *, const char *);
static int (*set)(void *, int, const void *, size_t);
static int (*get)(void *, int, void *, size_t *);
static int (*send_frame)(void *, const void *, size_t, int);
static int (*receive_frame)(void *, void *, size_t, int);
static const char *(*text_of)(int);
static int (*error)(void);

static int check(int code)
{
    if (code < 0) {
        fprintf(stderr, "peer: %s\n", text_of(error()));
        exit(1);
    }
    return code;
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "peer: %s\n", dlerror());
        exit(2);
    }
    ctx_new = dlsym(library, "zmq_ctx_new");
    ctx_term = dlsym(library, "zmq_ctx_term");
    open_socket = dlsym(library, "zmq_socket");
    close_socket = dlsym(library, "zmq_close");
    bind_socket = dlsym(library, "zmq_bind");
    connect_socket = dlsym(library, "zmq_connect");
    set = dlsym(library, "zmq_setsockopt");
    get = dlsym(library, "zmq_getsockopt");
    send_frame = dlsym(library, "zmq_send");
    receive_frame = dlsym(library, "zmq_recv");
    text_of = dlsym(library, "zmq_strerror");
    error = dlsym(library, "zmq_errno");
}

static void set_number(void *socket, int option, int value)
{
    check(set(socket, option, &value, sizeof value));
}

static void set_text(void *socket, int option, const char *value)
{
    check(set(socket, option, value, strlen(value)));
}

static int get_number(void *socket, int option)
{
    int value;
    size_t size = sizeof value;
    check(get(socket, option, &value, &size));
    return value;
}

static void secure(void *socket, int is_server, char **words)
{
    if (!strcmp(words[0], "plain")) {
        if (is_server) {
            set_number(socket, PLAIN_SERVER, 1);
        } else {
            set_text(socket, PLAIN_USERNAME, words[1]);
            set_text(socket, PLAIN_PASSWORD, words[2]);
        }
    } else if (!strcmp(words[0], "curve")) {
        if (is_server) {
            set_number(socket, CURVE_SERVER, 1);
            set_text(socket, CURVE_SECRETKEY, words[1]);
        } else {
            set_text(socket, CURVE_SERVERKEY, words[1]);
            set_text(socket, CURVE_PUBLICKEY, words[2]);
            set_text(socket, CURVE_SECRETKEY, words[3]);
        }
    }
}

static void append(message_t *message, const char *frame, int size)
{
    memcpy(message->frame[message->frames], frame, size);
    message->size[message->frames++] = size;
}

static int receive(void *socket, message_t *message, int flags)
{
    message->frames = 0;
    do {
        int size = receive_frame(socket, message->frame[message->frames], MAX_SIZE, flags);
        if (size < 0)
            return 0;
        message->size[message->frames++] = size;
    } while (get_number(socket, RCVMORE) && message->frames < MAX_FRAMES);
    return 1;
}

static void send_message(void *socket, const message_t *message)
{
    for (int i = 0; i < message->frames; i++)
        check(send_frame(socket, message->frame[i], message->size[i],
                         i + 1 < message->frames ? SNDMORE : 0));
}

/* The payload of a request, or of its reply. */
static void append_payload(message_t *message, int number, int is_reply)
{
    char text[32];
    int size = snprintf(text, sizeof text, is_reply ? "REQUEST %d" : "request %d", number);
    append(message, text, size);
    append(message, is_reply ? "BODY" : "body", 4);
}

static int are_equal(const message_t *one, const message_t *other)
{
    if (one->frames != other->frames)
        return 0;
    for (int i = 0; i < one->frames; i++)
        if (one->size[i] != other->size[i] || memcmp(one->frame[i], other->frame[i], one->size[i]))
            return 0;
    return 1;
}

static int ask_in_turn(void *socket, int count)
{
    int right = 0;
    for (int number = 0; number < count; number++) {
        message_t message = {0}, expected = {0};
        append_payload(&message, number, 0);
        append_payload(&expected, number, 1);
        send_message(socket, &message);
        right += receive(socket, &message, 0) && are_equal(&message, &expected);
    }
    return right;
}

static void begin(message_t *message, int number, int is_reply)
{
    char correlation[16];
    message->frames = 0;
    append(message, correlation, snprintf(correlation, sizeof correlation, "c-%d", number));
    append(message, "", 0);
    append_payload(message, number, is_reply);
}

static int ask_at_once(void *socket, int count)
{
    char *seen = calloc(count, 1);
    message_t message, expected;
    int right = 0;
    for (int number = 0; number < count; number++) {
        begin(&message, number, 0);
        send_message(socket, &message);
    }
    while (right < count && receive(socket, &message, 0)) {
        message.frame[0][message.size[0]] = 0;
        int number = atoi(message.frame[0] + 2);
        begin(&expected, number, 1);
        if (number < 0 || number >= count || seen[number]++ || !are_equal(&message, &expected))
            break;
        right++;
    }
    free(seen);
    return right;
}

static void make_reply(message_t *message, int begins)
{
    for (int i = begins; i < message->frames; i++)
        for (int j = 0; j < message->size[i]; j++)
            message->frame[i][j] = toupper(message->frame[i][j]);
}

static int is_frame(const message_t *message, int number, const char *text)
{
    return message->frames > number && message->size[number] == (int)strlen(text)
        && !memcmp(message->frame[number], text, strlen(text));
}

typedef struct {
    void *socket;
    char **words;
} door_t;

/* Answer what libzmq asks of each client, by RFC 27, until the context ends. */
static void *open_door(void *argument)
{
    door_t *door = argument;
    message_t message, reply;
    while (receive(door->socket, &message, 0)) {
        int may_enter = is_frame(&message, 5, "PLAIN") && is_frame(&message, 6, door->words[1])
            && is_frame(&message, 7, door->words[2]);
        reply.frames = 0;
        append(&reply, "1.0", 3);
        append(&reply, message.frame[1], message.size[1]);
        append(&reply, may_enter ? "200" : "400", 3);
        append(&reply, "", 0);
        append(&reply, door->words[1], strlen(door->words[1]));
        append(&reply, "", 0);
        send_message(door->socket, &reply);
    }
    check(close_socket(door->socket));
    return NULL;
}

static int payload_of(const message_t *message)
{
    for (int i = 0; i < message->frames; i++)
        if (!message->size[i])
            return i + 1;
    return message->frames;
}

static int answer(void *socket, int is_router)
{
    static message_t held[BATCH];
    int answered = 0, count = 0;
    struct pollfd polled[] = {{0, POLLIN, 0}, {get_number(socket, FD), POLLIN, 0}};
    for (;;) {
        /* The descriptor is an edge: read until there is nothing. */
        while (receive(socket, &held[count], DONTWAIT)) {
            make_reply(&held[count], is_router ? payload_of(&held[count]) : 0);
            count++;
            if (!is_router || count == BATCH)
                while (count)
                    send_message(socket, &held[--count]), answered++;
        }
        while (count)
            send_message(socket, &held[--count]), answered++;
        poll(polled, 2, 5);
        if (polled[0].revents)
            return answered;
    }
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    load(argv[1]);
    const char *role = argv[2], *endpoint = argv[3];
    int count = atoi(argv[4]), is_server = !strcmp(role, "rep") || !strcmp(role, "router");
    int type = !strcmp(role, "req") ? REQ : !strcmp(role, "rep") ? REP
             : !strcmp(role, "dealer") ? DEALER : ROUTER;
    void *context = ctx_new(), *socket = open_socket(context, type);
    door_t door = {NULL, argv + 5};
    pthread_t door_keeper;
    if (is_server && !strcmp(argv[5], "plain")) {
        door.socket = open_socket(context, REP);
        check(bind_socket(door.socket, "inproc://zeromq.zap.01"));
        pthread_create(&door_keeper, NULL, open_door, &door);
    }
    secure(socket, is_server, argv + 5);
    set_number(socket, LINGER, 1000);
    set_number(socket, RCVTIMEO, PATIENCE);
    set_number(socket, SNDTIMEO, PATIENCE);
    int result;
    if (is_server) {
        char bound[256];
        size_t size = sizeof bound;
        check(bind_socket(socket, endpoint));
        check(get(socket, LAST_ENDPOINT, bound, &size));
        puts(bound);
        fflush(stdout);
        result = answer(socket, type == ROUTER);
    } else {
        check(connect_socket(socket, endpoint));
        result = type == REQ ? ask_in_turn(socket, count) : ask_at_once(socket, count);
    }
    printf("%d\n", result);
    check(close_socket(socket));
    check(ctx_term(context));
    if (door.socket)
        pthread_join(door_keeper, NULL);
    return 0;
}
