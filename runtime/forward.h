/* The forward pass over one step plan: the list of ops, the same for every backend. */
#ifndef RUNTIME_FORWARD_H
#define RUNTIME_FORWARD_H

#include "kernels/backend.h"

/* What a pass reads and writes, in the backend's memory. Buffers hold max_tokens, max_samples and so on rows. */
struct tt_state {
	struct tt_backend *backend;
	const struct tt_model *model; /* as the backend loaded it */
	uint32_t max_tokens, max_samples, max_captures, n_rows;
	float *inverse_frequencies;  // [head_dim / 2]
	struct tt_steer_slot *slots; // [TT_MAX_SLOTS]
	float *coef;                 // [n_rows][n_layers] row 0 stays zero
	float *h;                    // [max_tokens][hidden]
	float *q, *attention;        // [max_tokens][n_heads * head_dim]
	float *ffn;                  // [max_tokens][ffn_size]
	struct tt_results
		outputs; /* rows: max_samples, n_rows, max_tokens, max_captures; captured and norms made when needed */
};

enum { TT_MAX_SLOTS = 1024 }; /* policies loaded at once */

/* Runs a step and waits for it. trace: also fill norms. The plan has been checked by whoever built it. */
int tt_forward(struct tt_state *state, const struct tt_kv_pages *kv, const struct tt_step *step, bool trace,
	struct tt_results *results, struct tt_error *err);

#endif
