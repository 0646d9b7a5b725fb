/* The KV pages: the memory in which positions keep their keys and values, and a page its records of means. */
#ifndef KERNELS_KV_PAGES_H
#define KERNELS_KV_PAGES_H

#include <stddef.h>
#include <stdint.h>

/* The KV pages of all layers: for layer l, page p and which (0 keys, 1 values)
 *     data + (((l * n_pages + p) * 2 + which) * n_kv_heads * TT_PAGE_TOKENS * head_dim) elements
 * is [n_kv_heads][TT_PAGE_TOKENS][head_dim]. */
enum tt_kv_type { TT_KV_F32, TT_KV_F16, TT_KV_BF16 };
struct tt_kv_pages {
	void *data;
	enum tt_kv_type type;
	uint32_t n_pages;
	/* [n_pages][TT_MAX_POOLED][hidden] the records of struct tt_pool_args; NULL as long as no gate reads a mean */
	float *sums;
};

/* Bytes of one number of a page. */
static inline size_t tt_kv_element_bytes(enum tt_kv_type type)
{
	return type == TT_KV_F32 ? 4 : 2;
}

#endif
