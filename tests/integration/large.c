/* A module that follows pointers to a struct that ends otherwise in each version of the kernel. */

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/types.h>
#include <linux/version.h>

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
		unsigned long word_0, *pointer_0;
		unsigned long word_1, *pointer_1;
		unsigned long word_2, *pointer_2;
		unsigned long word_3, *pointer_3;
		unsigned long word_4, *pointer_4;
		unsigned long word_5, *pointer_5;
		unsigned long word_6, *pointer_6;
		unsigned long word_7, *pointer_7;
		unsigned long word_8, *pointer_8;
		unsigned long word_9, *pointer_9;
		unsigned long word_10, *pointer_10;
		unsigned long word_11, *pointer_11;
		unsigned long word_12, *pointer_12;
		unsigned long word_13, *pointer_13;
		unsigned long word_14, *pointer_14;
		unsigned long word_15, *pointer_15;
		unsigned long word_16, *pointer_16;
		unsigned long word_17, *pointer_17;
		unsigned long word_18, *pointer_18;
		unsigned long word_19, *pointer_19;
		unsigned long word_20, *pointer_20;
		unsigned long word_21, *pointer_21;
		unsigned long word_22, *pointer_22;
		unsigned long word_23, *pointer_23;
		unsigned long word_24, *pointer_24;
		unsigned long word_25, *pointer_25;
		unsigned long word_26, *pointer_26;
		unsigned long word_27, *pointer_27;
		unsigned long word_28, *pointer_28;
		unsigned long word_29, *pointer_29;
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
	return large->first + other->half + READ_ONCE(large->word_3);
}

unsigned long *of_members(struct holder *holder);
unsigned long *of_members(struct holder *holder)
{
	return &holder->large->word_29 + (holder->next->large)->last.count[1];
}

char of_results(struct large *large, int i);
char of_results(struct large *large, int i)
{
	return find_large(i)->array[i] + ((large))->used + find_large(0)->low;
}

MODULE_LICENSE("GPL");
