/*
 * What can be told of a C text before the compiler's preprocessor has read it: where a directive
 * ends, and whether it is one that several sources may share. Where it cannot be told, it is said
 * so, never guessed. A part of forkcc.c, which declares what is used of the C library.
 */

/* A source, of which all before ``at``, in line ``line``, has been given to the compiler. */
struct source {
	const char *text, *head;
	size_t size, at;
	int line, number, odd;
	/* Its directive there begins behind ``gap`` of space and comments. */
	size_t gap;
	int tells_line; /* It might, what line it is in. */
};

static int is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r';
}

static const char *skip_blanks(const char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

static int is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int names_any(const char *text, size_t size, const char *const *names)
{
	for (; *names; names++)
		if (memmem(text, size, *names, strlen(*names)))
			return 1;
	return 0;
}

/* Where the line of p begins, which may go on from the physical one before. */
static const char *line_of(const char *text, const char *p)
{
	const char *q;

	for (; p > text; p--) {
		if (p[-1] != '\n')
			continue;
		for (q = p - 1; q > text && is_blank(q[-1]);)
			q--;
		if (!(q > text && q[-1] == '\\') && !(q - text >= 3 && !memcmp(q - 3, "?\?/", 3)))
			break;
	}
	return p;
}

/* Behind ``word``, if that is what is at p behind blanks; else 0. */
static const char *skip_word(const char *p, const char *word)
{
	size_t size = strlen(word);

	p = skip_blanks(p);
	return strncmp(p, word, size) ? 0 : p + size;
}

/*
 * Whether the macro whose name is at p may be another one behind it: defined, undefined, or named
 * in a pragma (push_macro). It is not where it plainly is in code, in a condition, or in what is
 * defined by another name.
 */
static int is_changed(const char *text, const char *p, size_t size)
{
	static const char *const marks[] = {"#", "%:", "?\?=", "*/", 0};
	static const char *const pragma[] = {"ragma", 0};
	const char *line = line_of(text, p), *behind;

	/* By itself in quotes, that is: the kernel's own headers have it behind a text. */
	int quoted = p > text && p[-1] == '"' && (p[size] == '"' || p[size] == '\\');

	if (quoted || names_any(line, p - line, pragma))
		return 1;
	if (!names_any(line, p - line, marks))
		return 0;
	line = skip_word(line, "#");
	if (!line)
		return 1;
	if (skip_word(line, "if") || skip_word(line, "elif"))
		return 0;
	behind = skip_word(line, "define");
	behind = behind ? skip_blanks(behind) : p;
	return behind == p || !is_letter(*behind);
}

/*
 * Whether a text asks how deep it is included, or for the file that includes it or when that was
 * changed: not those of the source, as it is given here. Or whether it may change what the source's
 * head defines.
 */
static int is_odd(const char *text, size_t size)
{
	static const char *const names[] = {"__BASE_FILE__", "__INCLUDE_LEVEL__", "__TIMESTAMP__", 0};
	static const char given[] = "KBUILD_BASENAME";

	if (names_any(text, size, names))
		return 1;
	for (const char *p = text; (p = memmem(p, text + size - p, given, sizeof given - 1)); p++)
		if (is_changed(text, p, sizeof given - 1))
			return 1;
	return 0;
}

/* Whether a source has, besides, what means something else in a file that is not included. */
static int is_odd_source(const char *text, size_t size)
{
	static const char *const pragmas[] = {"once", "system_header", "dependency", 0};
	/* What changes the direction of text, which gcc warns of, is left out with the comments. */
	static const char *const names[] = {
		"include_next", "\u061c", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c",
		"\u202d",       "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", 0,
	};

	if (is_odd(text, size) || names_any(text, size, names) || strlen(text) != size)
		return 1;
	for (const char *p = text; (p = strstr(p, "ragma")); p++)
		if (names_any(p, strcspn(p, "\n"), pragmas))
			return 1;
	return 0;
}

/* Whether p is not what it seems: the end of a line that goes on, or another character. */
static int is_sly(const char *p)
{
	if (*p == '\\')
		return *skip_blanks(p + 1) == '\n';
	return *p == '?' && p[1] == '?' && (p[2] == '/' || p[2] == '=');
}

/* Behind the comment, string or character that begins at p, or p; 0 if it has no plain end. */
static const char *skip_opaque(const char *p)
{
	const char *begin = p;

	if (*p == '/' && p[1] == '*') {
		for (p += 2; *p && (*p != '*' || p[1] != '/'); p++)
			if (is_sly(p) || (*p == '/' && p[1] == '*'))
				return 0;
		return *p ? p + 2 : 0;
	}
	if (*p == '/' && p[1] == '/') {
		for (; *p && *p != '\n'; p++)
			if (is_sly(p))
				return 0;
		return p;
	}
	if (*p == '"' || *p == '\'') {
		for (p++; *p != *begin; p++) {
			if (!*p || *p == '\n' || is_sly(p))
				break;
			if (*p == '\\' && p[1])
				p++;
		}
		if (*p == *begin)
			return p + 1;
		/* Else an apostrophe, as in the text of an #error, and what is behind it is plain. */
		return *begin == '\'' && begin[strcspn(begin, "/\"\\\n")] == '\n' ? begin : 0;
	}
	return p;
}

/* To what is neither space nor comment; 0 where that cannot be told. */
static const char *skip_space(const char *p)
{
	while (p) {
		const char *behind = is_blank(*p) || *p == '\n' ? p + 1
			: *p == '/'                          ? skip_opaque(p)
							     : p;
		if (behind == p)
			break;
		p = behind;
	}
	return p;
}

static int lines_in(const char *text, const char *end)
{
	int lines = 0;

	for (; text < end; text++)
		lines += *text == '\n';
	return lines;
}

static int is_word(const char *p, size_t size, const char *const *words)
{
	for (; *words; words++)
		if (strlen(*words) == size && !memcmp(p, *words, size))
			return 1;
	return 0;
}

/*
 * Behind the name of the directive whose # is at p, and a header's name; 0 if sources do not share
 * such a one. Adds to how deep it is nested, and to what is told of it.
 */
static const char *skip_name(const char *p, int *nested, int *tells_line)
{
	static const char *const begins[] = {"if", "ifdef", "ifndef", 0};
	static const char *const ends[] = {"endif", 0};
	static const char *const asks[] = {"if", "elif", 0};
	static const char *const others[] = {
		"define", "undef", "elif", "elifdef", "elifndef", "else", "error", "warning", 0,
	};
	size_t size;

	p = skip_blanks(p + 1);
	size = strspn(p, "abcdefghijklmnopqrstuvwxyz_");
	if (size == 7 && !memcmp(p, "include", size)) {
		p = skip_blanks(p + size);
		char end = *p == '<' ? '>' : *p == '"' ? '"' : 0;
		if (!end)
			return 0; /* A macro, which may have the name of the file. */
		for (p++; *p != end; p++)
			if (!*p || *p == '\n' || *p == '\\' || is_sly(p))
				return 0;
		return p + 1;
	}
	if (is_word(p, size, begins))
		++*nested;
	else if (is_word(p, size, ends))
		--*nested;
	else if (!is_word(p, size, others))
		return 0;
	*tells_line |= is_word(p, size, asks);
	return p[size] == '\\' ? 0 : p + size;
}

/*
 * The size of what comes next of a source, if it is a directive: of that one, or from an #if to
 * its #endif. 0 where code begins, or what only a preprocessor can tell the end of.
 */
static size_t directive(struct source *source)
{
	const char *begin = source->text + source->at, *p = skip_space(begin);
	int nested = 0;

	if (!p || *p != '#')
		return 0;
	source->tells_line = 0;
	source->gap = p - begin;
	begin = p;
	do {
		for (const char *comment = 0; p && p != comment;) {
			comment = p = skip_blanks(p);
			p = *p == '/' ? skip_opaque(p) : p;
		}
		if (!p || (*p == '%' && p[1] == ':')) /* That is a # too. */
			return 0;
		if (*p == '#') {
			p = skip_name(p, &nested, &source->tells_line);
			if (!p)
				return 0;
		} else if (*p != '\n') {
			/* Code, which may ask for the name of its file, or for the line. */
			if (source->head)
				return 0;
			source->tells_line = 1;
		}
		while (*p && *p != '\n') {
			const char *behind = skip_opaque(p);
			if (!behind || (*p == 'R' && p[1] == '"') || (is_sly(p) && p[1] != '\n'))
				return 0;
			if (behind == p)
				behind += *p == '\\' && p[1] == '\n' ? 2 : 1;
			p = behind;
		}
		if (!*p++)
			return 0;
	} while (nested > 0);
	return p - begin;
}

static int line_of_next(const struct source *source)
{
	const char *begin = source->text + source->at;

	return source->line + lines_in(begin, begin + source->gap);
}

/* Whether the directive that a has next, of that size, is next in b too. */
static int same_next(const struct source *a, const struct source *b, size_t size)
{
	return !memcmp(a->text + a->at + a->gap, b->text + b->at + b->gap, size) &&
		(!a->tells_line || line_of_next(a) == line_of_next(b));
}
