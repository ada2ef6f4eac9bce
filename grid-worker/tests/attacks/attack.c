/* Commands that mean harm. Each ends with 0 where it did what it meant to, and with another code where it was
 * kept from it. What takes resources is bounded, so that a limit that fails fails a test and not the machine. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char block[1 << 20];

static int fail(const char *what) { perror(what); return 1; }
static int done(int result, const char *what) { return result == 0 ? 0 : fail(what); }

static int fork_many(int count) {
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0) { sleep(2); return fail("fork"); }
        if (child == 0) { pause(); _exit(0); }
    }
    sleep(2); /* what watches has looked by then */
    return 0;
}

static int memory(size_t megabytes) {
    for (size_t i = 0; i < megabytes; i++) {
        char *piece = malloc(sizeof block);
        if (!piece) return fail("malloc");
        memset(piece, 1, sizeof block);
    }
    sleep(2);
    return 0;
}

static int memory_in_children(int children, size_t megabytes) {
    for (int i = 0; i < children; i++) {
        pid_t child = fork();
        if (child < 0) return fail("fork");
        if (child == 0) { memory(megabytes); pause(); _exit(0); }
    }
    sleep(3);
    return 0;
}

static int fill(const char *name, int megabytes) {
    int file = open(name, O_WRONLY | O_CREAT, 0644);
    if (file < 0) return fail(name);
    for (int i = 0; i < megabytes; i++)
        if (write(file, block, sizeof block) < 0) return fail("write");
    return close(file);
}

static int fill_many(int files, int megabytes) {
    char name[32];
    for (int i = 0; i < files; i++) {
        snprintf(name, sizeof name, "filler-%d", i);
        if (fill(name, megabytes)) return 1;
    }
    sleep(3);
    return 0;
}

static int flood(int file, int megabytes) {
    for (int i = 0; i < megabytes; i++)
        if (write(file, block, sizeof block) < 0) return fail("write");
    sleep(2);
    return 0;
}

static int overwrite(const char *path) {
    int file = open(path, O_RDWR);
    if (file < 0) return fail(path);
    return write(file, "evil", 4) == 4 ? 0 : fail("write");
}

static int read_some(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) return fail(path);
    return read(file, block, 16) > 0 ? 0 : fail("read");
}

static int show(const char *path) {
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, block, sizeof block);
    return length < 0 || write(1, block, length) != length ? fail(path) : 0;
}

static int make(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    return file < 0 ? fail(path) : close(file);
}

static int connect_tcp(const char *port, const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) return fail(address);
    return done(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to), "connect");
}

/* A server that closes the connection has refused; one that answers has not. */
static int call_runner(const char *path) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int peer = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(peer, (struct sockaddr *)&to, sizeof to)) return fail("connect");
    signal(SIGPIPE, SIG_IGN);
    if (write(peer, preface, sizeof preface) < 0) return fail("write");
    return read(peer, block, 64) > 0 ? 0 : fail("read");
}

static int bind_socket(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    return done(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&at, sizeof at), "bind");
}

static int setuid_file(void) {
    struct stat found;
    if (fill("suid", 1) || chmod("suid", 06755) || stat("suid", &found)) return fail("suid");
    return seteuid(0) == 0 ? 0 : fail("seteuid");
}

static int daemonize(void) {
    for (int i = 0; i < 3; i++)
        if (fork() == 0) {
            setsid();
            signal(SIGTERM, SIG_IGN);
            signal(SIGHUP, SIG_IGN);
            if (fork() == 0) { sleep(1000); _exit(0); }
            _exit(0);
        }
    return 0;
}

static int bury(int levels) {
    for (int i = 0; i < levels; i++)
        if (mkdir("d", 0700) || chdir("d")) return fail("bury");
    return chmod(".", 0);
}

static int lock_up(void) {
    return mkdir("locked", 0700) || mkdir("locked/in", 0700) || fill("locked/in/file", 1) ||
           chmod("locked/in/file", 0) || chmod("locked/in", 0) || chmod("locked", 01000);
}

static int stubborn(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    while (1) pause();
    return 0;
}

static int swap_for_link(const char *name, const char *target) {
    if (unlink(name)) rmdir(name);
    return done(symlink(target, name), "symlink");
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    const char *a = count > 2 ? words[2] : "";
    const char *b = count > 3 ? words[3] : "";
#define IS(name) (strcmp(what, name) == 0)
    if (IS("fork")) return fork_many(atoi(a));
    if (IS("memory")) return memory(atoi(a));
    if (IS("memory-in-children")) return memory_in_children(atoi(a), atoi(b));
    if (IS("fill")) return fill("filler", atoi(a));
    if (IS("fill-many")) return fill_many(atoi(a), atoi(b));
    if (IS("flood")) return flood(atoi(a), atoi(b));
    if (IS("overwrite")) return overwrite(a);
    if (IS("chmod")) return done(chmod(a, 0777), a);
    if (IS("unlink")) return done(unlink(a), a);
    if (IS("read")) return read_some(a);
    if (IS("show")) return show(a);
    if (IS("identity")) return printf("%d:%d\n", getuid(), getgid()) < 0;
    if (IS("list")) return open(a, O_RDONLY | O_DIRECTORY) < 0 ? fail(a) : 0;
    if (IS("make")) return make(a);
    if (IS("rename")) return done(rename(a, b), a);
    if (IS("kill")) return done(kill(atoi(a), SIGKILL), "kill");
    if (IS("ptrace")) return done(ptrace(PTRACE_SEIZE, atoi(a), 0, 0) < 0, "ptrace");
    if (IS("ptrace-parent")) return done(ptrace(PTRACE_SEIZE, getppid(), 0, 0) < 0, "ptrace");
    if (IS("setuid")) return done(setuid(0), "setuid");
    if (IS("setuid-file")) return setuid_file();
    if (IS("mount")) return done(mount("tmpfs", "/", "tmpfs", 0, NULL), "mount");
    if (IS("chroot")) return done(chroot("/"), "chroot");
    if (IS("device")) return done(mknod("device", S_IFBLK | 0600, makedev(8, 0)), "mknod");
    if (IS("memory-device")) return done(mknod("device", S_IFCHR | 0600, makedev(1, 1)), "mknod");
    if (IS("namespace")) return done(unshare(CLONE_NEWUSER), "unshare");
    if (IS("hostname")) return done(sethostname("evil", 4), "sethostname");
    if (IS("limits")) {
        struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
        return done(setrlimit(RLIMIT_CORE, &limit), "setrlimit");
    }
    if (IS("tcp")) return connect_tcp(a, b);
    if (IS("call-runner")) return call_runner(a);
    if (IS("fifo")) return done(mkfifo(a, 0666), a);
    if (IS("socket")) return bind_socket(a);
    if (IS("daemonize")) return daemonize();
    if (IS("bury")) return bury(atoi(a));
    if (IS("lock")) return lock_up();
    if (IS("stubborn")) return stubborn();
    if (IS("link")) return swap_for_link(a, b);
    fprintf(stderr, "no such attack: %s\n", what);
    return 99;
}
