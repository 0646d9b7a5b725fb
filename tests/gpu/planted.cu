/* Faults for scripts/gpu/check_sass.sh to find: a kernel that spills, a product that computes without tensor cores and
 * loads four bytes at a time, and one that does much beside each HMMA. */
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/ptx/async.cuh"
#include "kernels/cuda/ptx/mma.cuh"

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

struct planted_op {
	const tt_bf16 *w;
	float *y;
	uint32_t n, stride;
};

template <typename op, int row_tiles, int stages> __global__ void product_wide(op a)
{
	TT_DYNAMIC_SHARED(shared);
	float d[4] = {};
	for (uint32_t k = 0; k < a.n; k++) {
		unsigned char *at = shared + (k * a.stride % stages * 32 + threadIdx.x) * 16;
		tt_copy_async_or_zero(at, a.w + (k * a.stride % a.n + threadIdx.x) * 8, true, TT_TRAFFIC_WEIGHT);
		tt_copy_async_commit();
		tt_copy_async_wait<0>();
		uint4 v = tt_shared_load_16(at);
		const uint32_t w[4] = {v.x, v.y, v.z, v.w}, x[2] = {v.x, v.z};
		tt_mma(d, w, x);
	}
	a.y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}
template __global__ void product_wide<planted_op, 8, 4>(planted_op a);
