/* q8 with the integer products that came to ARM with version 8.2 (sdot): four bytes by four bytes to 32 bits. */
#include "kernels/cpu/q8.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

#define TT_CPU_NEON
#include "kernels/cpu/q8_eight.inc"

const struct tt_q8_body *tt_q8_body_dotprod(void)
{
	static const struct tt_q8_body body = Q8_BODY("dotprod");
	return &body;
}

#else

const struct tt_q8_body *tt_q8_body_dotprod(void)
{
	return NULL;
}

#endif
