/* The row kernel that runs after down_proj, for operations that need a whole row, and after o_proj and down_proj of
 * layers that normalise what these add. */
#ifndef KERNELS_CUDA_STEER_ROW_H
#define KERNELS_CUDA_STEER_ROW_H

#include "kernels/cuda/cuda.h"

/* Where the layer has a norm for it, adds the product in cuda->partial to h. Steers h in place, then stores the
 * captured rows, the norms, x and the squares. */
int steer_row_launch(struct tt_cuda *cuda, const struct tt_down_proj_args *args, struct tt_error *err);

/* Room in cuda->partial for the rows that a norm reads whole. */
int post_norm_scratch(struct tt_cuda *cuda, uint32_t hidden, struct tt_error *err);

/* Adds the product of o_proj in cuda->partial, normalised, to h, and stores x and the squares. */
int post_norm_launch(struct tt_cuda *cuda, const struct tt_o_proj_args *args, struct tt_error *err);

#endif
