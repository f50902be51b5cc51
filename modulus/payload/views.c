/*
 * Structs that are only followed to some of their members.
 *
 * Large structs such as mm_struct get new members now and then, and what uses them mostly follows
 * pointers to members that stay where they are. Of such a struct an object is made of the
 * beginning, up to the last member that it uses, as long as nothing depends on what it has in all.
 * So the struct itself stays incomplete, and p->member becomes
 *
 *     _Generic((p), struct T *: (struct V *)(p), const struct T *: (const struct V *)(p))->member
 *
 * where V, its view, has the beginning. The compiler refuses whatever depends on more, and a p
 * that is no pointer to T; then T is had whole (pieces.c). What it makes of a view is the same,
 * since pointers to structs are all alike to it unless it may tell their targets apart by type,
 * which the kernel has it not do (-fno-strict-aliasing).
 */

#include "slice.h"

enum {
	LARGE = 200, /* tokens */
	/* Nested, an operand is written three times as often at each. */
	MOST_NESTED = 3,
};

/* How a declaration is aligned. */
enum { NOT_YET_KNOWN, PLAINLY, OTHERWISE };

/* The beginning of a struct; ``item`` defines it, and ``members`` is where its first one is. */
struct view {
	unsigned item, members, cut;
};

/* That the arrow at a token follows an operand to a view; ``next`` begins where it does. */
struct arrow {
	unsigned at, tag, next;
};

static struct view *views;
static struct arrow *arrows;
static unsigned *arrows_from; /* by the token where the operand begins */
static size_t view_count, view_room, arrow_count, arrow_room;

static int is_text(size_t i, const char *text)
{
	return tokens[i].length == strlen(text) && !memcmp(tokens[i].at, text, tokens[i].length);
}

static int is_any(size_t i, const char *const *texts, size_t count)
{
	for (size_t n = 0; n < count; n++)
		if (is_text(i, texts[n]))
			return 1;
	return 0;
}

static int is_typedef(const struct item *item)
{
	for (size_t i = item->begin; i < (item->body ? item->body : item->end); i++)
		if (word(i) == TYPEDEF)
			return 1;
	return 0;
}

static int is_plainly_aligned(unsigned number);

static int all_plainly_aligned(unsigned declaration, int only_types)
{
	for (; declaration; declaration = declarations[declaration].next) {
		unsigned item = declarations[declaration].item;
		if ((!only_types || is_typedef(&items[item])) && !is_plainly_aligned(item))
			return 0;
	}
	return 1;
}

/* Whether an attribute asks for no more than what pointers have. */
static int is_small(size_t i)
{
	static const char *const sizes[] = {"4", "8"};

	if (!is(i + 1, '('))
		return 0;
	if (is_any(i + 2, sizes, SIZE(sizes)))
		return is(i + 3, ')');
	if (!is_text(i + 2, "sizeof") || !is(i + 3, '('))
		return 0;
	size_t behind = is_text(i + 4, "long")                   ? i + 5
		: is_text(i + 4, "void") && is(i + 5, '*') ? i + 6
							   : 0;
	return behind && is(behind, ')') && is(behind + 1, ')');
}

/* Whether all that an item is made of is aligned by what pointers are at most. */
static int is_plainly_aligned(unsigned number)
{
	/* What is larger, what has no size of its own here, and what puts members elsewhere. */
	static const char *const others[] = {
		"_Alignas", "_Complex", "__float128", "__int128", "__int128_t", "__mode__", "__packed__",
		"__typeof", "__typeof__", "__uint128_t", "__vector_size__", "double", "float", "mode",
		"packed", "randomize_layout", "typeof", "vector_size",
	};
	static const char *const aligned[] = {"aligned", "__aligned__"};
	struct item *item = &items[number];
	int fit = 1;

	if (item->alignment)
		return item->alignment == PLAINLY;
	/* What comes back to itself does so by pointers. */
	item->alignment = PLAINLY;
	for (size_t i = item->begin; i < item->end && fit; i++) {
		size_t behind = i + 1, tag = is_tag(i) ? find_tag(i, item->end, &behind) : 0;
		if (tokens[i].kind != NAME || is(behind, '*'))
			continue;
		if (is_any(i, aligned, SIZE(aligned)))
			fit = is_small(i);
		else if (tag)
			fit = all_plainly_aligned(names[tokens[tag].name].definitions, 0);
		else
			fit = !is_any(i, others, SIZE(others)) &&
				all_plainly_aligned(names[tokens[i].name].declarations, 1);
	}
	items[number].alignment = fit ? PLAINLY : OTHERWISE;
	return fit;
}

/* A view of a struct, which has no member yet; 0 where there cannot be one. */
static struct view *make_view(unsigned tag)
{
	unsigned definition = names[tag].definitions, pointer = 0;

	if (!definition || declarations[definition].next)
		return 0;
	unsigned number = declarations[definition].item;
	struct item *item = &items[number];
	size_t i = item->begin + 2, end = item->end;
	if (end - item->begin < LARGE || word(item->begin) != STRUCT ||
	    tokens[i - 1].kind != NAME || tokens[i - 1].name != tag || !is(i, '{'))
		return 0;
	size_t behind = skip(i, end);
	while (word(behind) == ATTRIBUTE)
		behind = skip(behind + 1, end);
	for (size_t j = i; j < end; j++)
		pointer |= is(j, '*');
	if (behind + 1 != end || !pointer || !is_plainly_aligned(number))
		return 0;
	/* Its first member may be a struct that only holds the others. */
	while (word(i + 1) == STRUCT && is(i + 2, '{'))
		i += 2;
	views = room(views, view_count, &view_room, sizeof *views);
	if (trouble)
		return 0;
	views[view_count] = (struct view){number, i + 1, i + 1};
	item->view = tag;
	names[tag].view = ++view_count;
	return &views[view_count - 1];
}

size_t view_cut(unsigned tag)
{
	const struct view *view = names[tag].view ? &views[names[tag].view - 1] : 0;

	if (!view || names[tag].complete || items[view->item].used)
		return 0;
	return view->cut;
}

/* Whether there is no member behind this one. */
static int is_last(size_t i, size_t end)
{
	while (i < end && (closes(i) || is(i, ';') || word(i) == ATTRIBUTE))
		i = word(i) == ATTRIBUTE ? skip(i + 1, end) : i + 1;
	return i >= end;
}

size_t skip_member(size_t i, size_t end)
{
	i += closes(i);
	while (i < end && !is(i, ';') && !closes(i) && !trouble)
		i = skip(i, end);
	return is(i, ';') ? i + 1 : i;
}

static int has_name(size_t i, size_t end, unsigned name)
{
	for (; i < end; i++)
		if (tokens[i].kind == NAME && tokens[i].name == name)
			return 1;
	return 0;
}

/* Whether a bit-field is declared, with which those beside it share their place. */
static int has_bits(size_t i, size_t end)
{
	for (i += closes(i); i < end && !trouble; i = skip(i, end))
		if (is(i, ':'))
			return 1;
	return 0;
}

/*
 * Behind the last member that has to do with a name; 0 where that is the last of all, whose place
 * may be told otherwise from those of the others.
 */
static size_t find_cut(const struct view *view, unsigned name)
{
	size_t end = items[view->item].end, cut = 0;
	int grows = 0;

	for (size_t i = view->members; i < end && !trouble;) {
		size_t behind = skip_member(i, end);
		grows = has_name(i, behind, name) || (grows && has_bits(i, behind));
		if (grows)
			cut = behind;
		i = behind;
	}
	return cut && !is_last(cut, end) ? cut : 0;
}

/* Where the operand begins whose last name is at i; 0 where that is hard to tell. */
static size_t find_operand(size_t i, size_t begin)
{
	while (i > begin + 2) {
		size_t before = is(i - 1, '.') && !is(i - 2, '.') ? i - 2
			: is_arrow(i - 2)                         ? i - 3
								  : 0;
		if (!before)
			return i;
		while (closes(before)) {
			int depth = 0;
			do {
				if (is(before, '{') || is(before, '}'))
					return 0;
				depth += closes(before) - (is(before, '(') || is(before, '['));
				before--;
			} while (depth && before > begin);
			if (depth)
				return 0;
			/* In parentheses, or what is called or indexed. */
			if (tokens[before].kind != NAME && !closes(before))
				return is(before + 1, '(') ? before + 1 : 0;
		}
		if (tokens[before].kind != NAME)
			return 0;
		i = before;
	}
	return 0;
}

/* Notes that the operand that begins at a token is followed, where the arrow is, to a view. */
static int note_arrow(size_t operand, size_t at, unsigned tag)
{
	int nested = 0;

	if (!arrows_from) {
		arrows_from = calloc(token_count + 1, sizeof *arrows_from);
		/* Number 0 stands for none. */
		arrow_count = 1;
	}
	arrows = room(arrows, arrow_count, &arrow_room, sizeof *arrows);
	trouble |= !arrows_from;
	if (trouble)
		return 0;
	for (unsigned a = arrows_from[operand]; a; a = arrows[a].next) {
		if (arrows[a].at == at)
			return arrows[a].tag == tag;
		nested++;
	}
	if (nested == MOST_NESTED)
		return 0;
	arrows[arrow_count] = (struct arrow){at, tag, arrows_from[operand]};
	arrows_from[operand] = arrow_count++;
	return 1;
}

int add_view(unsigned tag, size_t i, unsigned item)
{
	size_t begin = items[item].begin, end = items[item].end;
	size_t operand = find_operand(i, begin), at = i + 1;

	if (at < end && is(at, '('))
		at = skip(at, end);
	while (operand > begin + 1 && is(operand - 1, '(') && is(at, ')') &&
	       tokens[operand - 2].kind == SIGN && !closes(operand - 2)) {
		operand--;
		at++;
	}
	if (!operand || trouble || at + 2 >= end || !is_arrow(at) || tokens[at + 2].kind != NAME)
		return 0;
	struct view *view = names[tag].view ? &views[names[tag].view - 1] : make_view(tag);
	size_t cut = view && !items[view->item].used ? find_cut(view, tokens[at + 2].name) : 0;
	if (!cut || !note_arrow(operand, at, tag))
		return 0;
	if (cut > view->cut) {
		size_t before = view->cut;
		view->cut = cut;
		visit_tokens(view->item, before, cut);
	}
	return 1;
}

unsigned find_arrow(size_t i, size_t limit, size_t *at)
{
	unsigned found = 0;

	for (unsigned a = arrows_from ? arrows_from[i] : 0; a; a = arrows[a].next)
		if (arrows[a].at < limit && (!found || arrows[a].at > *at) &&
		    view_cut(arrows[a].tag)) {
			found = arrows[a].tag;
			*at = arrows[a].at;
		}
	return found;
}
