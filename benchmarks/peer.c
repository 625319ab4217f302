/* The other end of every benchmark, over the libzmq that pyzmq has loaded.

   As a program:  peer LIBZMQ ROLE ENDPOINTS COUNT SIZE FRAMES REPORT
   As a library:  peer_run(), with the caller's context, which is how inproc is reached.

   ROLE is one of
     send     PUSH, a socket for each of ENDPOINTS (comma-separated), one message to each in turn
     receive  PULL
     ask      REQ: COUNT round trips, one after another
     echo     REP: answers COUNT requests
     route    ROUTER: answers COUNT requests, of any number of frames, with what came
     ping     REQ: COUNT round trips, PAUSE microseconds apart (given in place of FRAMES), fewer if
              STAY ends
     flood    PUSH, a socket for each of ENDPOINTS, to each in turn what it takes, until STAY ends
     clog     DEALER, FRAMES of them: each sends COUNT requests, and reads no reply until STAY ends
     window   DEALER: requests, FRAMES of them outstanding, until STAY ends
     proxy    zmq_proxy() from a PULL to a PUSH, until it is killed

   An endpoint that begins with @ is bound, any other is connected. Where they were bound, separated
   by commas, is written to the descriptor REPORT, if that is not -1. STAY is the standard input of
   the program.

   A frame is filled with one byte, which goes with its number in the stream. The sum of these
   bytes over the last frames of all messages is the checksum that both ends must agree on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PUSH = 8, PULL = 7, REQ = 3, REP = 4, DEALER = 5, ROUTER = 6 };
enum { DONTWAIT = 1, SNDMORE = 2 };
enum { RCVBUF = 12, LINGER = 17, RCVHWM = 24, RCVTIMEO = 27, LAST_ENDPOINT = 32 };
enum { MAX_SOCKETS = 1000 };

/* Bytes that the kernel keeps for a connection that is to be clogged. */
enum { SMALL_BUFFER = 4096 };

typedef struct { void *opaque[8]; } message_t;

static struct {
    void *(*ctx_new)(void);
    int (*ctx_term)(void *);
    void *(*socket)(void *, int);
    int (*close)(void *);
    int (*bind)(void *, const char *);
    int (*connect)(void *, const char *);
    int (*setsockopt)(void *, int, const void *, size_t);
    int (*getsockopt)(void *, int, void *, size_t *);
    int (*send)(void *, const void *, size_t, int);
    int (*proxy)(void *, void *, void *);
    int (*msg_init)(message_t *);
    int (*msg_recv)(message_t *, void *, int);
    int (*msg_send)(message_t *, void *, int);
    int (*msg_close)(message_t *);
    int (*msg_more)(message_t *);
    unsigned char *(*msg_data)(message_t *);
    const char *(*strerror)(int);
    int (*error)(void);
} zmq;

typedef struct {
    double seconds;             /* from the first message or request to the last */
    long messages;
    unsigned long long checksum;
    double delay_50, delay_99, delay_max; /* of a round trip, in seconds */
} result_t;

static void *find(void *library, const char *name)
{
    void *address = dlsym(library, name);
    if (!address) {
        fprintf(stderr, "peer: %s\n", dlerror());
        exit(2);
    }
    return address;
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "peer: %s\n", dlerror());
        exit(2);
    }
    zmq.ctx_new = find(library, "zmq_ctx_new");
    zmq.ctx_term = find(library, "zmq_ctx_term");
    zmq.socket = find(library, "zmq_socket");
    zmq.close = find(library, "zmq_close");
    zmq.bind = find(library, "zmq_bind");
    zmq.connect = find(library, "zmq_connect");
    zmq.setsockopt = find(library, "zmq_setsockopt");
    zmq.getsockopt = find(library, "zmq_getsockopt");
    zmq.send = find(library, "zmq_send");
    zmq.proxy = find(library, "zmq_proxy");
    zmq.msg_init = find(library, "zmq_msg_init");
    zmq.msg_recv = find(library, "zmq_msg_recv");
    zmq.msg_send = find(library, "zmq_msg_send");
    zmq.msg_close = find(library, "zmq_msg_close");
    zmq.msg_more = find(library, "zmq_msg_more");
    zmq.msg_data = find(library, "zmq_msg_data");
    zmq.strerror = find(library, "zmq_strerror");
    zmq.error = find(library, "zmq_errno");
}

static int check(int code)
{
    if (code < 0) {
        fprintf(stderr, "peer: %s\n", zmq.strerror(zmq.error()));
        exit(1);
    }
    return code;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static unsigned char number(long frame)
{
    return frame % 13 + 1;
}

static void send_all(void **sockets, int n, long count, size_t size, long frames, result_t *result)
{
    unsigned char *body = malloc(size ? size : 1);
    double started = now();
    for (long i = 0; i < count; i++) {
        for (long frame = 0; frame < frames; frame++) {
            unsigned char byte = number(i * frames + frame);
            /* Of a large frame only the ends tell the number: filling it is not what is timed. */
            if (size <= 64)
                memset(body, byte, size);
            else
                body[0] = body[size - 1] = byte;
            check(zmq.send(sockets[i % n], body, size, frame + 1 < frames ? SNDMORE : 0));
            if (frame + 1 == frames)
                result->checksum += byte;
        }
    }
    result->seconds = now() - started;
    result->messages = count;
    free(body);
}

static void receive_all(void *socket, long count, result_t *result)
{
    message_t part;
    double started = 0;
    zmq.msg_init(&part);
    for (long i = 0; i < count; i++) {
        do {
            check(zmq.msg_recv(&part, socket, 0));
        } while (zmq.msg_more(&part));
        result->checksum += zmq.msg_data(&part)[0];
        if (i == 0)
            started = now();
    }
    result->seconds = now() - started;
    result->messages = count;
    zmq.msg_close(&part);
}

static void echo_all(void *socket, long count, result_t *result)
{
    message_t part;
    zmq.msg_init(&part);
    for (long i = 0; i < count; i++) {
        check(zmq.msg_recv(&part, socket, 0));
        result->checksum += zmq.msg_data(&part)[0];
        check(zmq.msg_send(&part, socket, 0));
    }
    result->messages = count;
    zmq.msg_close(&part);
}

static void route_all(void *socket, long count, result_t *result)
{
    message_t part;
    zmq.msg_init(&part);
    for (long i = 0; i < count; i++) {
        int more;
        do {
            check(zmq.msg_recv(&part, socket, 0));
            more = zmq.msg_more(&part);
            if (!more)
                result->checksum += zmq.msg_data(&part)[0];
            check(zmq.msg_send(&part, socket, more ? SNDMORE : 0));
        } while (more);
    }
    result->messages = count;
    zmq.msg_close(&part);
}

static int by_value(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

/* Whether STAY has ended. */
static int is_over(int stay)
{
    struct pollfd one = {stay, POLLIN, 0};
    return stay != -1 && poll(&one, 1, 0) > 0;
}

static void flood_all(void **sockets, int n, size_t size, int stay, result_t *result)
{
    /* Of a receiver that takes them one by one, others are not to wait for a full burst. */
    enum { BURST = 64 };
    unsigned char *body = calloc(1, size);
    while (!is_over(stay)) {
        long before = result->messages;
        for (int i = 0; i < n; i++)
            for (int sent = 0; sent < BURST; sent++) {
                if (zmq.send(sockets[i], body, size, DONTWAIT) < 0) {
                    if (zmq.error() != EAGAIN)
                        check(-1);
                    break;
                }
                result->messages++;
            }
        if (result->messages == before)
            usleep(200);
    }
    free(body);
}

static void request(void *socket, const void *body, size_t size)
{
    check(zmq.send(socket, "", 0, SNDMORE));
    check(zmq.send(socket, body, size, 0));
}

static void clog_all(void **sockets, int n, long count, size_t size, result_t *result)
{
    unsigned char *body = calloc(1, size);
    for (long i = 0; i < count; i++)
        for (int one = 0; one < n; one++)
            request(sockets[one], body, size);
    result->messages = n * count;
    free(body);
}

static void ask_many(void *socket, size_t size, long outstanding, int stay, result_t *result)
{
    int tick = 100;
    unsigned char *body = calloc(1, size);
    message_t part;
    double started = now();
    zmq.msg_init(&part);
    check(zmq.setsockopt(socket, RCVTIMEO, &tick, sizeof tick));
    for (long i = 0; i < outstanding; i++)
        request(socket, body, size);
    while (!is_over(stay)) {
        int got = zmq.msg_recv(&part, socket, 0);
        if (got < 0 && zmq.error() == EAGAIN)
            continue;
        check(got);
        if (zmq.msg_more(&part))
            continue;
        result->messages++;
        request(socket, body, size);
    }
    result->seconds = now() - started;
    zmq.msg_close(&part);
    free(body);
}

static void ask_all(void *socket, long count, size_t size, long pause, int stay, result_t *result)
{
    unsigned char *body = malloc(size);
    double *delays = malloc(count * sizeof *delays);
    message_t part;
    double first = now();
    zmq.msg_init(&part);
    for (long i = 0; i < count && !is_over(stay); i++) {
        double started = now();
        memset(body, number(i), size);
        check(zmq.send(socket, body, size, 0));
        check(zmq.msg_recv(&part, socket, 0));
        delays[i] = now() - started;
        result->messages++;
        result->checksum += zmq.msg_data(&part)[0];
        if (zmq.msg_data(&part)[0] != number(i)) {
            fprintf(stderr, "peer: the answer to another request\n");
            exit(1);
        }
        if (pause)
            usleep(pause);
    }
    result->seconds = now() - first;
    zmq.msg_close(&part);
    if ((count = result->messages)) {
        qsort(delays, count, sizeof *delays, by_value);
        result->delay_50 = delays[count / 2];
        result->delay_99 = delays[count * 99 / 100];
        result->delay_max = delays[count - 1];
    }
    free(delays);
    free(body);
}

/* Connect a socket, or bind it and append to WHERE what became of its endpoint. */
static void attach(void *socket, const char *endpoint, char *where, size_t room)
{
    char bound[256];
    size_t size = sizeof bound;
    if (*endpoint != '@') {
        check(zmq.connect(socket, endpoint));
        return;
    }
    check(zmq.bind(socket, endpoint + 1));
    check(zmq.getsockopt(socket, LAST_ENDPOINT, bound, &size));
    snprintf(where + strlen(where), room - strlen(where), "%s%s", *where ? "," : "", bound);
}

static void set(void *socket, int option, int value)
{
    check(zmq.setsockopt(socket, option, &value, sizeof value));
}

/* Play a role to its end. The sockets are closed, and what they hold still goes out.

   libzmq loses what the receiver has not yet read if a sender closes while the receiver is at its
   high-water mark. So a sender stays until the end of the descriptor STAY, if that is not -1. */
void peer_run(const char *libzmq, void *context, const char *role, const char *endpoints,
              long count, long size, long frames, int report, int stay, result_t *result)
{
    static const struct { const char *name; int type; } roles[] = {
        {"send", PUSH}, {"receive", PULL}, {"ask", REQ}, {"echo", REP}, {"ping", REQ},
        {"route", ROUTER}, {"proxy", PULL}, {"flood", PUSH}, {"clog", DEALER}, {"window", DEALER}};
    void *sockets[MAX_SOCKETS];
    int n = 0, type = -1, is_clog = !strcmp(role, "clog");
    char *list = strdup(endpoints), *rest = list, *endpoint, byte, where[4096] = "";

    load(libzmq);
    memset(result, 0, sizeof *result);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(role, roles[i].name))
            type = roles[i].type;
    while (n < MAX_SOCKETS && (is_clog ? n < frames : !!(endpoint = strsep(&rest, ",")))) {
        sockets[n] = zmq.socket(context, n && !strcmp(role, "proxy") ? PUSH : type);
        if (!sockets[n])
            check(-1);
        set(sockets[n], LINGER, is_clog || !strcmp(role, "flood") ? 0 : -1);
        if (is_clog) {
            set(sockets[n], RCVHWM, 1);
            set(sockets[n], RCVBUF, SMALL_BUFFER);
        }
        attach(sockets[n], is_clog ? list : endpoint, where, sizeof where - 1);
        n++;
    }
    free(list);
    if (report != -1) {
        strcat(where, "\n");
        if (write(report, where, strlen(where)) < 0)
            exit(1);
        close(report);
    }
    if (!strcmp(role, "send"))
        send_all(sockets, n, count, size, frames, result);
    else if (!strcmp(role, "receive"))
        receive_all(sockets[0], count, result);
    else if (!strcmp(role, "echo"))
        echo_all(sockets[0], count, result);
    else if (!strcmp(role, "route"))
        route_all(sockets[0], count, result);
    else if (!strcmp(role, "proxy"))
        zmq.proxy(sockets[0], sockets[1], NULL);
    else if (!strcmp(role, "flood"))
        flood_all(sockets, n, size, stay, result);
    else if (is_clog)
        clog_all(sockets, n, count, size, result);
    else if (!strcmp(role, "window"))
        ask_many(sockets[0], size, frames, stay, result);
    else if (!strcmp(role, "ping"))
        ask_all(sockets[0], count, size, frames, stay, result);
    else
        ask_all(sockets[0], count, size, 0, -1, result);
    if (stay != -1 && (!strcmp(role, "send") || is_clog))
        while (read(stay, &byte, 1) > 0)
            ;
    while (n)
        check(zmq.close(sockets[--n]));
}

int main(int argc, char **argv)
{
    struct rlimit files;
    result_t result;
    void *context;
    if (argc != 8) {
        fprintf(stderr, "usage: peer LIBZMQ ROLE ENDPOINTS COUNT SIZE FRAMES REPORT\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive the contender */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    load(argv[1]);
    context = zmq.ctx_new();
    peer_run(argv[1], context, argv[2], argv[3], atol(argv[4]), atol(argv[5]), atol(argv[6]),
             atoi(argv[7]), 0, &result);
    check(zmq.ctx_term(context));
    printf("{\"seconds\": %.9f, \"messages\": %ld, \"checksum\": %llu, "
           "\"delay_50\": %.9f, \"delay_99\": %.9f, \"delay_max\": %.9f}\n",
           result.seconds, result.messages, result.checksum,
           result.delay_50, result.delay_99, result.delay_max);
    return 0;
}
