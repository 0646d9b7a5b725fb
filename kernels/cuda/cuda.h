/* What the files of the CUDA backend share: the stream, the device's copy of the plan, and the buffers between kernels.
 *
 * Number types: weights (quantised ones once they are in registers, quants.h), KV (fp8 once it is in shared memory) and
 * all inputs of products, q, attention and ffn among them, are bf16; h, sums, softmax, coefficients and logits are f32.
 *
 * The norm never costs a pass of its own. A kernel that writes h (embed, o_proj, down_proj) also writes x = bf16(h *
 * gamma of the norm that follows) and the sum of squares of each TT_NORM_TILE columns of h. A kernel that reads x
 * multiplies its accumulator by 1 / sqrt(mean of squares + eps), with the tiles summed in the one order of norm.cuh. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "kernels/cuda/launch.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/attention_plan.h"
#include "kernels/backend.h"
#include "kernels/shard.h"

enum {
	/* columns of h whose squares are summed together: a tile of mma rows, so no two blocks share one */
	TT_NORM_TILE = 16,
	TT_CUDA_ARRIVALS = TT_ATTENTION_COUNTERS,
	TT_CUDA_FLIGHTS = 2,
	/* kernels that need more shared memory than TT_FREE_SHARED; there are about 70, and a model needs half */
	TT_CUDA_PREPARED = 64,
	TT_CUDA_FAST_TOKENS = 128, /* the least tokens for which --fast leaves products to cuBLASLt */
	/* bytes of shared memory that every device from sm_80 on gives a block: sm_86, sm_89 and sm_120 no more */
	TT_CUDA_LEAST_SHARED = 99 * 1024,
};

/* A step between its begin and its finish. Its host memory is pinned, so that copies are asynchronous. */
struct tt_cuda_flight {
	void *plan;    // [limits.plan_bytes]
	void *results; // the block of tt_results_layout
	void *drained; // captured rows and logits that do not come with the other results; grown when asked for
	size_t drained_bytes;
	cudaEvent_t done;
	struct tt_results given; /* the results that finish will return */
};

/* Kernels that may use as much dynamic shared memory as the device allows a block, and how many blocks of each run at
 * once, where that was asked. */
struct tt_cuda_prepared {
	const void *kernels[TT_CUDA_PREPARED];
	uint32_t resident[TT_CUDA_PREPARED]; /* 0: not asked */
	uint32_t n;
	uint32_t most_shared; /* bytes; 0: the device was not asked yet */
};

struct tt_cuda_graphs;
struct tt_cuda_fast;  /* fast.h */
struct tt_cuda_ranks; /* exchange.c */

struct tt_cuda {
	struct tt_backend base;
	int device;
	cudaStream_t stream;
	struct tt_device_counters counters;
	uint32_t n_sms;
	struct tt_limits limits;
	struct tt_config config;                        /* the whole model's; ops see the rank's */
	struct tt_shard shard;                          /* since load */
	struct tt_cuda_ranks *ranks;                    /* NULL: there is one */
	struct tt_cuda_flight flights[TT_CUDA_FLIGHTS]; /* a ring */
	uint64_t n_ended, n_finished;
	struct tt_cuda_graphs *graphs; /* of decode steps; graphs.c */
	struct tt_cuda_fast *fast;     /* NULL: strict */
	bool dependent;                /* the device has programmatic dependent launch (sm_90 on) */
	bool clusters;                 /* it has clusters of blocks, and sm_90a's code is taken to run */

	/* The step under way. Kernels read counts and arrays from plan. Grids are sized by the members below, which in
	 * a decode graph are those of its bucket and may be more than plan->n_tokens. */
	const struct tt_step_plan *plan; // device [limits.plan_bytes]
	uint32_t grid_tokens, grid_samples;
	bool recorded;     /* a graph has its ops */
	bool row_steering; /* copied from the plan: steer_row.cu runs after down_proj and does all the steering */
	const float *coef; /* the table that steers, which ranks must agree on */
	/* splits of TT_SPLIT_KEYS keys, at least as many as the longest sequence of the step has; 0: the context's */
	uint32_t max_splits;

	uint16_t *x;    // bf16 [max_tokens][hidden] h times the next norm's weight
	float *squares; // [max_tokens][n_norm_tiles]
	float *partial; // scratch of split products and split attention; tt_cuda_scratch grows it
	size_t partial_bytes;
	size_t partial_denied; /* bytes that attention asked for and there were not; 0: there were all */
	struct tt_cuda_prepared prepared;
	uint32_t *arrivals; // [TT_CUDA_ARRIVALS] counters for tt_arrive_last, zero between kernels
};

static inline uint32_t tt_norm_tiles(uint32_t hidden)
{
	return (hidden + TT_NORM_TILE - 1) / TT_NORM_TILE;
}

/* One function for each op; the signatures are struct tt_backend's. Each launches on cuda->stream and returns without
 * waiting. Matrices are packed, as bf16 (packed.h) or quantised (quants.h): wq, wk and wv with a span of head_dim, as
 * one in this order where they have one type; w_gate and w_up as one with a span of all rows; the others' rows are in
 * turn. q and k rows are in half-split order. */
int tt_cuda_embed(struct tt_backend *, const struct tt_embed_args *, struct tt_error *);
int tt_cuda_qkv(struct tt_backend *, const struct tt_qkv_args *, struct tt_error *);
int tt_cuda_attention(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
int tt_cuda_o_proj(struct tt_backend *, const struct tt_o_proj_args *, struct tt_error *);
int tt_cuda_gate_up(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);
int tt_cuda_down_proj(struct tt_backend *, const struct tt_down_proj_args *, struct tt_error *);
int tt_cuda_pool(struct tt_backend *, const struct tt_pool_args *, struct tt_error *);
int tt_cuda_control(struct tt_backend *, const struct tt_control_args *, struct tt_error *);
int tt_cuda_logits(struct tt_backend *, const struct tt_logits_args *, struct tt_error *);
int tt_cuda_sample(struct tt_backend *, const struct tt_sample_args *, struct tt_error *);

/* At least n_bytes of cuda->partial. Its former content may be lost, and graphs that point into it are dropped. */
int tt_cuda_scratch(struct tt_cuda *cuda, size_t n_bytes, struct tt_error *err);
bool tt_cuda_may_grow_scratch(struct tt_cuda *cuda, size_t n_bytes); /* false: no room beside it, and it stays */

/* launch.c: how much shared memory the device gives a block, in bytes; shapes of kernels are chosen by it. What they
 * compute has the same bits in each. TT_ERR_UNSUPPORTED where it is too little for any. */
int tt_cuda_most_shared(struct tt_cuda *cuda, uint32_t *out, struct tt_error *err);

/* launch.c: every launch of a backend. A kernel that needs more shared memory than any may use is first allowed to. */
int tt_cuda_launch(
	struct tt_cuda *cuda, const struct tt_launch *launch, const void *kernel, void **args, struct tt_error *err);

/* launch.c: how many blocks the device runs at once, the most of a grid whose blocks take tile after tile; a kernel has
 * one number of threads and bytes for a model. TT_ERR_UNSUPPORTED, which names it, where there is room for none. */
int tt_cuda_resident(struct tt_cuda *cuda, const char *name, const void *kernel, uint32_t threads,
	uint32_t shared_bytes, uint32_t *out, struct tt_error *err);
/* attention.cu: asks that of the kernels that heads of such a model take. */
int tt_cuda_attention_fits(struct tt_cuda *cuda, const struct tt_config *config, struct tt_error *err);

/* load.c: makes the model in device memory, in the layout above. TT_ERR_UNSUPPORTED for what can_run refuses. */
int tt_cuda_load(struct tt_cuda *cuda, const struct tt_model *host, const struct tt_model **out, struct tt_error *err);
void tt_cuda_unload(struct tt_cuda *cuda, const struct tt_model *loaded);

/* dummy.cu: runs the smallest of kernels; dependent and clusters become false where its code or the device has no such.
 * TT_ERR_DEVICE where the program has no code for the device, or the device does not do what it is told. */
int tt_cuda_try(struct tt_cuda *cuda, struct tt_error *err);

/* steer_row.cu: bytes of shared memory for a row. */
uint32_t tt_cuda_steer_row_shared(uint32_t hidden);

/* dummy.cu: makes the weights of tt_dummy_weight on the device, as rows first_row on of a packed matrix. */
int tt_cuda_fill_dummy(struct tt_cuda *cuda, uint16_t *packed, const struct tt_matrix *matrix, uint32_t first_row,
	uint32_t span, struct tt_error *err);

#ifdef __cplusplus
}
#endif

#endif
