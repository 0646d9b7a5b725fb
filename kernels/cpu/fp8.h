/* Numbers of eight bits for KV pages, those of tt_fp8_to_f32, a row of a head with a scale. Scales are powers of two,
 * as bf16: they move a row into the range and add no rounding of their own, so that a number times its scale is exact
 * in bf16. */
#ifndef KERNELS_CPU_FP8_H
#define KERNELS_CPU_FP8_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "weights/quant.h"

/* To nearest, ties to even; what is larger than 448 becomes that. */
static inline uint8_t tt_f32_to_fp8(float x)
{
	uint32_t bits, magnitude, code;
	memcpy(&bits, &x, sizeof bits);
	magnitude = bits & 0x7fffffff;
	if (magnitude > 0x7f800000)
		code = 0x7f;
	else if (magnitude < 0x3c800000) { /* 2^-6: below it whole multiples of 2^-9 */
		float shifted = fabsf(x) * 512 + 0x1p23f;
		memcpy(&code, &shifted, sizeof code);
		code &= 15;
	} else {
		code = (magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20; /* exponent and three bits of mantissa */
		code -= (127 - 7) << 3;
		code = code > 0x7e ? 0x7e : code;
	}
	return (uint8_t)(code | (bits >> 24 & 0x80));
}

/* The scale of a row whose largest magnitude is most: the least of 2^-119 to 2^7 by which no number is beyond 448 (a
 * larger number becomes that). NaN where one is not finite: then none of the row is a number. */
static inline uint16_t tt_fp8_scale(float most)
{
	uint32_t bits, exponent;
	memcpy(&bits, &most, sizeof bits);
	bits &= 0x7fffffff;
	if (bits >= 0x7f800000)
		return 0x7fff;
	exponent = (bits >> 23) + ((bits & 0x7fffff) > 0x600000); /* 448 is 1.75 * 2^8 */
	exponent = exponent < 16 ? 8 : exponent - 8;
	return (uint16_t)((exponent > 134 ? 134 : exponent) << 7);
}

/* 1 / scale. */
static inline float tt_fp8_inverse(uint16_t scale)
{
	uint32_t bits = (uint32_t)(254 - (scale >> 7)) << 23;
	float inverse;
	memcpy(&inverse, &bits, sizeof inverse);
	return scale == 0x7fff ? 0 : inverse;
}

#endif
