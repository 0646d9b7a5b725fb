/* The shapes of CUDA's product kernels, and how a sum is cut into slices: for the kernels, and for host code without
 * CUDA (product_table.h). */
#ifndef KERNELS_PRODUCT_SHAPE_H
#define KERNELS_PRODUCT_SHAPE_H

#include <stdbool.h>

#include "kernels/cuda/packed.h"

#ifdef __cplusplus
#define PRODUCT_INLINE TT_HOST_DEVICE static constexpr
#else
#define PRODUCT_INLINE static inline
#endif

enum {
	PRODUCT_THREADS = 256,
	PRODUCT_WARPS = PRODUCT_THREADS / 32,
	PRODUCT_CLUSTER = PRODUCT_WARPS,   /* blocks of a cluster: the most slices that a sum has */
	PRODUCT_CHUNK = TT_PACKED_COLUMNS, /* columns of a step */
	PRODUCT_TILE = TT_PACKED_ROWS,     /* weight rows of one mma */
	PRODUCT_FRAGMENT = 512,            /* bytes of 8 rows of a chunk, or of the weights of one mma */
	PRODUCT_HALF = TT_PACKED_TILE / 2, /* numbers of the latter */
	/* for each token, in shared memory: word 0 is its inverse rms, the others are the op's own */
	PRODUCT_WORDS = 16,
	PRODUCT_WIDE_TOKENS = 128,
	PRODUCT_APPLY_TOKENS = 32,
	PRODUCT_MANY = 0x7fffffff,
	PRODUCT_CLUSTER_LEAST = 9,
	PRODUCT_CLUSTER_MOST = 256,
};

TT_HOST_DEVICE static inline uint32_t product_chunks(uint32_t n_in)
{
	return tt_packed_chunks(n_in);
}

/* How many slices a sum has: a function of the weight's shape alone. The narrow kernel has a warp for each. */
TT_HOST_DEVICE static inline uint32_t product_slices(uint32_t n_in)
{
	uint32_t n_chunks = product_chunks(n_in);
	return n_chunks < (uint32_t)PRODUCT_WARPS ? n_chunks : (uint32_t)PRODUCT_WARPS;
}

TT_HOST_DEVICE static inline uint32_t product_header_bytes(uint32_t row_tiles, uint32_t tokens)
{
	return (2 * row_tiles * PRODUCT_TILE * 4 + tokens * PRODUCT_WORDS * 4 + 127) / 128 * 128;
}

/* Rows of sums are 4 words longer than necessary: a warp's stores of a fragment then hit 32 banks. */
TT_HOST_DEVICE static inline uint32_t product_stride(uint32_t row_tiles)
{
	return row_tiles * PRODUCT_TILE + 4;
}

enum product_family { PRODUCT_NARROW, PRODUCT_WIDE, PRODUCT_IN_CLUSTER };

/* A kernel of the family. */
struct product_shape {
	enum product_family family;
	bool quantised;
	uint32_t row_tiles, token_tiles; /* of a block, or of a cluster; tiles of 16 rows, and of 8 tokens */
	uint32_t stages;
};

/* Blocks of a multiprocessor for which a kernel must have registers: what the choice of its shape and stages counts
 * on, and what its launch bounds say. */
PRODUCT_INLINE uint32_t product_narrow_blocks(uint32_t row_tiles, uint32_t token_tiles)
{
	return row_tiles * token_tiles == 1 ? 4 : row_tiles * token_tiles <= 8 ? 2 : 1;
}

PRODUCT_INLINE uint32_t product_wide_blocks(uint32_t row_tiles)
{
	return row_tiles <= 4 ? 2 : 1;
}

PRODUCT_INLINE uint32_t product_quants_blocks(uint32_t row_tiles, uint32_t token_tiles)
{
	return row_tiles * token_tiles == 1 ? 3 : row_tiles * token_tiles <= 8 ? 2 : 1;
}

PRODUCT_INLINE uint32_t product_cluster_quants_blocks(uint32_t token_tiles)
{
	return token_tiles < 16 ? 2 : 1;
}

#endif
