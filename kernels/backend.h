/* A backend: one device's memory and its body for every op. */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include "kernels/counters.h"
#include "kernels/ops.h"
#include "kernels/results.h"

/* What the ops of a step hand to each other, in the backend's memory, rows contiguous. The numbers of q, attention and ffn
 * are the backend's own: f32 on a CPU, the twin's rounded to bf16 numbers, and bf16 under CUDA. */
struct tt_activations {
	float *h;            // [max_tokens][hidden] the residual stream
	void *q, *attention; // [max_tokens][n_heads * head_dim]
	void *ffn;           // [max_tokens][ffn_size]
};

/* One device: its memory and its bodies. A step is begin, the ops in order, end; then finish waits for the oldest step that
 * was not finished. Up to in_flight steps may lie between their begin and their finish; a step that wants captured rows or
 * logits is finished before the next begins. close releases the backend and all that it keeps. */
struct tt_backend {
	const char *name;
	uint32_t n_threads;                        /* host threads that its bodies use */
	uint32_t in_flight;                        /* 1 or 2 */
	const struct tt_device_counters *counters; /* NULL: nothing is counted */
	bool fast;                         /* since load: bits may depend on batch and chunks, as the limits allowed */
	enum tt_kv_type kv_type;           /* of the pages, unless the user asks for another that it has */
	struct tt_activations activations; /* since load, until unload */
	int (*allocate)(
		struct tt_backend *, void *out_pointer, size_t count, size_t size, struct tt_error *); /* zeroed */
	void (*release)(struct tt_backend *, void *memory); /* NULL is fine */
	int (*upload)(struct tt_backend *, void *to, const void *from, size_t n_bytes, struct tt_error *);
	/* The model with its matrices as the products of this backend read them (the file's own on a CPU; a dummy model's are
	 * made here), and memory for the activations of steps within limits. One model at a time. unload, with NULL where load
	 * failed, releases both. */
	int (*load)(struct tt_backend *, struct tt_model *host, const struct tt_limits *limits,
		const struct tt_model **out, struct tt_error *);
	void (*unload)(struct tt_backend *, const struct tt_model *loaded);
	/* Takes the plan, which stays the caller's. *recorded: the ops of such a step are known and need not be called. */
	int (*begin)(struct tt_backend *, const struct tt_step_plan *, bool *recorded, struct tt_error *);
	int (*embed)(struct tt_backend *, const struct tt_embed_args *, struct tt_error *);
	int (*qkv)(struct tt_backend *, const struct tt_qkv_args *, struct tt_error *);
	int (*narrow)(struct tt_backend *, const struct tt_narrow_args *, struct tt_error *); /* or NULL */
	int (*attention)(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
	int (*o_proj)(struct tt_backend *, const struct tt_o_proj_args *, struct tt_error *);
	int (*gate_up)(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);
	int (*down_proj)(struct tt_backend *, const struct tt_down_proj_args *, struct tt_error *);
	int (*control)(struct tt_backend *, const struct tt_control_args *, struct tt_error *);
	int (*logits)(struct tt_backend *, const struct tt_logits_args *, struct tt_error *);
	int (*sample)(struct tt_backend *, const struct tt_sample_args *, struct tt_error *);
	/* The step is complete: its results, which the ops wrote to outputs, go to the host. */
	int (*end)(
		struct tt_backend *, const struct tt_step_plan *, const struct tt_results *outputs, struct tt_error *);
	/* Waits for the oldest step; *results in host memory, until in_flight more steps have begun. */
	int (*finish)(struct tt_backend *, struct tt_results *results, struct tt_error *);
	void (*close)(struct tt_backend *);
};

/* For a load and an unload: backend->activations from its allocate and release. element: bytes of a number of q, attention
 * and ffn. Close also where open failed. */
int tt_activations_open(struct tt_backend *backend, const struct tt_config *config, const struct tt_limits *limits,
	size_t element, struct tt_error *err);
void tt_activations_close(struct tt_backend *backend);

/* n_threads 0: one a core. in_flight is 1, since a step is over when its ops are; a test may set it to 2. */
int tt_cpu_open(struct tt_backend **out, uint32_t n_threads, struct tt_error *err);

/* The twin of the CUDA kernels, for tests: a CPU that rounds to bf16 where they do (kernels/cuda/cuda.h says where), so that
 * outputs differ by no more than the order of f32 sums. Activations stay f32 numbers. */
int tt_cpu_open_bf16(struct tt_backend **out, uint32_t n_threads, struct tt_error *err);

/* The GPU of that index, as CUDA_VISIBLE_DEVICES leaves them. TT_ERR_DEVICE, with CUDA's sentence, where there is none or
 * it cannot run these kernels. Not in every program: see tt_device_open. */
int tt_cuda_open(struct tt_backend **out, int device, struct tt_error *err);

/* TT_ERR_UNSUPPORTED, with the architecture's name, where the CUDA kernels do not compute all that such a model has. */
int tt_cuda_can_run(const struct tt_config *config, struct tt_error *err);

/* device: "cpu", "cuda", "cuda:N", or "auto" (or NULL): the first GPU if the
 * kernels can run such a model (config NULL: any), else the CPU, and then note says why not the GPU
 * (its message is empty where the program was built without CUDA). */
int tt_device_open(struct tt_backend **out, const char *device, uint32_t n_threads, const struct tt_config *config,
	struct tt_error *note, struct tt_error *err);

#endif
