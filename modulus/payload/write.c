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

/* How many names there are by now that end in a number of __COUNTER__. */
static unsigned counters;

/* Writes a name as it would be whatever __COUNTER__ was. */
static void put_counted(struct name *name)
{
	char text[32];

	if (!name->counter) {
		name->counter = ++counters;
		put(counted_names, name->at, name->length);
		put(counted_names, "\n", 1);
	}
	put(key, text, snprintf(text, sizeof text, "@%u", name->counter));
}

/* Says that there are the tags that these tokens are the first to name. */
static void announce_tags(size_t begin, size_t end)
{
	size_t behind;

	for (size_t i = begin; i < end; i++) {
		size_t tag = word(i) == STRUCT || word(i) == UNION ? find_tag(i, end, &behind) : 0;
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

static void say(const char *text)
{
	put_both(text, strlen(text));
}

static void say_name(const struct name *name)
{
	put_both(name->at, name->length);
}

static void put_tokens(size_t begin, size_t end);

/* Writes an operand that points to a struct as one that points to the view of it. */
static void put_viewed(size_t begin, size_t end, const struct name *tag)
{
	static const char *const qualifiers[] = {"", "const "};

	say(" _Generic((");
	put_tokens(begin, end);
	say(")");
	for (size_t i = 0; i < SIZE(qualifiers); i++) {
		say(",");
		say(qualifiers[i]);
		say("struct ");
		say_name(tag);
		say("*:(");
		say(qualifiers[i]);
		say("struct modulus_view_");
		say_name(tag);
		say("*)(");
		put_tokens(begin, end);
		say(")");
	}
	say(")");
}

static void put_tokens(size_t begin, size_t end)
{
	const struct token *before = 0;

	for (size_t i = begin; i < end && !trouble; i++) {
		size_t arrow;
		unsigned tag = find_arrow(i, end, &arrow);
		if (tag) {
			put_viewed(i, arrow, &names[tag]);
			before = 0;
			i = arrow;
		}
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
			put_counted(&names[token->name]);
		else
			put(key, token->at, token->length);
		if (token->kind == DIRECTIVE) {
			put_both("\n", 1);
			here_marker = NOWHERE;
		}
		before = token;
	}
}

static void put_item(const struct item *item)
{
	announce_tags(item->begin, item->end);
	put_tokens(item->begin, item->end);
	put(key, "\n", 1);
}

/* Writes the view of a struct, as a struct of its own. */
static void put_view(const struct item *item, size_t cut)
{
	size_t members = item->begin + 2, last = skip(members, item->end) - 1;

	announce_tags(item->begin, cut);
	say("struct modulus_view_");
	say_name(&names[item->view]);
	put_tokens(members, cut);
	/* It ends where structs do that hold its members, and the last used one is not the last. */
	for (size_t i = cut; i < last && !trouble;) {
		size_t behind = skip_member(i, last);
		if (closes(i))
			put_tokens(i, behind);
		i = behind;
	}
	say(" void *modulus_end; ");
	put_tokens(last, item->end);
	put(key, "\n", 1);
}

/* Stands in for a function that is left out: what the compiler numbers of it. */
static void put_sections(const struct item *item, unsigned *number)
{
	char text[128];

	for (int left = sections(item); left > 0; left--) {
		put_both(text, snprintf(text, sizeof text,
					"\nstatic inline void modulus_%u(void)"
					" { static int of __attribute__((unused, section(\".data\"))); }\n",
					(*number)++));
		here_marker = NOWHERE;
	}
}

int slice_write(struct text *to_source, struct text *to_key, struct text *to_counted)
{
	unsigned stand_ins = 0;
	size_t cut;

	counters = 0;
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
			put_item(&items[i]);
		else if ((cut = view_cut(items[i].view)))
			put_view(&items[i], cut);
		else if (alias)
			put_sections(&items[i], &stand_ins);
	put(source, "\n", 1);
	if (told)
		put(key, counted_names->at, counted_names->size);
	return !trouble;
}
