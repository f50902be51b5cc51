/* What of a preprocessed source its object is made of (slice.c), and of what that is found out. */

#pragma once

#include "libc.h"

#pragma GCC visibility push(hidden)

#define SIZE(array) (sizeof(array) / sizeof *(array))

enum kind { END, NAME, NUMBER, LITERAL, SIGN, DIRECTIVE };

struct token {
	const char *at;
	unsigned length, name; /* number of the name */
	unsigned line, marker; /* where it was: behind which line marker, and how far */
	unsigned char kind, spaced;
};

/* What of a name is special. */
enum word {
	NO_WORD,
	STRUCT,
	UNION,
	ENUM,
	TYPEDEF,
	EXTERN,
	STATIC,
	INLINE,
	ATTRIBUTE,
	ASM,
	TYPEOF,
	STATIC_ASSERT,
	EXTENSION,
	QUALIFIER,
	THREAD,
	HARMLESS,
	HARMLESS_ALONE,
	GNU_INLINE,
	ALIAS,
	SECTION,
	LOCATED,
};

struct name {
	const char *at;
	unsigned length, hash, next;
	unsigned declarations; /* of what has it, but for structs, unions and enums */
	unsigned definitions;  /* of a struct, union or enum */
	unsigned pointers;     /* what it is declared to point to */
	unsigned counter;      /* how many that end in __COUNTER__ are before it, and 1; or 0 */
	unsigned view;	       /* the one of its struct, and 1; or 0 */
	unsigned char word, asked, complete, announced;
};

/* # LINE "FILE" FLAGS. */
struct marker {
	const char *file; /* with its quotes */
	unsigned length, line;
	const char *flags;
};

/* A declaration at file level: tokens from begin to end, which is where its body is by then. */
struct item {
	unsigned begin, end, body;
	unsigned view; /* the name of the struct it defines of which there is one; or 0 */
	unsigned char root, used, alias, alignment;
};

/* An item of several: a list. */
struct declaration {
	unsigned item, next;
};

/* That a name is declared, in this item, as a pointer to a struct or union. */
struct pointer {
	unsigned to, item, next;
};

extern struct token *tokens;
extern struct name *names;
extern struct marker *markers;
extern struct item *items;
extern struct declaration *declarations;
extern struct pointer *pointers;
extern size_t token_count, name_count, marker_count, item_count;

/* That the text has a form that is not known here, or that there is no memory for it. */
extern int trouble;

/* tokens.c */
extern void *room(void *old, size_t count, size_t *most, size_t size);
extern unsigned name_of(const char *at, size_t length);
/* Reads on; all but the last line, if that has no end yet. */
extern void read_tokens(const char *text, size_t size);
/* Whether a name ends in the value of __COUNTER__, and whether a literal may tell of one. */
extern int is_counted(const struct name *name);
extern int tells_counted(const struct token *token);
extern int is_digit(char c);
extern int is(size_t i, char sign);
extern int is_arrow(size_t i);
extern int closes(size_t i);
extern enum word word(size_t i);
extern int is_tag(size_t i);
extern size_t skip(size_t i, size_t end);

/* declarations.c */
/* Goes on with the tokens there are by now; what has no end yet is left. */
extern void read_items(void);

/* slice.c */
/* The name of the source in quotes. */
extern const char *main_file;
extern size_t main_length;

/* Whether the compiler looks for an alias. */
extern int alias;

/*
 * How many variables with a section a function has, which the compiler numbers with all that it
 * has heard of if it looks for an alias; -1 if that is hard to tell.
 */
extern int sections(const struct item *item);

/* Where the name of a tag is, or 0, and what comes behind it. */
extern size_t find_tag(size_t i, size_t end, size_t *behind);

/* Reads on in the one text of this process; it may go on in one that is forked from it. */
extern void slice_read(const char *text, size_t size);

/* Once the text is at its end: 0 where it has a form that is not known here. */
extern int slice_end(const char *file, size_t length);

/* Has the slice say all that is in a struct or union; 1 if it did not. */
extern int slice_complete(const char *tag, size_t length);

/* The same for all that there are views of. */
extern int slice_complete_views(void);

/* Goes after what these tokens of an item name. */
extern void visit_tokens(unsigned item, size_t begin, size_t end);

/* views.c */
/*
 * Has the name at i, in an item, be followed to a member by a view of the struct ``tag`` that it
 * points to; 0 where that cannot be.
 */
extern int add_view(unsigned tag, size_t i, unsigned item);

/* Behind what a view has of the struct that it is of; 0 if the struct is had whole, or not at all. */
extern size_t view_cut(unsigned tag);

/* Behind the member at i of a struct, or behind a struct's end with the name it may have. */
extern size_t skip_member(size_t i, size_t end);

/*
 * The struct that the operand that begins at i is followed to by a view, and at which token; 0 for
 * none before ``limit``.
 */
extern unsigned find_arrow(size_t i, size_t limit, size_t *at);

/* write.c */
struct text {
	char *at;
	size_t size, room;
};

/*
 * The slice as it is by now: ``source`` for the compiler, ``key`` the same without where it was and
 * what __COUNTER__ was, and ``counted`` the names that end in that, a line each, in order.
 */
extern int slice_write(struct text *source, struct text *key, struct text *counted);

extern void put(struct text *to, const char *text, size_t size);

/* pieces.c */
extern int make_piece(const char *file, size_t length, int number);

#pragma GCC visibility pop
