/* The NEON body, for every 64-bit ARM. */
#include "kernels/cpu/body.h"

#ifdef __aarch64__

#define TT_CPU_NEON
#include "kernels/cpu/body.inc"

const struct tt_cpu_body *tt_cpu_body_neon(void)
{
	static const struct tt_cpu_body body = TT_CPU_BODY("neon");
	return &body;
}

#else

const struct tt_cpu_body *tt_cpu_body_neon(void)
{
	return NULL;
}

#endif
