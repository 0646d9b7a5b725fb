/* The part of steering that the epilogue of down_proj and the row kernel share. kernels/steer.h defines the
 * operations. */
#ifndef KERNELS_CUDA_STEER_CUH
#define KERNELS_CUDA_STEER_CUH

#include <math.h>

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/warp.cuh"

struct steer {
	const struct tt_step_plan *plan;
	const struct tt_steer_slot *slots;
	const float *coef; // [n_rows][n_layers]
	float *captured;   // [n_captures][n_layers][hidden], or NULL
	float *norms;      // [n_tokens][n_layers][2], or NULL
	uint32_t n_layers, layer, hidden;
};

/* One of the rows that steer a token. If there is none, c is 0. */
struct steer_row {
	float c;
	uint32_t op, form, n_directions;
	const float *directions; // [n_directions][hidden] of the layer
	const float *readers;    // [n_directions][hidden] their dots with h are read: the directions, except for affine
	const float *targets;    // [n_directions], or NULL
};

/* The token's four rows, packed as in the plan; both words are 0 if it has none. */
TT_DEVICE uint2 steer_rows(const struct steer &s, uint32_t token)
{
	return tt_load_8(step_array(s.plan, &s.plan->coef_rows) + (size_t)token * TT_STACK * 2, TT_TRAFFIC_PLAN);
}

TT_DEVICE uint32_t steer_row_index(uint2 rows, uint32_t i)
{
	return ((i < 2 ? rows.x : rows.y) >> (i % 2 * 16)) & 0xffff;
}

TT_DEVICE const float *steer_pointer(const void *at)
{
	uint2 v = tt_load_8(at, TT_TRAFFIC_DIRECTION);
	return (const float *)(uintptr_t)((uint64_t)v.y << 32 | v.x);
}

TT_DEVICE struct steer_row steer_load_row(const struct steer &s, uint32_t row)
{
	struct steer_row r = {0.0f, 0, 0, 0, NULL, NULL, NULL};
	if (!row)
		return r;
	r.c = tt_load_f32(s.coef + (size_t)row * s.n_layers + s.layer, TT_TRAFFIC_DIRECTION);
	if (r.c == 0)
		return r;
	uint32_t index = tt_load_2(step_array(s.plan, &s.plan->row_slots) + (size_t)row * 2, TT_TRAFFIC_PLAN);
	const struct tt_steer_slot *slot = s.slots + index;
	r.op = tt_load_4(&slot->op, TT_TRAFFIC_DIRECTION);
	r.form = tt_load_4(&slot->form, TT_TRAFFIC_DIRECTION);
	r.n_directions = tt_load_4(&slot->n_directions, TT_TRAFFIC_DIRECTION);
	size_t first = (size_t)s.layer * r.n_directions;
	r.directions = r.readers = steer_pointer(&slot->directions) + first * s.hidden;
	if (!tt_steer_whole_row(r.op, r.form))
		return r;
	const float *readers = steer_pointer(&slot->readers), *targets = steer_pointer(&slot->targets);
	r.readers = readers ? readers + first * s.hidden : r.directions;
	r.targets = targets ? targets + first : NULL;
	return r;
}

/* h + g * d of four columns, with fused multiply-adds like the CPU's axpy. */
TT_DEVICE float4 steer_add(float4 h, float g, const float *direction)
{
	float4 d = tt_load_f32x4(direction, TT_TRAFFIC_DIRECTION);
	return make_float4(fmaf(g, d.x, h.x), fmaf(g, d.y, h.y), fmaf(g, d.z, h.z), fmaf(g, d.w, h.w));
}

/* Stores four columns of h if the token is captured. capture: its capture row, or -1. */
TT_DEVICE void steer_capture(const struct steer &s, int32_t capture, uint32_t column, float4 h)
{
	if (s.captured && capture >= 0)
		tt_store_f32x4(s.captured + ((size_t)capture * s.n_layers + s.layer) * s.hidden + column, h,
			TT_TRAFFIC_RESULT);
}

/* Stores the norms of h before and after steering: lanes 0 and 1 of a warp store one each, with a single square
 * root. */
TT_DEVICE void steer_store_norms(const struct steer &s, uint32_t token, bool any, float before, float after)
{
	if (tt_lane() < 2)
		tt_store_f32(s.norms + ((size_t)token * s.n_layers + s.layer) * 2 + tt_lane(),
			any ? sqrtf(tt_lane() ? after : before) : 0.0f, TT_TRAFFIC_RESULT);
}

#endif
