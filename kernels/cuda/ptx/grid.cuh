/* Synchronisation between blocks of a kernel, of a cluster, and between kernels. */
#ifndef KERNELS_CUDA_PTX_GRID_CUH
#define KERNELS_CUDA_PTX_GRID_CUH

#include "kernels/cuda/ptx/shared.cuh"

/* Counts this block as arrived and returns whether it is the last of n_blocks; then the counter is 0 again, for the
 * next step. One thread calls it after a tt_sync_block that follows the block's stores, and hands the result to the
 * other threads through shared memory and another tt_sync_block. In the last block, all other blocks' stores are then
 * visible. */
TT_DEVICE bool tt_arrive_last(uint32_t *counter, uint32_t n_blocks TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_arrive(counter, n_blocks TT_AT) == n_blocks - 1;
#else
	uint32_t before;
	asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
		     : "=r"(before)
		     : "l"(__cvta_generic_to_global(counter)), "r"(n_blocks - 1)
		     : "memory");
	return before == n_blocks - 1;
#endif
}

/* Programmatic dependent launch; does nothing below sm_90. A dependent kernel may start while earlier ones still run:
 * before tt_grid_wait it reads only weights, and writes nothing. At least one thread of every block must wait, even in
 * a block without work, because a kernel's wait covers only its predecessor. A thread that has not waited is ordered by
 * a barrier with one that has. */
TT_DEVICE void tt_grid_wait(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_grid_wait(TT_AT_ONLY);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets the next kernel start its part before the wait. Stores after this call are still seen by the dependent kernel,
 * whose wait is for the end of this one; so the call may be the first statement. */
TT_DEVICE void tt_grid_launch_dependents(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_grid_launch_dependents();
	(void)file, (void)line;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#if TT_HAS_CLUSTERS
/* Every thread of every block of the cluster must reach it; it orders their memory among them. The blocks of a cluster
 * are next to each other in x. Before the first, no block reads another's shared memory, which may not have begun; a
 * block that others read ends after one. */
TT_DEVICE void tt_sync_cluster(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_sync_cluster(TT_AT_ONLY);
#else
	__syncwarp(); /* .aligned wants whole warps, which loops of other lengths may have parted */
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* From the place of p in the shared memory of the cluster's block rank. */
TT_DEVICE uint4 tt_cluster_load_16(const void *p, uint32_t rank TT_SITE)
{
	uint4 v;
#ifdef TT_EMU
	tt_emu_cluster_load(&v, p, rank, sizeof v TT_AT);
#else
	uint32_t at;
	asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(tt_shared_address(p)), "r"(rank));
	asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "r"(at)
		     : "memory");
#endif
	return v;
}
#endif

#endif
