/*
 * Takes a preprocessed source apart into tokens.
 */

#include "slice.h"

struct token *tokens;
struct name *names;
struct marker *markers;
size_t token_count, name_count, marker_count;
int trouble;

static size_t token_room, name_room, marker_room;
static unsigned *buckets;

/* What was given and is no whole line yet. */
static const char *left;
static size_t left_size;

static const struct {
	const char *text;
	enum word word;
} words[] = {
	{"struct", STRUCT},
	{"union", UNION},
	{"enum", ENUM},
	{"typedef", TYPEDEF},
	{"extern", EXTERN},
	{"static", STATIC},
	{"inline", INLINE},
	{"__inline", INLINE},
	{"__inline__", INLINE},
	{"__attribute", ATTRIBUTE},
	{"__attribute__", ATTRIBUTE},
	{"asm", ASM},
	{"__asm", ASM},
	{"__asm__", ASM},
	{"typeof", TYPEOF},
	{"__typeof", TYPEOF},
	{"__typeof__", TYPEOF},
	{"typeof_unqual", TYPEOF},
	{"__typeof_unqual", TYPEOF},
	{"__typeof_unqual__", TYPEOF},
	{"_Alignas", TYPEOF},
	{"_Atomic", TYPEOF},
	{"_Static_assert", STATIC_ASSERT},
	{"__extension__", EXTENSION},
	{"const", QUALIFIER},
	{"__const", QUALIFIER},
	{"volatile", QUALIFIER},
	{"__volatile__", QUALIFIER},
	{"restrict", QUALIFIER},
	{"__restrict", QUALIFIER},
	{"__restrict__", QUALIFIER},
	{"__thread", THREAD},
	{"_Thread_local", THREAD},
	/* What the compiler takes from line markers. */
	{"__builtin_FILE", LOCATED},
	{"__builtin_LINE", LOCATED},
};

/* Attributes by which nothing is kept that is not used; also between underscores. */
static const char *const harmless[] = {
	"address_space", "alias_set", "aligned", "alloc_size", "always_inline", "artificial",
	"assume_aligned", "cold", "const", "copy", "deprecated", "designated_init", "error",
	"fallthrough", "flatten", "format", "gnu_printf", "hot", "indirect_branch",
	"leaf", "malloc", "may_alias", "mode", "ms_abi", "no_instrument_function",
	"no_profile_instrument_function", "no_sanitize", "no_sanitize_address",
	"no_stack_protector", "noclone", "noderef", "noinline", "nonnull", "nonstring", "noreturn",
	"nothrow", "optimize", "packed", "printf", "pure", "regparm", "returns_nonnull", "scanf",
	"sentinel", "sysv_abi", "target", "transparent_union", "unused", "vector_size",
	"visibility", "warn_unused_result", "warning",
};

/* Those by which nothing is kept that is only declared. */
static const char *const harmless_alone[] = {"externally_visible", "weak"};

/* Those that have the compiler look for a symbol by its name. */
static const char *const aliases[] = {"alias", "ifunc", "symver", "weakref"};

enum { BUCKETS = 1 << 17 };

/* Room for one more. */
void *room(void *old, size_t count, size_t *most, size_t size)
{
	if (count < *most)
		return old;
	*most = *most ? *most * 2 : 1 << 14;
	void *larger = realloc(old, *most * size);
	if (!larger)
		trouble = 1;
	return larger;
}

unsigned name_of(const char *at, size_t length)
{
	unsigned hash = 2166136261u;

	if (trouble)
		return 0;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)at[i]) * 16777619u;
	unsigned *bucket = &buckets[hash % BUCKETS];
	for (unsigned n = *bucket; n; n = names[n].next)
		if (names[n].hash == hash && names[n].length == length &&
		    !memcmp(names[n].at, at, length))
			return n;
	names = room(names, name_count, &name_room, sizeof *names);
	if (trouble)
		return 0;
	names[name_count] = (struct name){.at = at, .length = length, .hash = hash, .next = *bucket};
	*bucket = name_count;
	return name_count++;
}

static void know(const char *text, enum word word)
{
	unsigned name = name_of(text, strlen(text));

	if (!trouble && !names[name].word)
		names[name].word = word;
}

static void know_attribute(const char *text, enum word word)
{
	size_t length = strlen(text) + 5;
	char *dressed = malloc(length);

	if (!dressed) {
		trouble = 1;
		return;
	}
	snprintf(dressed, length, "__%s__", text);
	know(text, word);
	know(dressed, word);
}

static void know_words(void)
{
	for (size_t i = 0; i < SIZE(words); i++)
		know(words[i].text, words[i].word);
	for (size_t i = 0; i < SIZE(harmless); i++)
		know_attribute(harmless[i], HARMLESS);
	for (size_t i = 0; i < SIZE(harmless_alone); i++)
		know_attribute(harmless_alone[i], HARMLESS_ALONE);
	know_attribute("gnu_inline", GNU_INLINE);
	know_attribute("section", SECTION);
	for (size_t i = 0; i < SIZE(aliases); i++)
		know_attribute(aliases[i], ALIAS);
}

static int is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c & 0x80;
}

int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Behind the literal whose quote is at p; 0 without an end. */
static const char *literal_end(const char *p, const char *end)
{
	char quote = *p++;

	while (p < end && *p != quote)
		p += *p == '\\' ? 2 : 1;
	return p < end ? p + 1 : 0;
}

static const char *number_end(const char *p, const char *end)
{
	int hex = *p == '0' && (p[1] == 'x' || p[1] == 'X');

	for (const char *begin = p; p < end; p++) {
		int sign = *p == '+' || *p == '-';
		if (sign && p > begin &&
		    (hex ? p[-1] == 'p' || p[-1] == 'P' : p[-1] == 'e' || p[-1] == 'E'))
			continue;
		if (!is_letter(*p) && !is_digit(*p) && *p != '.')
			break;
	}
	return p;
}

/* A line marker: # LINE "FILE" FLAGS. */
static void mark(const char *p, const char *end)
{
	unsigned line = 0;

	while (p < end && is_digit(*p))
		line = line * 10 + (*p++ - '0');
	const char *file = p + 1;
	if (end - p < 3 || *p != ' ' || *file != '"' || !(p = literal_end(file, end))) {
		trouble = 1;
		return;
	}
	struct marker marker = {.file = file, .length = p - file, .line = line, .flags = ""};
	/* Not that a file begins or ends (1, 2), but that it is a system's (3), in C (4). */
	for (; p < end; p++)
		if (*p == '3')
			marker.flags = " 3";
	markers = room(markers, marker_count, &marker_room, sizeof *markers);
	if (!trouble)
		markers[marker_count++] = marker;
}

static void read_lines(const char *p, const char *end)
{
	static unsigned line;
	static int spaced, begins = 1;

	while (p < end && !trouble) {
		if (*p == '\n') {
			line++;
			begins = 1;
		}
		if (*p == '\n' || *p == ' ' || *p == '\t' || *p == '\f' || *p == '\v' || *p == '\r') {
			spaced = 1;
			p++;
			continue;
		}
		struct token token = {.at = p, .line = line, .marker = marker_count, .spaced = spaced};
		if (*p == '#' && begins) {
			const char *word = p + 1;
			while (p < end && *p != '\n')
				p++;
			while (word < p && *word == ' ')
				word++;
			if (is_digit(*word)) {
				mark(word, p);
				line = -1;
				continue;
			}
			token.kind = DIRECTIVE;
		} else if (is_letter(*p) && !(p[1] == '"' || p[1] == '\'')) {
			while (p < end && (is_letter(*p) || is_digit(*p)))
				p++;
			if (p < end && *p == '"' && p - token.at == 2)
				trouble = 1; /* u8"" */
			token.kind = NAME;
			token.name = name_of(token.at, p - token.at);
		} else if (is_digit(*p) || (*p == '.' && is_digit(p[1]))) {
			p = number_end(p, end);
			token.kind = NUMBER;
		} else if (is_letter(*p) || *p == '"' || *p == '\'') {
			p = literal_end(is_letter(*p) ? p + 1 : p, end);
			if (!p) {
				trouble = 1;
				return;
			}
			token.kind = LITERAL;
		} else {
			p++;
			token.kind = SIGN;
		}
		token.length = p - token.at;
		tokens = room(tokens, token_count + 1, &token_room, sizeof *tokens);
		if (trouble)
			return;
		tokens[token_count++] = token;
		tokens[token_count] = (struct token){.kind = END};
		begins = 0;
		spaced = 0;
	}
}

int is(size_t i, char sign)
{
	return tokens[i].kind == SIGN && *tokens[i].at == sign;
}

int is_arrow(size_t i)
{
	return is(i, '-') && is(i + 1, '>') && !tokens[i + 1].spaced;
}

static int opens(size_t i)
{
	return is(i, '(') || is(i, '[') || is(i, '{');
}

int closes(size_t i)
{
	return is(i, ')') || is(i, ']') || is(i, '}');
}

enum word word(size_t i)
{
	return tokens[i].kind == NAME ? names[tokens[i].name].word : NO_WORD;
}

int is_tag(size_t i)
{
	return word(i) == STRUCT || word(i) == UNION || word(i) == ENUM;
}

/* Behind the group that begins at i, or the one token there. */
size_t skip(size_t i, size_t end)
{
	int depth = 0;

	if (i >= end) {
		trouble = 1;
		return end;
	}
	do {
		depth += opens(i) - closes(i);
		i++;
	} while (depth > 0 && i < end);
	if (depth)
		trouble = 1;
	return i;
}

/* What ends in the value of __COUNTER__, in the kernel's headers. */
static const char *const counted[] = {"__UNIQUE_ID_", "__compiletime_assert_"};

int is_counted(const struct name *name)
{
	if (!is_digit(name->at[name->length - 1]))
		return 0;
	for (size_t i = 0; i < SIZE(counted); i++) {
		size_t length = strlen(counted[i]);
		if (name->length > length && !strncmp(name->at, counted[i], length))
			return 1;
	}
	return 0;
}

/* Whether a literal may tell of such a name. */
int tells_counted(const struct token *token)
{
	for (size_t i = 0; i < SIZE(counted); i++) {
		size_t length = strlen(counted[i]);
		for (size_t at = 0; at + length <= token->length; at++)
			if (!memcmp(token->at + at, counted[i], length))
				return 1;
	}
	return 0;
}

static void begin(void)
{
	buckets = calloc(BUCKETS, sizeof *buckets);
	/* Number 0 stands for none. */
	names = room(0, 0, &name_room, sizeof *names);
	name_count = 1;
	tokens = room(0, 0, &token_room, sizeof *tokens);
	if (!buckets || trouble) {
		trouble = 1;
		return;
	}
	tokens[0] = (struct token){.kind = END};
	know_words();
}

void read_tokens(const char *text, size_t size)
{
	if (!buckets)
		begin();
	char *all = malloc(left_size + size + 1);
	if (!all || trouble) {
		trouble = 1;
		return;
	}
	if (left_size)
		memcpy(all, left, left_size);
	memcpy(all + left_size, text, size);
	size += left_size;
	all[size] = 0;
	const char *end = all + size;
	while (end > all && end[-1] != '\n')
		end--;
	left = end;
	left_size = all + size - end;
	read_lines(all, end);
}
