/* Eight f32 lanes, as AVX2 registers or as plain C: the same operations, each rounded once, so that both bodies give
 * the same bits. Only for the sources that are compiled once for each body (*.inc). */
#ifndef KERNELS_CPU_SIMD_H
#define KERNELS_CPU_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "weights/quant.h"

/* Tiles stay in registers only when everything below them is inlined with its constants. */
#define INLINE static inline __attribute__((always_inline, unused))

enum { LANES = 8 };

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/cpu/simd_avx2.h"
#define FEW_ROWS 2 /* of tokens, whose products unpack weights in registers; product.inc */
#else
#include "kernels/cpu/simd_portable.h"
#define FEW_ROWS 0
#endif

/* What the CUDA kernels store as bf16: rounded in body_bf16.c alone. */
INLINE v8 v8_keep(v8 x)
{
#ifdef TT_CPU_BF16
	float lanes[LANES];
	v8_store(lanes, x);
	for (int i = 0; i < LANES; i++)
		lanes[i] = tt_bf16_to_f32(tt_f32_to_bf16(lanes[i]));
	x = v8_load(lanes);
#endif
	return x;
}

/* e^x within 2 units in the last place; 0 below -104, infinite above 88.73, NaN for NaN. Cody-Waite reduction to
 * |r| <= ln(2) / 2, then the Taylor terms up to r^7 (the next is below 2^-31 of the sum). */
INLINE v8 v8_exp(v8 x)
{
	const v8 round = v8_set(0x1.8p23f); /* adding it leaves a whole number in the low bits */
	x = v8_min(v8_set(89.0f), v8_max(v8_set(-104.0f), x));
	v8 n = v8_sub(v8_fma(x, v8_set(0x1.715476p+0f), round), round);
	v8 r = v8_fma(n, v8_set(-0x1.62e4p-1f), x); /* 15 bits of ln 2: n * them is exact */
	r = v8_fma(n, v8_set(-0x1.7f7d1cp-20f), r);
	v8 p = v8_set(0x1.a01a02p-13f);
	p = v8_fma(p, r, v8_set(0x1.6c16c2p-10f));
	p = v8_fma(p, r, v8_set(0x1.111112p-7f));
	p = v8_fma(p, r, v8_set(0x1.555556p-5f));
	p = v8_fma(p, r, v8_set(0x1.555556p-3f));
	p = v8_fma(p, r, v8_set(0.5f));
	p = v8_fma(p, r, v8_set(1.0f));
	p = v8_fma(p, r, v8_set(1.0f));
	return v8_scale2(p, n);
}

#endif
