/* A backend: one device's memory and its body for every op. */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include "kernels/ops.h"

/* What a step gives: in the backend's memory as the ops write it, in the host's as finish returns it. */
struct tt_results {
	struct tt_sample_result *samples;     // [n_samples]
	struct tt_decision_result *decisions; // [n_decisions]
	float *decided;                       // [n_decisions][n_layers] coefficient rows
	float *norms;                         // [n_tokens][n_layers][2], NULL unless the step is traced
	float *captured;                      // [n_captures][n_layers][hidden]
	float *logits;                        // [n_samples][vocab], NULL unless they are kept
};

/* One device: its memory and its bodies. The host calls begin, the ops in order, finish; everything is ordered by that.
 * close releases the backend and all that it keeps. */
struct tt_backend {
	const char *name;
	uint32_t n_threads; /* host threads that its bodies use */
	int (*allocate)(
		struct tt_backend *, void *out_pointer, size_t count, size_t size, struct tt_error *); /* zeroed */
	void (*release)(struct tt_backend *, void *memory); /* NULL is fine */
	int (*upload)(struct tt_backend *, void *to, const void *from, size_t n_bytes, struct tt_error *);
	/* The model with its matrices as the products of this backend read them: the file's own on a CPU. */
	int (*load)(struct tt_backend *, const struct tt_model *host, const struct tt_model **out, struct tt_error *);
	void (*unload)(struct tt_backend *, const struct tt_model *loaded); /* NULL is fine */
	/* Takes the plan, which stays the caller's. *recorded: the ops of such a step are known and need not be called. */
	int (*begin)(struct tt_backend *, const struct tt_step *, bool *recorded, struct tt_error *);
	int (*embed)(struct tt_backend *, const struct tt_embed_args *, struct tt_error *);
	int (*qkv)(struct tt_backend *, const struct tt_qkv_args *, struct tt_error *);
	int (*attention)(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
	int (*o_proj)(struct tt_backend *, const struct tt_o_proj_args *, struct tt_error *);
	int (*gate_up)(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);
	int (*down_proj)(struct tt_backend *, const struct tt_down_proj_args *, struct tt_error *);
	int (*control)(struct tt_backend *, const struct tt_control_args *, struct tt_error *);
	int (*logits)(struct tt_backend *, const struct tt_logits_args *, struct tt_error *);
	int (*sample)(struct tt_backend *, const struct tt_sample_args *, struct tt_error *);
	/* Waits for the step. outputs: where the ops wrote; *results: the same in host memory, until the next begin. */
	int (*finish)(struct tt_backend *, const struct tt_step *, const struct tt_results *outputs,
		struct tt_results *results, struct tt_error *);
	void (*close)(struct tt_backend *);
};

/* n_threads 0: one a core. */
int tt_cpu_open(struct tt_backend **out, uint32_t n_threads, struct tt_error *err);

#endif
