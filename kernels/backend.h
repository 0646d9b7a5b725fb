/* A backend: one device's memory and its implementation of every op. */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include "kernels/counters.h"
#include "kernels/ops.h"
#include "kernels/results.h"

struct tt_meeting; /* kernels/meeting.h */

/* The buffers that the ops of a step hand to each other, in the backend's memory, rows contiguous. The element type of
 * q, attention and ffn is the backend's own: f32 on a CPU (for the bf16 twin, f32 numbers rounded to bf16) and bf16
 * under CUDA. */
struct tt_activations {
	float *h;            // [max_tokens][hidden] the residual stream
	void *q, *attention; // [max_tokens][n_heads * head_dim]
	void *ffn;           // [max_tokens][ffn_size]
};

/* One device: its memory and its implementation of the ops. A step is begin, the ops in order, then end; finish then
 * waits for the oldest step that was not finished. Up to in_flight steps may be between their begin and their finish; a
 * step that wants captured rows or logits is finished before the next begins. close releases the backend and all that
 * it keeps. */
struct tt_backend {
	const char *name;
	uint32_t variant;                          /* which of that name, for tt_device_open_rank */
	uint32_t n_threads;                        /* host threads that its bodies use */
	uint32_t in_flight;                        /* 1 or 2 */
	const struct tt_device_counters *counters; /* NULL: nothing is counted */
	/* since load: bits may depend on batch and chunks (load's limits allowed it) */
	bool fast;
	/* since load: bytes of the model's matrices in the backend's memory (a CPU reads the file's), and of those that
	 * became bf16 though they are quantised in the file */
	uint64_t weight_bytes, rounded_bytes;
	bool has_penalties; /* tt_sample_plan.n_seen may be above 0 */
	bool has_q8;        /* products with eight-bit activations, where load's limits ask for them */
	/* of the pages, unless the user asks for another type that the backend has: bit t of kv_types is type t */
	enum tt_kv_type kv_type;
	uint32_t kv_types;
	uint32_t step_tokens;              /* of a step, unless the user asks for another number; 0: 512 */
	struct tt_activations activations; /* since load, until unload */
	/* Whether the device that was opened can run such a model: TT_ERR_UNSUPPORTED says why not. load asks too.
	 * NULL: it can run all. */
	int (*can_run)(struct tt_backend *, const struct tt_config *, struct tt_error *);
	int (*allocate)(
		struct tt_backend *, void *out_pointer, size_t count, size_t size, struct tt_error *); /* zeroed */
	void (*release)(struct tt_backend *, void *memory); /* NULL is fine */
	int (*upload)(struct tt_backend *, void *to, const void *from, size_t n_bytes, struct tt_error *);
	/* Makes the model that the ops read, with its matrices as this backend's products need them (the file's own on
	 * a CPU; a dummy model's are made here), and allocates the activations of steps within limits. One model at a
	 * time. unload releases both; it takes NULL after a failed load. */
	int (*load)(struct tt_backend *, struct tt_model *host, const struct tt_limits *limits,
		const struct tt_model **out, struct tt_error *);
	void (*unload)(struct tt_backend *, const struct tt_model *loaded);
	/* Ranks (kernels/shard.h), a process each: before load, join makes this backend that rank of those that share
	 * the meeting, and shared, which is shared_bytes(config of the whole model) of zeros at first; it goes on with
	 * n_threads threads. All load the same host model and run the same steps at the same time. NULL: it has
	 * none. connect, if it is not NULL, is carried out by all at the same time, once all have loaded. */
	uint32_t cut_granule; /* as tt_shard_check takes it */
	size_t (*shared_bytes)(const struct tt_config *);
	int (*join)(struct tt_backend *, struct tt_meeting *, void *shared, uint32_t rank, uint32_t n_threads,
		struct tt_error *);
	int (*connect)(struct tt_backend *, struct tt_error *);
	/* Takes the plan, which stays the caller's. *recorded: the device already has the ops of such a step; they need
	 * not be called. */
	int (*begin)(struct tt_backend *, const struct tt_step_plan *, bool *recorded, struct tt_error *);
	int (*embed)(struct tt_backend *, const struct tt_embed_args *, struct tt_error *);
	int (*qkv)(struct tt_backend *, const struct tt_qkv_args *, struct tt_error *);
	int (*narrow)(struct tt_backend *, const struct tt_narrow_args *, struct tt_error *); /* or NULL */
	int (*attention)(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
	int (*o_proj)(struct tt_backend *, const struct tt_o_proj_args *, struct tt_error *);
	int (*gate_up)(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);
	int (*down_proj)(struct tt_backend *, const struct tt_down_proj_args *, struct tt_error *);
	int (*pool)(struct tt_backend *, const struct tt_pool_args *, struct tt_error *);
	int (*control)(struct tt_backend *, const struct tt_control_args *, struct tt_error *);
	int (*logits)(struct tt_backend *, const struct tt_logits_args *, struct tt_error *);
	int (*sample)(struct tt_backend *, const struct tt_sample_args *, struct tt_error *);
	/* The step is complete: its results, which the ops wrote to outputs, go to the host. */
	int (*end)(
		struct tt_backend *, const struct tt_step_plan *, const struct tt_results *outputs, struct tt_error *);
	/* Waits for the oldest step. *results is host memory, valid until in_flight more steps have begun. */
	int (*finish)(struct tt_backend *, struct tt_results *results, struct tt_error *);
	void (*close)(struct tt_backend *);
};

/* Allocates and releases backend->activations, for a backend's load and unload. element: bytes of one number of q,
 * attention and ffn. Call tt_activations_close also when open failed. */
int tt_activations_open(struct tt_backend *backend, const struct tt_config *config, const struct tt_limits *limits,
	size_t element, struct tt_error *err);
void tt_activations_close(struct tt_backend *backend);

/* n_threads 0: one per core. in_flight is 1, because a step is over when its ops return; a test may set it to 2. */
int tt_cpu_open(struct tt_backend **out, uint32_t n_threads, struct tt_error *err);

/* The CPU twin of the CUDA kernels, for tests: it rounds to bf16 where they do (kernels/cuda/cuda.h says where), so
 * that outputs differ by no more than the order of f32 sums. Activations stay f32 numbers. */
int tt_cpu_open_bf16(struct tt_backend **out, uint32_t n_threads, struct tt_error *err);

/* The GPU with that index, as CUDA_VISIBLE_DEVICES numbers them. TT_ERR_DEVICE, with CUDA's own message, where there is
 * none or it cannot run these kernels; TT_ERR_UNSUPPORTED from kernels/no_cuda.c, which stands in its place where there
 * is no nvcc. */
int tt_cuda_open(struct tt_backend **out, int device, struct tt_error *err);

/* The version of CUDA and the architectures that the kernels were built for, or NULL where they were not. */
const char *tt_cuda_built(void);

/* The name of the body that tt_cpu_open takes on this machine. */
const char *tt_cpu_body_name(void);

/* hidden_size, ffn_size and head_dim are multiples of it: products have tiles of 16 outputs */
enum { TT_CUDA_GRANULE = 16 };

/* TT_ERR_UNSUPPORTED, with the architecture's name or the size, where the CUDA kernels do not compute everything that
 * such a model has, or not at its sizes. */
int tt_cuda_can_run(const struct tt_config *config, struct tt_error *err);

/* Opens a backend by name. device: "cpu", "cuda", "cuda:N", or "auto" (NULL means the same): the first GPU if it and
 * the kernels can run such a model (config NULL: any), else the CPU, and then note says why it is not the GPU (its
 * message is empty where the program was built without CUDA). */
int tt_device_open(struct tt_backend **out, const char *device, uint32_t n_threads, const struct tt_config *config,
	struct tt_error *note, struct tt_error *err);

/* Opens another rank's backend like the one of rank 0, whose name and variant they are: of CUDA, the device that many
 * after rank 0's. */
int tt_device_open_rank(struct tt_backend **out, const char *name, uint32_t variant, uint32_t rank, uint32_t n_threads,
	struct tt_error *err);

#endif
