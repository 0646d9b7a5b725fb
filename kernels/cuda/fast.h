/* --fast: cuBLASLt for large products. */
#ifndef KERNELS_CUDA_FAST_H
#define KERNELS_CUDA_FAST_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* unpack.cu: rows gets the rows of a packed matrix, bf16, row-major: [n_out][n_in], in their packed order. n_out is a
 * multiple of 16. */
int tt_cuda_unpack(struct tt_cuda *cuda, uint16_t *rows, const struct tt_matrix *packed, struct tt_error *err);

/* fast.c: cuBLASLt for the loaded model's products, of which it has a second, row-major copy. tt_cuda_fast_product sets
 * *y to x * w^T, device f32 [n_tokens][n_out] in the order of w's packed rows, valid until the next product; or to NULL
 * where the strict kernels are to run (always without --fast). */
int tt_cuda_fast_open(struct tt_cuda *cuda, const struct tt_model *model, struct tt_error *err);
void tt_cuda_fast_close(struct tt_cuda *cuda);
int tt_cuda_fast_product(struct tt_cuda *cuda, const void *w, const uint16_t *x, uint32_t n_out, uint32_t n_in,
	uint32_t n_tokens, const float **y, struct tt_error *err);

#ifdef __cplusplus
}
#endif

#endif
