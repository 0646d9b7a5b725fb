/* The AVX-512 body. On a core with 512-bit multipliers (Zen 5) it is 1.2 to 1.8 times as fast as the AVX2 body at one
 * or two rows and twice at many; with 256-bit ones (Zen 4), before few_rows.inc had two outputs in a register, it was
 * about 3% faster with narrow weights, 1.13 to 1.39 times with wide weights or three or four rows, and twice in e^x;
 * see kernels/README.md. */
#include "kernels/cpu/body.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) &&                 \
	defined(__FMA__) && defined(__F16C__)

#define TT_CPU_AVX2
#define TT_CPU_AVX512
#include "kernels/cpu/body.inc"

const struct tt_cpu_body *tt_cpu_body_avx512(void)
{
	static const struct tt_cpu_body body = TT_CPU_BODY("avx512");
	return &body;
}

#else

const struct tt_cpu_body *tt_cpu_body_avx512(void)
{
	return NULL;
}

#endif
