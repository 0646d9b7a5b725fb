/* Buffers for one layer at a model's shapes, all random, and steps of any size over them: kernels.c times its ops on
 * these. */
#ifndef BENCH_GPU_WORLD_H
#define BENCH_GPU_WORLD_H

#include "kernels/cuda/cuda.h"

enum tt_kernel_op {
	TT_KERNEL_EMBED,
	TT_KERNEL_QKV,
	TT_KERNEL_ATTENTION,
	TT_KERNEL_O_PROJ,
	TT_KERNEL_GATE_UP,
	TT_KERNEL_DOWN_PROJ,
	TT_KERNEL_LOGITS,
	TT_KERNEL_SAMPLE,
	TT_N_KERNEL_OPS
};

struct tt_kernel_world {
	struct tt_cuda cuda; /* only the members of a backend that the ops use */
	struct tt_config config;
	bool is_base, prefill, tiny;
	uint32_t context, max_tokens, max_seqs; /* the most of any step */
	uint32_t n_tokens, n_samples;           /* of this step */

	struct tt_step_plan *step; /* host */
	char *plans;               // device [n_plans][plan_bytes]: the step, each time on other pages
	uint32_t n_plans, plan_bytes;

	char *weights; // device; any matrix of any copy is a part of it
	uint64_t weight_bytes;
	enum tt_type weight_type; /* bf16, until another one is set with other weights */
	struct tt_kv_pages kv;    /* of one layer */
	uint16_t *x_start;        // device bf16 [max_tokens][hidden]
	float *h, *h_start, *squares_start, *logits, *coef, *ones, *inverse_frequencies;
	uint16_t *q, *attention, *ffn; // bf16, as struct tt_activations
	void *scratch;                 /* for the output of a product by cuBLAS */
	struct tt_steer_slot *slots;
	struct tt_sample_result *samples;
	float *host_h; // host [max_tokens][hidden]
};

/* model: a name of weights/dummy.h. tiny: memory and contexts for the emulator. Call tt_kernel_world_close also when
 * this failed. */
int tt_kernel_world_open(struct tt_kernel_world *base, const char *model, bool tiny, struct tt_error *err);

/* A step of n tokens: of one prompt, or the last token of each of n sequences. steered: every sequence has its own
 * policy. */
int tt_kernel_world_step(struct tt_kernel_world *out, const struct tt_kernel_world *base, uint32_t n, bool prefill,
	bool steered, struct tt_error *err);
void tt_kernel_world_close(struct tt_kernel_world *world);

/* The weights of copy number `copy`. */
void tt_kernel_world_weights(
	const struct tt_kernel_world *world, uint32_t copy, struct tt_layer *layer, struct tt_matrix *output);
/* The weights of the next layer of a step, each matrix behind the one before it, and over again where the memory ends:
 * what a kernel reads is then long gone from the L2 cache. *at: bytes, 0 at first. The same for the output's. */
void tt_kernel_world_next_layer(const struct tt_kernel_world *world, uint64_t *at, struct tt_layer *layer);
struct tt_matrix tt_kernel_world_next_output(const struct tt_kernel_world *world, uint64_t *at);

/* Queues an op of the step with such weights. index: of the layer whose directions and, for attention, of the plan. */
int tt_kernel_world_run(struct tt_kernel_world *world, enum tt_kernel_op op, uint32_t index,
	const struct tt_layer *layer, const struct tt_matrix *output, struct tt_error *err);

/* Repeats the block over n_bytes of device memory. */
int tt_kernel_world_fill(void *to, size_t n_bytes, const void *block, size_t block_bytes, struct tt_error *err);

/* The device address of plan number index % n_plans. */
const struct tt_step_plan *tt_kernel_world_plan(const struct tt_kernel_world *world, uint32_t index);

/* Resets h and what belongs to it to their first values. */
int tt_kernel_world_restore(struct tt_kernel_world *world, struct tt_error *err);

/* Launches a graph of the world's stream n times and waits for all. */
int tt_kernel_world_launch(
	const struct tt_kernel_world *world, cudaGraphExec_t graph, uint32_t n, struct tt_error *err);

/* Row `token` of x, bf16 [n_in] on the device, into a new array (free). */
int tt_kernel_world_row(const void *x, uint32_t n_in, uint32_t token, uint16_t **out, struct tt_error *err);
/* Row number token of x times packed row i of w (kernels/cuda/packed.h), both bf16 on the device, in double. */
int tt_kernel_world_dot(
	const void *x, const void *w, uint32_t n_in, uint32_t token, uint32_t i, double *out, struct tt_error *err);
/* 1 / sqrt(mean of squares + eps) of a row of host_h, in double. */
double tt_kernel_world_inverse_rms(const struct tt_kernel_world *world, uint32_t token);

#endif
