/* Byte pair merging: a word's bytes or characters become symbols, and the pair with the lowest rank is merged, leftmost
 * first, until no pair is in the table. */
#ifndef RUNTIME_TEXT_TOKENIZER_BPE_H
#define RUNTIME_TEXT_TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/text/tokenizer/tokenizer.h"

struct tt_merge {
	uint64_t pair; /* left id << 32 | right id */
	uint32_t rank; /* UINT32_MAX in an empty slot */
	int32_t id;    /* the token that the two become */
};

struct tt_bpe_character {
	uint32_t character;
	int32_t id; /* -1 in an empty slot */
};

struct tt_bpe {
	/* The id of each byte. -1: no token is this byte, and it is left out of the ids, as `tokenizers` does without
	 * an unk_token. (SmolLM2 has no token for 04, 06, 13, 14, 16, 1D and the first bytes of planes 4 to 11.) */
	int32_t byte_id[256];
	struct tt_merge *merges; /* [mask + 1] */
	size_t mask;
	/* NULL if bytes are the symbols. Else characters are, and one without a token becomes its bytes. */
	struct tt_bpe_character *characters; /* [character_mask + 1] */
	size_t character_mask;
};

/* Makes an empty table, without bytes and merges, with room for n_merges. */
int tt_bpe_init(struct tt_bpe *bpe, size_t n_merges, struct tt_error *err);
void tt_bpe_free(struct tt_bpe *bpe);
/* Returns TT_ERR_FORMAT if the pair has a rank already. Among pairs of equal rank the leftmost is merged first. */
int tt_bpe_add_merge(struct tt_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id, struct tt_error *err);
/* Makes characters the symbols instead of bytes, with room for n characters. */
int tt_bpe_init_characters(struct tt_bpe *bpe, size_t n, struct tt_error *err);
int tt_bpe_add_character(struct tt_bpe *bpe, uint32_t character, int32_t id, struct tt_error *err);

/* Working memory for long words, kept between calls; zero-initialise. */
struct tt_bpe_scratch {
	int32_t *id, *previous, *next; /* [n] for a word of n bytes */
	uint64_t *heap;                /* rank << 32 | position */
	size_t id_capacity, previous_capacity, next_capacity, heap_capacity, heap_len;
};
void tt_bpe_scratch_free(struct tt_bpe_scratch *scratch);

/* Appends the ids of one word: O(n log n), at most TT_BPE_MAX_WORD bytes. */
enum { TT_BPE_MAX_WORD = 1 << 30 };
int tt_bpe_encode(const struct tt_bpe *bpe, struct tt_bpe_scratch *scratch, const char *word, size_t n,
	struct tt_ids *ids, struct tt_error *err);

#endif
