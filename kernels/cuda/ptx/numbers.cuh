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

/* Exact. */
TT_DEVICE float tt_f32_from_f16(uint16_t half)
{
#ifdef TT_EMU
	uint32_t magnitude = half & 0x7fffu, sign = (uint32_t)(half & 0x8000u) << 16;
	if (magnitude >= 0x7c00) /* infinite or NaN */
		return tt_emu_f32_from_bits(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
	/* the exponent is too small by 112, whether the number is normal or not */
	float x = tt_emu_f32_from_bits(magnitude << 13) * 0x1p112f;
	return tt_emu_f32_from_bits(sign | tt_emu_bits_from_f32(x));
#else
	float x;
	asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
	return x;
#endif
}

/* Four of the eight bytes of low and high: nibble i of the selector (0 to 7) names byte i of the result. */
TT_DEVICE uint32_t tt_permute(uint32_t low, uint32_t high, uint32_t selector)
{
#ifdef TT_EMU
	uint64_t both = (uint64_t)high << 32 | low;
	uint32_t bytes = 0;
	for (uint32_t i = 0; i < 4; i++)
		bytes |= (uint32_t)(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
	return bytes;
#else
	uint32_t bytes;
	asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(selector));
	return bytes;
#endif
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

#ifdef TT_EMU
/* The product of two bf16, rounded once: it is exact in double, and where f32 loses anything of it, cut off with the
 * lowest bit set it is on the same side of every tie. */
TT_DEVICE uint16_t tt_bf16_product(uint32_t a, uint32_t b)
{
	double exact = (double)tt_emu_f32_from_bits(a << 16) * (double)tt_emu_f32_from_bits(b << 16);
	float nearest = (float)exact;
	if (exact == exact && (double)nearest != exact) {
		uint32_t bits = tt_emu_bits_from_f32(nearest);
		bits -= exact < 0 ? (double)nearest < exact : (double)nearest > exact;
		nearest = tt_emu_f32_from_bits(bits | 1);
	}
	return tt_emu_bf16(nearest);
}
#endif

/* The products of the lower halves and of the upper ones, rounded to nearest, ties to even; NaN is 0x7fff. (mul is from
 * sm_90 on; with -0 added a sum is the product, of either sign.) */
TT_DEVICE uint32_t tt_mul_bf16x2(uint32_t a, uint32_t b)
{
#ifdef TT_EMU
	return tt_bf16_product(a & 0xffff, b & 0xffff) | (uint32_t)tt_bf16_product(a >> 16, b >> 16) << 16;
#else
	uint32_t pair;
	asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(a), "r"(b), "r"(0x80008000u));
	return pair;
#endif
}

#endif
