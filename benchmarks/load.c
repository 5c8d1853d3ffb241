/* Load on a Unix socket, one connection per request: `load SOCKET CLIENTS SECONDS [BYTES START]`, the request on stdin.
 *
 * Prints "requests failures p50 p99 per_second", latencies in microseconds. An answer counts when it begins with START
 * ("HTTP/1.1 200") and the server has closed after it; with BYTES, once there are as many, for servers that do not close.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MOST 2000000

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char request[65536];
static size_t request_length;
static double until;
static size_t enough;
static const char *start_of_answer = "HTTP/1.1 200";
static size_t start_length = 12;

struct client {
    pthread_t thread;
    float *latencies;
    long requests, failures, room;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int ask(void) {
    char answer[65536];
    size_t got = 0;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) return 0;
    struct timeval patience = {.tv_sec = 10};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int good = connect(s, (struct sockaddr *)&address, sizeof address) == 0;
    good = good && send(s, request, request_length, MSG_NOSIGNAL) == (ssize_t)request_length;
    while (good && !(enough && got >= enough)) {
        ssize_t n = recv(s, answer + got, sizeof answer - got, 0);
        if (n < 0) good = 0;
        if (n <= 0) break;
        got += n;
    }
    close(s);
    return good && got >= start_length && memcmp(answer, start_of_answer, start_length) == 0;
}

static void *run(void *argument) {
    struct client *c = argument;
    for (double start = now(), end; start < until && c->requests < c->room; start = end) {
        int good = ask();
        end = now();
        if (good) c->latencies[c->requests++] = (end - start) * 1e6;
        else c->failures++;
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6) return 2;
    if (argc == 6) {
        enough = strtoul(argv[4], NULL, 10);
        start_of_answer = argv[5];
        start_length = strlen(argv[5]);
    }
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    int clients = atoi(argv[2]);
    double seconds = atof(argv[3]);
    request_length = fread(request, 1, sizeof request, stdin);
    struct client *all = calloc(clients, sizeof *all);
    float *latencies = malloc(sizeof(float) * MOST);
    double start = now();
    until = start + seconds;
    for (int i = 0; i < clients; i++) {
        all[i].room = MOST / clients;
        all[i].latencies = latencies + i * all[i].room;
        pthread_create(&all[i].thread, NULL, run, &all[i]);
    }
    long requests = 0, failures = 0;
    for (int i = 0; i < clients; i++) {
        pthread_join(all[i].thread, NULL);
        memmove(latencies + requests, all[i].latencies, sizeof(float) * all[i].requests);
        requests += all[i].requests;
        failures += all[i].failures;
    }
    double took = now() - start;
    qsort(latencies, requests, sizeof(float), ascending);
    float p50 = requests ? latencies[requests / 2] : 0, p99 = requests ? latencies[requests * 99 / 100] : 0;
    printf("%ld %ld %.1f %.1f %.0f\n", requests, failures, p50, p99, requests / took);
    return 0;
}
