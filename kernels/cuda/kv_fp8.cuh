/* Rows of keys and values in eight bits, with the bits of kernels/cpu/fp8.h: a code a number, and for each row of a
 * head a power of two, as bf16, that the codes are multiples of. A code times its scale is exact in bf16. */
#ifndef KERNELS_CUDA_KV_FP8_CUH
#define KERNELS_CUDA_KV_FP8_CUH

#include "kernels/cuda/ptx/numbers.cuh"

enum { FP8_NAN_SCALE = 0x7fff, FP8_SHIFT = 120 };

/* The scale's bits. most: those of the row's largest magnitude. */
TT_DEVICE uint32_t fp8_scale(uint32_t most)
{
	uint32_t exponent = (most >> 23) + ((most & 0x7fffff) > 0x600000);
	if (most >= 0x7f800000)
		return FP8_NAN_SCALE;
	exponent = exponent < 16 ? 8 : exponent - 8;
	return (exponent > 134 ? 134 : exponent) << 7;
}

/* 1 / scale; 0 where it is NaN, and then every code is to be 0. */
TT_DEVICE float fp8_inverse(uint32_t scale)
{
	return scale == FP8_NAN_SCALE ? 0 : tt_f32_from_bits((254 - (scale >> 7)) << 23);
}

/* The code of a number, which is not NaN. */
TT_DEVICE uint32_t fp8_code(float x)
{
	uint32_t bits = tt_bits_from_f32(x), magnitude = bits & 0x7fffffff;
	uint32_t whole = tt_bits_from_f32(tt_f32_from_bits(magnitude) * 512 + 0x1p23f) & 15; /* multiples of 2^-9 */
	uint32_t code = ((magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20) - (FP8_SHIFT << 3);
	code = code > 0x7e ? 0x7e : code;
	return (magnitude < 0x3c800000 ? whole : code) | (bits >> 24 & 0x80);
}

/* Four codes, the first in the lowest byte. */
TT_DEVICE uint32_t fp8_codes(float4 v, float inverse)
{
	return fp8_code(v.x * inverse) | fp8_code(v.y * inverse) << 8 | fp8_code(v.z * inverse) << 16 |
	       fp8_code(v.w * inverse) << 24;
}

/* What fp8_pair multiplies by, in both halves. As bf16 a code's bits are 2^-120 of its number: the exponents' biases
 * are 127 and 7. */
TT_DEVICE uint32_t fp8_unit(uint32_t scale)
{
	uint32_t unit = scale == FP8_NAN_SCALE ? scale : scale + (FP8_SHIFT << 7);
	return unit | unit << 16;
}

/* Codes 0 and 1 of four (upper false) or 2 and 3, as bf16. */
TT_DEVICE uint32_t fp8_pair(uint32_t codes, bool upper, uint32_t unit)
{
	uint32_t raised = tt_permute(codes, 0, upper ? 0x3424 : 0x1404); /* each in the upper byte of its half */
	return tt_mul_bf16x2((raised >> 4 & 0x07f007f0) | (raised & 0x80008000), unit);
}

#endif
