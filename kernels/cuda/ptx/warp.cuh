/* The lanes of a warp: their numbers, and moving values from one to another. */
#ifndef KERNELS_CUDA_PTX_WARP_CUH
#define KERNELS_CUDA_PTX_WARP_CUH

#include "kernels/cuda/ptx/numbers.cuh"

/* blockDim.y and z are 1 in this project. */
TT_DEVICE uint32_t tt_lane(void)
{
	return threadIdx.x % TT_WARP;
}

TT_DEVICE uint32_t tt_warp(void)
{
	return threadIdx.x / TT_WARP;
}

TT_DEVICE uint32_t tt_shuffle_xor(uint32_t v, uint32_t lanes TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_shuffle(TT_EMU_XOR, v, lanes TT_AT);
#else
	return __shfl_xor_sync(0xffffffffu, v, (int)lanes);
#endif
}

/* The value of lane % 32. */
TT_DEVICE uint32_t tt_shuffle(uint32_t v, uint32_t lane TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_shuffle(TT_EMU_INDEX, v, lane TT_AT);
#else
	return __shfl_sync(0xffffffffu, v, (int)lane);
#endif
}

/* A bit for each lane where the predicate holds. */
TT_DEVICE uint32_t tt_ballot(bool predicate TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_ballot(predicate TT_AT);
#else
	return __ballot_sync(0xffffffffu, predicate);
#endif
}

TT_DEVICE float tt_shuffle_xor_f32(float v, uint32_t lanes TT_SITE)
{
	return tt_f32_from_bits(tt_shuffle_xor(tt_bits_from_f32(v), lanes TT_PASS));
}

/* The sum over width contiguous lanes (a power of two), in one order; every lane gets the result. */
TT_DEVICE float tt_warp_sum(float v, uint32_t width TT_SITE)
{
	for (uint32_t lanes = width / 2; lanes; lanes /= 2)
		v += tt_shuffle_xor_f32(v, lanes TT_PASS);
	return v;
}

TT_DEVICE float tt_warp_max(float v, uint32_t width TT_SITE)
{
	for (uint32_t lanes = width / 2; lanes; lanes /= 2) {
		float other = tt_shuffle_xor_f32(v, lanes TT_PASS);
		v = other > v ? other : v;
	}
	return v;
}

#endif
