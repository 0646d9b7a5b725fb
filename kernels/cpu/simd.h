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

#include <immintrin.h>

typedef __m256 v8;

INLINE v8 v8_zero(void)
{
	return _mm256_setzero_ps();
}
INLINE v8 v8_set(float x)
{
	return _mm256_set1_ps(x);
}
INLINE v8 v8_load(const float *p)
{
	return _mm256_loadu_ps(p);
}
INLINE v8 v8_load_bytes(const void *p) /* no alignment at all */
{
	return _mm256_castsi256_ps(_mm256_loadu_si256(p));
}
INLINE void v8_store(float *p, v8 a)
{
	_mm256_storeu_ps(p, a);
}
INLINE v8 v8_add(v8 a, v8 b)
{
	return _mm256_add_ps(a, b);
}
INLINE v8 v8_sub(v8 a, v8 b)
{
	return _mm256_sub_ps(a, b);
}
INLINE v8 v8_mul(v8 a, v8 b)
{
	return _mm256_mul_ps(a, b);
}
INLINE v8 v8_div(v8 a, v8 b)
{
	return _mm256_div_ps(a, b);
}
INLINE v8 v8_fma(v8 a, v8 b, v8 c) /* a * b + c */
{
	return _mm256_fmadd_ps(a, b, c);
}
INLINE v8 v8_max(v8 a, v8 b) /* b when either is NaN */
{
	return _mm256_max_ps(a, b);
}
INLINE v8 v8_min(v8 a, v8 b) /* b when either is NaN */
{
	return _mm256_min_ps(a, b);
}

/* ((l0 + l2) + (l1 + l3)) + ((l4 + l6) + (l5 + l7)): the one order of every sum over lanes. */
INLINE float v8_sum(v8 a)
{
	__m256 pairs = _mm256_add_ps(a, _mm256_permute_ps(a, 0x4e));
	__m256 quads = _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0xb1));
	return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}

/* The sums of four at once, by transposition: 11 operations, not 20. */
INLINE void v8_sum4(const v8 a[4], float *out)
{
	__m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
	__m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
	__m256 low = _mm256_shuffle_ps(ab, cd, 0x44), high = _mm256_shuffle_ps(ab, cd, 0xee);
	__m256 quads = _mm256_add_ps(low, high);
	_mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}

INLINE float v8_first(v8 a)
{
	return _mm256_cvtss_f32(a);
}

INLINE float v8_largest(v8 a)
{
	a = v8_max(a, _mm256_permute2f128_ps(a, a, 1));
	a = v8_max(a, _mm256_permute_ps(a, 0x4e));
	return _mm256_cvtss_f32(v8_max(a, _mm256_permute_ps(a, 0xb1)));
}

/* a * 2^n for whole n, in two steps so that subnormal and infinite results come out right. */
INLINE v8 v8_scale2(v8 a, v8 n)
{
	__m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
	__m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
	__m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
	__m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
	return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}

INLINE v8 v8_from_f16(const void *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
INLINE v8 v8_from_bf16(const void *p)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
INLINE v8 v8_from_i8(const void *p)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}
/* The low and high nibbles of eight bytes, less bias. */
INLINE void v8_from_nibbles(const void *p, int bias, v8 *low, v8 *high)
{
	__m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)), offset = _mm256_set1_epi32(bias);
	__m256i l = _mm256_and_si256(bytes, _mm256_set1_epi32(15)), h = _mm256_srli_epi32(bytes, 4);
	*low = _mm256_cvtepi32_ps(bias ? _mm256_sub_epi32(l, offset) : l);
	*high = _mm256_cvtepi32_ps(bias ? _mm256_sub_epi32(h, offset) : h);
}
/* One half, and two that stand side by side, in all lanes. */
INLINE v8 v8_set_f16(const void *p)
{
	uint16_t half;
	memcpy(&half, p, sizeof half);
	return v8_set(_cvtsh_ss(half));
}
INLINE void v8_set_f16_pair(const void *p, v8 *first, v8 *second)
{
	int32_t halves;
	memcpy(&halves, p, sizeof halves);
	__m128 pair = _mm_cvtph_ps(_mm_cvtsi32_si128(halves));
	*first = _mm256_broadcastss_ps(pair);
	*second = _mm256_broadcastss_ps(_mm_movehdup_ps(pair));
}
INLINE void v8_to_f16(uint16_t *p, v8 a)
{
	_mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#else

typedef struct {
	float lane[LANES];
} v8;

#define EACH_LANE for (int i = 0; i < LANES; i++)

INLINE v8 v8_set(float x)
{
	v8 r;
	EACH_LANE r.lane[i] = x;
	return r;
}
INLINE v8 v8_zero(void)
{
	return v8_set(0);
}
INLINE v8 v8_load(const float *p)
{
	v8 r;
	memcpy(r.lane, p, sizeof r.lane);
	return r;
}
INLINE v8 v8_load_bytes(const void *p)
{
	v8 r;
	memcpy(r.lane, p, sizeof r.lane);
	return r;
}
INLINE void v8_store(float *p, v8 a)
{
	memcpy(p, a.lane, sizeof a.lane);
}
INLINE v8 v8_add(v8 a, v8 b)
{
	EACH_LANE a.lane[i] += b.lane[i];
	return a;
}
INLINE v8 v8_sub(v8 a, v8 b)
{
	EACH_LANE a.lane[i] -= b.lane[i];
	return a;
}
INLINE v8 v8_mul(v8 a, v8 b)
{
	EACH_LANE a.lane[i] *= b.lane[i];
	return a;
}
INLINE v8 v8_div(v8 a, v8 b)
{
	EACH_LANE a.lane[i] /= b.lane[i];
	return a;
}
INLINE v8 v8_fma(v8 a, v8 b, v8 c)
{
	EACH_LANE c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
	return c;
}
INLINE v8 v8_max(v8 a, v8 b)
{
	EACH_LANE b.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
	return b;
}
INLINE v8 v8_min(v8 a, v8 b)
{
	EACH_LANE b.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
	return b;
}
INLINE float v8_sum(v8 a)
{
	const float *l = a.lane;
	return ((l[0] + l[2]) + (l[1] + l[3])) + ((l[4] + l[6]) + (l[5] + l[7]));
}
INLINE void v8_sum4(const v8 a[4], float *out)
{
	for (int i = 0; i < 4; i++)
		out[i] = v8_sum(a[i]);
}
INLINE float v8_first(v8 a)
{
	return a.lane[0];
}
INLINE float v8_largest(v8 a)
{
	float m = a.lane[0];
	EACH_LANE m = m > a.lane[i] ? m : a.lane[i];
	return m;
}
INLINE float lane_power2(int n)
{
	uint32_t bits = (uint32_t)(n + 127) << 23;
	float r;
	memcpy(&r, &bits, sizeof r);
	return r;
}
INLINE v8 v8_scale2(v8 a, v8 n)
{
	EACH_LANE
	{
		int whole = n.lane[i] == n.lane[i] ? (int)n.lane[i] : 0;
		int half = whole >= 0 ? whole / 2 : (whole - 1) / 2; /* rounded down, as an arithmetic shift does */
		a.lane[i] = a.lane[i] * lane_power2(half) * lane_power2(whole - half);
	}
	return a;
}
INLINE float lane_f16(const uint8_t *p)
{
	uint16_t half;
	memcpy(&half, p, sizeof half);
	return tt_f16_to_f32(half);
}
INLINE v8 v8_from_f16(const void *p)
{
	v8 r;
	EACH_LANE r.lane[i] = lane_f16((const uint8_t *)p + 2 * i);
	return r;
}
INLINE v8 v8_from_bf16(const void *p)
{
	v8 r;
	EACH_LANE
	{
		uint16_t brain;
		memcpy(&brain, (const uint8_t *)p + 2 * i, sizeof brain);
		r.lane[i] = tt_bf16_to_f32(brain);
	}
	return r;
}
INLINE v8 v8_from_i8(const void *p)
{
	v8 r;
	EACH_LANE r.lane[i] = (float)((const int8_t *)p)[i];
	return r;
}
INLINE void v8_from_nibbles(const void *p, int bias, v8 *low, v8 *high)
{
	const uint8_t *bytes = p;
	EACH_LANE
	{
		low->lane[i] = (float)((bytes[i] & 15) - bias);
		high->lane[i] = (float)((bytes[i] >> 4) - bias);
	}
}
INLINE v8 v8_set_f16(const void *p)
{
	return v8_set(lane_f16(p));
}
INLINE void v8_set_f16_pair(const void *p, v8 *first, v8 *second)
{
	*first = v8_set(lane_f16(p));
	*second = v8_set(lane_f16((const uint8_t *)p + 2));
}
INLINE void v8_to_f16(uint16_t *p, v8 a)
{
	EACH_LANE p[i] = tt_f32_to_f16(a.lane[i]);
}

#undef EACH_LANE

#endif

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
