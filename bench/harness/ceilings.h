/* The most that a machine can do, measured in the same rounds as the results that are compared with it. */
#ifndef BENCH_CEILINGS_H
#define BENCH_CEILINGS_H

#include "bench/harness/harness.h"

struct tt_ceilings;

/* Buffers of n_bytes in total, which must be several times the last-level cache, split over n_threads. */
int tt_ceilings_open(struct tt_ceilings **out, uint32_t n_threads, size_t n_bytes, struct tt_error *err);
void tt_ceilings_close(struct tt_ceilings *ceilings); /* NULL is fine */

/* Adds the cases that are asked for to a group. ceilings must outlive the run.
 *   fma    "flops": fused multiply-adds in registers, two flops each, with the widest vectors that the CPU kernels use
 *   copy   "bytes": a memory copy; bytes read and bytes written both count
 *   read   "bytes": a sum over memory. Weights are read and never written, so this is the bound of a decode step */
enum tt_ceiling { TT_CEILING_FMA = 1, TT_CEILING_COPY = 2, TT_CEILING_READ = 4 };
int tt_ceilings_add(
	struct tt_ceilings *ceilings, struct tt_bench *bench, const char *group, unsigned which, struct tt_error *err);

/* Fused multiply-adds a second on all threads, the best of some tries of a few ms. */
double tt_ceilings_mul_adds(struct tt_ceilings *ceilings);

#endif
