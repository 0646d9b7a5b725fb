/* What the ops of the CPU backend share: the backend itself, its scratch memory and its threads. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "base/tt_error.h"
#include "kernels/backend.h"
#include "kernels/cpu/body.h"
#include "kernels/cpu/threads.h"
#include "kernels/shard.h"

/* Scratch kept between calls and grown when a step needs more. */
enum tt_cpu_scratch {
	TT_CPU_SCRATCH_X, /* inputs of a product: normalised, gathered or padded rows */
	TT_CPU_SCRATCH_Y, /* outputs of a product that are processed further */
	/* one for each of two lists of frequencies: layers of some models use one or the other */
	TT_CPU_SCRATCH_ROTATION,
	TT_CPU_SCRATCH_ROTATION_SECOND,
	TT_CPU_SCRATCH_Q8,   /* x as integers */
	TT_CPU_SCRATCH_STEP, /* the narrowed step, and which tokens it kept */
	TT_CPU_SCRATCH_KEPT,
	TT_CPU_SCRATCH_BLOCKS,  /* attention's list of query blocks */
	TT_CPU_SCRATCH_PARTIAL, /* attention's splits that wait to be merged */
	TT_CPU_SCRATCH_THREADS, /* each thread's own */
	TT_CPU_SCRATCH_RESULTS, /* results of steps whose successor may already run, one copy for each of two steps */
	TT_CPU_SCRATCH_RESULTS_ODD,
	TT_CPU_N_SCRATCH
};

/* TT_CPU_BODY_BF16 is tt_cpu_open_bf16: its load rounds every matrix. Pages may be of any type; numbers are rounded
 * before they are appended. */
enum tt_cpu_body_choice {
	TT_CPU_BODY_BEST,
	TT_CPU_BODY_AVX512,
	TT_CPU_BODY_AVX2,
	TT_CPU_BODY_NEON,
	TT_CPU_BODY_PORTABLE,
	TT_CPU_BODY_BF16
};

struct tt_cpu {
	struct tt_backend base; /* first, so that a tt_backend of this kind is a tt_cpu */
	const struct tt_cpu_body *body;
	const struct tt_q8_body *q8;
	enum tt_compute compute; /* since load */
	uint32_t n_threads;
	struct tt_threads *threads; /* n_threads of them, the caller's own counted */
	struct {
		void *memory;
		size_t bytes;
	} scratch[TT_CPU_N_SCRATCH];
	struct tt_limits limits;
	struct tt_config config;      /* the whole model's; ops see the rank's */
	struct tt_shard shard;        /* since load; alone, it is all of the model */
	struct tt_model *part;        /* since load: the model of one rank of several, else NULL */
	const struct tt_model *model; /* since load; NULL for the twin of CUDA */
	struct tt_meeting *meeting;   /* with the other ranks, or NULL */
	float *shared;                /* by all ranks: what exchange.c passes on */
	uint64_t n_exchanges;
	struct tt_results finished[2]; /* of the steps that have ended, a ring */
	uint64_t n_ended, n_finished;
	struct { /* what TT_CPU_SCRATCH_ROTATION and TT_CPU_SCRATCH_ROTATION_SECOND hold; see rotation.c */
		const float *from;
		uint32_t n_tokens, n_pairs;
	} rotation[2];
};

/* tt_cpu_open with a chosen body, for tests; TT_ERR_UNSUPPORTED where the machine cannot run it. */
int tt_cpu_open_body(struct tt_backend **out, uint32_t n_threads, enum tt_cpu_body_choice choice, struct tt_error *err);

/* Ends the threads and starts n. */
int tt_cpu_take_threads(struct tt_cpu *cpu, uint32_t n, struct tt_error *err);

/* At least count * size bytes of scratch memory, aligned to 64; its former content may be lost. */
int tt_cpu_scratch(struct tt_cpu *cpu, enum tt_cpu_scratch which, size_t count, size_t size, void *out_pointer,
	struct tt_error *err);

/* Each thread's own part of TT_CPU_SCRATCH_THREADS: thread i has n floats at *out + i * *stride, whole cache lines
 * apart. */
int tt_cpu_thread_scratch(struct tt_cpu *cpu, size_t n, float **out, size_t *stride, struct tt_error *err);

/* cos and sin of position * inverse frequency for every token of the step, [n_tokens][2][n_pairs]. Kept until the
 * positions or the frequencies change, so that the layers of a step share it. */
int tt_cpu_rotation(struct tt_cpu *cpu, const struct tt_step_plan *step, const float *inverse_frequencies,
	uint32_t n_pairs, const float **out, struct tt_error *err);

/* The threads for an op of n_mul_adds multiply-adds. NULL means the caller alone: the op takes no longer than waking
 * them. */
static inline struct tt_threads *tt_cpu_threads_for(const struct tt_cpu *cpu, uint64_t n_mul_adds)
{
	return n_mul_adds < (uint64_t)1 << 17 ? NULL : cpu->threads;
}

/* Rounds, in place, an output that a CUDA kernel would store as bf16. */
static inline void tt_cpu_keep(const struct tt_cpu_body *body, float *x, size_t n)
{
	if (body->keep)
		body->keep(x, n);
}

/* The twin's load: a copy of the model with bf16 matrices. */
int tt_cpu_load_bf16(const struct tt_model *host, const struct tt_model **out, struct tt_error *err);
void tt_cpu_unload_bf16(const struct tt_model *loaded); /* NULL is fine */

/* How many rows of light work make a job. */
enum { TT_CPU_ROWS_A_JOB = 16 };

/* h = steer(h) for one token; scratch is [hidden]. norms is [2] or NULL. */
void tt_cpu_steer(const struct tt_cpu_body *body, const struct tt_down_proj_args *args, uint32_t token, float *scratch);

/* The ten rounds of Philox4x32 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011): four random words
 * from a counter and a key. */
void tt_cpu_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* One draw from weights[n] (each 0..1, the largest 1) cut down to the plan's top-k, top-p and min-p; uniform is in
 * [0, 1). scratch is [n]. */
struct tt_cpu_candidate {
	float weight;
	uint32_t id;
};
uint32_t tt_cpu_draw(const struct tt_sample_plan *plan, const float *weights, uint32_t n, double uniform,
	struct tt_cpu_candidate *scratch);

/* One function for each op; the signatures are struct tt_backend's. */
int tt_cpu_embed(struct tt_backend *, const struct tt_embed_args *, struct tt_error *);
int tt_cpu_qkv(struct tt_backend *, const struct tt_qkv_args *, struct tt_error *);
int tt_cpu_narrow(struct tt_backend *, const struct tt_narrow_args *, struct tt_error *);
int tt_cpu_attention(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
int tt_cpu_o_proj(struct tt_backend *, const struct tt_o_proj_args *, struct tt_error *);
int tt_cpu_gate_up(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);
int tt_cpu_down_proj(struct tt_backend *, const struct tt_down_proj_args *, struct tt_error *);
int tt_cpu_pool(struct tt_backend *, const struct tt_pool_args *, struct tt_error *);
int tt_cpu_control(struct tt_backend *, const struct tt_control_args *, struct tt_error *);
int tt_cpu_logits(struct tt_backend *, const struct tt_logits_args *, struct tt_error *);
int tt_cpu_sample(struct tt_backend *, const struct tt_sample_args *, struct tt_error *);

#endif
