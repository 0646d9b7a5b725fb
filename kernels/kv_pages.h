/* The KV pages: the memory in which positions keep their keys and values, and a page its records of means. */
#ifndef KERNELS_KV_PAGES_H
#define KERNELS_KV_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "base/tt_enums.h"

/* The KV pages of all layers: for layer l, page p and which (0 keys, 1 values)
 *     data + (((l * n_pages + p) * 2 + which) * n_kv_heads * TT_PAGE_TOKENS * head_dim) elements
 * is [n_kv_heads][TT_PAGE_TOKENS][head_dim]. The type is never TT_KV_DEFAULT. */
struct tt_kv_pages {
	void *data;
	enum tt_kv_type type;
	uint32_t n_pages;
	/* [n_pages][TT_MAX_POOLED][hidden] the records of struct tt_pool_args; NULL as long as no gate reads a mean */
	float *sums;
	/* Of fp8: what a position's numbers of a head are multiples of, in the order of their rows: element i of data
	 * has scale i / head_dim. Powers of two, as bf16. NULL: of other types. */
	uint16_t *scales;
};

/* Bytes of n numbers of a page, of q8 a multiple of 32. */
static inline size_t tt_kv_bytes(enum tt_kv_type type, size_t n)
{
	switch (type) {
	case TT_KV_DEFAULT:
	case TT_KV_F32:
		break;
	case TT_KV_F16:
	case TT_KV_BF16:
		return 2 * n;
	case TT_KV_Q8:
		return n / 32 * 34;
	case TT_KV_FP8:
		return n;
	}
	return 4 * n;
}

/* Bytes of n positions of all heads, keys or values, with their scales. */
static inline size_t tt_kv_position_bytes(enum tt_kv_type type, size_t n, size_t n_kv_heads, size_t head_dim)
{
	size_t scales = type == TT_KV_FP8 ? n * n_kv_heads * sizeof(uint16_t) : 0;
	return tt_kv_bytes(type, n * n_kv_heads * head_dim) + scales;
}

#endif
