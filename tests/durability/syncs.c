/* Loaded into lokid with LD_PRELOAD. Syncs of the database and its log do what the file $SYNC_FAULT says: "fail" lets
 * them fail with EIO, a number lets them take so many milliseconds more; without the file they are as always. Each is
 * written down in $SYNC_FAULT.calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sync_as_told(int fd, long how) {
    char link[64], path[4096], told[16] = "", log[4096];
    const char *fault = getenv("SYNC_FAULT");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    const char *name = strrchr(path, '/');
    if (!fault || !name || strncmp(name, "/loki.db", 8) != 0 || strstr(name, ".lock"))
        return (int)syscall(how, fd);

    FILE *file = fopen(fault, "r");
    if (file) {
        if (!fgets(told, sizeof told, file)) told[0] = 0;
        fclose(file);
    }
    snprintf(log, sizeof log, "%s.calls", fault);
    if ((file = fopen(log, "a"))) {
        fprintf(file, "%s %s\n", name + 1, told[0] ? told : "sound");
        fclose(file);
    }
    if (strncmp(told, "fail", 4) == 0) {
        errno = EIO;
        return -1;
    }
    usleep((useconds_t)atoi(told) * 1000);
    return (int)syscall(how, fd);
}

int fsync(int fd) { return sync_as_told(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_as_told(fd, SYS_fdatasync); }
