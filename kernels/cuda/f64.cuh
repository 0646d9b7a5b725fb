/* Doubles in shared memory and between lanes, for sums that are made once a row or once a prompt, where exactness costs
 * nothing. */
#ifndef KERNELS_CUDA_F64_CUH
#define KERNELS_CUDA_F64_CUH

#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

TT_DEVICE uint2 tt_words_from_f64(double x)
{
#ifdef TT_EMU
	uint64_t bits = tt_emu_bits_from_f64(x);
#else
	uint64_t bits = (uint64_t)__double_as_longlong(x);
#endif
	return make_uint2((uint32_t)bits, (uint32_t)(bits >> 32));
}

TT_DEVICE double tt_f64_from_words(uint2 words)
{
	uint64_t bits = (uint64_t)words.y << 32 | words.x;
#ifdef TT_EMU
	return tt_emu_f64_from_bits(bits);
#else
	return __longlong_as_double((long long)bits);
#endif
}

TT_DEVICE double tt_load_f64(const double *p, enum tt_traffic kind TT_SITE)
{
	return tt_f64_from_words(tt_load_8(p, kind TT_PASS));
}

TT_DEVICE void tt_store_f64(double *p, double v, enum tt_traffic kind TT_SITE)
{
	tt_store_8(p, tt_words_from_f64(v), kind TT_PASS);
}

TT_DEVICE double tt_shared_load_f64(const double *p TT_SITE)
{
	return tt_f64_from_words(tt_shared_load_8(p TT_PASS));
}

TT_DEVICE void tt_shared_store_f64(double *p, double v TT_SITE)
{
	tt_shared_store_8(p, tt_words_from_f64(v) TT_PASS);
}

TT_DEVICE double tt_shuffle_f64(double v, uint32_t lane TT_SITE)
{
	uint2 words = tt_words_from_f64(v);
	uint32_t low = tt_shuffle(words.x, lane TT_PASS), high = tt_shuffle(words.y, lane TT_PASS);
	return tt_f64_from_words(make_uint2(low, high));
}

/* The sum over width contiguous lanes (a power of two), in one order; every lane gets the result. */
TT_DEVICE double tt_warp_sum_f64(double v, uint32_t width TT_SITE)
{
	for (uint32_t lanes = width / 2; lanes; lanes /= 2) {
		uint2 words = tt_words_from_f64(v);
		uint32_t low = tt_shuffle_xor(words.x, lanes TT_PASS), high = tt_shuffle_xor(words.y, lanes TT_PASS);
		v += tt_f64_from_words(make_uint2(low, high));
	}
	return v;
}

#endif
