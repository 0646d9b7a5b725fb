/* How CUDA's attention cuts a step into tiles, and which tiles of a prompt blocks share: for the launch
 * (cuda/attention.cu), and for whoever reckons what a step costs without CUDA (bench/harness/step_cost.h). No choice
 * changes a bit. */
#ifndef KERNELS_ATTENTION_PLAN_H
#define KERNELS_ATTENTION_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/host_device.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
	/* rows of a tile where each sequence has one token, or there are few; of a prompt's */
	TT_ATTENTION_FEW_ROWS = 16,
	TT_ATTENTION_MANY_ROWS = 64,
	/* splits of TT_SPLIT_KEYS keys that are worth a block of their own, and the results that it leaves */
	TT_ATTENTION_LONG = 4,
	TT_ATTENTION_WINDOW = 1024,      /* tokens among which blocks look for tiles at a time */
	TT_ATTENTION_COUNTERS = 1 << 16, /* tiles and heads that may be shared, at most */
	TT_ATTENTION_RESULTS = 256 << 20 /* bytes of results that blocks leave for each other, at most */
};

/* Floats of one result: max and sum of each row of a tile, then [head_dim] of each. */
TT_HOST_DEVICE static inline uint32_t tt_attention_result_floats(uint32_t n_rows, uint32_t head_dim)
{
	return n_rows * (head_dim + 2);
}

/* The tokens of a step. */
struct tt_attention_tokens {
	const int32_t *seqs, *positions;
	uint32_t n;
};

/* A tile: tokens of one sequence, cut at positions that are multiples of n_tokens, with query heads of one key head. A
 * group with more heads than a tile has rows takes several parts. */
struct tt_attention_cut {
	uint32_t n_tokens, n_heads, n_parts;
};
struct tt_attention_cut tt_attention_cut_of(uint32_t n_rows, uint32_t group);

/* Whether each split of a step's tiles, of TT_ATTENTION_FEW_ROWS, is a block's: where tokens times key heads and parts
 * are fewer than the n_blocks that run at once, and the results fit. n_splits: of the longest, as far as the grid is
 * made for. */
bool tt_attention_spreads(uint32_t n_tokens, uint32_t n_heads, uint32_t n_blocks, uint64_t n_splits, uint32_t head_dim);

/* Splits that a tile may have whose first token is at that position; window 0: a token sees all before it. */
uint32_t tt_attention_splits(const struct tt_attention_cut *cut, uint32_t position, uint32_t window);

/* How blocks that take tile after tile share those that would hold a step up: a block takes some splits of one, and the
 * last to arrive merges them all, in their order. The first share leaves one result, its totals so far; of the others
 * each split leaves its own, since only so are they added up as one block does it. */
struct tt_attention_share {
	uint32_t long_from; /* tiles of more splits than this are shared; 0: none is */
	uint32_t n_tiles;   /* that are, at most */
	uint32_t n_splits;  /* of a share */
	uint32_t n_shares;  /* of the longest tile */
	uint32_t n_results; /* of it, for each head */
};

/* Of tiles of the step that a block each would take longer for than all blocks for an equal part of the whole. n_heads:
 * key heads times parts; n_room: results of a tile and head that there is memory for. */
struct tt_attention_share tt_attention_share_of(const struct tt_attention_tokens *tokens,
	const struct tt_attention_cut *cut, uint32_t window, uint32_t n_heads, uint32_t n_blocks, uint64_t n_room);

/* Splits of the block that has the most, where blocks are dealt the tiles of a step as the kernel deals them; of all
 * blocks together to *all. work: scratch [n_blocks], and [TT_ATTENTION_WINDOW] behind it. */
uint64_t tt_attention_busiest(const struct tt_attention_tokens *tokens, const struct tt_attention_cut *cut,
	uint32_t window, uint32_t n_heads, uint32_t n_blocks, const struct tt_attention_share *share, uint64_t *work,
	uint64_t *all);

#ifdef __cplusplus
}
#endif

#endif
