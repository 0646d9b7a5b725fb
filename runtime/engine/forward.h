/* The forward pass over one step plan: the list of ops, the same for every backend. */
#ifndef RUNTIME_ENGINE_FORWARD_H
#define RUNTIME_ENGINE_FORWARD_H

#include "kernels/backend.h"

/* The buffers that a pass reads and writes beside the backend's activations; they are in the backend's memory, and as
 * large as limits says (max_tokens, max_samples and so on). */
struct tt_forward_state {
	struct tt_backend *backend;
	const struct tt_model *model; /* as the backend loaded it */
	struct tt_limits limits;
	float *inverse_frequencies;  // [head_dim / 2]
	float *local_frequencies;    // [head_dim / 2] of layers with a window, if these rotate differently; else NULL
	struct tt_steer_slot *slots; // [TT_MAX_SLOTS]
	uint32_t max_units;          /* the largest number of hidden units of an mlp gate among the slots */
	float *coef;                 // [n_rows][n_layers] row 0 stays zero
	struct tt_results
		outputs; /* points into results_block; but logits [max_samples][vocab] is a buffer of its own */
	void *results_block;
	/* [max_captures][n_layers][hidden] for steps that capture more rows than fit in results_block; allocated when a
	 * step first needs it. */
	float *captured;
	uint32_t max_captures;
};

enum { TT_MAX_SLOTS = 1024 }; /* policies loaded at once */

/* Queues a step. Whoever built the plan has checked it, and may reuse it when this returns. */
int tt_forward_submit(struct tt_forward_state *state, const struct tt_kv_pages *kv, const struct tt_step_plan *step,
	struct tt_error *err);

/* Waits for the oldest step that was submitted. struct tt_backend says how many may be submitted and not waited for,
 * and how long results stay valid. */
int tt_forward_wait(struct tt_forward_state *state, struct tt_results *results, struct tt_error *err);

#endif
