/*
 * Compiles many files in one run of the compiler.
 *
 * A driver is some hundred sources, and its package asks a kernel's headers hundreds of questions,
 * each by a compile of its own. Most of such a compile is reading the same headers again. Preloaded
 * into the compiler (LD_PRELOAD), this gives it the sources as a tree: what they have in common at
 * their beginning is read once, and where they part the compiler forks. Each source has the very
 * tokens and flags that it has alone, so it has the very outcome too.
 *
 * The compiler is run on a file with the line
 *
 *     #include "modulus-next-0"
 *
 * and MODULUS_SOURCES, the folder with the sources 0.c, 1.c and so on; MODULUS_OUTPUT, the
 * compiler's -o (with -S); MODULUS_JOBS. It writes N.s into that folder for each source, and to
 * its file results a line "N STATUS", as of waitpid(2); a source without one is not answered.
 *
 * Where there is N.head, the source is to come out as the file that it is: the first line of
 * N.head is its name in quotes, for __FILE__, and the rest is read when the compiler goes on with
 * this source alone: what else is peculiar to it. Its warnings go to N.err, and the headers that
 * it read to N.d if the compiler is to write them (-MMD) to /proc/self/fd/255; in messages
 * "modulus-onward" stands for the places from where the text went on. When it has come to an end,
 * a line says so, as kbuild's lines do.
 *
 * Where it is not sure that a source has the outcome that it has alone, it does not answer: where
 * the source or a header asks what would be told otherwise (is_odd); and if there is N.head, where
 * the compiler has said anything of several sources, as it would say it otherwise of each. To tell
 * that, its standard error is a file.
 *
 * Built without the C library's headers, which a toolchain for kernels lacks, and against
 * nothing: what is declared here is found in the compiler's own C library.
 */

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ssize_t;
typedef long off_t;
typedef int pid_t;

struct pollfd {
	int fd;
	short events, revents;
};

extern char *getenv(const char *name);
extern void *malloc(size_t size);
extern void *realloc(void *old, size_t size);
extern void free(void *old);
extern int memcmp(const void *a, const void *b, size_t size);
extern int strcmp(const char *a, const char *b);
extern int strncmp(const char *a, const char *b, size_t size);
extern char *strchr(const char *text, int c);
extern char *strrchr(const char *text, int c);
extern char *strstr(const char *text, const char *what);
extern void *memmem(const void *in, size_t size, const void *what, size_t length);
extern size_t strlen(const char *text);
extern size_t strcspn(const char *text, const char *ends);
extern size_t strspn(const char *text, const char *all);
extern int atoi(const char *text);
extern int snprintf(char *to, size_t size, const char *format, ...);
extern int openat(int folder, const char *path, int flags, ...);
extern ssize_t read(int fd, void *to, size_t size);
extern ssize_t write(int fd, const void *from, size_t size);
extern off_t lseek(int fd, off_t offset, int whence);
extern ssize_t readlink(const char *path, char *to, size_t size);
extern int memfd_create(const char *name, unsigned flags);
extern int close(int fd);
extern int dup2(int old, int new);
extern int pipe2(int *ends, int flags);
extern int poll(struct pollfd *files, unsigned long count, int milliseconds);
extern int fcntl(int fd, int what, ...);
extern pid_t fork(void);
extern pid_t waitpid(pid_t pid, int *status, int options);
extern void _exit(int status) __attribute__((noreturn));

enum {
	AT_FDCWD = -100,
	O_RDONLY = 0,
	O_WRONLY = 01,
	O_RDWR = 02,
	O_CREAT = 0100,
	O_TRUNC = 01000,
	O_APPEND = 02000,
	O_NONBLOCK = 04000,
	SEEK_SET = 0,
	SEEK_CUR = 1,
	SEEK_END = 2,
	F_SETFL = 4,
	POLLIN = 1,
};

#define NEXT "modulus-next-"

enum {
	UNANSWERED = 99, /* An exit status that no compiler has. */
	MOST_FILES = 255,
	DEPENDENCIES = MOST_FILES, /* A file of ours, open for the compiler to find. */
	/* A compiler nests no more than 200 includes; the sources' own need some of them. */
	DEEPEST = 100,
	LARGEST = 1 << 30,
};

#include "forkcc-text.h"

struct child {
	pid_t pid;
	const struct source *source; /* That it is, or null. */
	int beside;
};

/* The sources that this process stands for: they are the same up to where it is. */
static struct source *sources;
static int count;
static int depth;

/* A byte in the pipe for each process that may run besides; ``owned`` where we are one of them. */
static int tokens[2];
static int owned;

static const char *folder;
static int output;

/* What has been read asks what would be told otherwise. */
static int odd;
/* This process has become one source. */
static int alone;

static void require(int holds)
{
	if (holds)
		return;
	if (owned)
		write(tokens[1], "", 1);
	_exit(UNANSWERED);
}

static int open_file(const char *path, int flags)
{
	return openat(AT_FDCWD, path, flags, 0644);
}

static void write_all(int fd, const char *text, size_t size)
{
	require(write(fd, text, size) == (ssize_t)size);
}

static void give_token_back(void)
{
	if (owned)
		write_all(tokens[1], "", 1);
	owned = 0;
}

static void take_token(void)
{
	struct pollfd pipe = {.fd = tokens[0], .events = POLLIN};
	char byte;

	while (read(tokens[0], &byte, 1) != 1)
		require(poll(&pipe, 1, -1) == 1);
}

/* The compiler ends a source by exit(3). */
__attribute__((destructor)) static void at_exit(void)
{
	give_token_back();
}

/* The text of a file, which is read from its beginning again; 0 if it is something else. */
static char *read_all(int fd, size_t *size)
{
	off_t end = lseek(fd, 0, SEEK_END);
	char *text = 0;

	if (end >= 0 && end <= LARGEST && lseek(fd, 0, SEEK_SET) == 0)
		text = malloc(end + 1);
	if (text && read(fd, text, end) != end) {
		free(text);
		text = 0;
	}
	lseek(fd, 0, SEEK_SET);
	if (!text)
		return 0;
	text[end] = 0;
	*size = end;
	return text;
}

static const char *read_file(const char *path, size_t *size)
{
	int fd = open_file(path, O_RDONLY);
	if (fd < 0)
		return 0;
	const char *text = read_all(fd, size);
	require(text != 0);
	close(fd);
	return text;
}

/* Looks at a file that the compiler is about to read. */
static void look_at(int fd)
{
	size_t size;
	char *text = read_all(fd, &size);

	if (!text)
		return;
	odd |= is_odd(text, size);
	require(!(odd && alone));
	free(text);
}

/* Where the compiler writes what is to be that of all. */
static int find_output(void)
{
	char path[64], target[4096];

	for (int fd = 3; fd < MOST_FILES; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t size = readlink(path, target, sizeof target - 1);
		if (size < 0)
			continue;
		target[size] = 0;
		if (!strcmp(target, getenv("MODULUS_OUTPUT")))
			return fd;
	}
	require(0);
	return -1;
}

static void begin(void)
{
	char path[4096];
	const char *jobs = getenv("MODULUS_JOBS");

	folder = getenv("MODULUS_SOURCES");
	require(folder && getenv("MODULUS_OUTPUT") && jobs && pipe2(tokens, 0) == 0);
	output = find_output();
	require(fcntl(tokens[0], F_SETFL, O_NONBLOCK) == 0);
	/* With this process that is one more than jobs: each waits for others now and then. */
	for (int i = 0; i < atoi(jobs); i++)
		write_all(tokens[1], "", 1);
	for (;; count++) {
		struct source source = {.number = count, .line = 1};
		size_t size;
		snprintf(path, sizeof path, "%s/%d.c", folder, count);
		source.text = read_file(path, &source.size);
		if (!source.text)
			break;
		snprintf(path, sizeof path, "%s/%d.head", folder, count);
		source.head = read_file(path, &size);
		source.odd = is_odd_source(source.text, source.size);
		sources = realloc(sources, (count + 1) * sizeof source);
		require(sources != 0);
		sources[count] = source;
	}
}

/* Text that the compiler reads next, as an open file. */
static int give(const char *before, const char *text, size_t size, const char *after)
{
	int fd = memfd_create("modulus", 0);

	require(fd >= 0);
	write_all(fd, before, strlen(before));
	write_all(fd, text, size);
	write_all(fd, after, strlen(after));
	require(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

/* Opens a file of the source's own, NUMBER.ENDING, in place of ``fd``. */
static void open_own(int number, const char *ending, int fd)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%d.%s", folder, number, ending);
	int own = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
	require(own >= 0 && dup2(own, fd) == fd);
	close(own);
}

/* What the compiler writes to ``fd`` is for nobody: it is of several sources. */
static void open_nothing(int fd)
{
	int nothing = memfd_create("modulus", 0);

	require(nothing >= 0 && dup2(nothing, fd) == fd);
	close(nothing);
}

static int is_empty(int fd)
{
	return lseek(fd, 0, SEEK_CUR) == 0;
}

/* The rest of a source that goes on alone. */
static int finish(const struct source *source)
{
	const char *rest = source->text + source->at, *head = source->head;
	size_t size = source->size - source->at, name = 0, most;
	char *before;

	alone = 1;
	require(!source->odd);
	open_own(source->number, "s", output);
	if (head) {
		open_own(source->number, "err", 2);
		open_own(source->number, "d", DEPENDENCIES);
		name = strcspn(head, "\n");
		head += name + (head[name] == '\n');
	}
	most = (head ? strlen(head) : 0) + name + 64;
	before = malloc(most);
	require(before != 0);
	snprintf(before, most, "%s#line %d %.*s\n", head ? head : "", source->line, (int)name,
		 head ? source->head : "");
	return give(before, rest, size, "");
}

/* What several sources have next, and a way back to here behind it. */
static int go_on(struct source *group, int members, size_t size)
{
	char before[64] = "", again[96];
	const char *text = group->text + group->at + group->gap;

	open_nothing(output);
	if (group->head)
		open_nothing(2);
	if (group->tells_line)
		snprintf(before, sizeof before, "#line %d\n", line_of_next(group));
	for (int i = 0; i < members; i++) {
		group[i].line = line_of_next(&group[i]) + lines_in(text, text + size);
		group[i].at += group[i].gap + size;
	}
	sources = group;
	count = members;
	snprintf(again, sizeof again, "#line 1 \"modulus-onward\"\n#include \"" NEXT "%d\"\n", ++depth);
	return give(before, text, size, again);
}

static void await(struct child child)
{
	char path[4096], line[64];
	int status;

	require(waitpid(child.pid, &status, 0) == child.pid);
	if (child.beside && (status & 0x7f)) /* killed, with its token */
		write_all(tokens[1], "", 1);
	if (!child.source)
		return;
	snprintf(path, sizeof path, "%s/results", folder);
	snprintf(line, sizeof line, "%d %d\n", child.source->number, status);
	int fd = open_file(path, O_WRONLY | O_CREAT | O_APPEND);
	require(fd >= 0);
	write_all(fd, line, strlen(line));
	close(fd);
	if (child.source->head && status == 0) {
		int size = strcspn(child.source->head, "\n");
		write_all(1, path, snprintf(path, sizeof path, "  CC1 [M]  %.*s\n", size,
					    child.source->head));
	}
}

/*
 * Forks a process for each way in which the sources go on. Returns in these only, with the file
 * that they read next. One that gets a token runs beside this one, the others in its place.
 */
static int next(void)
{
	int first = !sources, running = 0;
	char byte;

	if (first)
		begin();
	/* What is written by now would be missing in what each source has of its own. */
	require(!odd && is_empty(output) && (!count || !sources->head || is_empty(2)));
	size_t *sizes = malloc(count * sizeof *sizes);
	char *taken = malloc(count);
	struct child *children = malloc(count * sizeof *children);
	require(sizes && taken && children);
	for (int i = 0; i < count; i++) {
		sizes[i] = depth < DEEPEST ? directive(&sources[i]) : 0;
		taken[i] = 0;
	}
	for (int i = 0; i < count; i++) {
		if (taken[i])
			continue;
		struct source *group = malloc((count - i) * sizeof *group);
		int members = 0;
		require(group != 0);
		for (int j = i; j < count; j++) {
			if (j > i && (taken[j] || !sizes[i] || sizes[j] != sizes[i] ||
				      !same_next(&sources[i], &sources[j], sizes[i])))
				continue;
			taken[j] = 1;
			group[members++] = sources[j];
		}
		int beside = read(tokens[0], &byte, 1) == 1;
		struct child child = {fork(), members == 1 ? group : 0, beside};
		require(child.pid >= 0);
		if (child.pid == 0) {
			owned = beside;
			return members == 1 ? finish(group) : go_on(group, members, sizes[i]);
		}
		if (beside)
			children[running++] = child;
		else
			await(child);
	}
	/* Who only waits runs not. One in the place of another goes back to it as it came. */
	int lent = running && !owned && !first;
	owned |= first || lent;
	give_token_back();
	while (running)
		await(children[--running]);
	if (lent)
		take_token();
	_exit(0);
}

static int is_next(const char *path)
{
	const char *slash = strrchr(path, '/');

	return !strncmp(slash ? slash + 1 : path, NEXT, sizeof NEXT - 1);
}

int open(const char *path, int flags, int mode)
{
	if (is_next(path))
		return next();
	int fd = openat(AT_FDCWD, path, flags, mode);
	if (fd >= 0 && !(flags & (O_WRONLY | O_RDWR)))
		look_at(fd);
	return fd;
}

int open64(const char *path, int flags, int mode)
{
	return open(path, flags, mode);
}
