/* A tool that can stay: it speaks the persistent worker protocol, in both forms. Each argument of a request is a word and
 * what belongs to it, divided by colons; some are what no tool should do. Without --persistent_worker it does the same
 * once, for the flag files on its command line. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char output[1 << 20];
static char digests[1 << 20];
static int requests;
static int staying;

static void say(const char *text) { strncat(output, text, sizeof output - strlen(output) - 1); }

static void copy(const char *from, const char *to) {
    static char content[1 << 20];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    size_t count = in ? fread(content, 1, sizeof content, in) : 0;
    if (out) fwrite(content, 1, count, out);
    if (in) fclose(in);
    if (out) fclose(out);
}

static void list(void) {
    struct dirent **names;
    int count = scandir(".", &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        if (name[0] == '.' || !strcmp(name, "proc") || !strcmp(name, "dev") || !strcmp(name, "tmp")) continue;
        say(name);
        say(" ");
    }
}

/* Makes a file when it is too late for that. */
static void late(const char *name) {
    if (fork() == 0) {
        usleep(300000);
        close(open(name, O_WRONLY | O_CREAT, 0644));
        _exit(0);
    }
}

static void input(const char *path) {
    char *found = strstr(digests, path);
    if (found) {
        char digest[80] = "";
        sscanf(found + strlen(path), "=%79s", digest);
        say(digest);
    }
}

static void hoard(void) {
    volatile char *all = malloc(400 << 20);
    for (size_t i = 0; all && i < 400 << 20; i += 4096) all[i] = 1;
    pause();
}

/* Does what an argument says; gives the exit code. */
static int obey(char *argument) {
    char *a = strchr(argument, ':'), *b = a ? strchr(a + 1, ':') : NULL;
    if (a) *a++ = 0;
    if (b) *b++ = 0;
    if (!strcmp(argument, "copy")) copy(a, b);
    else if (!strcmp(argument, "list")) list();
    else if (!strcmp(argument, "say")) say(a);
    else if (!strcmp(argument, "late")) late(a);
    else if (!strcmp(argument, "input")) input(a);
    else if (!strcmp(argument, "exit")) return atoi(a);
    else if (staying && !strcmp(argument, "die")) _exit(3);
    else if (staying && !strcmp(argument, "hang")) pause();
    else if (staying && !strcmp(argument, "garbage")) { if (write(1, "\377\377\377\377\377\377\377\377\377\377\377hello", 16) < 0) _exit(4); }
    else if (staying && !strcmp(argument, "memory")) hoard();
    return 0;
}

static void begin(void) {
    sprintf(output, "%s %d: ", staying ? "stayed" : "alone", ++requests);
}

static unsigned varint(void) {
    unsigned value = 0;
    for (int shift = 0;; shift += 7) {
        int byte = getchar();
        if (byte == EOF) exit(0);
        value |= (unsigned)(byte & 127) << shift;
        if (byte < 128) return value;
    }
}

static size_t put_varint(char *to, unsigned value) {
    size_t count = 0;
    for (; value >= 128; value >>= 7) to[count++] = (char)(value | 128);
    to[count++] = (char)value;
    return count;
}

static unsigned from(const char **at) {
    unsigned value = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char byte = (unsigned char)*(*at)++;
        value |= (unsigned)(byte & 127) << shift;
        if (byte < 128) return value;
    }
}

static void answer_proto(int code, int twice) {
    static char message[1 << 20];
    size_t count = 0, length = strlen(output);
    char header[16];
    message[count++] = 0x08;
    count += put_varint(message + count, (unsigned)code);
    message[count++] = 0x12;
    count += put_varint(message + count, (unsigned)length);
    memcpy(message + count, output, length);
    count += length;
    for (int i = 0; i <= twice; i++) {
        fwrite(header, 1, put_varint(header, (unsigned)count), stdout);
        fwrite(message, 1, count, stdout);
    }
    fflush(stdout);
}

static void serve_proto(void) {
    for (;;) {
        unsigned length = varint();
        char *message = malloc(length + 1);
        if (fread(message, 1, length, stdin) != length) exit(0);
        message[length] = 0;
        const char *at = message, *end = message + length;
        int code = 0, twice = 0;
        char *arguments[100];
        int count = 0;
        begin();
        digests[0] = 0;
        while (at < end) {
            unsigned tag = from(&at);
            if ((tag & 7) == 0) { from(&at); continue; }
            unsigned size = from(&at);
            if (tag == 0x0a) arguments[count++] = strndup(at, size);
            if (tag == 0x12) {
                const char *field = at;
                while (field < at + size) {
                    unsigned inner = from(&field), part = from(&field);
                    strncat(digests, field, part);
                    strcat(digests, inner == 0x0a ? "=" : " ");
                    field += part;
                }
            }
            at += size;
        }
        for (int i = 0; i < count; i++) {
            if (!strcmp(arguments[i], "twice")) twice = 1;
            int said = obey(arguments[i]);
            if (said) code = said;
        }
        answer_proto(code, twice);
        free(message);
    }
}

/* Enough of JSON for words without quotes. */
static void serve_json(void) {
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin)) {
        int code = 0;
        char *at = strstr(line, "\"arguments\":[");
        begin();
        if (at) {
            at += strlen("\"arguments\":[");
            while (*at == '"') {
                char *end = strchr(at + 1, '"');
                *end = 0;
                int said = obey(at + 1);
                if (said) code = said;
                at = end + 1;
                if (*at == ',') at++;
            }
        }
        printf("{\"exitCode\": %d, \"output\": \"%s\", \"requestId\": 0}\n", code, output);
        fflush(stdout);
    }
}

int main(int count, char **words) {
    int json = 0, code = 0;
    for (int i = 1; i < count; i++) {
        if (!strcmp(words[i], "--persistent_worker")) staying = 1;
        if (!strcmp(words[i], "--json")) json = 1;
    }
    if (staying) {
        if (json) serve_json(); else serve_proto();
        return 0;
    }
    begin();
    for (int i = 1; i < count; i++) {
        static char line[4096];
        FILE *flags = words[i][0] == '@' ? fopen(words[i] + 1, "r") : NULL;
        while (flags && fgets(line, sizeof line, flags)) {
            line[strcspn(line, "\n")] = 0;
            int said = obey(line);
            if (said) code = said;
        }
    }
    fputs(output, stderr);
    return code;
}
