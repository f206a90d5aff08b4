/*
 * What a program does to the files under one folder, as a log; on request calls that fail or take
 * their time.
 *
 * Loaded with LD_PRELOAD. Everything is passed on to the C library; calls on files outside the
 * folder are not looked at. One lock is held around each call and its record, so that the log has
 * the order in which the kernel saw the calls. Records:
 *
 *     kind u32 | flags u32 | inode u64 | offset u64 | bytes u64 | the bytes
 *
 * Numbers are in the order of the machine's bytes. `log.py` reads them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* With 64-bit file offsets the names below are the symbols themselves, not macros for others. */
#undef open
#undef open64
#undef openat
#undef pwrite
#undef pwritev
#undef ftruncate
#undef mmap

enum kind {
    CREATE = 1, WRITE, SYNC, SYNC_FOLDER, TRUNCATE, RENAME, UNLINK, MAKE_FOLDER,
    MARK, FAILED, MAPPED
};
enum flags { DSYNC = 1 };
enum class { NONE, SYNCS, WRITES };

#define FDS_MAX 4096

struct file {
    uint64_t inode; /* 0: not watched */
    uint32_t flags;
    int folder;
};

static struct file files[FDS_MAX];
static char root[PATH_MAX];
static size_t root_bytes;
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    int class, error, sticky, after, failed;
    long at;
    long seen[3];
} fault;
static int slow_ms[3];

/* ------------------------------------------------------------------ the log */

static void put(const void *data, size_t bytes) {
    const char *at = data;
    while (bytes > 0) {
        long wrote = syscall(SYS_write, log_fd, at, bytes);
        if (wrote < 0) {
            if (errno == EINTR) continue;
            static const char text[] = "recorder: the log cannot be written\n";
            syscall(SYS_write, 2, text, sizeof text - 1);
            _exit(97);
        }
        at += wrote;
        bytes -= (size_t)wrote;
    }
}

static void record(uint32_t kind, uint32_t flags, uint64_t inode, uint64_t offset,
                   const struct iovec *parts, int count) {
    if (log_fd < 0) return;
    uint64_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    struct { uint32_t kind, flags; uint64_t inode, offset, bytes; } head =
        {kind, flags, inode, offset, bytes};
    put(&head, sizeof head);
    for (int i = 0; i < count; i++) put(parts[i].iov_base, parts[i].iov_len);
}

static void record_text(uint32_t kind, uint64_t inode, const char *text) {
    struct iovec part = {(void *)text, strlen(text)};
    record(kind, 0, inode, 0, &part, 1);
}

/* ------------------------------------------------------------------ what is watched */

/* Whether a path lies in the folder; makes it absolute. */
static int inside(int at, const char *path, char full[PATH_MAX]) {
    if (root_bytes == 0) return 0;
    char folder[PATH_MAX] = "";
    if (path[0] != '/' && at == AT_FDCWD) {
        if (!getcwd(folder, sizeof folder)) return 0;
    } else if (path[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t bytes = readlink(link, folder, sizeof folder - 1);
        if (bytes < 0) return 0;
        folder[bytes] = 0;
    }
    size_t bytes = strlen(folder), more = strlen(path);
    if (bytes + more + 2 > PATH_MAX) return 0;
    memcpy(full, folder, bytes);
    if (bytes) full[bytes++] = '/';
    memcpy(full + bytes, path, more + 1);
    return strncmp(full, root, root_bytes) == 0 &&
           (full[root_bytes] == '/' || full[root_bytes] == 0);
}

static struct file *file_of(int fd) {
    if (root_bytes == 0 || fd < 0 || fd >= FDS_MAX || files[fd].inode == 0) return NULL;
    return &files[fd];
}

static void opened(int fd, const char *full, int flags, int existed) {
    struct stat info;
    if (fd < 0 || fd >= FDS_MAX || fstat(fd, &info) != 0) return;
    files[fd] = (struct file){.inode = info.st_ino,
                              .flags = (flags & O_DSYNC) ? DSYNC : 0,
                              .folder = S_ISDIR(info.st_mode)};
    if (!existed) record_text(CREATE, info.st_ino, full);
    else if ((flags & O_TRUNC) && S_ISREG(info.st_mode))
        record(TRUNCATE, 0, info.st_ino, 0, NULL, 0);
}

/* ------------------------------------------------------------------ faults */

/* Whether this call is to fail; counts it, and takes its time. */
static int fails(int class) {
    if (slow_ms[class]) {
        struct timespec time = {slow_ms[class] / 1000, slow_ms[class] % 1000 * 1000000L};
        nanosleep(&time, NULL);
    }
    long seen = ++fault.seen[class];
    if (fault.class != class) return 0;
    if (seen != fault.at && !(fault.sticky && seen > fault.at)) return 0;
    if (!fault.failed) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        record(FAILED, 0, 0, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, NULL, 0);
    }
    fault.failed = 1;
    return 1;
}

/* ------------------------------------------------------------------ for the program itself */

void recorder_watch(const char *folder, const char *log) {
    pthread_mutex_lock(&lock);
    root_bytes = strlen(folder);
    memcpy(root, folder, root_bytes + 1);
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    if (log[0]) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, flags, 0600);
    pthread_mutex_unlock(&lock);
}

void recorder_mark(const void *data, size_t bytes) {
    struct iovec part = {(void *)data, bytes};
    pthread_mutex_lock(&lock);
    record(MARK, 0, 0, 0, &part, 1);
    pthread_mutex_unlock(&lock);
}

void recorder_fail(int class, long at, int error, int sticky, int after) {
    pthread_mutex_lock(&lock);
    memset(&fault, 0, sizeof fault);
    fault.class = class;
    fault.at = at;
    fault.error = error;
    fault.sticky = sticky;
    fault.after = after;
    pthread_mutex_unlock(&lock);
}

void recorder_slow(int class, int ms) {
    pthread_mutex_lock(&lock);
    slow_ms[class] = ms;
    pthread_mutex_unlock(&lock);
}

long recorder_seen(int class) { return fault.seen[class]; }

/* ------------------------------------------------------------------ the C library's names */

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!inside(at, path, full)) return (int)syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat info;
    int existed = stat(full, &info) == 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    int error = errno;
    opened(fd, full, flags, existed);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                   \
        return open_at(AT_FDCWD, path, flags, mode);                    \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                    \
    int name(int at, const char *path, int flags, ...) {                \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                   \
        return open_at(at, path, flags, mode);                          \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (fd >= 0 && fd < FDS_MAX) files[fd].inode = 0;
    return (int)syscall(SYS_close, fd);
}

static ssize_t write_at(int fd, const struct iovec *parts, int count, off_t offset,
                        int positioned) {
    struct file *file = file_of(fd);
    if (!file) {
        if (positioned) return syscall(SYS_pwritev, fd, parts, count, offset, 0);
        return syscall(SYS_writev, fd, parts, count);
    }
    pthread_mutex_lock(&lock);
    if (!positioned) {
        struct stat info;
        int append = (fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &info) == 0;
        offset = append ? info.st_size : lseek(fd, 0, SEEK_CUR);
    }
    int failing = fails(WRITES);
    ssize_t wrote = 0;
    if (!failing || fault.after) {
        wrote = positioned ? syscall(SYS_pwritev, fd, parts, count, offset, 0)
                           : syscall(SYS_writev, fd, parts, count);
        int error = errno;
        if (wrote > 0) {
            struct iovec written[IOV_MAX];
            ssize_t left = wrote;
            int used = 0;
            for (; used < count && left > 0; used++) {
                written[used] = parts[used];
                if ((ssize_t)written[used].iov_len > left) written[used].iov_len = (size_t)left;
                left -= (ssize_t)written[used].iov_len;
            }
            record(WRITE, file->flags, file->inode, (uint64_t)offset, written, used);
        }
        errno = error;
    }
    if (failing) {
        errno = fault.error;
        wrote = -1;
    }
    pthread_mutex_unlock(&lock);
    return wrote;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    if (!file_of(fd)) return syscall(SYS_write, fd, data, bytes);
    struct iovec part = {(void *)data, bytes};
    return write_at(fd, &part, 1, 0, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write_at(fd, parts, count, 0, 0);
}

#define PWRITE(name)                                                    \
    ssize_t name(int fd, const void *data, size_t bytes, off_t offset) { \
        struct iovec part = {(void *)data, bytes};                      \
        return write_at(fd, &part, 1, offset, 1);                       \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name)                                                   \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t offset) { \
        return write_at(fd, parts, count, offset, 1);                   \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

static int synced(int fd, long number) {
    struct file *file = file_of(fd);
    if (!file) return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    int failing = fails(SYNCS);
    int result = 0;
    if (!failing || fault.after) {
        result = (int)syscall(number, fd);
        int error = errno;
        if (result == 0) record(file->folder ? SYNC_FOLDER : SYNC, 0, file->inode, 0, NULL, 0);
        errno = error;
    }
    if (failing) {
        errno = fault.error;
        result = -1;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

#define FTRUNCATE(name)                                                 \
    int name(int fd, off_t size) {                                      \
        struct file *file = file_of(fd);                                \
        if (!file) return (int)syscall(SYS_ftruncate, fd, size);        \
        pthread_mutex_lock(&lock);                                      \
        int result = (int)syscall(SYS_ftruncate, fd, size);             \
        int error = errno;                                              \
        if (result == 0) record(TRUNCATE, 0, file->inode, (uint64_t)size, NULL, 0); \
        pthread_mutex_unlock(&lock);                                    \
        errno = error;                                                  \
        return result;                                                  \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

/* What is written through a map is not seen here: it is told, so that the reader can refuse it. */
#define MMAP(name)                                                      \
    void *name(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) { \
        struct file *file = file_of(fd);                                \
        if (file && (protection & PROT_WRITE) && (flags & MAP_SHARED)) { \
            pthread_mutex_lock(&lock);                                  \
            record(MAPPED, 0, file->inode, 0, NULL, 0);                 \
            pthread_mutex_unlock(&lock);                                \
        }                                                               \
        return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset); \
    }
MMAP(mmap)
MMAP(mmap64)

int rename(const char *from, const char *to) {
    char full_from[PATH_MAX], full_to[PATH_MAX];
    int watched = inside(AT_FDCWD, from, full_from) & inside(AT_FDCWD, to, full_to);
    if (!watched) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    int error = errno;
    if (result == 0) {
        struct iovec parts[2] = {{full_from, strlen(full_from) + 1}, {full_to, strlen(full_to)}};
        record(RENAME, 0, 0, 0, parts, 2);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int with_path(uint32_t kind, int at, const char *path, long number, long argument) {
    char full[PATH_MAX];
    int watched = inside(at, path, full);
    if (!watched) return (int)syscall(number, at, path, argument);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(number, at, path, argument);
    int error = errno;
    struct stat info = {0};
    if (result == 0 && kind == MAKE_FOLDER) stat(full, &info);
    if (result == 0) record_text(kind, info.st_ino, full);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path) { return with_path(UNLINK, AT_FDCWD, path, SYS_unlinkat, 0); }

int unlinkat(int at, const char *path, int flags) {
    return with_path(UNLINK, at, path, SYS_unlinkat, flags);
}

int mkdir(const char *path, mode_t mode) {
    return with_path(MAKE_FOLDER, AT_FDCWD, path, SYS_mkdirat, (long)mode);
}

int rmdir(const char *path) {
    return with_path(UNLINK, AT_FDCWD, path, SYS_unlinkat, AT_REMOVEDIR);
}
