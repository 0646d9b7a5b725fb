/* The KV pages as a pool: which are free. What they hold is the kernels' affair. */
#ifndef RUNTIME_KV_H
#define RUNTIME_KV_H

#include "kernels/backend.h"

struct tt_kv_pool {
	struct tt_kv_pages pages;
	int32_t *free_pages; // [pages.n_pages] a stack: the page freed last is used next, while it is in the cache
	uint32_t n_free;
	size_t n_bytes;
};

/* Pages for at least n_positions positions. */
int tt_kv_open(struct tt_kv_pool *pool, struct tt_backend *backend, const struct tt_config *config,
	uint32_t n_positions, enum tt_kv_type type, struct tt_error *err);
void tt_kv_close(struct tt_kv_pool *pool, struct tt_backend *backend);

uint32_t tt_kv_pages_for(size_t n_positions);

/* Takes n pages into out, or none and false. */
bool tt_kv_take(struct tt_kv_pool *pool, int32_t *out, uint32_t n);
void tt_kv_give(struct tt_kv_pool *pool, const int32_t *pages, uint32_t n);

#endif
