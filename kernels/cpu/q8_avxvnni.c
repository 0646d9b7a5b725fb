/* q8 with AVX2 and the integer products that came to processors without AVX-512 later (AVX-VNNI): four bytes by four
 * bytes to 32 bits in one instruction. */
#include "kernels/cpu/q8.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__AVXVNNI__)

#define TT_CPU_AVX2
#include "kernels/cpu/q8_eight.inc"

const struct tt_q8_body *tt_q8_body_avxvnni(void)
{
	static const struct tt_q8_body body = Q8_BODY("avxvnni");
	return &body;
}

#else

const struct tt_q8_body *tt_q8_body_avxvnni(void)
{
	return NULL;
}

#endif
