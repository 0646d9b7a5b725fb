/* The GPU benchmarks: each kernel alone, and whole models through the engine. */
#ifndef BENCH_GPU_GPU_H
#define BENCH_GPU_GPU_H

#include "bench/harness.h"

struct tt_gpu; /* a stream, memory for the ceilings, and cuBLAS where it is installed */

/* tiny: for the emulator, a small matrix and no cuBLAS. *out is also set when this fails, and must be closed. */
int tt_gpu_open(struct tt_gpu **out, bool tiny, struct tt_error *err);
void tt_gpu_close(struct tt_gpu *gpu); /* NULL is fine */

/* Name, memory, versions: a new reference. */
int tt_gpu_machine(json_t **out, struct tt_error *err);

/* Adds the ceilings to a group: the cases "copy" (bytes read and written) and, with cuBLAS, "matrix" (flops). */
int tt_gpu_add_ceilings(struct tt_gpu *gpu, struct tt_bench *bench, const char *group, struct tt_error *err);
/* The name of the matrix ceiling, or NULL without cuBLAS. */
const char *tt_gpu_matrix_ceiling(const struct tt_gpu *gpu);

/* y [n][n_out] = x [n][n_in] * w [n_out][n_in]^T in bf16 by cuBLAS on the given stream, or TT_ERR_UNSUPPORTED. */
int tt_gpu_cublas(struct tt_gpu *gpu, void *stream, void *y, const void *x, const void *w, uint32_t n, uint32_t n_out,
	uint32_t n_in, struct tt_error *err);
/* Whether cuBLAS was found. */
bool tt_gpu_has_cublas(const struct tt_gpu *gpu);

/* Adds the groups of one model. Their data lives until the matching close, which must follow tt_bench_run. */
struct tt_kernel_bench;
int tt_kernel_bench_add(struct tt_kernel_bench **out, struct tt_gpu *gpu, struct tt_bench *bench, const char *model,
	bool tiny, struct tt_error *err);
void tt_kernel_bench_close(struct tt_kernel_bench *kernels);
uint32_t tt_kernel_bench_n_wrong(const struct tt_kernel_bench *kernels); /* how many outputs were wrong */

/* Adds and runs the groups of one model. No group is begun after until (CLOCK_MONOTONIC seconds); *n_left_out counts
 * those that were not. */
int tt_model_bench_run(
	struct tt_bench *bench, const char *model, bool tiny, double until, uint32_t *n_left_out, struct tt_error *err);

#endif
