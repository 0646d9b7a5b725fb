/* What the backend asks a device before it launches clusters (kernels/cuda/backend.c). */
#ifndef TESTS_EMU_CLUSTERS_H
#define TESTS_EMU_CLUSTERS_H

#include <criterion/criterion.h>
#include <cuda_runtime.h>

static inline bool device_has_clusters(void)
{
	int has = 0, major = 0;
	cr_assert_eq(cudaDeviceGetAttribute(&has, cudaDevAttrClusterLaunch, 0), cudaSuccess);
	cr_assert_eq(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
	return has && major == 9;
}

#endif
