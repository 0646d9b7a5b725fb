/* The parts that ops are made of: norms, products cut into jobs for the threads, the residual. */
#ifndef KERNELS_CPU_JOBS_H
#define KERNELS_CPU_JOBS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/q8.h"

/* x = rmsnorm(h) * weight for the rows of h, or for those that samples names. */
struct tt_cpu_norm {
	const float *h;                       // [n_tokens][hidden]
	const struct tt_sample_plan *samples; // [n_rows], or NULL: row i of h
	const float *weight;                  // [hidden]
	float eps;
	uint32_t hidden, n_rows;
	float *x; // out [n_rows][hidden padded]
};
int tt_cpu_norm(struct tt_cpu *cpu, struct tt_cpu_norm *norm, struct tt_error *err); /* allocates x, as scratch */

/* The products of an op, cut into jobs for threads. They all have the same x. */
enum { TT_CPU_MAX_PRODUCTS = 3 };
struct tt_cpu_jobs {
	const struct tt_cpu_product *products[TT_CPU_MAX_PRODUCTS];
	/* then[i] runs on the same output rows as products[i], on the same thread; or NULL */
	const struct tt_cpu_product *then[TT_CPU_MAX_PRODUCTS];
	uint32_t n_products;
	/* what the next op multiplies by first, or NULL, and output rows in its jobs */
	const struct tt_matrix *after;
	uint32_t after_count;
	uint32_t count[TT_CPU_MAX_PRODUCTS], n_jobs[TT_CPU_MAX_PRODUCTS]; /* output rows in a job; jobs */
	uint32_t total_jobs, n_threads;
	struct tt_threads *threads; /* NULL where the work is too little for them */
	const struct tt_cpu_body *body;
	const struct tt_q8_body *q8; /* NULL: all in f32 */
	struct tt_q8_rows x;         /* x as integers, where q8 */
	float *scratch;              // [n_threads][scratch_stride]
	size_t scratch_stride;
};

/* Fills every member after after, quantises x where that is asked for, and allocates the scratch: at least
 * n_scratch floats a thread. */
int tt_cpu_jobs_plan(struct tt_cpu *cpu, struct tt_cpu_jobs *jobs, size_t n_scratch, struct tt_error *err);

/* Runs all jobs of a plan and returns when they are done. */
void tt_cpu_jobs_run(struct tt_cpu_jobs *jobs);

/* q8: makes the rows of x, as scratch; the floats that a job needs for count outputs; and the job. */
int tt_cpu_quantise(struct tt_cpu *cpu, const struct tt_cpu_product *p, struct tt_q8_rows *rows, struct tt_error *err);
size_t tt_cpu_q8_scratch(const struct tt_q8_body *q8, const struct tt_q8_rows *x, uint32_t n_rows, uint32_t count);
void tt_cpu_q8_product(const struct tt_q8_body *q8, const struct tt_cpu_body *body, const struct tt_cpu_product *p,
	const struct tt_q8_rows *x, uint32_t first, uint32_t count, const struct tt_cpu_next *next, float *scratch);

/* Gives x with rows of whole vectors: x itself where n is that already, else a copy in TT_CPU_SCRATCH_X. */
int tt_cpu_pad(
	struct tt_cpu *cpu, const float *x, uint32_t n_rows, uint32_t n, const float **out, struct tt_error *err);

/* h += x * matrix^T + bias; the product is normalised by post_norm first where that is not NULL. Of several ranks, each
 * has its rows of the matrix and of bias. */
struct tt_cpu_residual {
	const struct tt_matrix *matrix;
	const float *bias;      // [n_out], or NULL
	const float *x;         // [n_rows][n_in]
	const float *post_norm; // [hidden], or NULL
	float eps;
	uint32_t n_rows, hidden;
	float *h;                      // in and out [n_rows][hidden]
	const struct tt_matrix *after; /* as in tt_cpu_jobs */
};
int tt_cpu_add_residual(struct tt_cpu *cpu, const struct tt_cpu_residual *residual, struct tt_error *err);

#endif
