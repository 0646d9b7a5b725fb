/* The graphs of decode steps. */
#ifndef KERNELS_CUDA_GRAPHS_H
#define KERNELS_CUDA_GRAPHS_H

#include "kernels/cuda/cuda.h"

/* A decode step runs from the graph of its bucket: a number of rows and of splits, each at least as large as
 * the step's own, and everything else that decides which kernels run. The first step of a bucket runs without a graph
 * (it makes room for scratch), the second is captured as it runs, and later ones are one launch each. Loading a policy
 * captures nothing. *recorded: see tt_backend.begin. */
int tt_cuda_graphs_begin(struct tt_cuda *cuda, const struct tt_step_plan *step, bool *recorded, struct tt_error *err);
int tt_cuda_graphs_end(struct tt_cuda *cuda, struct tt_error *err);
bool tt_cuda_graphs_capturing(const struct tt_cuda *cuda); /* between the two */
void tt_cuda_graphs_drop(struct tt_cuda *cuda); /* drops all graphs: something that they point to has moved */
void tt_cuda_graphs_close(struct tt_cuda *cuda);

#endif
