/*
 * What is used of the C library, whose headers a toolchain for kernels lacks. It is found in the
 * compiler's own.
 */

#pragma once

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ssize_t;
typedef long off_t;
typedef int pid_t;

struct pollfd {
	int fd;
	short events, revents;
};

extern char *getenv(const char *name);
extern int unsetenv(const char *name);
extern void *malloc(size_t size);
extern void *calloc(size_t count, size_t size);
extern void free(void *of);
extern void *realloc(void *old, size_t size);
extern int memcmp(const void *a, const void *b, size_t size);
extern void *memcpy(void *to, const void *from, size_t size);
extern int strcmp(const char *a, const char *b);
extern int strncmp(const char *a, const char *b, size_t size);
extern char *strchr(const char *text, int c);
extern char *strrchr(const char *text, int c);
extern char *strstr(const char *text, const char *part);
extern size_t strlen(const char *text);
extern size_t strcspn(const char *text, const char *ends);
extern int atoi(const char *text);
extern int snprintf(char *to, size_t size, const char *format, ...);
extern int openat(int folder, const char *path, int flags, ...);
extern ssize_t pread(int fd, void *to, size_t size, off_t offset);
extern ssize_t read(int fd, void *to, size_t size);
extern ssize_t write(int fd, const void *from, size_t size);
extern off_t lseek(int fd, off_t offset, int whence);
extern ssize_t readlink(const char *path, char *to, size_t size);
extern int memfd_create(const char *name, unsigned flags);
extern int unlink(const char *path);
extern int rename(const char *old, const char *new);
extern int close(int fd);
extern int dup2(int old, int new);
extern int pipe2(int *ends, int flags);
extern int poll(struct pollfd *files, unsigned long count, int milliseconds);
extern int fcntl(int fd, int what, ...);
extern pid_t fork(void);
extern pid_t waitpid(pid_t pid, int *status, int options);
extern pid_t getpid(void);
extern int execvp(const char *program, char *const *words);
extern int on_exit(void (*handler)(int status, void *of), void *of);
extern void _exit(int status) __attribute__((noreturn));

enum {
	AT_FDCWD = -100,
	O_RDONLY = 0,
	O_WRONLY = 01,
	O_CREAT = 0100,
	O_TRUNC = 01000,
	O_APPEND = 02000,
	O_NONBLOCK = 04000,
	O_CLOEXEC = 02000000,
	SEEK_SET = 0,
	SEEK_CUR = 1,
	SEEK_END = 2,
	F_SETFL = 4,
	POLLIN = 1,
};
