/* v8: eight f32 lanes, as an AVX2 register, two of NEON's or plain C. The operations are the same and each rounds once,
 * so that all bodies give the same bits. vw: the lanes of as many outputs as one register holds, which is two with
 * AVX-512 and else one. Only for the sources that are compiled once for each body (*.inc). */
#ifndef KERNELS_CPU_SIMD_H
#define KERNELS_CPU_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/body.h"
#include "kernels/cpu/fp8.h"
#include "kernels/cpu/stream.h"
#include "weights/quant.h"

/* Tiles stay in registers only when everything that they call is inlined with its constants. */
#define INLINE static inline __attribute__((always_inline, unused))

enum { LANES = 8 };

#ifdef TT_CPU_AVX2
#include "kernels/cpu/simd_avx2.inc"
#elif defined(TT_CPU_NEON)
#include "kernels/cpu/simd_neon.inc"
#else
#include "kernels/cpu/simd_portable.inc"
#endif

/* The first n < 8 elements, then zeros. */
INLINE v8 v8_load_part(const float *p, size_t n)
{
	float padded[LANES] = {0};
	memcpy(padded, p, n * sizeof *p);
	return v8_load(padded);
}

INLINE void v8_store_part(float *p, v8 a, size_t n)
{
	float padded[LANES];
	v8_store(padded, a);
	memcpy(p, padded, n * sizeof *p);
}

/* FEW_ROWS: the most token rows whose products unpack weights in registers. ROW_TILE and VALUE_ROWS: the most rows of a
 * register tile, in product.inc and in attention.inc. WIDE: groups of eight lanes in a vw. */
#ifdef TT_CPU_AVX512
#include "kernels/cpu/simd_avx512.inc"
#define FEW_ROWS 6
#define ROW_TILE 6 /* with eight outputs: 24 sums, 4 weights and 1 row, of 32 registers */
#define VALUE_ROWS 6
#define WIDE 2
#else
#if defined(TT_CPU_AVX2) || defined(TT_CPU_NEON)
#define FEW_ROWS 2
#else
#define FEW_ROWS 0
#endif
#define ROW_TILE 3 /* with four outputs: 12 sums, 3 rows and 1 weight, of 16 registers, or twice as many of NEON's */
#define VALUE_ROWS 3
#define WIDE 1

typedef v8 vw;
#define vw_zero v8_zero
#define vw_set v8_set
#define vw_load v8_load
#define vw_load_rows(p, stride) ((void)(stride), v8_load(p))
#define vw_load_rows_f16(p, stride) ((void)(stride), v8_from_f16(p))
#define vw_load_f16 v8_from_f16
#define vw_load_part v8_load_part
#define vw_each v8_load
#define vw_store v8_store
#define vw_store_part v8_store_part
#define vw_low(a) (a)
#define vw_add v8_add
#define vw_sub v8_sub
#define vw_mul v8_mul
#define vw_div v8_div
#define vw_fma v8_fma
#define vw_max v8_max
#define vw_min v8_min
#define vw_scale2 v8_scale2
#define vw_fold_add v8_add
#define vw_fold_max v8_max

INLINE void vw_sum_rows(vw sum[][4], uint32_t n_rows, float *y, size_t y_stride)
{
#pragma GCC unroll 8
	for (uint32_t r = 0; r < n_rows; r++)
		v8_sum4(sum[r], y + r * y_stride);
}
#endif

/* A register tile of the product: rows by outputs. */
enum { TILE_VECTORS = 4, OUT_TILE = TILE_VECTORS * WIDE };
_Static_assert(TT_CPU_OUT_TILE % OUT_TILE == 0, "jobs are whole tiles of outputs");

/* Where output i of a panel for tile() begins, in floats. Each output has n of them; its next vector is WIDE vectors
 * further on. */
INLINE size_t packed_at(size_t i, size_t n)
{
	return (i / OUT_TILE * OUT_TILE + i % TILE_VECTORS * WIDE) * n + i % OUT_TILE / TILE_VECTORS * LANES;
}

/* Rounds to bf16, where the CUDA kernels store bf16, in body_bf16.c only. */
INLINE vw vw_keep(vw x)
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
INLINE vw vw_exp(vw x)
{
	const vw round = vw_set(0x1.8p23f); /* adding it leaves a whole number in the low bits */
	x = vw_min(vw_set(89.0f), vw_max(vw_set(-104.0f), x));
	vw n = vw_sub(vw_fma(x, vw_set(0x1.715476p+0f), round), round);
	vw r = vw_fma(n, vw_set(-0x1.62e4p-1f), x); /* 15 bits of ln 2: n * them is exact */
	r = vw_fma(n, vw_set(-0x1.7f7d1cp-20f), r);
	vw p = vw_set(0x1.a01a02p-13f);
	p = vw_fma(p, r, vw_set(0x1.6c16c2p-10f));
	p = vw_fma(p, r, vw_set(0x1.111112p-7f));
	p = vw_fma(p, r, vw_set(0x1.555556p-5f));
	p = vw_fma(p, r, vw_set(0x1.555556p-3f));
	p = vw_fma(p, r, vw_set(0.5f));
	p = vw_fma(p, r, vw_set(1.0f));
	p = vw_fma(p, r, vw_set(1.0f));
	return vw_scale2(p, n);
}

#endif
