/* q8 with the integer products that every 64-bit ARM has. */
#include "kernels/cpu/q8.h"

#if defined(__aarch64__)

#define TT_CPU_NEON
#include "kernels/cpu/q8_eight.inc"

const struct tt_q8_body *tt_q8_body_neon(void)
{
	static const struct tt_q8_body body = Q8_BODY("neon");
	return &body;
}

#else

const struct tt_q8_body *tt_q8_body_neon(void)
{
	return NULL;
}

#endif
