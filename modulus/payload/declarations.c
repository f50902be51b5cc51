/*
 * What a preprocessed source declares at file level, and what of that ends up in its object
 * whether or not anything names it.
 */

#include "slice.h"

struct item *items;
struct declaration *declarations;
size_t item_count;

static size_t declaration_count, item_room, declaration_room;

static unsigned add_declaration(unsigned first, unsigned item)
{
	if (first && declarations[first].item == item)
		return first;
	declarations = room(declarations, declaration_count, &declaration_room, sizeof *declarations);
	if (trouble)
		return 0;
	declarations[declaration_count] = (struct declaration){.item = item, .next = first};
	return declaration_count++;
}

static void declare(unsigned name, unsigned item)
{
	unsigned first = names[name].declarations;

	names[name].declarations = add_declaration(first, item);
}

static void define(unsigned name, unsigned item)
{
	names[name].definitions = add_declaration(names[name].definitions, item);
}

/* Whether a name may be one of the source's own; those of attributes may, too. */
static int is_plain(size_t i)
{
	return tokens[i].kind == NAME && (!word(i) || word(i) >= HARMLESS);
}

static void declare_all(size_t i, size_t end, unsigned item)
{
	for (; i < end && !trouble; i++)
		if (is_plain(i))
			declare(tokens[i].name, item);
}

struct tag {
	size_t body; /* where its braces begin, or 0 */
	unsigned name; /* or 0 */
};

/* Behind a struct, union or enum with its attributes, name and body. */
static size_t read_tag(size_t i, size_t end, struct tag *tag)
{
	*tag = (struct tag){0};
	i++;
	while (i < end && word(i) == ATTRIBUTE)
		i = skip(i + 1, end);
	if (i < end && tokens[i].kind == NAME)
		tag->name = tokens[i++].name;
	while (i < end && word(i) == ATTRIBUTE)
		i = skip(i + 1, end);
	if (i < end && is(i, '{')) {
		tag->body = i;
		i = skip(i, end);
	}
	return i;
}

/* The names of the tags and constants that are defined from i to end, in others too. */
static void declare_tags(size_t i, size_t end, unsigned item)
{
	while (i < end && !trouble) {
		struct tag tag;
		if (!is_tag(i)) {
			i++;
			continue;
		}
		int constants = word(i) == ENUM;
		i = read_tag(i, end, &tag);
		if (!tag.body)
			continue;
		if (tag.name)
			define(tag.name, item);
		for (size_t j = tag.body + 1; constants && j + 1 < i; j++) {
			if (tokens[j].kind == NAME)
				declare(tokens[j].name, item);
			while (j + 1 < i && !is(j, ','))
				j = skip(j, i);
		}
		declare_tags(tag.body + 1, i, item);
	}
}

/* What is known of a declaration, apart from its names. */
struct form {
	int is_typedef, is_extern, is_static, gnu_inline, alias;
	int harmful;	 /* its attributes, and for what is only declared, from 2 on */
	int initialised; /* one of its variables */
	int prototypes;  /* all it declares are functions */
	int declarators; /* how many */
	int tags;	 /* how many structs, unions and enums it names */
	int odd;	 /* nothing that is known here */
};

static void read_attributes(size_t i, size_t end, struct form *form)
{
	for (; i < end; i++) {
		enum word w = word(i);
		int harmful = tokens[i].kind == NAME && w != HARMLESS && w != QUALIFIER &&
			w != GNU_INLINE;
		form->gnu_inline |= w == GNU_INLINE;
		form->alias |= w == ALIAS;
		if (harmful && form->harmful < 2)
			form->harmful = w == HARMLESS_ALONE || w == SECTION ? 1 : 2;
	}
}

/* Reads the declaration from i to end, which is where its body begins if it is a function. */
static struct form read_form(size_t i, size_t end, unsigned item)
{
	struct form form = {.prototypes = 1};
	size_t name = 0;
	int named = 0, function = 0;

	while (i < end && !trouble) {
		struct tag tag;
		enum word w = word(i);
		if (is_tag(i)) {
			i = read_tag(i, end, &tag);
			form.tags++;
			continue;
		}
		if (w == ATTRIBUTE) {
			size_t behind = skip(i + 1, end);
			read_attributes(i + 1, behind, &form);
			i = behind;
			continue;
		}
		if (w == ASM || w == TYPEOF) {
			named |= w == ASM;
			i = skip(i + 1, end);
			continue;
		}
		form.is_typedef |= w == TYPEDEF;
		form.is_extern |= w == EXTERN;
		form.is_static |= w == STATIC;
		if (tokens[i].kind == NAME) {
			if (is_plain(i) && !named)
				name = i;
			i++;
		} else if (is(i, '(')) {
			size_t behind = skip(i, end), inside = i + 1;
			while (word(inside) == ATTRIBUTE)
				inside = skip(inside + 1, behind);
			if (named) {
				/* Of a function that is returned. */
			} else if (is(inside, '*') || is(inside, '(')) {
				/* A pointer to a function, for one. */
				declare_all(i, behind, item);
				form.declarators++;
				form.prototypes = 0;
				name = 0;
			} else {
				function = 1;
				form.odd |= !name || is(behind, '(');
			}
			named = 1;
			i = behind;
		} else if (is(i, '[')) {
			named = 1;
			i = skip(i, end);
		} else if (is(i, '=')) {
			form.initialised = 1;
			named = 1;
			while (i < end && !is(i, ',') && !is(i, ';') && !trouble) {
				size_t behind = skip(i, end);
				/* A literal, which the compiler numbers. */
				form.odd |= is(i, '(') && is(behind, '{');
				i = behind;
			}
		} else if (is(i, ',') || is(i, ';')) {
			if (name) {
				declare(tokens[name].name, item);
				form.declarators++;
				form.prototypes &= function;
			}
			name = 0;
			named = function = 0;
			i++;
		} else {
			form.odd |= !is(i, '*') && !is(i, ':');
			i++;
		}
	}
	if (name) {
		declare(tokens[name].name, item);
		form.declarators++;
	}
	return form;
}

/* Whether a declaration counts although nothing that counts names it. */
static int is_root(const struct form *form, int body)
{
	int unseen = form->is_static && !form->harmful;

	if (form->odd)
		return 1;
	if (form->is_typedef)
		return 0;
	if (!form->declarators)
		return !form->tags;
	if (body)
		return !unseen && !(form->is_extern && form->gnu_inline && !form->harmful);
	if (form->initialised)
		return !unseen;
	if (form->is_extern || form->prototypes)
		return form->harmful > 1;
	return !unseen;
}

/*
 * Declares what a function's body does with attributes, or another name, of its own: they hold
 * for the whole file.
 */
static void declare_externs(size_t i, size_t end, unsigned item)
{
	for (; i < end; i++) {
		size_t name = 0, j = i + 1;
		int attributes = 0;
		if (word(i) != EXTERN)
			continue;
		while (j < end && !is(j, ';') && !is(j, '(') && !is(j, '[')) {
			if (is_plain(j) && !attributes)
				name = j;
			attributes |= word(j) == ATTRIBUTE || word(j) == ASM;
			j++;
		}
		for (; j < end && !is(j, ';'); j++)
			attributes |= word(j) == ATTRIBUTE || word(j) == ASM;
		if (name && attributes && !is_counted(&names[tokens[name].name]))
			declare(tokens[name].name, item);
		i = j;
	}
}

static void add_item(size_t begin, size_t end, size_t body)
{
	items = room(items, item_count, &item_room, sizeof *items);
	if (trouble)
		return;
	unsigned number = item_count++;
	struct item *item = &items[number];
	*item = (struct item){.begin = begin, .end = end, .body = body, .root = 1};
	size_t i = begin, stop = body ? body : end;
	while (word(i) == EXTENSION)
		i++;
	if (tokens[i].kind == DIRECTIVE || word(i) == ASM)
		return;
	if (word(i) == STATIC_ASSERT || is(i, ';')) {
		item->root = 0;
		return;
	}
	declare_tags(i, stop, number);
	if (body)
		declare_externs(body, end, number);
	struct form form = read_form(i, stop, number);
	if (form.odd)
		declare_all(begin, stop, number);
	item->root = is_root(&form, body != 0);
	item->alias = form.alias;
}

/* Behind the declaration that begins at i; ``body`` is where a function's begins. */
static size_t find_end(size_t i, size_t *body)
{
	int initialised = 0, is_typedef = 0, group = 0;

	for (*body = 0; tokens[i].kind != END && !trouble;) {
		struct tag tag;
		if (is_tag(i)) {
			i = read_tag(i, token_count, &tag);
			continue;
		}
		if (is(i, ';'))
			return i + 1;
		if (closes(i) || tokens[i].kind == DIRECTIVE)
			break;
		if (is(i, '{') && !initialised) {
			if (is_typedef || !group)
				break;
			*body = i;
			return skip(i, token_count);
		}
		is_typedef |= word(i) == TYPEDEF;
		initialised |= is(i, '=');
		group |= is(i, '(');
		i = skip(i, token_count);
	}
	trouble = 1;
	return i;
}

void read_items(void)
{
	static size_t next;

	if (!declarations) {
		declarations = room(0, 0, &declaration_room, sizeof *declarations);
		/* Number 0 stands for none. */
		declaration_count = 1;
	}
	while (next < token_count && !trouble) {
		size_t body = 0, end = tokens[next].kind == DIRECTIVE ? next + 1 : find_end(next, &body);
		if (trouble) {
			/* Its end may be still to come. */
			trouble = 0;
			return;
		}
		add_item(next, end, body);
		next = end;
	}
}
