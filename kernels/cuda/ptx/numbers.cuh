/* The bits of numbers, and bf16. */
#ifndef KERNELS_CUDA_PTX_NUMBERS_CUH
#define KERNELS_CUDA_PTX_NUMBERS_CUH

#include "kernels/cuda/ptx/common.cuh"

TT_DEVICE float tt_f32_from_bits(uint32_t bits)
{
#ifdef TT_EMU
	return tt_emu_f32_from_bits(bits);
#else
	return __uint_as_float(bits);
#endif
}

TT_DEVICE uint32_t tt_bits_from_f32(float x)
{
#ifdef TT_EMU
	return tt_emu_bits_from_f32(x);
#else
	return __float_as_uint(x);
#endif
}

/* The two halves of a packed pair: the lower address is in the lower bits. */
TT_DEVICE float tt_bf16x2_low(uint32_t pair)
{
	return tt_f32_from_bits(pair << 16);
}

TT_DEVICE float tt_bf16x2_high(uint32_t pair)
{
	return tt_f32_from_bits(pair & 0xffff0000u);
}

/* Rounded to nearest, ties to even; every NaN becomes 0x7fff, as cvt does it. */
TT_DEVICE uint32_t tt_bf16x2_from_f32(float low, float high)
{
#ifdef TT_EMU
	return (uint32_t)tt_emu_bf16(low) | (uint32_t)tt_emu_bf16(high) << 16;
#else
	uint32_t pair;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
	return pair;
#endif
}

#endif
