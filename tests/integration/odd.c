/* Appended to a module: what it takes to tell what of a source its object is made of. */

#include <linux/bug.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

/* As if in a header: not used, but heard of. */
#line 1 "odd.h"
static inline int odd_once(void)
{
	static bool __attribute__((section(".data.odd"))) once;

	return once++;
}

static inline int odd_two(void)
{
	static int one __attribute__((section(".data.odd"))), two __attribute__((section(".data.odd")));

	return one++ + two++;
}

static inline int odd_struct(void)
{
	static struct {
		int count;
	} all __attribute__((section(".data.odd")));

	return all.count++;
}

static inline void odd_cold(void)
{
	extern void dump_stack(void) __attribute__((cold));

	dump_stack();
}

/* Members enough for a large struct. */
#define PAIR(n) unsigned long word_##n, *pointer_##n
#define FIVE(n) PAIR(n##0); PAIR(n##1); PAIR(n##2); PAIR(n##3); PAIR(n##4)
#define MANY FIVE(0); FIVE(1); FIVE(2); FIVE(3); FIVE(4); FIVE(5)

/* Large enough to be had in part. */
struct odd_large {
	int first;
	MANY;
	int last;
};

struct odd_other {
	char before[40];
	int first;
};

static int *odd_literal __maybe_unused = (int[]){1, 2};
#line 1 "odd.c"

/* Signs that look like others. */
int odd_signs(int n, const char *text);
int odd_signs(int n, const char *text)
{
	static const char *const list[] = {"one", "two"};
	int count = 0;

	if (n > 5)
		dump_stack();
	while (n-- > PAGE_SHIFT)
		count++;
	switch (n) {
	case 0 ... PAGE_SHIFT:
		return count + __builtin_strncmp(text, list[n & 1], 3);
	}
	return __LINE__;
}

/* Only pointed to, and followed: by a variable, a member, a result and a cast. */
struct odd_far {
	int value;
	struct odd_far *next;
};

struct odd_near {
	struct odd_far *far;
	struct odd_unknown *unknown;
};

struct odd_far *odd_find(struct odd_near *near);
struct odd_far *odd_find(struct odd_near *near)
{
	return near->far->next;
}

int odd_value(struct odd_near *near, void *any);
int odd_value(struct odd_near *near, void *any)
{
	return odd_find(near)->value + ((struct odd_far *)any)->value;
}

unsigned long odd_sizes(struct file *file, struct page *pages);
unsigned long odd_sizes(struct file *file, struct page *pages)
{
	return sizeof(*file) + (unsigned long)(pages + 3) + sizeof(struct vm_area_struct);
}

void *odd_private(struct file *file);
void *odd_private(struct file *file)
{
	return ((struct seq_file *)file->private_data)->private;
}

/* By value, through a typedef, and as a copy. */
typedef struct seq_file odd_seq_t;
odd_seq_t odd_copy;

void odd_take(struct seq_file *from);
void odd_take(struct seq_file *from)
{
	odd_copy = *from;
}

/* One name as a tag, a member, a label, a variable and a type. */
struct odd {
	struct odd_far odd;
};

int odd_names(struct odd *odd);
int odd_names(struct odd *odd)
{
	if (odd->odd.value)
		goto odd;
	return 1;
odd:
	return 0;
}

/* Constants without a name for all, and an array of what is behind them. */
enum { ODD_FIRST = 7, ODD_LAST };
static const int odd_table[] = {[ODD_LAST - ODD_FIRST] = ODD_LAST};

int odd_lookup(unsigned int i);
int odd_lookup(unsigned int i)
{
	return odd_table[i & 1];
}

/* Variables in functions, which the compiler numbers. */
int odd_counter(void);
int odd_counter(void)
{
	static int odd_count;
	static struct lock_class_key __key;

	WARN_ONCE(!&__key, "%s has no key", __func__);
	return odd_count++;
}

int odd_counter_again(void);
int odd_counter_again(void)
{
	static int odd_count;

	return odd_count--;
}

/* Known by another name, or by nobody but the linker. */
int odd_other(void) __attribute__((alias("odd_counter")));
int odd_weak(void);
int __weak odd_weak(void)
{
	return odd_other();
}

static int odd_kept __used = 5;
static const char odd_text[] __attribute__((section(".odd"), used)) = "odd";

asm(".pushsection .odd.asm, \"a\"\n.long 1\n.popsection");

#pragma pack(push, 1)
struct odd_packed {
	char one;
	int four;
};
#pragma pack(pop)

int odd_packed_size(struct odd_packed *packed);
int odd_packed_size(struct odd_packed *packed)
{
	return sizeof(*packed) + packed->four;
}

/* Functions behind pointers, and a struct that another has between its braces. */
struct odd_operations {
	struct odd_inner {
		int (*call)(struct work_struct *work, struct odd_inner *inner);
	} inner;
};

int odd_call(struct odd_operations *operations, struct work_struct *work);
int odd_call(struct odd_operations *operations, struct work_struct *work)
{
	return operations->inner.call(work, &operations->inner);
}

int odd_user(int __user *from);
int odd_user(int __user *from)
{
	int value;

	BUILD_BUG_ON(sizeof(value) != 4);
	return get_user(value, from) ? -EFAULT : value;
}

_Static_assert(sizeof(struct odd_packed) == 5, "it is packed");

/* A name that points to one struct here and to another there. */
int odd_shadowed(struct odd_large *large);
int odd_shadowed(struct odd_large *large)
{
	int first = large->first;

	{
		struct odd_other *other = (void *)large->pointer_03, *large = other;

		return first + large->first;
	}
}
