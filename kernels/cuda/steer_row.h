/* The row kernel that runs after down_proj, for operations that need a whole row, and after o_proj and down_proj of
 * layers that normalise what these add, and of several ranks. */
#ifndef KERNELS_CUDA_STEER_ROW_H
#define KERNELS_CUDA_STEER_ROW_H

#include "kernels/cuda/cuda.h"

/* Where a product is to leave its n_out columns, which the row kernel adds to h: scratch, or of several ranks the own
 * block; NULL where the product adds them itself. norm: it is normalised first. */
int row_product(struct tt_cuda *cuda, bool norm, uint32_t n_out, float **y, struct tt_error *err);

/* Adds the product that was left in y to h, if that is not NULL, normalised where the layer has a norm for it. Steers h
 * in place, then stores the captured rows, the norms, x and the squares. steered: ranks have done both, and y has their
 * columns of h. */
int steer_row_launch(
	struct tt_cuda *cuda, const struct tt_down_proj_args *args, const float *y, bool steered, struct tt_error *err);

/* Adds the product of o_proj that was left in y to h, and stores x and the squares. */
int post_norm_launch(struct tt_cuda *cuda, const struct tt_o_proj_args *args, const float *y, struct tt_error *err);

#endif
