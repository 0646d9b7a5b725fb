/* The norm that costs no pass: a kernel that writes h also writes bf16(h * gamma) and sums of squares; a kernel that
 * reads them scales by the row. */
#ifndef KERNELS_CUDA_NORM_CUH
#define KERNELS_CUDA_NORM_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/warp.cuh"

/* The sum of a row's tiles, by one warp: lane i adds tiles i, i + 32, ... ascending, then the lanes are added by
 * tt_warp_sum's tree. */
TT_DEVICE float norm_sum_tiles(const float *squares, uint32_t n_tiles, enum tt_traffic kind)
{
	float sum = 0;
	for (uint32_t i = tt_lane(); i < n_tiles; i += TT_WARP)
		sum += tt_load_f32(squares + i, kind);
	return tt_warp_sum(sum, TT_WARP);
}

TT_DEVICE float norm_inverse_rms(const float *squares, uint32_t n_tiles, uint32_t hidden, float eps)
{
	return tt_rsqrt(tt_div(norm_sum_tiles(squares, n_tiles, TT_TRAFFIC_ACTIVATION), (float)hidden) + eps);
}

/* The sum of squares of a norm tile, which 4 contiguous lanes hold, 4 columns each; every lane gets the sum. */
TT_DEVICE float norm_tile_squares(float4 h)
{
	float sum = h.x * h.x;
	sum = fmaf(h.y, h.y, sum);
	sum = fmaf(h.z, h.z, sum);
	sum = fmaf(h.w, h.w, sum);
	return tt_warp_sum(sum, 4);
}

/* Stores bf16(h * gamma) of four columns. */
TT_DEVICE void norm_store_x(tt_bf16 *x, float4 h, float4 gamma)
{
	tt_store_8(x,
		make_uint2(tt_bf16x2_from_f32(h.x * gamma.x, h.y * gamma.y),
			tt_bf16x2_from_f32(h.z * gamma.z, h.w * gamma.w)),
		TT_TRAFFIC_ACTIVATION);
}

#endif
