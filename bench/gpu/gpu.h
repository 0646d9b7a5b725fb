/* The GPU benchmarks: each kernel alone, and whole models through the engine. */
#ifndef BENCH_GPU_GPU_H
#define BENCH_GPU_GPU_H

#include "bench/harness/harness.h"

struct tt_gpu; /* a stream, memory for the ceilings, and cuBLAS where it is installed */

/* tiny: for the emulator, a small matrix and no cuBLAS. *out is also set when this fails, and must be closed. */
int tt_gpu_open(struct tt_gpu **out, bool tiny, struct tt_error *err);
void tt_gpu_close(struct tt_gpu *gpu); /* NULL is fine */

/* Name, memory, versions: a new reference. TT_ERR_UNSUPPORTED where there is no driver or no device. */
int tt_gpu_machine(json_t **out, struct tt_error *err);
/* Writes device memory and reads it back: whether the device still does what it is told. */
int tt_gpu_alive(struct tt_error *err);
/* Makes a context, so that the driver stays ready. */
int tt_gpu_hold(struct tt_error *err);
/* TT_ERR_DEVICE when an error stays, after which this process can do nothing more on the device. */
int tt_gpu_check(struct tt_error *err);

/* Adds the ceilings to a group: the cases "copy" (bytes read and written) and, with cuBLAS, "matrix" (flops). */
int tt_gpu_add_ceilings(struct tt_gpu *gpu, struct tt_bench *bench, const char *group, struct tt_error *err);
/* The name of the matrix ceiling, or NULL without cuBLAS. */
const char *tt_gpu_matrix_ceiling(const struct tt_gpu *gpu);

/* y [n][n_out] = x [n][n_in] * w [n_out][n_in]^T in bf16 by cuBLAS on the given stream, or TT_ERR_UNSUPPORTED. */
int tt_gpu_cublas(struct tt_gpu *gpu, void *stream, void *y, const void *x, const void *w, uint32_t n, uint32_t n_out,
	uint32_t n_in, struct tt_error *err);
/* Whether cuBLAS was found. */
bool tt_gpu_has_cublas(const struct tt_gpu *gpu);

/* Groups, each timed, printed and forgotten before the next, so that what ends the program later loses nothing: "begin
 * GROUP", then "FAIL GROUP: why", or a table and the report in one line of JSON. */
struct tt_gpu_groups {
	struct tt_bench_options options;
	const char *after; /* groups up to this one are passed over; NULL: none are */
	uint32_t tokens;   /* 0, or the only number of rows or of a prompt's tokens */
	uint32_t n_ranks;  /* of whole models, each on a device; 0: one */
	double until;      /* CLOCK_MONOTONIC seconds; no group is begun later, which is said: "left out GROUP" */
	bool tiny;
	uint32_t n_failed, n_left_out;
};
typedef int tt_gpu_fill(void *context, struct tt_bench *bench, const char *group, struct tt_error *err);
/* Whether the next group of that name will run; says so if it is left out. */
bool tt_gpu_group_runs(struct tt_gpu_groups *groups, const char *group);
/* Fills and runs a group. What fails in it is said and counted. TT_ERR_DEVICE: no group can follow in this process. */
int tt_gpu_group(
	struct tt_gpu_groups *groups, const char *group, tt_gpu_fill *fill, void *context, struct tt_error *err);

/* The groups of one model: first those that decide the design, one row, 64 rows and a prompt. once: each op runs once
 * instead, for a profiler. */
int tt_kernel_bench_run(
	struct tt_gpu_groups *groups, struct tt_gpu *gpu, const char *model, bool once, struct tt_error *err);

/* The products of a decode step with each quantised type beside those with bf16, of one row and then of 64. */
int tt_quants_bench_run(struct tt_gpu_groups *groups, struct tt_gpu *gpu, const char *model, struct tt_error *err);

/* every_arm: beside unsteered steps not only those steered at all layers. */
int tt_model_bench_run(struct tt_gpu_groups *groups, const char *model, bool every_arm, struct tt_error *err);

#endif
