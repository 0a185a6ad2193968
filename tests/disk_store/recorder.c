/* Records what a process writes into the files of one folder, and what it makes durable, in order.
 *
 * Preloaded, it stands between SQLite and the system. The record is a row of entries, each a kind
 * ('w' write, 't' truncate, 's' sync, 'u' unlink, 'a' acknowledged), the length of the file's name,
 * an offset and a length, both in 8 bytes, the name, and for a write the data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record_fd = -1;
static const char *folder;
static ssize_t (*real_write)(int, const void *, size_t);

__attribute__((constructor)) static void start(void) {
    folder = getenv("RECORDED_FOLDER");
    real_write = dlsym(RTLD_NEXT, "write");
    if (folder)
        record_fd = open(getenv("RECORD"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put(char kind, const char *name, long long offset, long long length, const void *data) {
    unsigned char head[18] = {(unsigned char)kind, (unsigned char)strlen(name)};
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 8);
    real_write(record_fd, head, sizeof head);
    real_write(record_fd, name, strlen(name));
    if (data)
        real_write(record_fd, data, length);
}

/* The name of a file in the folder, or NULL for any other. */
static const char *named(int fd, char *path) {
    char link[64];
    ssize_t length;
    if (record_fd < 0)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    path[length] = 0;
    size_t head = strlen(folder);
    if (strncmp(path, folder, head) || path[head] != '/')
        return NULL;
    return path + head + 1;
}

#define RECORDED(kind, fd, offset, length, data, call)            \
    char path[PATH_MAX];                                          \
    const char *name = named(fd, path);                           \
    if (!name)                                                    \
        return call;                                              \
    pthread_mutex_lock(&lock);                                    \
    __typeof__(call) result = call;                               \
    if (result >= 0)                                              \
        put(kind, name, offset, length, data);                    \
    pthread_mutex_unlock(&lock);                                  \
    return result;

#define REAL(name, type, ...) ((type)dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    RECORDED('w', fd, offset, result, data,
             REAL(pwrite, ssize_t(*)(int, const void *, size_t, off_t), fd, data, length, offset))
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    RECORDED('w', fd, offset, result, data,
             REAL(pwrite64, ssize_t(*)(int, const void *, size_t, off64_t), fd, data, length, offset))
}

int ftruncate(int fd, off_t length) {
    RECORDED('t', fd, length, 0, NULL, REAL(ftruncate, int (*)(int, off_t), fd, length))
}

int ftruncate64(int fd, off64_t length) {
    RECORDED('t', fd, length, 0, NULL, REAL(ftruncate64, int (*)(int, off64_t), fd, length))
}

/* Not asked of the disk: what counts is that it was asked for. */
int fsync(int fd) { RECORDED('s', fd, 0, 0, NULL, 0) }

int fdatasync(int fd) { RECORDED('s', fd, 0, 0, NULL, 0) }

int unlink(const char *path) {
    int result = REAL(unlink, int (*)(const char *), path);
    size_t head = folder ? strlen(folder) : 0;
    if (record_fd >= 0 && !result && !strncmp(path, folder, head) && path[head] == '/') {
        pthread_mutex_lock(&lock);
        put('u', path + head + 1, 0, 0, NULL);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

/* What a writer says once it knows that a number is stored. */
void acknowledged(long long number) {
    pthread_mutex_lock(&lock);
    put('a', "", number, 0, NULL);
    pthread_mutex_unlock(&lock);
}
