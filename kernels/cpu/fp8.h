/* Numbers of eight bits for KV pages: a sign, four bits of exponent, three of mantissa (E4M3 of the Open Compute
 * Project: no infinities, NaN is all ones but the sign, the largest is 448). */
#ifndef KERNELS_CPU_FP8_H
#define KERNELS_CPU_FP8_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "weights/quant.h"

/* A half with the same bits, but for four more of mantissa and one of exponent, is a 256th of the number. */
static inline float tt_fp8_to_f32(uint8_t bits)
{
	uint16_t half = (uint16_t)(((bits & 0x7f) << 7) | ((bits & 0x80) << 8));
	return (bits & 0x7f) == 0x7f ? NAN : tt_f16_to_f32(half) * 256;
}

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

#endif
