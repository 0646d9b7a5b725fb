/* What CPU ranks pass to each other: columns of a buffer that all have in full. */
#ifndef KERNELS_CPU_EXCHANGE_H
#define KERNELS_CPU_EXCHANGE_H

#include "kernels/cpu/cpu.h"

/* rows [n_rows][stride]: this rank has written the columns own of each row; when this returns, it has the columns of
 * all. Every rank calls it for the same buffer, n_rows and stride. Alone, a rank has them all already. TT_ERR_DEVICE
 * where another rank has failed. */
int tt_cpu_exchange(
	struct tt_cpu *cpu, float *rows, size_t stride, uint32_t n_rows, struct tt_cut own, struct tt_error *err);

/* struct tt_backend's. */
size_t tt_cpu_shared_bytes(const struct tt_config *config);
int tt_cpu_join(
	struct tt_backend *, struct tt_meeting *, void *shared, uint32_t rank, uint32_t n_threads, struct tt_error *);

#endif
