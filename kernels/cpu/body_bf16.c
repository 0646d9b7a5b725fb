/* The body that rounds to bf16 where the CUDA kernels do: the inputs of products, attention's weights, and all that is
 * kept between ops. */
#define TT_CPU_BF16
#include "kernels/cpu/body.inc"

const struct tt_cpu_body *tt_cpu_body_bf16(void)
{
	static const struct tt_cpu_body body = TT_CPU_BODY("bf16");
	return &body;
}
