/* Bulk copies, sm_90: for kernels on wgmma beside the strict ones, which also run on sm_80 and use none. */
#ifndef KERNELS_CUDA_PTX_BULK_CUH
#define KERNELS_CUDA_PTX_BULK_CUH

#include "kernels/cuda/ptx/barrier.cuh"

#if TT_HAS_BULK
/* Copies n_bytes (a multiple of 16, both ends aligned to 16) from global to shared memory, called by one thread;
 * completes on the barrier. */
TT_DEVICE void tt_copy_bulk(
	void *shared, const void *global, uint32_t n_bytes, tt_mbarrier *barrier, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_copy_bulk(shared, global, n_bytes, barrier, kind TT_AT);
#else
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
			     tt_shared_address(shared)),
		     "l"(__cvta_generic_to_global(global)), "r"(n_bytes), "r"(tt_shared_address(barrier))
		     : "memory");
#endif
}

/* Orders this thread's plain shared accesses before later bulk copies into the same memory. */
TT_DEVICE void tt_fence_async(void)
{
#ifndef TT_EMU
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
#endif

#endif
