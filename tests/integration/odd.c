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

/* Large enough to be had in part. */
struct odd_large {
	int first;
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
		struct odd_other *other = (void *)large->pointer_3, *large = other;

		return first + large->first;
	}
}
