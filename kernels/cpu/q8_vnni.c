/* q8 with AVX-512's integer products (VNNI) and byte permutations (VBMI). Only this file and body_avx512.c are compiled
 * for so much. */
#include "kernels/cpu/q8.h"

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512BW__) && defined(__AVX512DQ__) &&            \
	defined(__AVX512VL__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline, unused))

#include "kernels/cpu/groups_q8.inc"
#include "kernels/cpu/unpack_vnni.inc"
#include "kernels/cpu/one_row_vnni.inc"
#include "kernels/cpu/panels_vnni.inc"
#include "kernels/cpu/quantise_x.inc"

const struct tt_q8_body *tt_q8_body_vnni(void)
{
	static const struct tt_q8_body body = {.name = "vnni",
		.panel = OUTS,
		.one_row = one_row,
		.panel_bytes = panel_bytes,
		.quantise = quantise_x,
		.pack = pack,
		.multiply = multiply};
	return &body;
}

#else

const struct tt_q8_body *tt_q8_body_vnni(void)
{
	return NULL;
}

#endif
