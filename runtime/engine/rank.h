/* One rank of an engine: a backend with its part of the model, of the KV pages, and all else that a step works in. Most
 * engines have one, which has all of the model; several (kernels/shard.h) run the same steps. */
#ifndef RUNTIME_ENGINE_RANK_H
#define RUNTIME_ENGINE_RANK_H

#include "kernels/shard.h"
#include "runtime/engine/forward.h"
#include "runtime/engine/kv_memory.h"

struct tt_rank {
	struct tt_backend *backend;
	struct tt_forward_state state;
	struct tt_kv_memory kv;
	struct tt_steer_slot *slots; // [TT_MAX_SLOTS] the host's copy of the backend's table, of loaded policies
};

/* Loads rank's part of the host's model, on a backend that is open, and allocates the KV pages for kv_tokens positions
 * and the state. Call tt_rank_close even if this fails. */
int tt_rank_open(struct tt_rank *rank, uint32_t index, uint32_t n_ranks, struct tt_model *host,
	const struct tt_limits *limits, uint32_t kv_tokens, enum tt_kv_type kv_type, struct tt_error *err);
/* Closes the backend too; it may be NULL. Policies must be unloaded. */
void tt_rank_close(struct tt_rank *rank);

/* Makes room for what the step captures. */
int tt_rank_grow(struct tt_rank *rank, uint32_t n_captures, struct tt_error *err);
/* Writes a coefficient row. */
int tt_rank_restore(struct tt_rank *rank, uint32_t row, const float *coef, struct tt_error *err);

#endif
