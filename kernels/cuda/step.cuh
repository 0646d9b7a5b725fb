/* The plan's arrays as kernels read them. Their offsets are in the header, which is on the device too. */
#ifndef KERNELS_CUDA_STEP_CUH
#define KERNELS_CUDA_STEP_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ptx/memory.cuh"

/* Where an array starts; offset_at is a member of the plan. */
TT_DEVICE const unsigned char *step_array(const struct tt_step_plan *plan, const uint32_t *offset_at)
{
	return (const unsigned char *)plan + tt_load_4(offset_at, TT_TRAFFIC_PLAN);
}

/* Element i of an array of 4-byte numbers. */
TT_DEVICE uint32_t step_word(const struct tt_step_plan *plan, const uint32_t *offset_at, uint32_t i)
{
	return tt_load_4(step_array(plan, offset_at) + (size_t)i * 4, TT_TRAFFIC_PLAN);
}

/* Which of the step's tokens sample i belongs to. */
TT_DEVICE uint32_t step_sampled_token(const struct tt_step_plan *plan, uint32_t i)
{
	const unsigned char *samples = step_array(plan, &plan->samples);
	return tt_load_4(samples + (size_t)i * sizeof(struct tt_sample_plan) + offsetof(struct tt_sample_plan, token),
		TT_TRAFFIC_PLAN);
}

#endif
