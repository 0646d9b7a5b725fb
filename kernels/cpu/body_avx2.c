/* The AVX2, FMA and F16C body. Only this file and body_avx512.c are compiled for more than the compiler's target. */
#include "kernels/cpu/body.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#define TT_CPU_AVX2
#include "kernels/cpu/body.inc"

const struct tt_cpu_body *tt_cpu_body_avx2(void)
{
	static const struct tt_cpu_body body = TT_CPU_BODY("avx2");
	return &body;
}

#else

const struct tt_cpu_body *tt_cpu_body_avx2(void)
{
	return NULL;
}

#endif
