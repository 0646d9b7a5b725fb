/* The row kernel that runs after down_proj, for operations that need a whole row. */
#ifndef KERNELS_CUDA_STEER_ROW_H
#define KERNELS_CUDA_STEER_ROW_H

#include "kernels/cuda/cuda.h"

/* Steers h in place, then stores the captured rows, the norms, x and the squares. */
int steer_row_launch(struct tt_cuda *cuda, const struct tt_down_proj_args *args, struct tt_error *err);

#endif
