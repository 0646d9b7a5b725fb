/* What a step of a model in several ranks costs on a GPU, one that decodes or one that runs a prompt's tokens, reckoned
 * from its shapes and from the tables by which its kernels are chosen (kernels/product_table.h, attention_plan.h): what
 * each op reads of memory and through L2, its operations and its blocks, and what the ranks pass on. A ceiling, not a
 * forecast, and no measurement. */
#ifndef BENCH_STEP_COST_H
#define BENCH_STEP_COST_H

#include "kernels/kv_pages.h"
#include "kernels/shard.h"

/* A kind of GPU: four fifths of its datasheet's memory bandwidth, what its L2 is assumed to give (no datasheet says),
 * what mma.sync is assumed to reach, and what a GPU receives from its peers at once. */
struct tt_gpu_kind {
	const char *name;
	double bytes_a_second, l2_bytes_a_second, flops_a_second, peer_bytes_a_second;
	uint32_t n_sms, most_shared; /* multiprocessors; bytes of shared memory that a block may have */
	bool clusters;               /* sm_90a's code runs */
};
/* a100, h100, h200, b200 or rtx4090; NULL for another name. */
const struct tt_gpu_kind *tt_gpu_kind_find(const char *name);

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

struct tt_step_case {
	/* sequences that decode a token each, and positions of each; or tokens of one prompt, and positions that it has
	 * with them */
	uint32_t n_rows, n_context;
	enum tt_kv_type kv;
	enum tt_type
		weights; /* of all matrices: TT_TYPE_BF16, or one that a GPU keeps as it is (kernels/cuda/quants.h) */
	const struct tt_gpu_kind *gpu;
	bool is_prompt;
};

/* One op on rank 0, which has no less to do than any other: one launch. */
struct tt_op_cost {
	uint32_t n_times; /* in a step: once a layer, or once */
	double weight_bytes, kv_bytes, flops;
	/* of weights and x, as often as blocks read them; of a prompt's keys and values, and of the results that blocks
	 * leave for each other */
	double l2_bytes;
	double received; /* bytes from the other ranks behind the op */
	double seconds;  /* of memory, L2 or operations, whichever takes the most, and of pages */
	/* of products, and of a prompt's attention; 0 of others */
	char kernel[24];
	uint32_t n_blocks;
	/* of blocks that run at once; of attention, whose blocks take tile after tile, what the busiest has over what
	 * they have on average */
	double waves;
};

struct tt_step_cost {
	struct tt_op_cost ops[TT_N_STEP_OPS];
	double weights, kv, exchange, rest; /* seconds of a step */
	double products;                    /* of these its products', with what goes between their kernels */
};

/* part: rank 0's (tt_shard_model_open). All that a GPU holds is bf16, but for what the case says. TT_ERR_ARGUMENT where
 * rows of the model have no whole blocks of the type, or a prompt has fewer positions than tokens. */
int tt_step_cost_of(struct tt_step_cost *out, const struct tt_model *part, const struct tt_shard *shard,
	const struct tt_step_case *of, struct tt_error *err);

#endif
