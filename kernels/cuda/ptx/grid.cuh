/* Between blocks of a kernel and between kernels. */
#ifndef KERNELS_CUDA_PTX_GRID_CUH
#define KERNELS_CUDA_PTX_GRID_CUH

#include "kernels/cuda/ptx/common.cuh"

/* Counts this block in and tells whether it is the last of n_blocks; the counter is then 0 again, for the next step.
 * One thread calls it behind a tt_sync_block that follows the block's stores, and hands the answer to the others through
 * shared memory and another tt_sync_block; in the last block all other blocks' stores are then visible. */
TT_DEVICE bool tt_arrive_last(uint32_t *counter, uint32_t n_blocks TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_arrive(counter, n_blocks TT_AT) == n_blocks - 1;
#else
	uint32_t before;
	__threadfence();
	asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
		     : "=r"(before)
		     : "l"(__cvta_generic_to_global(counter)), "r"(n_blocks - 1)
		     : "memory");
	__threadfence();
	return before == n_blocks - 1;
#endif
}

/* Programmatic dependent launch; nothing below sm_90. A dependent kernel may start while earlier ones still run: before
 * tt_grid_wait it reads weights and nothing else, and writes nothing. At least one thread of every block waits, even of a
 * block without work, since a kernel's wait covers only its predecessor; a thread that has not waited is ordered by a
 * barrier with one that has. */
TT_DEVICE void tt_grid_wait(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_grid_wait(TT_AT_ONLY);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets the next kernel start its part before the wait. Stores behind it are still seen by the dependent, whose wait is for
 * the end of this kernel; so it may stand first. */
TT_DEVICE void tt_grid_launch_dependents(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_grid_launch_dependents();
	(void)file, (void)line;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif
