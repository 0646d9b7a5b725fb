/* The kernel of skinny.cu. */
#ifndef TESTS_EMU_SKINNY_H
#define TESTS_EMU_SKINNY_H

#include <cuda_runtime.h>
#include <stdint.h>

#include "base/tt_error.h"

struct skinny_args {
	const uint16_t *w; // [n][k] bf16
	const uint16_t *x; // [n_tokens][k] bf16
	float *y;          // out [n_tokens][n]
	uint32_t n, k, n_tokens;
};

int skinny_launch(const struct skinny_args *a, cudaStream_t stream, bool dependent, struct tt_error *err);

#endif
