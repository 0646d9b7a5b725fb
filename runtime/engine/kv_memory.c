#include "runtime/engine/kv_memory.h"

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/schedule/page_pool.h"

int tt_kv_memory_open(struct tt_kv_memory *kv, struct tt_backend *backend, const struct tt_config *config,
	uint32_t n_positions, enum tt_kv_type type, struct tt_error *err)
{
	uint32_t n_pages = tt_pages_for(n_positions);
	size_t page = tt_kv_bytes(type, 2 * TT_PAGE_TOKENS), count;
	size_t scales = type == TT_KV_FP8 ? (size_t)2 * TT_PAGE_TOKENS * config->n_kv_heads : 0;
	if (!tt_mul_size(page, (size_t)config->n_kv_heads * config->head_dim, &page) ||
		!tt_mul_size(n_pages, config->n_layers, &count) ||
		!tt_mul_size(count, page + scales * sizeof *kv->pages.scales, &kv->n_bytes))
		return tt_fail(
			err, TT_ERR_MEMORY, "the KV pages for %u positions are too large to address", n_positions);
	kv->pages.type = type;
	kv->pages.n_pages = n_pages;
	int status = backend->allocate(backend, &kv->pages.data, count, page, err);
	if (status == TT_OK && scales)
		status = backend->allocate(backend, &kv->pages.scales, count, scales * sizeof *kv->pages.scales, err);
	if (status == TT_ERR_MEMORY)
		tt_fail(err, TT_ERR_MEMORY,
			"out of memory for the KV cache: %u positions take %.0f MiB; a shorter context (--ctx-size) or "
			"fewer requests at once (--max-batch) take less%s",
			n_positions, (double)kv->n_bytes / (1 << 20),
			type == TT_KV_DEFAULT || type == TT_KV_F32 ? ", and so does a smaller type (--kv f16)" : "");
	return status;
}

int tt_kv_memory_add_sums(
	struct tt_kv_memory *kv, struct tt_backend *backend, const struct tt_config *config, struct tt_error *err)
{
	if (kv->pages.sums)
		return TT_OK;
	return backend->allocate(backend, &kv->pages.sums, (size_t)kv->pages.n_pages * TT_MAX_POOLED,
		config->hidden_size * sizeof *kv->pages.sums, err);
}

void tt_kv_memory_close(struct tt_kv_memory *kv, struct tt_backend *backend)
{
	if (backend) {
		backend->release(backend, kv->pages.data);
		backend->release(backend, kv->pages.sums);
		backend->release(backend, kv->pages.scales);
	}
	*kv = (struct tt_kv_memory){0};
}
