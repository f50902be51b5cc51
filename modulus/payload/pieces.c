/*
 * Makes the assembly of a source from what its object is made of (slice.c), or takes what was made
 * of the same for another kernel.
 *
 * What is known lies in MODULUS_KNOWN, what is made or was of use is put into MODULUS_MADE, as
 * files that are named by the sha256 of the slice and the compiler's words. It is either the assembly, with the names before it that end in a number of __COUNTER__, or the
 * structs that the compiler had to know more of, for the slice that has them.
 *
 * MODULUS_SOURCES has the sources, and in the file words what the compiler is to be asked, a word
 * in a line, behind two lines that are for batch.sh; MODULUS_CC is the compiler.
 */

#include "slice.h"

enum {
	DIGEST = 64,
	MOST_ROUNDS = 10,
	MOST_WORDS = 1000,
	MOST_NAMES = 1000,
};

static const char assembly_form[] = "modulus assembly\n", tags_form[] = "modulus tags\n";

static int open_file(const char *path, int flags)
{
	return openat(AT_FDCWD, path, flags | O_CLOEXEC, 0644);
}

static int read_fd(int fd, struct text *to)
{
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	to->size = 0;
	to->room = size + 1;
	to->at = size < 0 ? 0 : malloc(size + 1);
	if (!to->at || pread(fd, to->at, size, 0) != size)
		return 0;
	to->size = size;
	to->at[size] = 0;
	return 1;
}

static int read_path(const char *path, struct text *to)
{
	int fd = open_file(path, O_RDONLY), done = read_fd(fd, to);

	if (fd >= 0)
		close(fd);
	return done;
}

/* A file that is there whole or not at all. */
static int write_path(const char *path, const struct text *text)
{
	char part[4096];

	snprintf(part, sizeof part, "%s.%d.part", path, getpid());
	int fd = open_file(part, O_WRONLY | O_CREAT | O_TRUNC);
	int done = fd >= 0 && write(fd, text->at, text->size) == (ssize_t)text->size;
	if (fd >= 0)
		close(fd);
	return done && rename(part, path) == 0;
}

static int hold(const char *name, const struct text *text)
{
	int fd = memfd_create(name, 0);

	if (fd >= 0 && write(fd, text->at, text->size) == (ssize_t)text->size &&
	    lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	return -1;
}

/* Runs a program with these files for stdin, stdout and stderr; whether it succeeds. */
static int run(char *const *words, int in, int out, int err)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
			_exit(127);
		execvp(words[0], words);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int find_digest(const struct text *text, char *digest)
{
	static char *const words[] = {"sha256sum", 0};
	int in = hold("text", text), out = memfd_create("digest", 0);
	int done = in >= 0 && out >= 0 && run(words, in, out, 2) &&
		pread(out, digest, DIGEST, 0) == DIGEST;

	digest[DIGEST] = 0;
	close(in);
	close(out);
	return done;
}

/* What follows what was read of a line, and the line without its end; 0 at the end of it all. */
static char *next_line(char **rest)
{
	char *line = *rest, *end = strchr(line, '\n');

	if (!*line || !end)
		return 0;
	*end = 0;
	*rest = end + 1;
	return line;
}

/* What matters once a source has been through the preprocessor. */
static int is_for_compiler(const char *word)
{
	return !(word[0] == '-' && strchr("DUI", word[1])) && strncmp(word, "-Wp,", 4);
}

/* Whether the word that follows is a file or folder of the preprocessor's. */
static int names_file(const char *word)
{
	static const char *const those[] = {"-include", "-imacros", "-isystem", "-iquote", "-idirafter"};

	for (size_t i = 0; i < SIZE(those); i++)
		if (!strcmp(word, those[i]))
			return 1;
	return 0;
}

static int find_words(const char *folder, char **words)
{
	char path[4096], *word, *rest;
	struct text text;
	int count = 0;

	snprintf(path, sizeof path, "%s/words", folder);
	if (!read_path(path, &text))
		return 0;
	rest = text.at;
	words[count++] = getenv("MODULUS_CC");
	if (!words[0] || !next_line(&rest) || !next_line(&rest))
		return 0;
	while ((word = next_line(&rest))) {
		if (count >= MOST_WORDS - 8)
			return 0;
		if (names_file(word))
			next_line(&rest);
		else if (is_for_compiler(word))
			words[count++] = word;
	}
	return count;
}

static int is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '$';
}

static int split(char *text, char **lines, int most)
{
	int count = 0;

	while (count < most && (lines[count] = next_line(&text)))
		count++;
	return count;
}

/* Writes assembly ``from`` with each of the names ``old`` changed to that in ``new``. */
static void rename_counted(const char *from, char **old, char **new, int count, struct text *to)
{
	while (*from) {
		size_t length = 0, plain = 0;
		while (is_name(from[length]))
			length++;
		for (int i = 0; i < count && length; i++)
			if (strlen(old[i]) == length && !strncmp(from, old[i], length)) {
				put(to, new[i], strlen(new[i]));
				from += length;
				length = 0;
			}
		while (from[length + plain] && !is_name(from[length + plain]))
			plain++;
		put(to, from, length + plain);
		from += length + plain;
	}
}

/* Takes what is known, from the end of its first line on, for a slice with these counted names. */
static int take_assembly(char *known, const struct text *counted, struct text *to)
{
	char *old[MOST_NAMES], *new[MOST_NAMES], *end = strstr(known, "\n\n");
	struct text names = {0};

	if (!end)
		return 0;
	put(&names, counted->at, counted->size);
	put(&names, "", 1);
	end[1] = 0;
	int count = split(known + 1, old, MOST_NAMES);
	if (trouble || count == MOST_NAMES || count != split(names.at, new, MOST_NAMES))
		return 0;
	rename_counted(end + 2, old, new, count, to);
	return !trouble;
}

/* In place of a struct: all that there are views of. */
static const char all_viewed[] = "*\n";

/* Completes the structs and unions of these lines; whether any was not. */
static int complete_all(const char *tags)
{
	int more = 0;

	for (const char *end; (end = strchr(tags, '\n')); tags = end + 1)
		more += *tags == *all_viewed ? slice_complete_views()
					     : slice_complete(tags, end - tags);
	return more;
}

/*
 * The structs and unions that errors of the compiler are about, each in a line. A pointer that is
 * no pointer to the struct that there is a view of may be of any of them.
 */
static void find_tags(char *errors, struct text *tags)
{
	static const char *const kinds[] = {"struct ", "union "};
	char *line;

	while ((line = next_line(&errors))) {
		char *error = strstr(line, " error: ");
		if (error && strstr(error, "_Generic")) {
			put(tags, all_viewed, strlen(all_viewed));
			continue;
		}
		for (size_t i = 0; error && i < SIZE(kinds); i++)
			for (char *at = error; (at = strstr(at, kinds[i]));) {
				size_t length = 0;
				at += strlen(kinds[i]);
				while (is_name(at[length]))
					length++;
				put(tags, at, length);
				put(tags, "\n", 1);
			}
	}
	put(tags, "", 1);
	tags->size--;
}

/* Has the compiler make ``to`` of ``source``; what it says goes to ``errors``. */
static int compile(const char *folder, int number, char **words, int count,
		   const struct text *source, struct text *to, struct text *errors)
{
	char from[4096], made[4096];
	int said = memfd_create("errors", 0);

	snprintf(from, sizeof from, "%s/%d.i", folder, number);
	snprintf(made, sizeof made, "%s/%d.part", folder, number);
	char *const rest[] = {"-fpreprocessed", "-S", "-o", made, from, 0};
	memcpy(words + count, rest, sizeof rest);
	int done = said >= 0 && write_path(from, source) && run(words, 0, 1, said);
	done = read_fd(said, errors) && done && read_path(made, to);
	unlink(from);
	unlink(made);
	close(said);
	return done;
}

/* For other kernels; this one can do without. */
static void record(const char *digest, const char *form, const struct text *first,
		   const struct text *second)
{
	char path[4096];
	const char *folder = getenv("MODULUS_MADE");
	struct text all = {0};

	if (!folder)
		return;
	put(&all, form, strlen(form));
	put(&all, first->at, first->size);
	if (second) {
		put(&all, "\n", 1);
		put(&all, second->at, second->size);
	}
	snprintf(path, sizeof path, "%s/%s", folder, digest);
	if (!trouble)
		write_path(path, &all);
}

static int find_known(const char *digest, struct text *to)
{
	char path[4096];
	const char *folder = getenv("MODULUS_KNOWN");

	if (!folder)
		return 0;
	snprintf(path, sizeof path, "%s/%s", folder, digest);
	return read_path(path, to);
}

static int begins(const struct text *text, const char *form)
{
	return !strncmp(text->at, form, strlen(form));
}

/* One round: 1 with the assembly, 0 if there is more to the slice by now, else -1. */
static int try(const char *folder, int number, char **words, int count, struct text *assembly)
{
	static struct text source, key, counted;
	struct text known, errors, tags = {0};
	char digest[DIGEST + 1];

	assembly->size = 0;
	if (!slice_write(&source, &key, &counted))
		return -1;
	for (int i = 1; i < count; i++)
		put(&key, words[i], strlen(words[i]) + 1);
	if (trouble || !find_digest(&key, digest))
		return -1;
	if (find_known(digest, &known)) {
		if (begins(&known, tags_form)) {
			tags.at = known.at + strlen(tags_form);
			tags.size = known.size - strlen(tags_form);
			if (complete_all(tags.at)) {
				record(digest, tags_form, &tags, 0);
				return 0;
			}
		} else if (begins(&known, assembly_form) &&
			   take_assembly(known.at + strlen(assembly_form) - 1, &counted, assembly)) {
			record(digest, assembly_form, &counted, assembly);
			return 1;
		}
		tags = (struct text){0};
	}
	if (compile(folder, number, words, count, &source, assembly, &errors)) {
		write(2, errors.at, errors.size);
		record(digest, assembly_form, &counted, assembly);
		return 1;
	}
	if (!errors.at)
		return -1;
	find_tags(errors.at, &tags);
	if (trouble)
		return -1;
	if (!complete_all(tags.at)) {
		put(&tags, all_viewed, sizeof all_viewed);
		if (trouble || !complete_all(all_viewed))
			return -1;
		tags.size--;
	}
	record(digest, tags_form, &tags, 0);
	return 0;
}

int make_piece(const char *file, size_t length, int number)
{
	static char *words[MOST_WORDS];
	const char *folder = getenv("MODULUS_SOURCES");
	char path[4096];
	struct text assembly = {0};
	int count = folder ? find_words(folder, words) : 0, done = 0;

	unsetenv("LD_PRELOAD");
	if (!count || !slice_end(file, length))
		return 0;
	for (int i = 0; i < MOST_ROUNDS && !done; i++)
		done = try(folder, number, words, count, &assembly);
	snprintf(path, sizeof path, "%s/%d.s", folder, number);
	return done > 0 && write_path(path, &assembly);
}
