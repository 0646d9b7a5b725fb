/* What CPU ranks, which are threads of one process, pass to each other: columns of a buffer that all have in full. */
#ifndef KERNELS_CPU_EXCHANGE_H
#define KERNELS_CPU_EXCHANGE_H

#include "kernels/cpu/cpu.h"

/* rows [n_rows][stride]: this rank has written the columns own of each row; when this returns, it has the columns of
 * all. Every rank calls it for the same buffer, n_rows and stride. Alone, a rank has them all already. TT_ERR_DEVICE
 * where another rank gave up. */
int tt_cpu_exchange(
	struct tt_cpu *cpu, float *rows, size_t stride, uint32_t n_rows, struct tt_cut own, struct tt_error *err);

/* struct tt_backend's. */
int tt_cpu_split(struct tt_backend *, uint32_t n_ranks, struct tt_backend **others, struct tt_error *);
void tt_cpu_give_up(struct tt_backend *);
void tt_cpu_resume(struct tt_backend *);
void tt_cpu_leave(struct tt_cpu *cpu);

#endif
