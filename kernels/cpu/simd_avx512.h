/* What AVX-512 adds to AVX2's eight lanes: 32 registers, two groups of eight lanes in each, and tables of 16 that one
 * instruction reads. Included by simd.h after simd_avx2.h. */
#ifndef KERNELS_CPU_SIMD_AVX512_H
#define KERNELS_CPU_SIMD_AVX512_H

typedef __m512 vw; /* eight lanes of each of two outputs, or 16 contiguous values */
#define vw_zero _mm512_setzero_ps
#define vw_set _mm512_set1_ps
#define vw_load _mm512_loadu_ps
#define vw_store _mm512_storeu_ps
#define vw_add _mm512_add_ps
#define vw_sub _mm512_sub_ps
#define vw_mul _mm512_mul_ps
#define vw_div _mm512_div_ps
#define vw_fma _mm512_fmadd_ps
#define vw_max _mm512_max_ps
#define vw_min _mm512_min_ps
/* rounds once; so does v8_scale2, whose first step is exact wherever its second rounds */
#define vw_scale2 _mm512_scalef_ps

/* Eight lanes from p and eight from p + stride. */
INLINE vw vw_load_rows(const float *p, size_t stride)
{
	return _mm512_insertf32x8(_mm512_castps256_ps512(v8_load(p)), v8_load(p + stride), 1);
}
INLINE vw vw_load_rows_f16(const uint16_t *p, size_t stride)
{
	__m256i low = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
	return _mm512_cvtph_ps(
		_mm256_inserti128_si256(low, _mm_loadu_si128((const __m128i *)(const void *)(p + stride)), 1));
}
INLINE vw vw_load_f16(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE vw vw_load_part(const float *p, size_t n) /* the first n < 16, then zeros */
{
	return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE vw vw_each(const float *p) /* the same eight lanes twice */
{
	return _mm512_broadcast_f32x8(v8_load(p));
}
INLINE void vw_store_part(float *p, vw a, size_t n)
{
	_mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
INLINE v8 vw_low(vw a)
{
	return _mm512_castps512_ps256(a);
}
INLINE v8 vw_high(vw a)
{
	return _mm512_extractf32x8_ps(a, 1);
}
/* Adds both groups of eight to the same eight lanes, one after the other. */
INLINE v8 vw_fold_add(v8 total, vw a)
{
	return v8_add(v8_add(total, vw_low(a)), vw_high(a));
}
INLINE v8 vw_fold_max(v8 largest, vw a)
{
	return v8_max(v8_max(largest, vw_low(a)), vw_high(a));
}
/* For each of the eight groups of eight lanes in a: ((l0 + l2) + (l1 + l3)) and ((l4 + l6) + (l5 + l7)), the first in
 * the lower half of the group of lanes, the second in the upper. */
INLINE vw vw_half_sums(const vw a[4])
{
	vw ab = _mm512_add_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
	vw cd = _mm512_add_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
	return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}
/* The sums over lanes of a tile's rows, two rows at once: 11 operations for eight sums where v8_sum4 needs 22 or
 * more. */
INLINE void vw_sum_rows(vw sum[][4], uint32_t n_rows, float *y, size_t y_stride)
{
#pragma GCC unroll 8
	for (uint32_t r = 0; r < n_rows; r += 2) {
		bool pair = r + 1 < n_rows;
		vw a = vw_half_sums(sum[r]), b = pair ? vw_half_sums(sum[r + 1]) : a;
		vw all = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
		v8_store(y + r * y_stride, vw_low(all));
		if (pair)
			v8_store(y + (r + 1) * y_stride, vw_high(all));
	}
}
/* d * (nibble - bias) + m, for the low and the high nibbles of eight bytes: a table of all 16 values, which one
 * instruction reads. */
INLINE void v8_affine_nibbles(const void *p, int bias, v8 d, v8 m, v8 *low, v8 *high)
{
	__m256i count = _mm256_sub_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(bias));
	v8 level_0 = v8_fma(d, _mm256_cvtepi32_ps(count), m);
	v8 level_8 = v8_fma(d, _mm256_cvtepi32_ps(_mm256_add_epi32(count, _mm256_set1_epi32(8))), m);
	__m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); /* only the low four bits of an index count */
	*low = _mm256_permutex2var_ps(level_0, bytes, level_8);
	*high = _mm256_permutex2var_ps(level_0, _mm256_srli_epi32(bytes, 4), level_8);
}

#endif
