/* Load over TLS connections that stay open: `kept CLIENTS SECONDS RATE PORT...`, on loopback.
 *
 * The requests are on stdin, each after a line with its length; clients go round them, each from another one on, and
 * are spread over the ports. With a RATE above 0, so many requests are sent a second by the clock, and a latency counts
 * from the moment at which the request was due: a server that stalls is not asked less.
 *
 * Prints "requests failures p50 p99 per_second", latencies in microseconds. An answer counts when it is a 200.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 2000000
#define ROOM 65536

static SSL_CTX *context;
static char **requests;
static int *lengths, request_count;
static int clients, port_count, *ports;
static double began, seconds, rate;
static pthread_barrier_t ready;

struct client {
    pthread_t thread;
    int number;
    float *latencies;
    long requests, failures, room;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void wait_until(double moment) {
    struct timespec t = {.tv_sec = (time_t)moment, .tv_nsec = (long)((moment - (time_t)moment) * 1e9)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static SSL *connected(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
    struct timeval patience = {.tv_sec = 10};
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    SSL *ssl = SSL_new(context);
    if (connect(s, (struct sockaddr *)&address, sizeof address) || !SSL_set_fd(ssl, s) || SSL_connect(ssl) != 1) {
        fprintf(stderr, "nobody answers at port %d\n", port);
        exit(1);
    }
    return ssl;
}

/* 1 for a 200, 0 for another answer, -1 where there is none. */
static int ask(SSL *ssl, const char *request, int length) {
    char answer[ROOM + 1];
    int got = 0, whole = 0;
    if (SSL_write(ssl, request, length) != length) return -1;
    while (!whole || got < whole) {
        int n = SSL_read(ssl, answer + got, ROOM - got);
        if (n <= 0) return -1;
        got += n;
        answer[got] = 0;
        char *body = whole ? NULL : strstr(answer, "\r\n\r\n");
        if (body) {
            char *said = strcasestr(answer, "\r\ncontent-length:");
            if (!said || said > body) return -1;
            whole = body + 4 - answer + atoi(said + 17);
        }
    }
    return memcmp(answer, "HTTP/1.1 200", 12) == 0;
}

static void *run(void *argument) {
    struct client *c = argument;
    SSL *ssl = connected(ports[c->number % port_count]);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready); /* `began` is known */
    for (long k = 0; c->requests < c->room; k++) {
        double due = rate > 0 ? began + (k * clients + c->number) / rate : now();
        if (due >= began + seconds) break;
        if (rate > 0) wait_until(due);
        int which = (k * clients + c->number) % request_count, answered = ask(ssl, requests[which], lengths[which]);
        if (answered == 1) c->latencies[c->requests++] = (now() - due) * 1e6;
        else c->failures++;
        if (answered < 0) ssl = connected(ports[c->number % port_count]);
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    clients = atoi(argv[1]);
    seconds = atof(argv[2]);
    rate = atof(argv[3]);
    port_count = argc - 4;
    ports = calloc(port_count, sizeof *ports);
    for (int i = 0; i < port_count; i++) ports[i] = atoi(argv[4 + i]);
    for (int length; scanf("%d%*1[\n]", &length) == 1; request_count++) {
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        lengths = realloc(lengths, (request_count + 1) * sizeof *lengths);
        requests[request_count] = malloc(length);
        lengths[request_count] = length;
        if (fread(requests[request_count], 1, length, stdin) != (size_t)length) return 2;
    }
    if (!request_count) return 2;
    context = SSL_CTX_new(TLS_client_method()); /* whoever answers on loopback is believed */
    struct client *all = calloc(clients, sizeof *all);
    float *latencies = malloc(sizeof(float) * MOST);
    pthread_barrier_init(&ready, NULL, clients + 1);
    for (int i = 0; i < clients; i++) {
        all[i].number = i;
        all[i].room = MOST / clients;
        all[i].latencies = latencies + i * all[i].room;
        pthread_create(&all[i].thread, NULL, run, &all[i]);
    }
    pthread_barrier_wait(&ready);
    began = now();
    pthread_barrier_wait(&ready);
    long answered = 0, failures = 0;
    for (int i = 0; i < clients; i++) {
        pthread_join(all[i].thread, NULL);
        memmove(latencies + answered, all[i].latencies, sizeof(float) * all[i].requests);
        answered += all[i].requests;
        failures += all[i].failures;
    }
    double took = now() - began;
    qsort(latencies, answered, sizeof(float), ascending);
    float p50 = answered ? latencies[answered / 2] : 0, p99 = answered ? latencies[answered * 99 / 100] : 0;
    printf("%ld %ld %.1f %.1f %.0f\n", answered, failures, p50, p99, answered / took);
    return 0;
}
