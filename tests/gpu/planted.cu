/* Faults for scripts/gpu/check_sass.sh to find: a kernel that spills, and a product that computes without tensor cores
 * and loads four bytes at a time. */
#include <cuda_runtime.h>
#include <stdint.h>

enum { LIVE = 200 };

/* All of LIVE values are alive at once, and 1024 threads a block leave 64 registers each. */
__global__ void __launch_bounds__(1024) planted_spill(volatile float *x)
{
	float v[LIVE];
#pragma unroll
	for (uint32_t i = 0; i < LIVE; i++)
		v[i] = x[i * 1024 + threadIdx.x];
#pragma unroll
	for (uint32_t i = 0; i < LIVE; i++)
		x[i * 1024 + threadIdx.x] = v[LIVE - 1 - i] * v[(i + LIVE / 2) % LIVE];
}

__global__ void product_wide_planted(float *y, const float *w, const float *x, uint32_t n_in)
{
	float sum = 0;
	for (uint32_t k = 0; k < n_in; k++)
		sum += w[(size_t)threadIdx.x * n_in + k] * x[k];
	y[threadIdx.x] = sum;
}
