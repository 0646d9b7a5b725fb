/* Asynchronous copies, sm_80: 16 bytes from global to shared memory without a register. A thread's copies have landed
 * after its own wait; other threads see them after the barrier that follows it. */
#ifndef KERNELS_CUDA_PTX_ASYNC_CUH
#define KERNELS_CUDA_PTX_ASYNC_CUH

#include "kernels/cuda/ptx/shared.cuh"

/* Copies 16 bytes, or stores 16 zero bytes where valid is false; then nothing is read, but global must still be a valid
 * pointer. */
TT_DEVICE void tt_copy_async_or_zero(void *shared, const void *global, bool valid, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_copy_async(shared, global, valid, kind TT_AT);
#else
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(tt_shared_address(shared)),
		     "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
		     : "memory");
#endif
}

/* Closes the thread's group. An empty group counts too, so that the end of a loop needs no other wait. */
TT_DEVICE void tt_copy_async_commit(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_copy_async_commit();
	(void)file, (void)line;
#else
	asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits until at most pending of the thread's newest groups are still under way. */
template <int pending> TT_DEVICE void tt_copy_async_wait(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_copy_async_wait(pending TT_AT);
#else
	asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

#endif
