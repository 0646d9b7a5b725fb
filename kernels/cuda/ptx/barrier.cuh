/* Barriers of a warp and of a block, and mbarriers (sm_90), which also wait for bulk copies. */
#ifndef KERNELS_CUDA_PTX_BARRIER_CUH
#define KERNELS_CUDA_PTX_BARRIER_CUH

#include "kernels/cuda/ptx/shared.cuh"

/* Every thread of the block must reach the same barrier; it orders shared and global memory among them. */
TT_DEVICE void tt_sync_block(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_sync_block(TT_AT_ONLY);
#else
	__syncthreads();
#endif
}

/* All 32 lanes must reach it; it orders memory among them. Shuffles, ldmatrix and mma also need all lanes, but order
 * nothing. */
TT_DEVICE void tt_sync_warp(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_sync_warp(TT_AT_ONLY);
#else
	__syncwarp();
#endif
}

/* A separate barrier for n_threads of the block, whole warps; id 1 to 15 (0 is tt_sync_block's). */
TT_DEVICE void tt_sync_some(uint32_t id, uint32_t n_threads TT_SITE)
{
#ifdef TT_EMU
	tt_emu_sync_some(id, n_threads TT_AT);
#else
	asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
#endif
}

typedef uint64_t tt_mbarrier; /* in shared memory, 8-byte aligned */

#if TT_HAS_BULK
/* Called by one thread; then the same thread calls tt_mbarrier_init_fence, then all call tt_sync_block. A phase ends
 * when count arrivals have come and all expected bytes have landed. */
TT_DEVICE void tt_mbarrier_init(tt_mbarrier *barrier, uint32_t count TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_init(barrier, count TT_AT);
#else
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(tt_shared_address(barrier)), "r"(count)
		     : "memory");
#endif
}

/* Makes the initialised barrier visible to the asynchronous copies. */
TT_DEVICE void tt_mbarrier_init_fence(void)
{
#ifndef TT_EMU
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

TT_DEVICE void tt_mbarrier_arrive(tt_mbarrier *barrier TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_arrive(barrier, 0 TT_AT);
#else
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(tt_shared_address(barrier)) : "memory");
#endif
}

/* Arrives, and makes the phase also wait for n_bytes of bulk copies. */
TT_DEVICE void tt_mbarrier_arrive_expect(tt_mbarrier *barrier, uint32_t n_bytes TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_arrive(barrier, n_bytes TT_AT);
#else
	asm volatile(
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(tt_shared_address(barrier)), "r"(n_bytes)
		: "memory");
#endif
}

/* Waits until the phase of that parity has ended: 0 for the first, then 1, 0, ... */
TT_DEVICE void tt_mbarrier_wait(tt_mbarrier *barrier, uint32_t parity TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_wait(barrier, parity TT_AT);
#else
	asm volatile("{\n"
		     ".reg .pred done;\n"
		     "again:\n"
		     "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
		     "@!done bra again;\n"
		     "}" ::"r"(tt_shared_address(barrier)),
		     "r"(parity)
		     : "memory");
#endif
}
#endif

#endif
