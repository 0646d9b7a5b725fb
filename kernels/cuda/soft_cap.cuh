/* Gemma's caps of scores and logits, with the CPU's bits (kernels/cpu/vector.inc). */
#ifndef KERNELS_CUDA_SOFT_CAP_CUH
#define KERNELS_CUDA_SOFT_CAP_CUH

#include "kernels/cuda/ptx/functions.cuh"

/* cap * tanh(x / cap); NaN for NaN. The tangent is an odd rational function, within 5 units in the last place. */
TT_DEVICE float soft_cap(float x, float cap)
{
	x = tt_div(x, cap);
	x = x > 9.02f ? 9.02f : x; /* beyond which it is 1 in f32 */
	x = x < -9.02f ? -9.02f : x;
	float z = x * x, p = -0x1.7c23d2p-44f, q = 0x1.0addf6p-12f;
	p = fmaf(p, z, 0x1.ceb31p-35f);
	p = fmaf(p, z, -0x1.5adf3cp-26f);
	p = fmaf(p, z, 0x1.760148p-17f);
	p = fmaf(p, z, 0x1.96be76p-9f);
	p = fmaf(p, z, 0x1.0bf27p-3f);
	p = fmaf(p, z, 1.0f);
	q = fmaf(q, z, 0x1.9147e2p-6f);
	q = fmaf(q, z, 0x1.db4e8ap-2f);
	q = fmaf(q, z, 1.0f);
	return tt_div(x * p, q) * cap;
}

#endif
