/* The marks by which the host sees how far the device of a rank has come (exchange.h). */
#ifndef KERNELS_CUDA_MARK_CUH
#define KERNELS_CUDA_MARK_CUH

#include "kernels/cuda/exchange.h"
#include "kernels/cuda/ptx/memory.cuh"

/* By one block of a kernel behind an exchange, after tt_grid_wait: counts, and tells the host. */
TT_DEVICE void mark_reach(struct tt_cuda_mark mark)
{
	if (threadIdx.x)
		return;
	uint32_t n = tt_load_4(mark.count, TT_TRAFFIC_RESULT) + 1;
	tt_store_4(mark.count, n, TT_TRAFFIC_RESULT);
	tt_store_4_to_host(mark.reached, n, TT_TRAFFIC_RESULT);
}

#endif
