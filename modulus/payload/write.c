/*
 * Writes a slice (slice.c): for the compiler, and as what tells it from others.
 */

#include "slice.h"

void put(struct text *to, const char *text, size_t size)
{
	while (!trouble && to->size + size >= to->room)
		to->at = room(to->at, to->room, &to->room, 1);
	if (trouble)
		return;
	memcpy(to->at + to->size, text, size);
	to->size += size;
}

static struct text *source, *key, *counted_names;

static void put_both(const char *text, size_t size)
{
	put(source, text, size);
	put(key, text, size);
}

/* Where in the source the compiler believes to be; behind no marker that there is, nowhere. */
static unsigned here_line, here_marker;

enum { NOWHERE = -1u };

/* Has the next token be where it was. */
static void place(const struct token *token)
{
	char text[32];

	if (token->marker == here_marker && token->line >= here_line &&
	    token->line - here_line < 8) {
		while (here_line < token->line) {
			put(source, "\n", 1);
			here_line++;
		}
		return;
	}
	here_marker = token->marker;
	here_line = token->line;
	if (!here_marker)
		return;
	const struct marker *marker = &markers[here_marker - 1];
	put(source, text, snprintf(text, sizeof text, "\n# %u ", marker->line + here_line));
	put(source, marker->file, marker->length);
	put(source, marker->flags, strlen(marker->flags));
	put(source, "\n", 1);
}

/* Writes a name as it would be whatever __COUNTER__ was. */
static void put_counted(struct name *name, unsigned *last)
{
	char text[32];

	if (!name->counter) {
		name->counter = ++*last;
		put(counted_names, name->at, name->length);
		put(counted_names, "\n", 1);
	}
	put(key, text, snprintf(text, sizeof text, "@%u", name->counter));
}

/* Says that there are the tags that an item is the first to name. */
static void announce_tags(const struct item *item)
{
	size_t behind;

	for (size_t i = item->begin; i < item->end; i++) {
		size_t tag = word(i) == STRUCT || word(i) == UNION ? find_tag(i, item->end, &behind) : 0;
		struct name *name = &names[tokens[tag].name];
		if (!tag || name->announced)
			continue;
		name->announced = 1;
		put_both(tokens[i].at, tokens[i].length);
		put_both(" ", 1);
		put_both(name->at, name->length);
		put_both(";\n", 2);
		here_marker = NOWHERE;
	}
}

/* Whether the number of __COUNTER__ in a name matters. */
static int told;

static void put_item(const struct item *item, unsigned *counters)
{
	const struct token *before = 0;

	announce_tags(item);
	for (size_t i = item->begin; i < item->end; i++) {
		const struct token *token = &tokens[i];
		place(token);
		/* Signs that stood apart may mean another thing together, words that did not may. */
		if (before && (token->kind != SIGN || before->kind != SIGN || token->spaced))
			put_both(" ", 1);
		if (token->kind == DIRECTIVE)
			put_both("\n", 1); /* It has a line of its own. */
		put(source, token->at, token->length);
		trouble |= word(i) == LOCATED;
		told |= token->kind == LITERAL && tells_counted(token);
		if (token->kind == NAME && is_counted(&names[token->name]))
			put_counted(&names[token->name], counters);
		else
			put(key, token->at, token->length);
		if (token->kind == DIRECTIVE) {
			put_both("\n", 1);
			here_marker = NOWHERE;
		}
		before = token;
	}
	put(key, "\n", 1);
}

/* Stands in for a function that is left out: what the compiler numbers of it. */
static void put_sections(const struct item *item, unsigned *number)
{
	char text[128];

	for (int left = sections(item); left > 0; left--) {
		put_both(text, snprintf(text, sizeof text,
					"\nstatic inline void modulus_%u(void)"
					" { static int of __attribute__((section(\".data\"))); }\n",
					(*number)++));
		here_marker = NOWHERE;
	}
}

int slice_write(struct text *to_source, struct text *to_key, struct text *to_counted)
{
	unsigned counters = 0, stand_ins = 0;

	source = to_source;
	key = to_key;
	counted_names = to_counted;
	source->size = key->size = counted_names->size = 0;
	for (size_t i = 0; i < name_count; i++)
		names[i].counter = names[i].announced = 0;
	/* First comes the name of it all. */
	put(source, "# 0 ", 4);
	put(source, main_file, main_length);
	put(source, "\n", 1);
	here_marker = NOWHERE;
	for (size_t i = 0; i < item_count && !trouble; i++)
		if (items[i].used)
			put_item(&items[i], &counters);
		else if (alias)
			put_sections(&items[i], &stand_ins);
	put(source, "\n", 1);
	if (told)
		put(key, counted_names->at, counted_names->size);
	return !trouble;
}
