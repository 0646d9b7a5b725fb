/* The KV pages of an engine: their memory. Which of them are free is the scheduler's affair (pages.h). */
#ifndef RUNTIME_ENGINE_KV_MEMORY_H
#define RUNTIME_ENGINE_KV_MEMORY_H

#include "kernels/backend.h"

struct tt_kv_memory {
	struct tt_kv_pages pages;
	size_t n_bytes;
};

/* Pages for at least n_positions positions. */
int tt_kv_memory_open(struct tt_kv_memory *kv, struct tt_backend *backend, const struct tt_config *config,
	uint32_t n_positions, enum tt_kv_type type, struct tt_error *err);
void tt_kv_memory_close(struct tt_kv_memory *kv, struct tt_backend *backend);

#endif
