#include "base/string_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

uint64_t tt_hash_u64(uint64_t value)
{
	/* Two rounds of multiply and fold: ids are small and consecutive, so the low bits must depend on all others. */
	value ^= value >> 32;
	value *= 0xd6e8feb86659fd93u;
	value ^= value >> 32;
	value *= 0xd6e8feb86659fd93u;
	value ^= value >> 32;
	return value;
}

uint64_t tt_hash_bytes(const void *data, size_t n)
{
	const unsigned char *p = data;
	uint64_t hash = n, word;
	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&word, p, 8);
		hash = tt_hash_u64(hash ^ word);
	}
	word = 0;
	if (n)
		memcpy(&word, p, n);
	return tt_hash_u64(hash ^ word);
}

bool tt_hash_slots(size_t n, size_t *out)
{
	size_t slots = 16;
	while (slots / 2 < n)
		if (!tt_mul_size(slots, 2, &slots))
			return false;
	*out = slots;
	return true;
}

int tt_span_index_init(struct tt_span_index *index, size_t n, struct tt_error *err)
{
	size_t slots;
	if (n > INT32_MAX || !tt_hash_slots(n, &slots))
		return tt_fail(err, TT_ERR_MEMORY, "an index of %zu strings is too large", n);
	TT_TRY(tt_alloc(&index->slots, slots, sizeof *index->slots, err));
	index->mask = slots - 1;
	return TT_OK;
}

void tt_span_index_free(struct tt_span_index *index)
{
	free(index->slots);
	*index = (struct tt_span_index){0};
}

static bool same(const struct tt_span *span, const void *data, size_t n)
{
	return span->len == n && (n == 0 || memcmp(span->data, data, n) == 0);
}

int tt_span_index_add(
	struct tt_span_index *index, const struct tt_span *spans, size_t i, int32_t *earlier, struct tt_error *err)
{
	size_t slot = tt_hash_bytes(spans[i].data, spans[i].len) & index->mask;
	*earlier = -1;
	for (int probes = 0; probes < TT_HASH_MAX_PROBES; probes++, slot = (slot + 1) & index->mask) {
		uint32_t entry = index->slots[slot];
		if (!entry) {
			index->slots[slot] = (uint32_t)i + 1;
			return TT_OK;
		}
		if (same(&spans[entry - 1], spans[i].data, spans[i].len)) {
			*earlier = (int32_t)(entry - 1);
			return TT_OK;
		}
	}
	return tt_fail(err, TT_ERR_LIMIT, "too many strings with the same hash, at entry %zu", i);
}

int32_t tt_span_index_find(const struct tt_span_index *index, const struct tt_span *spans, const void *data, size_t n)
{
	size_t slot = tt_hash_bytes(data, n) & index->mask;
	for (int probes = 0; probes < TT_HASH_MAX_PROBES; probes++, slot = (slot + 1) & index->mask) {
		uint32_t entry = index->slots[slot];
		if (!entry)
			return -1;
		if (same(&spans[entry - 1], data, n))
			return (int32_t)(entry - 1);
	}
	return -1;
}
