#include "runtime/kv.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

uint32_t tt_kv_pages_for(size_t n_positions)
{
	return (uint32_t)((n_positions + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS);
}

int tt_kv_open(struct tt_kv_pool *pool, struct tt_backend *backend, const struct tt_config *config,
	uint32_t n_positions, enum tt_kv_type type, struct tt_error *err)
{
	uint32_t n_pages = tt_kv_pages_for(n_positions);
	size_t element = type == TT_KV_F32 ? 4 : 2, page = 2 * TT_PAGE_TOKENS * element, count;
	if (!tt_mul_size(page, (size_t)config->n_kv_heads * config->head_dim, &page) ||
		!tt_mul_size(n_pages, config->n_layers, &count) || !tt_mul_size(count, page, &pool->n_bytes))
		return tt_fail(
			err, TT_ERR_MEMORY, "the KV pages for %u positions are too large to address", n_positions);
	pool->pages.type = type;
	pool->pages.n_pages = n_pages;
	TT_TRY(backend->allocate(backend, &pool->pages.data, count, page, err));
	TT_TRY(tt_alloc(&pool->free_pages, n_pages, sizeof *pool->free_pages, err));
	for (uint32_t i = 0; i < n_pages; i++)
		pool->free_pages[i] = (int32_t)(n_pages - 1 - i);
	pool->n_free = n_pages;
	return TT_OK;
}

void tt_kv_close(struct tt_kv_pool *pool, struct tt_backend *backend)
{
	if (backend)
		backend->release(backend, pool->pages.data);
	free(pool->free_pages);
	*pool = (struct tt_kv_pool){0};
}

bool tt_kv_take(struct tt_kv_pool *pool, int32_t *out, uint32_t n)
{
	if (n > pool->n_free)
		return false;
	for (uint32_t i = 0; i < n; i++)
		out[i] = pool->free_pages[--pool->n_free];
	return true;
}

void tt_kv_give(struct tt_kv_pool *pool, const int32_t *pages, uint32_t n)
{
	for (uint32_t i = n; i-- > 0;)
		pool->free_pages[pool->n_free++] = pages[i];
}
