/* The plain C body: fmaf is one fused rounding everywhere, in hardware or in the C library. */
#include "kernels/cpu/body.inc"

const struct tt_cpu_body *tt_cpu_body_portable(void)
{
	static const struct tt_cpu_body body = TT_CPU_BODY("portable");
	return &body;
}
