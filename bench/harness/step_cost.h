/* What a decoding step of a model in several ranks costs on a GPU, reckoned from its shapes: the bytes that each op
 * reads, its operations, and what the ranks pass on. A ceiling, not a forecast, and no measurement. */
#ifndef BENCH_STEP_COST_H
#define BENCH_STEP_COST_H

#include "kernels/kv_pages.h"
#include "kernels/shard.h"

/* A kind of GPU: four fifths of its datasheet's memory bandwidth, what mma.sync is assumed to reach, and what a GPU
 * receives from its peers at once. */
struct tt_gpu {
	const char *name;
	double bytes_a_second, flops_a_second, peer_bytes_a_second;
};
/* h100, h200 or b200; NULL for another name. */
const struct tt_gpu *tt_gpu_find(const char *name);

enum {
	TT_STEP_QKV,
	TT_STEP_ATTENTION,
	TT_STEP_O_PROJ,
	TT_STEP_GATE_UP,
	TT_STEP_DOWN_PROJ,
	TT_STEP_LOGITS,
	TT_N_STEP_OPS
};
extern const char *const tt_step_op_names[TT_N_STEP_OPS];

/* One op on rank 0, which has no less to do than any other. */
struct tt_op_cost {
	uint32_t n_times; /* in a step: once a layer, or once */
	double weight_bytes, kv_bytes, flops;
	double received; /* bytes from the other ranks behind the op */
};

struct tt_step_cost {
	struct tt_op_cost ops[TT_N_STEP_OPS];
	double weights, kv, exchange, rest; /* seconds of a step */
};

/* part: rank 0's (tt_shard_model_open). All that a GPU holds is bf16, but for pages of keys and values of another type.
 * n_rows sequences of n_context positions decode a token each. */
struct tt_step_cost tt_step_cost(const struct tt_model *part, const struct tt_shard *shard, uint32_t n_rows,
	uint32_t n_context, enum tt_kv_type kv, const struct tt_gpu *gpu);

#endif
