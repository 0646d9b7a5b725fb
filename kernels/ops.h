/* The ops that make a forward pass; kernels/backend.h has a function for each. Most ops have a file of the same name in
 * kernels/cpu and in kernels/cuda; the CPU code is the specification.
 *
 * h is the residual stream, f32 [n_tokens][hidden] everywhere. q, attention and ffn are void *: their element type is
 * the backend's own (struct tt_activations), and only its ops read them. Every reduction has one order, fixed by the
 * weight's shape and by absolute positions, never by how many rows share the step: a row's bits are the same alone, in
 * a batch and in any chunking of its prompt. Pointers are to the backend's memory unless they are called host. All ops
 * return 0 or an error code; none allocates anything but scratch that the backend keeps. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/kv_pages.h"
#include "kernels/steer.h"
#include "kernels/step_plan.h"
#include "weights/model.h"

/* h = embedding of the tokens, times embedding_scale */
struct tt_embed_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const struct tt_matrix *embedding;      // [vocab][hidden]
	const struct tt_sample_result *sampled; // of the previous step: the tokens that negative ids stand for
	float *h;                               // out [n_tokens][hidden]
	const float *next_norm; // [hidden] of the op that reads h next; a CPU applies norms in that op and ignores it
};

/* q, k, v = rmsnorm(h) * (wq, wk, wv)^T + bias. Each head of q and k is normalised where the layer has q_norm and
 * k_norm, then rotated by its position; k and v are appended to the pages. */
struct tt_qkv_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const struct tt_layer *layer;
	uint32_t layer_index;
	const float *inverse_frequencies; // [head_dim / 2] of this layer
	const float *h;                   // [n_tokens][hidden]
	void *q;                          // out [n_tokens][n_heads * head_dim]
	const struct tt_kv_pages *kv;
};

/* After the keys and values of a step's last layer are stored, only rows that sample, are captured or are pooled there
 * are read again. This moves h and q of those rows to the front and makes a step of them alone, which stays the
 * backend's until the next step. */
struct tt_narrow_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	float *h;                             // in and out [n_tokens][hidden]
	void *q;                              // in and out [n_tokens][n_heads * head_dim]
	const struct tt_step_plan **narrowed; /* out */
};

/* Causal grouped-query attention over the pages, scaled by tt_config_attention_scale, over the keys that
 * tt_config_window allows, scores capped by attention_soft_cap. Keys are split at absolute positions that are multiples
 * of TT_SPLIT_KEYS and the parts are merged in index order. */
enum { TT_SPLIT_KEYS = 256 };
struct tt_attention_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	uint32_t layer_index;
	const void *q;   // [n_tokens][n_heads * head_dim]
	void *attention; // out [n_tokens][n_heads * head_dim]
	const struct tt_kv_pages *kv;
};

/* h += attention * wo^T (+ bo); the product is normalised by attn_post_norm first where the layer has it */
struct tt_o_proj_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const struct tt_layer *layer;
	const void *attention; // [n_tokens][n_heads * head_dim]
	float *h;              // in and out [n_tokens][hidden]
};

/* ffn = activation(rmsnorm(h) * w_gate^T) * (rmsnorm(h) * w_up^T), each product with its bias where the layer has
 * one */
struct tt_gate_up_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const struct tt_layer *layer;
	const float *h; // [n_tokens][hidden]
	void *ffn;      // out [n_tokens][ffn_size]
};

/* h = steer(h + ffn * w_down^T (+ bias)), the product normalised by ffn_post_norm first where the layer has it. Then
 * captured rows are stored. */
struct tt_down_proj_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const struct tt_layer *layer;
	uint32_t layer_index;
	const void *ffn;                   // [n_tokens][ffn_size]
	float *h;                          // in and out [n_tokens][hidden]
	const struct tt_steer_slot *slots; // indexed by the plan's row_slots
	const float *coef;                 // [n_rows][n_layers]
	float *captured;                   // [n_captures][n_layers][hidden], or NULL
	/* [n_tokens][n_layers][2]: norm of h before and after steering (0, 0 for unsteered tokens), or NULL */
	float *norms;
	const float *next_norm; // [hidden] of the next block, or the final one; see tt_embed_args
};

/* For the plan's pools that list layer_index, after it. A page's record j is the sum of h after layers[j] over the
 * span's tokens in that page, in the order of their positions: each token of the step that begins the page or the span
 * starts from 0, the others add to what the record holds. Then, where the pool has a capture row, that layer's part of
 * the row becomes the mean: the records of the span's pages, summed in order in double, divided by to - from. All sums
 * come before all means, since pages that a sequence shares may be another's of the same step. A sum depends on
 * absolute positions alone. */
struct tt_pool_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	uint32_t layer_index;
	const float *h;  // [n_tokens][hidden]
	float *sums;     // in and out [n_pages][TT_MAX_POOLED][hidden]
	float *captured; // out [n_captures][n_layers][hidden]
};

/* For the plan's decisions whose after_layer is layer_index: gather x_c, run the gate, write the coefficient row.
 * Before the first layer (-1) it first zeroes the rows of all the plan's decisions: a row still holds what its former
 * owner left, and in a step that decides and steers, layers up to the decision read it. */
struct tt_control_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	int32_t layer_index; /* -1 before the first layer */
	const struct tt_steer_slot *slots;
	const float *captured;              // [n_captures][n_layers][hidden]
	float *coef;                        // in and out [n_rows][n_layers]
	struct tt_decision_result *results; // out [n_decisions]
	float *decided;                     // out [n_decisions][n_layers] the rows it wrote, for the host
	uint32_t max_units;                 /* the most units of any network among the gates; 0: there is none */
};

/* logits = rmsnorm(h) * output^T, capped by logit_soft_cap, for the plan's sample rows */
struct tt_logits_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const float *output_norm;       // [hidden]
	const struct tt_matrix *output; // [vocab][hidden]
	const float *h;                 // [n_tokens][hidden]
	float *logits;                  // out [n_samples][vocab]
};

struct tt_sample_args {
	const struct tt_config *config;
	const struct tt_step_plan *step;
	const float *logits;              // [n_samples][vocab]
	struct tt_sample_result *results; // out [n_samples]
};

#endif
