/* Which of CUDA's product kernels runs for how many tokens, and what its blocks take of a multiprocessor: for the
 * launch (cuda/product_launch.cuh), and for whoever reckons what a step costs without CUDA (bench/harness/step_cost.h).
 * No choice changes a bit. */
#ifndef KERNELS_PRODUCT_TABLE_H
#define KERNELS_PRODUCT_TABLE_H

#include "kernels/product_shape.h"

#ifdef __cplusplus
#define PRODUCT_CONSTANT constexpr
#else
#define PRODUCT_CONSTANT const
#endif

/* A line of the table. Where unless_tiles is not 0, the line is passed over if blocks of that many row tiles and of
 * unless_tokens tokens (0: of all tokens) are enough for the multiprocessors, in steps of more than
 * PRODUCT_CLUSTER_MOST tokens for three quarters of them; only whole blocks count. A line whose block needs more shared
 * memory than the device gives one is passed over too. */
struct product_line {
	uint32_t most_tokens; /* of the grid */
	uint32_t unless_tiles, unless_tokens;
	struct product_shape shape;
};

/* The first line that fits. A block of more row tiles reads a token's x less often; a block of fewer leaves a small
 * matrix blocks for every multiprocessor. There are as many stages as shared memory holds. The lines without a
 * condition of their own need no more than TT_CUDA_LEAST_SHARED. */
static PRODUCT_CONSTANT struct product_line PRODUCT_TABLE[] = {
	/* decode reads little but weights: one tile a block, which also gives small matrices enough blocks */
	{8, 0, 0, {PRODUCT_NARROW, false, 1, 1, 4}},
	/* one tile would read more of x than of weights; with a fourth stage sm_90 has no room for a second block */
	{32, 0, 0, {PRODUCT_NARROW, false, 2, 4, 3}},
	/* a small matrix at up to 64 tokens: the next line would leave multiprocessors without a block */
	{64, 4, 0, {PRODUCT_NARROW, false, 2, 8, 3}},
	/* two stages: three are 196 KB of shared memory, and sm_80 has 163 */
	{64, 0, 0, {PRODUCT_NARROW, false, 4, 8, 2}},
	/* the same where there are 99 KB, which the two lines above do not fit into; a larger matrix is wide */
	{64, 4, 0, {PRODUCT_NARROW, false, 1, 8, 2}},
	/* a small matrix or a short prefill: the next line would leave multiprocessors without a block */
	{PRODUCT_MANY, 8, PRODUCT_WIDE_TOKENS, {PRODUCT_WIDE, false, 4, PRODUCT_WIDE_TOKENS / 8, 4}},
	/* 128 by 128 outputs a block, the most that 256 threads hold in registers */
	{PRODUCT_MANY, 0, 0, {PRODUCT_WIDE, false, 8, PRODUCT_WIDE_TOKENS / 8, 4}},

	/* Quantised weights: fewer shapes, since each has a loop for every type. All fit where there are 99 KB. */
	{8, 0, 0, {PRODUCT_NARROW, true, 1, 1, 4}},
	{32, 0, 0, {PRODUCT_NARROW, true, 2, 4, 2}},
	{64, 0, 0, {PRODUCT_NARROW, true, 2, 8, 2}},
	{PRODUCT_MANY, 0, 0, {PRODUCT_WIDE, true, 8, PRODUCT_WIDE_TOKENS / 8, 4}},

	/* 224 rows, so that 64 tokens' x is less than 0.3 of the weights, and 4096 rows are more blocks than an H200
	 * has multiprocessors, which 256 rows would miss by four; of 128 tokens so many rows leave no registers for a
	 * second block */
	{32, 0, 0, {PRODUCT_IN_CLUSTER, false, 14, 4, 4}},
	{64, 0, 0, {PRODUCT_IN_CLUSTER, false, 14, 8, 4}},
	{PRODUCT_CLUSTER_MOST, 0, 0, {PRODUCT_IN_CLUSTER, false, 8, 16, 4}},
	/* quantised: a tile a warp, and a block of more rows would not have one part's alone */
	{32, 0, 0, {PRODUCT_IN_CLUSTER, true, 8, 4, 4}},
	{64, 0, 0, {PRODUCT_IN_CLUSTER, true, 8, 8, 4}},
	{PRODUCT_CLUSTER_MOST, 0, 0, {PRODUCT_IN_CLUSTER, true, 8, 16, 4}},
};
enum { PRODUCT_LINES = sizeof PRODUCT_TABLE / sizeof *PRODUCT_TABLE };

#ifdef __cplusplus
extern "C" {
#endif

/* Tokens of a block, or of a cluster; blocks of a cluster, or 1. */
uint32_t tt_product_tokens(const struct product_shape *shape);
uint32_t tt_product_cluster_blocks(const struct product_shape *shape);

/* Blocks that a multiprocessor runs at once, where it has room for that many of a device that gives a block most_shared
 * bytes; 0: for none. */
uint32_t tt_product_resident(const struct product_shape *shape, uint32_t n_in, uint32_t most_shared);

/* Bytes of shared memory of a block: the stages of its rings, or its sums, whichever are more. */
uint32_t tt_product_shared_bytes(const struct product_shape *shape, uint32_t n_in);

/* Blocks of a grid. */
struct product_grid {
	uint32_t x, y; /* of tokens, times those of a cluster; of rows */
};
struct product_grid tt_product_grid_of(const struct product_shape *shape, uint32_t n_tiles, uint32_t n_tokens);

/* What is known of the device and of the weights when a kernel is chosen. */
struct product_question {
	uint32_t n_sms, most_shared; /* bytes that the device gives a block */
	bool clusters;               /* it has them */
	bool quantised;
	uint32_t n_tiles, n_in, n_tokens; /* 16 rows of weights each; the tokens that the grid is made for */
};
/* The number of the line that is chosen. */
uint32_t tt_product_choose(const struct product_question *q);

#ifdef __cplusplus
}
#endif

#endif
