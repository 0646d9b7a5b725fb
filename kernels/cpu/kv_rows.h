/* Keys and values as KV pages hold them. */
#ifndef KERNELS_CPU_KV_ROWS_H
#define KERNELS_CPU_KV_ROWS_H

#include "kernels/cpu/body.h"
#include "kernels/kv_pages.h"

/* Writes a head's row of n numbers to the pages, at element at, in the pages' type. */
void tt_cpu_kv_write(
	const struct tt_cpu_body *body, const struct tt_kv_pages *kv, size_t at, const float *row, uint32_t n);

#endif
