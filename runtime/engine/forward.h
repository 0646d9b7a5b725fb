/* The forward pass over one step plan: the list of ops, the same for every backend. */
#ifndef RUNTIME_ENGINE_FORWARD_H
#define RUNTIME_ENGINE_FORWARD_H

#include "kernels/backend.h"

/* What a pass reads and writes beside the backend's activations, in the backend's memory. Buffers hold max_tokens, max_samples and so on rows. */
struct tt_forward_state {
	struct tt_backend *backend;
	const struct tt_model *model; /* as the backend loaded it */
	struct tt_limits limits;
	float *inverse_frequencies;  // [head_dim / 2]
	float *local_frequencies;    // the same of layers with a window, where they rotate otherwise; else NULL
	struct tt_steer_slot *slots; // [TT_MAX_SLOTS]
	uint32_t max_units;          /* hidden units, the most of any mlp among the slots */
	float *coef;                 // [n_rows][n_layers] row 0 stays zero
	struct tt_results outputs;   /* logits apart, [max_samples][vocab] */
	void *results_block;         /* where outputs points */
	float *captured; // [max_captures][n_layers][hidden] for steps with more rows than ride; made when needed
	uint32_t max_captures;
};

enum { TT_MAX_SLOTS = 1024 }; /* policies loaded at once */

/* Queues a step. The plan has been checked by whoever built it, and is its own again when this returns. */
int tt_forward_submit(struct tt_forward_state *state, const struct tt_kv_pages *kv, const struct tt_step_plan *step,
	struct tt_error *err);

/* Waits for the oldest step that was submitted; see struct tt_backend for how many may be, and how long results hold. */
int tt_forward_wait(struct tt_forward_state *state, struct tt_results *results, struct tt_error *err);

#endif
