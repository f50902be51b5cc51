/*
 * What of a preprocessed source its object is made of.
 *
 * A source of a kernel module is nearly all headers, and of these it uses little. This keeps what
 * always ends up in an object, such as functions that others can call, what that names, what this
 * names in turn, and so on, in the order in which it was. Of a struct that is only pointed to it
 * keeps that there is one; what is in it where a name that points to it is followed, or where the
 * compiler says so. The compiler makes the same of it as of the whole: gcc's output depends on the
 * order of declarations, but not on how many others lie between, since these come and go with debug
 * information (-fcompare-debug holds it to that).
 *
 * Names are not told apart by scope, and whatever has an unusual form is kept, as are attributes
 * that are not known to be harmless. So more may be kept than is needed; what is missing, the
 * compiler misses.
 *
 * Line markers are kept, so that warnings name the right place. What has them left out and numbers
 * of __COUNTER__ replaced tells whether another kernel's headers make the same.
 */

#include "slice.h"

/* What the compiler calls without being told to. */
static const char *const implied[] = {
	"__fentry__", "__stack_chk_fail", "__stack_chk_guard", "abort", "bcmp", "memcmp", "memcpy",
	"memmove", "memset", "printf", "putchar", "puts", "stpcpy", "strcat", "strchr", "strcmp",
	"strcpy", "strlen", "strncmp",
};

struct pointer *pointers;

const char *main_file;
size_t main_length;

static size_t pointer_count, pointer_room, queued, visited;
static unsigned *queue;

static void use(unsigned item)
{
	if (items[item].used)
		return;
	items[item].used = 1;
	queue[queued++] = item;
}

static void use_all(unsigned declaration)
{
	for (; declaration; declaration = declarations[declaration].next)
		use(declarations[declaration].item);
}

static void ask_for(unsigned name)
{
	if (names[name].asked)
		return;
	names[name].asked = 1;
	use_all(names[name].declarations);
}

static void complete(unsigned tag)
{
	if (names[tag].complete)
		return;
	names[tag].complete = 1;
	use_all(names[tag].definitions);
}

static int is_member(size_t i)
{
	if (i < 2)
		return 0;
	/* Not ... NAME, nor NAME-->NAME. */
	return (is(i - 1, '.') && !is(i - 2, '.')) ||
		(is_arrow(i - 2) && !(i > 2 && is(i - 3, '-') && !tokens[i - 2].spaced));
}

size_t find_tag(size_t i, size_t end, size_t *behind)
{
	size_t name = i + 1;

	while (name < end && word(name) == ATTRIBUTE)
		name = skip(name + 1, end);
	if (name >= end || tokens[name].kind != NAME)
		return 0;
	*behind = name + 1;
	while (*behind < end && word(*behind) == ATTRIBUTE)
		*behind = skip(*behind + 1, end);
	while (*behind < end && word(*behind) == QUALIFIER)
		++*behind;
	return name;
}

static void find_pointers(unsigned item)
{
	size_t end = items[item].end, j;

	for (size_t i = items[item].begin; i < end; i++) {
		size_t tag = word(i) == STRUCT || word(i) == UNION ? find_tag(i, end, &j) : 0;
		if (!tag || j >= end || !is(j, '*'))
			continue;
		while (j < end && (is(j, '*') || word(j) == QUALIFIER))
			j++;
		if (j >= end || tokens[j].kind != NAME)
			continue;
		struct name *name = &names[tokens[j].name];
		pointers = room(pointers, pointer_count, &pointer_room, sizeof *pointers);
		if (trouble)
			return;
		pointers[pointer_count] = (struct pointer){tokens[tag].name, item, name->pointers};
		name->pointers = pointer_count++;
	}
}

/* To what this name points in ``item``, or wherever else it occurs; 0 if that is not just one. */
static unsigned pointed(unsigned name, unsigned item, int member)
{
	unsigned found = 0;

	for (unsigned p = names[name].pointers; p && !member; p = pointers[p].next)
		if (pointers[p].item == item)
			return pointers[p].to;
	for (unsigned p = names[name].pointers; p; p = pointers[p].next) {
		if (found && pointers[p].to != found)
			return 0;
		found = pointers[p].to;
	}
	return found;
}

/* Completes what a name points to, if it is followed, which need not be found out. */
static void follow(size_t i, unsigned item)
{
	size_t begin = items[item].begin, end = items[item].end, before = i, behind = i + 1;
	int member = is_member(i), followed;

	if (behind < end && is(behind, '('))
		behind = skip(behind, end);
	while (behind < end && is(behind, ')'))
		behind++;
	followed = behind < end && (is_arrow(behind) || is(behind, '['));
	if (!followed && !member) {
		while (before > begin && is(before - 1, '('))
			before--;
		followed = before > begin + 1 && is(before - 1, '*') &&
			tokens[before - 2].kind == SIGN && !closes(before - 2);
	}
	unsigned to = followed ? pointed(tokens[i].name, item, member) : 0;
	if (to && !names[to].complete && !add_view(to, i, item))
		complete(to);
}

/* What is declared of a function tells of the compiler's own of that name, too. */
static void ask_for_builtin(unsigned name)
{
	static const char prefix[] = "__builtin_";
	size_t length = sizeof prefix - 1;

	if (names[name].length > length && !memcmp(names[name].at, prefix, length))
		ask_for(name_of(names[name].at + length, names[name].length - length));
}

void visit_tokens(unsigned number, size_t begin, size_t end)
{
	const struct item item = items[number];
	size_t behind;

	for (size_t i = begin; i < end && !trouble; i++) {
		size_t tag = is_tag(i) ? find_tag(i, end, &behind) : 0;
		if (tag) {
			int alone = i == item.begin && behind + 1 == item.end;
			int pointed_to = behind < end && is(behind, '*');
			if (word(i) == ENUM || (!alone && !pointed_to && !is(behind, '{')))
				complete(tokens[tag].name);
			if (tag == i + 1)
				i = tag;
		} else if (tokens[i].kind == NAME && !is_tag(i)) {
			if (!is_member(i))
				ask_for(tokens[i].name);
			ask_for_builtin(tokens[i].name);
			if (names[tokens[i].name].pointers)
				follow(i, number);
		}
	}
}

int sections(const struct item *item)
{
	int count = 0;

	for (size_t i = item->body; item->body && i < item->end; i++) {
		size_t begin = i, end = i;
		if (word(i) == THREAD)
			return -1;
		if (word(i) != SECTION)
			continue;
		while (!is(begin - 1, ';') && !is(begin - 1, '{') && !is(begin - 1, '}'))
			if (is(--begin, ','))
				return -1;
		while (end < item->end && !is(end, ';') && !is(end, '='))
			if (is(end++, ','))
				return -1;
		if (end == item->end || word(begin) != STATIC)
			return -1;
		count++;
	}
	return count;
}

int alias;

static int visit_all(void)
{
	while (visited < queued && !trouble) {
		if (items[queue[visited]].alias && !alias) {
			alias = 1;
			for (size_t i = 0; i < item_count; i++)
				if (sections(&items[i]) < 0)
					use(i);
		}
		const struct item *item = &items[queue[visited]];
		visit_tokens(queue[visited++], item->begin, item->end);
	}
	return !trouble;
}

void slice_read(const char *text, size_t size)
{
	static size_t next;

	if (!pointers) {
		pointers = room(0, 0, &pointer_room, sizeof *pointers);
		/* Number 0 stands for none. */
		pointer_count = 1;
	}
	read_tokens(text, size);
	if (!trouble)
		read_items();
	while (next < item_count && !trouble)
		find_pointers(next++);
}

/* All of the source itself counts, lest a compile that fails is taken for one that does not. */
static int is_own(const struct item *item)
{
	unsigned marker = tokens[item->begin].marker;

	return marker && markers[marker - 1].length == main_length &&
		!memcmp(markers[marker - 1].file, main_file, main_length);
}

int slice_end(const char *file, size_t length)
{
	main_file = file;
	main_length = length;
	slice_read("\n", 1);
	queue = malloc((item_count + 1) * sizeof *queue);
	if (!queue || trouble || !item_count || items[item_count - 1].end != token_count)
		return 0;
	for (size_t i = 0; i < item_count; i++)
		if (items[i].root || is_own(&items[i]))
			use(i);
	for (size_t i = 0; i < SIZE(implied); i++)
		ask_for(name_of(implied[i], strlen(implied[i])));
	return visit_all();
}

int slice_complete(const char *tag, size_t length)
{
	unsigned name = name_of(tag, length);

	if (trouble || names[name].complete || !names[name].definitions)
		return 0;
	complete(name);
	return visit_all();
}

int slice_complete_views(void)
{
	int ended = 0;

	for (size_t i = 0; i < item_count && !trouble; i++)
		if (view_cut(items[i].view)) {
			complete(items[i].view);
			ended = 1;
		}
	return visit_all() && ended;
}
