/* The least that does the work: no decision, no history, no state.
 *
 *   floor mirror SRC DST [KEEP]   inotify event -> read, write, fsync, rename; with KEEP the file that is
 *                                 about to be replaced is copied there and fsynced first
 *   floor copy SRC DST            every regular file of one or two levels: read, write, fsync, rename
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH 4096
static char *names[1 << 18];
static char bytes[1 << 20];
static unsigned long kept;

/* Copies `from` to `to` and fsyncs it. False: `from` is not there. */
static int copy(const char *from, const char *to) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) return 0;
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) exit(3);
    for (ssize_t n; (n = read(in, bytes, sizeof bytes)) > 0;)
        if (write(out, bytes, n) != n) exit(4);
    if (fsync(out)) exit(5);
    close(in);
    close(out);
    return 1;
}

static void replace(const char *from, const char *dir, const char *file, const char *keep) {
    char temp[PATH], to[PATH], old[PATH];
    snprintf(temp, sizeof temp, "%s/.%s.new", dir, file);
    snprintf(to, sizeof to, "%s/%s", dir, file);
    if (keep) {
        snprintf(old, sizeof old, "%s/%lu", keep, kept++);
        copy(to, old);
    }
    if (copy(from, temp) && rename(temp, to)) exit(6);
}

static void copy_tree(const char *from, const char *to, int depth) {
    DIR *d = opendir(from);
    if (!d) exit(7);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char a[PATH], b[PATH];
        snprintf(a, sizeof a, "%s/%s", from, e->d_name);
        snprintf(b, sizeof b, "%s/%s", to, e->d_name);
        if (e->d_type != DT_DIR) replace(a, to, e->d_name, NULL);
        else if (depth) {
            mkdir(b, 0755);
            copy_tree(a, b, depth - 1);
        }
    }
    closedir(d);
}

static int mirror(const char *from, const char *to, const char *keep) {
    static char events[1 << 18] __attribute__((aligned(8)));
    int fd = inotify_init1(IN_CLOEXEC);
    DIR *d = opendir(from);
    if (fd < 0 || !d) return 7;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s", from, e->d_name);
        int wd = inotify_add_watch(fd, path, IN_CLOSE_WRITE | IN_MOVED_TO);
        if (wd > 0 && wd < 1 << 18) names[wd] = strdup(e->d_name);
    }
    closedir(d);
    puts("ready");
    fflush(stdout);
    for (ssize_t n; (n = read(fd, events, sizeof events)) > 0;)
        for (char *p = events; p < events + n;) {
            struct inotify_event *e = (void *)p;
            size_t len = e->len ? strlen(e->name) : 0;
            if (len > 5 && !strcmp(e->name + len - 5, ".json") && e->wd > 0 && names[e->wd]) {
                char a[PATH], b[PATH];
                snprintf(a, sizeof a, "%s/%s/%s", from, names[e->wd], e->name);
                snprintf(b, sizeof b, "%s/%s", to, names[e->wd]);
                replace(a, b, e->name, keep);
            }
            p += sizeof *e + e->len;
        }
    return 1;
}

int main(int argc, char **argv) {
    if (argc >= 4 && !strcmp(argv[1], "mirror")) return mirror(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    if (argc == 4 && !strcmp(argv[1], "copy")) {
        copy_tree(argv[2], argv[3], 1);
        return 0;
    }
    return 2;
}
