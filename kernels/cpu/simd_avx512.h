/* What AVX-512 adds to AVX2's eight lanes: 32 registers, sums of two outputs in one of them, and tables of 16 that one
 * instruction reads. Included by simd.h. */
#ifndef KERNELS_CPU_SIMD_AVX512_H
#define KERNELS_CPU_SIMD_AVX512_H

#include "kernels/cpu/simd_avx2.h"

typedef __m512 vw; /* the eight lanes of one output, then those of the next */

INLINE vw vw_zero(void)
{
	return _mm512_setzero_ps();
}
INLINE vw vw_set(float x)
{
	return _mm512_set1_ps(x);
}
INLINE vw vw_load(const float *p)
{
	return _mm512_loadu_ps(p);
}
INLINE void vw_store(float *p, vw a)
{
	_mm512_storeu_ps(p, a);
}
INLINE vw vw_load_rows(const float *p, size_t stride)
{
	return _mm512_insertf32x8(_mm512_castps256_ps512(v8_load(p)), v8_load(p + stride), 1);
}
INLINE vw vw_each(const float *p)
{
	return _mm512_broadcast_f32x8(v8_load(p));
}
INLINE vw vw_fma(vw a, vw b, vw c)
{
	return _mm512_fmadd_ps(a, b, c);
}
INLINE void vw_sum4(const vw a[2], float *out)
{
	v8 one[4] = {_mm512_castps512_ps256(a[0]), _mm512_extractf32x8_ps(a[0], 1), _mm512_castps512_ps256(a[1]),
		_mm512_extractf32x8_ps(a[1], 1)};
	v8_sum4(one, out);
}
/* d * (nibble - bias) + m of the low nibbles of eight bytes and of the high ones: a table of all 16, which one instruction
 * reads. */
INLINE void v8_affine_nibbles(const void *p, int bias, v8 d, v8 m, v8 *low, v8 *high)
{
	__m256i count = _mm256_sub_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(bias));
	v8 level_0 = v8_fma(d, _mm256_cvtepi32_ps(count), m);
	v8 level_8 = v8_fma(d, _mm256_cvtepi32_ps(_mm256_add_epi32(count, _mm256_set1_epi32(8))), m);
	__m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); /* of an index, only the low four bits count */
	*low = _mm256_permutex2var_ps(level_0, bytes, level_8);
	*high = _mm256_permutex2var_ps(level_0, _mm256_srli_epi32(bytes, 4), level_8);
}

#endif
