/* Eight f32 lanes, as AVX2 registers or as plain C: the same operations, each rounded once, so that all bodies give
 * the same bits. And vw, the lanes of as many outputs as one register holds: two with AVX-512, else one. Only for the sources
 * that are compiled once for each body (*.inc). */
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

/* FEW_ROWS: of tokens, whose products unpack weights in registers. ROW_TILE and VALUE_ROWS: in a register tile, at most, of
 * product.inc and attention.inc. */
#ifdef TT_CPU_AVX512
#include "kernels/cpu/simd_avx512.h"
#define FEW_ROWS 2
#define ROW_TILE 9
#define VALUE_ROWS 6
#define WIDE 2
#else
#ifdef TT_CPU_AVX2
#include "kernels/cpu/simd_avx2.h"
#define FEW_ROWS 2
#else
#include "kernels/cpu/simd_portable.h"
#define FEW_ROWS 0
#endif
#define VALUE_ROWS 3
#define ROW_TILE 3 /* with four outputs: 12 sums, 3 rows, 1 weight of 16 registers */
#define WIDE 1

/* d * (nibble - bias) + m of the low nibbles of eight bytes and of the high ones. */
INLINE void v8_affine_nibbles(const void *p, int bias, v8 d, v8 m, v8 *low, v8 *high)
{
	v8_from_nibbles(p, bias, low, high);
	*low = v8_fma(d, *low, m);
	*high = v8_fma(d, *high, m);
}

typedef v8 vw;

INLINE vw vw_zero(void)
{
	return v8_zero();
}
INLINE vw vw_set(float x)
{
	return v8_set(x);
}
INLINE vw vw_load(const float *p)
{
	return v8_load(p);
}
INLINE void vw_store(float *p, vw a)
{
	v8_store(p, a);
}
INLINE vw vw_load_rows(const float *p, size_t stride)
{
	(void)stride;
	return v8_load(p);
}
INLINE vw vw_each(const float *p)
{
	return v8_load(p);
}
INLINE vw vw_fma(vw a, vw b, vw c)
{
	return v8_fma(a, b, c);
}
INLINE void vw_sum4(const vw a[4], float *out)
{
	v8_sum4(a, out);
}
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
