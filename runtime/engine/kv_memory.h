/* The memory of an engine's KV pages. Which of them are free, the scheduler knows (page_pool.h). */
#ifndef RUNTIME_ENGINE_KV_MEMORY_H
#define RUNTIME_ENGINE_KV_MEMORY_H

#include "kernels/backend.h"

struct tt_kv_memory {
	struct tt_kv_pages pages;
	size_t n_bytes;
};

/* Allocates pages for at least n_positions positions. Call tt_kv_memory_close even if this fails. */
int tt_kv_memory_open(struct tt_kv_memory *kv, struct tt_backend *backend, const struct tt_config *config,
	uint32_t n_positions, enum tt_kv_type type, struct tt_error *err);
/* Allocates the records of the pages (kernels/ops.h), for the first gate that reads a mean; they stay until the pages
 * are released. Does nothing if they are there. */
int tt_kv_memory_add_sums(
	struct tt_kv_memory *kv, struct tt_backend *backend, const struct tt_config *config, struct tt_error *err);
void tt_kv_memory_close(struct tt_kv_memory *kv, struct tt_backend *backend);

#endif
