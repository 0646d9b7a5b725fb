/* The values that a template computes with, the arena they live in, and strings that record which of their bytes came
 * from outside. Private to the interpreter. */
#ifndef RUNTIME_TEXT_JINJA_VALUE_H
#define RUNTIME_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "runtime/text/jinja/jinja.h"

/* All memory of one parse or one render: freed together, never more than limit bytes. */
struct jj_chunk;
struct jj_arena {
	struct jj_chunk *chunks; /* newest first */
	size_t used, limit;      /* bytes, over all chunks */
	struct tt_error *err;
};
int tt_jj_alloc(struct jj_arena *arena, void *out_pointer, size_t count, size_t size);
/* Like tt_grow, inside the arena: in place if the array is the newest allocation, otherwise a copy. */
int tt_jj_grow(struct jj_arena *arena, void *pointer, size_t *capacity, size_t needed, size_t size);
void tt_jj_arena_free(struct jj_arena *arena);

/* Of a byte; JJ_MIXED of a string whose bytes have several. JJ_LAST_USER is untrusted too. */
enum jj_mark { JJ_TRUSTED, JJ_UNTRUSTED, JJ_LAST_USER = TT_JINJA_LAST_USER, JJ_MIXED };

struct jj_string {
	const char *data; /* [len], valid UTF-8, not terminated */
	size_t len;
	const uint8_t *mask; /* [len] enum jj_mark; only for JJ_MIXED */
	uint8_t mark;        /* enum jj_mark */
	bool markup;         /* Python's Markup (|safe, |escape): + escapes what is joined to it */
};

enum jj_kind {
	JJ_UNDEFINED,
	JJ_NONE,
	JJ_BOOL,
	JJ_INT,
	JJ_FLOAT,
	JJ_STRING,
	JJ_LIST,
	JJ_TUPLE,
	JJ_DICT,
	JJ_RANGE,
	JJ_VIEW,   /* dict.keys(), .values(), .items() */
	JJ_CURSOR, /* a generator in Python: read once, always true, without a length */
	JJ_NAMESPACE,
	JJ_MACRO,
	JJ_NATIVE, /* a function of the interpreter, perhaps bound to a value */
	JJ_LOOP,
	JJ_MISSING, /* never seen by a template: an argument that was not given, a name that is not yet set */
};

enum jj_view { JJ_KEYS, JJ_VALUES, JJ_ITEMS };

struct jj_value {
	uint8_t kind; /* enum jj_kind */
	uint8_t view; /* enum jj_view, for JJ_VIEW */
	union {
		bool boolean;
		int64_t integer;
		double real;
		const struct jj_string *string; /* JJ_STRING; for JJ_UNDEFINED its name, or NULL */
		const struct jj_list *list;     /* JJ_LIST, JJ_TUPLE */
		struct jj_dict *dict;           /* JJ_DICT, JJ_VIEW, JJ_NAMESPACE */
		const struct jj_range *range;
		struct jj_cursor *cursor;
		const struct jj_macro *macro;
		const struct jj_bound *bound; /* JJ_NATIVE */
		struct jj_loop *loop;
	};
};

struct jj_list {
	struct jj_value *items; /* [n] */
	size_t n;
};

/* In order of insertion. A lookup walks all keys: a template's dicts are small, and the steps of a walk are counted. */
struct jj_dict {
	struct jj_value *keys, *values; /* [n] */
	size_t n, key_capacity, value_capacity;
};

struct jj_range {
	int64_t start, step;
	size_t n;
};

struct jj_cursor {
	const struct jj_value *items; /* [n] */
	size_t n, next;
};

/* Builds a string in an arena. The mask exists from the first byte whose mark differs from those before it. */
struct jj_builder {
	struct jj_arena *arena;
	size_t limit;
	char *data;    /* [capacity], len used */
	uint8_t *mask; /* [mask_capacity], or NULL while all bytes are marked alike */
	size_t len, capacity, mask_capacity;
	uint8_t mark; /* enum jj_mark; JJ_MIXED from when there is a mask */
};
int tt_jj_add(struct jj_builder *builder, const struct jj_string *string);
int tt_jj_add_part(struct jj_builder *builder, const struct jj_string *string, size_t from, size_t to);
int tt_jj_add_bytes(struct jj_builder *builder, const void *data, size_t n, enum jj_mark mark);
int tt_jj_add_text(struct jj_builder *builder, const char *terminated); /* trusted */
/* whole: one marked byte marks all bytes, for functions that mix them too much to track. */
int tt_jj_finish(struct jj_builder *builder, bool whole, struct jj_value *out);

/* Code points. Every string is valid UTF-8, so decoding needs no error. */
uint32_t tt_jj_decode(const char *data, size_t n, size_t *at);
bool tt_jj_is_space(uint32_t code_point); /* Python's str.isspace, which is also its regular expressions' \s */
size_t tt_jj_count(const char *data, size_t n);
size_t tt_jj_offset(const char *data, size_t n, size_t index); /* byte offset of code point index, at most n */
/* The end and the start of the part of data that has no white space around it. */
size_t tt_jj_strip_end(const char *data, size_t n);
size_t tt_jj_strip_start(const char *data, size_t n);

static inline enum jj_mark tt_jj_mark_at(const struct jj_string *string, size_t at)
{
	return (enum jj_mark)(string->mark == JJ_MIXED ? string->mask[at] : string->mark);
}

static inline bool tt_jj_same(const struct jj_string *a, const struct jj_string *b)
{
	return a->len == b->len && __builtin_memcmp(a->data, b->data, a->len) == 0;
}

#endif
