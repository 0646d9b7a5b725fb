/* q8 with AVX2's integer products: bytes by bytes to 16-bit sums of two, and those to 32 bits. */
#include "kernels/cpu/q8.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#define TT_CPU_AVX2
#include "kernels/cpu/q8_eight.inc"

const struct tt_q8_body *tt_q8_body_avx2(void)
{
	static const struct tt_q8_body body = Q8_BODY("avx2");
	return &body;
}

#else

const struct tt_q8_body *tt_q8_body_avx2(void)
{
	return NULL;
}

#endif
