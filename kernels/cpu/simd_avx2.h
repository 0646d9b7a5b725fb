/* Eight lanes in AVX2 registers, with FMA and F16C. Included by simd.h. */
#ifndef KERNELS_CPU_SIMD_AVX2_H
#define KERNELS_CPU_SIMD_AVX2_H

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

/* Four sums at once, by transposition: 11 operations, not 20. */
INLINE void v8_sum4(const v8 a[4], float *out)
{
	__m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
	__m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
	__m256 low = _mm256_shuffle_ps(ab, cd, 0x44), high = _mm256_shuffle_ps(ab, cd, 0xee);
	__m256 quads = _mm256_add_ps(low, high);
	_mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}

/* 16 values in two registers: the even ones to a, the odd ones to b. */
INLINE void v8_part_pairs(v8 *a, v8 *b)
{
	__m256i order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
	__m256 even = _mm256_shuffle_ps(*a, *b, 0x88), odd = _mm256_shuffle_ps(*a, *b, 0xdd);
	*a = _mm256_permutevar8x32_ps(even, order);
	*b = _mm256_permutevar8x32_ps(odd, order);
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
/* The low and high nibbles of eight bytes, minus bias. */
INLINE void v8_from_nibbles(const void *p, int bias, v8 *low, v8 *high)
{
	__m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)), offset = _mm256_set1_epi32(bias);
	__m256i l = _mm256_and_si256(bytes, _mm256_set1_epi32(15)), h = _mm256_srli_epi32(bytes, 4);
	*low = _mm256_cvtepi32_ps(bias ? _mm256_sub_epi32(l, offset) : l);
	*high = _mm256_cvtepi32_ps(bias ? _mm256_sub_epi32(h, offset) : h);
}
/* (byte >> shift) & mask of eight bytes. */
INLINE v8 v8_from_fields(const void *p, int shift, int mask)
{
	__m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
	bytes = _mm256_srl_epi32(bytes, _mm_cvtsi32_si128(shift));
	return _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(mask)));
}
/* Lane i is x where bit i is set, else 0. */
INLINE v8 v8_where_bits(uint32_t bits, float x)
{
	__m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	__m256i found = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int32_t)bits), lane), lane);
	return _mm256_and_ps(_mm256_castsi256_ps(found), v8_set(x));
}
/* Looks the low and high nibbles of eight bytes up in a table of 16. */
INLINE void v8_from_table(const int8_t *table, const void *p, v8 *low, v8 *high)
{
	__m128i values = _mm_loadu_si128((const __m128i *)(const void *)table), bytes = _mm_loadl_epi64(p);
	__m128i mask = _mm_set1_epi8(15);
	__m128i l = _mm_and_si128(bytes, mask), h = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
	*low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_shuffle_epi8(values, l)));
	*high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_shuffle_epi8(values, h)));
}
/* One half in all lanes, and two adjacent halves, each in all lanes of its own vector. */
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

#endif
