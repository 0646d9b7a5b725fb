#include "runtime/text/tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/string_index.h"
#include "base/utf8.h"

#define NO_RANK UINT32_MAX

int tt_bpe_init(struct tt_bpe *bpe, size_t n_merges, struct tt_error *err)
{
	size_t slots;
	if (n_merges >= NO_RANK || !tt_hash_slots(n_merges, &slots))
		return tt_fail(err, TT_ERR_MEMORY, "a table of %zu merges is too large", n_merges);
	TT_TRY(tt_alloc(&bpe->merges, slots, sizeof *bpe->merges, err));
	bpe->mask = slots - 1;
	for (size_t i = 0; i < slots; i++)
		bpe->merges[i].rank = NO_RANK;
	for (size_t i = 0; i < 256; i++)
		bpe->byte_id[i] = -1;
	return TT_OK;
}

void tt_bpe_free(struct tt_bpe *bpe)
{
	free(bpe->merges);
	free(bpe->characters);
	bpe->merges = NULL;
	bpe->characters = NULL;
}

int tt_bpe_init_characters(struct tt_bpe *bpe, size_t n, struct tt_error *err)
{
	size_t slots;
	if (!tt_hash_slots(n, &slots))
		return tt_fail(err, TT_ERR_MEMORY, "a table of %zu characters is too large", n);
	TT_TRY(tt_alloc(&bpe->characters, slots, sizeof *bpe->characters, err));
	bpe->character_mask = slots - 1;
	for (size_t i = 0; i < slots; i++)
		bpe->characters[i].id = -1;
	return TT_OK;
}

int tt_bpe_add_character(struct tt_bpe *bpe, uint32_t character, int32_t id, struct tt_error *err)
{
	size_t slot = tt_hash_u64(character) & bpe->character_mask;
	for (int probes = 0; probes < TT_HASH_MAX_PROBES; probes++, slot = (slot + 1) & bpe->character_mask) {
		if (bpe->characters[slot].id < 0) {
			bpe->characters[slot] = (struct tt_bpe_character){character, id};
			return TT_OK;
		}
		if (bpe->characters[slot].character == character)
			return tt_fail(err, TT_ERR_FORMAT, "tokens %d and %d are the same character",
				bpe->characters[slot].id, id);
	}
	return tt_fail(err, TT_ERR_LIMIT, "too many characters with the same hash");
}

static int32_t find_character(const struct tt_bpe *bpe, uint32_t character)
{
	size_t slot = tt_hash_u64(character) & bpe->character_mask;
	for (;; slot = (slot + 1) & bpe->character_mask)
		if (bpe->characters[slot].id < 0 || bpe->characters[slot].character == character)
			return bpe->characters[slot].id;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

int tt_bpe_add_merge(struct tt_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id, struct tt_error *err)
{
	uint64_t pair = pair_of(left, right);
	size_t slot = tt_hash_u64(pair) & bpe->mask;
	for (int probes = 0; probes < TT_HASH_MAX_PROBES; probes++, slot = (slot + 1) & bpe->mask) {
		struct tt_merge *merge = &bpe->merges[slot];
		if (merge->rank == NO_RANK) {
			*merge = (struct tt_merge){pair, rank, id};
			return TT_OK;
		}
		if (merge->pair == pair)
			return tt_fail(err, TT_ERR_FORMAT, "the pair already stands at rank %u", merge->rank);
	}
	return tt_fail(err, TT_ERR_LIMIT, "too many merges with the same hash");
}

/* Returns NULL if the two do not merge. */
static const struct tt_merge *find_merge(const struct tt_bpe *bpe, int32_t left, int32_t right)
{
	uint64_t pair = pair_of(left, right);
	size_t slot = tt_hash_u64(pair) & bpe->mask;
	for (;; slot = (slot + 1) & bpe->mask) {
		const struct tt_merge *merge = &bpe->merges[slot];
		if (merge->rank == NO_RANK)
			return NULL;
		if (merge->pair == pair)
			return merge;
	}
}

static int add_ids(struct tt_ids *ids, const int32_t *more, size_t n, struct tt_error *err)
{
	size_t needed;
	if (!tt_add_size(ids->len, n, &needed))
		return tt_fail(err, TT_ERR_MEMORY, "too many ids");
	TT_TRY(tt_grow(&ids->data, &ids->capacity, needed, sizeof *ids->data, err));
	if (n)
		memcpy(ids->data + ids->len, more, n * sizeof *more);
	ids->len = needed;
	return TT_OK;
}

/* Words of at most so many symbols are merged by scanning, which is quadratic but faster than the heap for short words
 * (an English word has 5 bytes on average). */
enum { SHORT_WORD = 48 };

static int encode_short(
	const struct tt_bpe *bpe, const int32_t *symbols, size_t n, struct tt_ids *ids, struct tt_error *err)
{
	static const struct tt_merge none = {0, NO_RANK, -1};
	int32_t id[SHORT_WORD];
	const struct tt_merge *merge[SHORT_WORD]; /* of the pair that starts at each symbol */
	memcpy(id, symbols, n * sizeof *id);
	for (size_t i = 0; i + 1 < n; i++) {
		merge[i] = find_merge(bpe, id[i], id[i + 1]);
		if (!merge[i])
			merge[i] = &none;
	}
	while (n > 1) {
		size_t best = 0;
		for (size_t i = 1; i + 1 < n; i++)
			if (merge[i]->rank < merge[best]->rank)
				best = i;
		if (merge[best]->rank == NO_RANK)
			break;
		id[best] = merge[best]->id;
		n--;
		memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
		if (best + 1 < n) {
			memmove(merge + best, merge + best + 1, (n - best - 1) * sizeof *merge);
			const struct tt_merge *right = find_merge(bpe, id[best], id[best + 1]);
			merge[best] = right ? right : &none;
		}
		if (best > 0) {
			const struct tt_merge *left = find_merge(bpe, id[best - 1], id[best]);
			merge[best - 1] = left ? left : &none;
		}
	}
	return add_ids(ids, id, n, err);
}

void tt_bpe_scratch_free(struct tt_bpe_scratch *scratch)
{
	free(scratch->id);
	free(scratch->previous);
	free(scratch->next);
	free(scratch->heap);
	*scratch = (struct tt_bpe_scratch){0};
}

static int heap_push(struct tt_bpe_scratch *s, uint64_t entry, struct tt_error *err)
{
	TT_TRY(tt_grow(&s->heap, &s->heap_capacity, s->heap_len + 1, sizeof *s->heap, err));
	size_t i = s->heap_len++;
	while (i > 0 && s->heap[(i - 1) / 2] > entry) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = entry;
	return TT_OK;
}

static uint64_t heap_pop(struct tt_bpe_scratch *s)
{
	uint64_t top = s->heap[0], last = s->heap[--s->heap_len];
	size_t i = 0, n = s->heap_len;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= n)
			break;
		if (child + 1 < n && s->heap[child + 1] < s->heap[child])
			child++;
		if (s->heap[child] >= last)
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return top;
}

static int push_pair(const struct tt_bpe *bpe, struct tt_bpe_scratch *s, int32_t at, struct tt_error *err)
{
	if (at < 0 || s->next[at] < 0)
		return TT_OK;
	const struct tt_merge *merge = find_merge(bpe, s->id[at], s->id[s->next[at]]);
	return merge ? heap_push(s, (uint64_t)merge->rank << 32 | (uint32_t)at, err) : TT_OK;
}

/* s->id holds the n symbols. Every merge removes a symbol and enters at most two pairs, so fewer than 3 n entries go
 * through the heap. An entry is stale if the pair at its position no longer has its rank; if another pair with the same
 * rank is there now, the entry serves for that one. */
static int encode_long(
	const struct tt_bpe *bpe, struct tt_bpe_scratch *s, size_t n, struct tt_ids *ids, struct tt_error *err)
{
	TT_TRY(tt_grow(&s->previous, &s->previous_capacity, n, sizeof *s->previous, err));
	TT_TRY(tt_grow(&s->next, &s->next_capacity, n, sizeof *s->next, err));
	s->heap_len = 0;
	for (size_t i = 0; i < n; i++) {
		s->previous[i] = (int32_t)i - 1;
		s->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
	}
	for (size_t i = 0; i + 1 < n; i++)
		TT_TRY(push_pair(bpe, s, (int32_t)i, err));
	while (s->heap_len) {
		uint64_t entry = heap_pop(s);
		int32_t at = (int32_t)(uint32_t)entry, right;
		if (s->id[at] < 0 || (right = s->next[at]) < 0)
			continue;
		const struct tt_merge *merge = find_merge(bpe, s->id[at], s->id[right]);
		if (!merge || merge->rank != entry >> 32)
			continue;
		s->id[at] = merge->id;
		s->id[right] = -1;
		s->next[at] = s->next[right];
		if (s->next[at] >= 0)
			s->previous[s->next[at]] = at;
		TT_TRY(push_pair(bpe, s, s->previous[at], err));
		TT_TRY(push_pair(bpe, s, at, err));
	}
	for (int32_t i = 0; i >= 0; i = s->next[i])
		TT_TRY(add_ids(ids, &s->id[i], 1, err));
	return TT_OK;
}

int tt_bpe_encode(const struct tt_bpe *bpe, struct tt_bpe_scratch *scratch, const char *word, size_t n,
	struct tt_ids *ids, struct tt_error *err)
{
	int32_t few[SHORT_WORD], *symbols = few;
	size_t len = 0;
	if (n > TT_BPE_MAX_WORD)
		return tt_fail(err, TT_ERR_LIMIT, "a word of %zu bytes is too long (limit %d)", n, TT_BPE_MAX_WORD);
	if (n > SHORT_WORD) {
		TT_TRY(tt_grow(&scratch->id, &scratch->id_capacity, n, sizeof *scratch->id, err));
		symbols = scratch->id;
	}
	for (size_t i = 0; i < n;) {
		uint32_t character;
		size_t used = bpe->characters ? tt_utf8_decode(word + i, n - i, &character) : 0;
		int32_t id = used ? find_character(bpe, character) : -1;
		if (id >= 0)
			symbols[len++] = id;
		for (size_t j = 0; id < 0 && j < (used ? used : 1); j++) {
			int32_t byte = bpe->byte_id[(uint8_t)word[i + j]];
			if (byte >= 0)
				symbols[len++] = byte;
		}
		i += used ? used : 1;
	}
	if (len == 0)
		return TT_OK;
	if (len <= SHORT_WORD)
		return encode_short(bpe, symbols, len, ids, err);
	return encode_long(bpe, scratch, len, ids, err);
}
