/* A module that follows pointers to a struct that ends otherwise in each version of the kernel. */

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/types.h>
#include <linux/version.h>

/* Members enough for a large struct. */
#define PAIR(n) unsigned long word_##n, *pointer_##n
#define FIVE(n) PAIR(n##0); PAIR(n##1); PAIR(n##2); PAIR(n##3); PAIR(n##4)
#define MANY FIVE(0); FIVE(1); FIVE(2); FIVE(3); FIVE(4); FIVE(5)

/* As if in a header: not kept for its own sake. */
#line 1 "large.h"
struct large {
	struct {
		int first;
		unsigned char low : 3, high : 5;
		union {
			void *any;
			unsigned int half;
		};
		MANY;
		unsigned int bits : 9;
		unsigned int used : 4;
		unsigned int more : 7;
		struct {
			int count[4];
		} last;
		char array[8];
		int version[LINUX_VERSION_CODE];
	};
	unsigned long tail[];
};

struct holder {
	struct large *large;
	struct holder *next;
};

#line 1 "large.c"

struct large *found;

struct large *find_large(int number);
struct large *find_large(int number)
{
	return number ? found : NULL;
}

int of_names(struct large *large, const struct large *other);
int of_names(struct large *large, const struct large *other)
{
	large->high = 3;
	return large->first + other->half + READ_ONCE(large->word_03);
}

unsigned long *of_members(struct holder *holder);
unsigned long *of_members(struct holder *holder)
{
	return &holder->large->word_54 + (holder->next->large)->last.count[1];
}

char of_results(struct large *large, int i);
char of_results(struct large *large, int i)
{
	return find_large(i)->array[i] + ((large))->used + find_large(0)->low;
}

MODULE_LICENSE("GPL");
