#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/value.h"

#define ALIGNMENT 16
#define FIRST_CHUNK ((size_t)16 << 10)
#define LARGEST_CHUNK ((size_t)1 << 20)

struct jj_chunk {
	struct jj_chunk *next;
	size_t size, used; /* in bytes, without the header */
};

#define HEADER ((sizeof(struct jj_chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

static char *chunk_data(struct jj_chunk *chunk)
{
	return (char *)chunk + HEADER;
}

static int too_much(struct jj_arena *arena)
{
	return tt_fail(arena->err, TT_ERR_LIMIT, "the template needs more than %zu bytes of memory", arena->limit);
}

static int add_chunk(struct jj_arena *arena, size_t bytes)
{
	struct jj_chunk *chunk = NULL;
	size_t size = arena->chunks ? arena->chunks->size * 2 : FIRST_CHUNK;
	if (size > LARGEST_CHUNK)
		size = LARGEST_CHUNK;
	if (size < bytes)
		size = bytes;
	if (size > arena->limit - arena->used)
		size = bytes;
	if (size > arena->limit - arena->used)
		return too_much(arena);
	TT_TRY(tt_alloc(&chunk, 1, HEADER + size, arena->err));
	*chunk = (struct jj_chunk){.next = arena->chunks, .size = size};
	arena->chunks = chunk;
	arena->used += size;
	return TT_OK;
}

static bool round_up(struct jj_arena *arena, size_t count, size_t size, size_t *bytes)
{
	if (!tt_mul_size(count, size, bytes) || *bytes > arena->limit)
		return false;
	*bytes = (*bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	return true;
}

int tt_jj_alloc(struct jj_arena *arena, void *out_pointer, size_t count, size_t size)
{
	size_t bytes;
	if (!round_up(arena, count, size, &bytes))
		return too_much(arena);
	if (!arena->chunks || bytes > arena->chunks->size - arena->chunks->used)
		TT_TRY(add_chunk(arena, bytes));
	void *memory = chunk_data(arena->chunks) + arena->chunks->used;
	arena->chunks->used += bytes;
	memset(memory, 0, bytes);
	memcpy(out_pointer, &memory, sizeof memory);
	return TT_OK;
}

int tt_jj_grow(struct jj_arena *arena, void *pointer, size_t *capacity, size_t needed, size_t size)
{
	struct jj_chunk *chunk = arena->chunks;
	size_t wanted = *capacity < 4 ? 4 : *capacity, old_bytes, new_bytes;
	char *old, *fresh = NULL;
	if (needed <= *capacity)
		return TT_OK;
	while (wanted < needed)
		if (!tt_mul_size(wanted, 2, &wanted))
			return too_much(arena);
	if (!round_up(arena, wanted, size, &new_bytes) || !round_up(arena, *capacity, size, &old_bytes))
		return too_much(arena);
	memcpy(&old, pointer, sizeof old);
	if (old && chunk && old + old_bytes == chunk_data(chunk) + chunk->used &&
		new_bytes - old_bytes <= chunk->size - chunk->used) {
		memset(old + old_bytes, 0, new_bytes - old_bytes);
		chunk->used += new_bytes - old_bytes;
	} else {
		TT_TRY(tt_jj_alloc(arena, &fresh, wanted, size));
		if (old)
			memcpy(fresh, old, *capacity * size);
		memcpy(pointer, &fresh, sizeof fresh);
	}
	*capacity = wanted;
	return TT_OK;
}

void tt_jj_arena_free(struct jj_arena *arena)
{
	while (arena->chunks) {
		struct jj_chunk *next = arena->chunks->next;
		free(arena->chunks);
		arena->chunks = next;
	}
	arena->used = 0;
}

/* Makes room for n bytes with this mark. If it differs from the mark of the bytes so far, the mask starts here. */
static int reserve(struct jj_builder *builder, size_t n, enum jj_mark mark)
{
	size_t needed;
	if (!tt_add_size(builder->len, n, &needed) || needed > builder->limit)
		return tt_fail(builder->arena->err, TT_ERR_LIMIT, "the template makes a text of more than %zu bytes",
			builder->limit);
	TT_TRY(tt_jj_grow(builder->arena, &builder->data, &builder->capacity, needed, 1));
	if (builder->len == 0 && !builder->mask)
		builder->mark = (uint8_t)mark;
	if (builder->mark == JJ_MIXED || mark != builder->mark)
		TT_TRY(tt_jj_grow(builder->arena, &builder->mask, &builder->mask_capacity, needed, 1));
	if (builder->mark != JJ_MIXED && mark != builder->mark) {
		if (builder->len)
			memset(builder->mask, builder->mark, builder->len);
		builder->mark = JJ_MIXED;
	}
	return TT_OK;
}

int tt_jj_add_bytes(struct jj_builder *builder, const void *data, size_t n, enum jj_mark mark)
{
	if (n == 0)
		return TT_OK;
	TT_TRY(reserve(builder, n, mark));
	memcpy(builder->data + builder->len, data, n);
	if (builder->mark == JJ_MIXED)
		memset(builder->mask + builder->len, (int)mark, n);
	builder->len += n;
	return TT_OK;
}

int tt_jj_add_part(struct jj_builder *builder, const struct jj_string *string, size_t from, size_t to)
{
	if (from >= to)
		return TT_OK;
	if (string->mark != JJ_MIXED)
		return tt_jj_add_bytes(builder, string->data + from, to - from, (enum jj_mark)string->mark);
	TT_TRY(reserve(builder, to - from, JJ_MIXED));
	memcpy(builder->data + builder->len, string->data + from, to - from);
	memcpy(builder->mask + builder->len, string->mask + from, to - from);
	builder->len += to - from;
	return TT_OK;
}

int tt_jj_add(struct jj_builder *builder, const struct jj_string *string)
{
	return tt_jj_add_part(builder, string, 0, string->len);
}

int tt_jj_add_text(struct jj_builder *builder, const char *terminated)
{
	return tt_jj_add_bytes(builder, terminated, strlen(terminated), JJ_TRUSTED);
}

int tt_jj_finish(struct jj_builder *builder, bool whole, struct jj_value *out)
{
	struct jj_string *string = NULL;
	TT_TRY(tt_jj_alloc(builder->arena, &string, 1, sizeof *string));
	*string = (struct jj_string){.data = builder->data ? builder->data : "", .len = builder->len};
	string->mark = builder->len ? builder->mark : JJ_TRUSTED;
	if (string->mark == JJ_MIXED && whole)
		string->mark = JJ_UNTRUSTED;
	else if (string->mark == JJ_MIXED)
		string->mask = builder->mask;
	*out = (struct jj_value){.kind = JJ_STRING, .string = string};
	return TT_OK;
}
