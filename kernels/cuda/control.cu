/* The gates: x_c from the captured rows, the controller's scalar, and the row of coefficients it makes. A block takes whole
 * decisions, so that nothing but the decision itself sets the order of its sums; no two decisions of a step name the same row. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/f64.cuh"

enum { THREADS = 256, WARPS = THREADS / TT_WARP, BLOCKS = 32 };

struct control_args {
	const struct tt_step *plan;         // device
	const struct tt_steer_slot *slots;  // device
	const float *captured;              // [n_captures][n_layers][hidden]
	float *coef;                        // [n_rows][n_layers]
	struct tt_decision_result *results; // [n_decisions]
	float *decided;                     // [n_decisions][n_layers]
	uint32_t hidden, n_layers;
	int32_t layer_index;
};

TT_DEVICE const void *load_pointer(const void *at)
{
	uint2 words = tt_load_8(at, TT_TRAFFIC_DIRECTION);
	return (const void *)(uintptr_t)((uint64_t)words.y << 32 | words.x);
}

/* w . x_c + b in double, for all threads: each thread's columns by ascending layer, then lanes, then warps. */
TT_DEVICE double probe(
	const struct control_args *a, const struct tt_steer_slot *slot, uint32_t capture, double *warp_sums)
{
	const uint32_t *observed = (const uint32_t *)load_pointer(&slot->observed);
	const float *weight = (const float *)load_pointer(&slot->gate_weight);
	uint32_t n_observed = tt_load_4(&slot->n_observed, TT_TRAFFIC_DIRECTION);
	double sum = 0;
	for (uint32_t i = 0; i < n_observed; i++) {
		uint32_t layer = tt_load_4(observed + i, TT_TRAFFIC_DIRECTION);
		const float *x = a->captured + ((size_t)capture * a->n_layers + layer) * a->hidden;
		const float *w = weight + (size_t)i * a->hidden;
		for (uint32_t k = 4 * threadIdx.x; k < a->hidden; k += 4 * THREADS) {
			float4 l = tt_load_f32x4(w + k, TT_TRAFFIC_DIRECTION),
			       r = tt_load_f32x4(x + k, TT_TRAFFIC_RESULT);
			sum += (double)l.x * (double)r.x;
			sum += (double)l.y * (double)r.y;
			sum += (double)l.z * (double)r.z;
			sum += (double)l.w * (double)r.w;
		}
	}
	sum = tt_warp_sum_f64(sum, TT_WARP);
	if (tt_lane() == 0)
		tt_shared_store_f64(warp_sums + tt_warp(), sum);
	tt_sync_block();
	sum = (double)tt_load_f32(&slot->gate_bias, TT_TRAFFIC_DIRECTION);
	for (uint32_t i = 0; i < WARPS; i++)
		sum += tt_shared_load_f64(warp_sums + i);
	tt_sync_block(); /* the next decision writes there again */
	return sum;
}

TT_DEVICE struct tt_decision_result decide(
	const struct control_args *a, const struct tt_steer_slot *slot, uint32_t capture, double *warp_sums)
{
	struct tt_decision_result result = {1, 1};
	if (tt_load_4(&slot->gate, TT_TRAFFIC_DIRECTION) == TT_GATE_PROBE) {
		result.gate = (float)(1 / (1 + exp(-probe(a, slot, capture, warp_sums))));
		result.s = result.gate > tt_load_f32(&slot->threshold, TT_TRAFFIC_DIRECTION) ? 1 : 0;
	}
	return result;
}

/* One decision: clear its row before the first layer, write it when it is due. */
TT_DEVICE void run_decision(
	const struct control_args *a, const struct tt_decision_plan *d, uint32_t index, double *warp_sums)
{
	float *coef = a->coef + (size_t)tt_load_4(&d->row, TT_TRAFFIC_PLAN) * a->n_layers;
	if ((int32_t)tt_load_4(&d->after_layer, TT_TRAFFIC_PLAN) != a->layer_index) {
		if (a->layer_index < 0)
			for (uint32_t l = threadIdx.x; l < a->n_layers; l += THREADS)
				tt_store_f32(coef + l, 0.0f, TT_TRAFFIC_DIRECTION);
		return;
	}
	const struct tt_steer_slot *slot = a->slots + tt_load_4(&d->slot, TT_TRAFFIC_PLAN);
	struct tt_decision_result result = decide(a, slot, tt_load_4(&d->capture, TT_TRAFFIC_PLAN), warp_sums);
	const float *weights = (const float *)load_pointer(&slot->weights);
	float scale = tt_load_f32(&d->scale, TT_TRAFFIC_PLAN), alpha = tt_load_f32(&slot->alpha, TT_TRAFFIC_DIRECTION);
	if (threadIdx.x == 0) {
		tt_store_f32(&a->results[index].s, result.s, TT_TRAFFIC_RESULT);
		tt_store_f32(&a->results[index].gate, result.gate, TT_TRAFFIC_RESULT);
	}
	for (uint32_t l = threadIdx.x; l < a->n_layers; l += THREADS) {
		float w = tt_load_f32(weights + l, TT_TRAFFIC_DIRECTION), c = scale * alpha * result.s * w;
		c = result.s == 0 || w == 0 || c == 0 ? 0.0f : c; /* never -0.0, nor NaN from infinity * 0 */
		tt_store_f32(coef + l, c, TT_TRAFFIC_DIRECTION);
		tt_store_f32(a->decided + (size_t)index * a->n_layers + l, c, TT_TRAFFIC_RESULT);
	}
}

static __global__ void __launch_bounds__(THREADS) control_kernel(const __grid_constant__ struct control_args a)
{
	TT_DYNAMIC_SHARED(shared);
	tt_grid_launch_dependents();
	tt_grid_wait();
	uint32_t n_decisions = tt_load_4(&a.plan->n_decisions, TT_TRAFFIC_PLAN);
	if (blockIdx.x >= n_decisions)
		return;
	uint32_t offset = tt_load_4(&a.plan->decisions, TT_TRAFFIC_PLAN);
	const struct tt_decision_plan *decisions = (const struct tt_decision_plan *)((const char *)a.plan + offset);
	for (uint32_t i = blockIdx.x; i < n_decisions; i += gridDim.x)
		run_decision(&a, decisions + i, i, (double *)shared);
}

int tt_cuda_control(struct tt_backend *backend, const struct tt_control_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t hidden = args->config->hidden_size, n_layers = args->config->n_layers;
	struct control_args a = {cuda->plan, args->slots, args->captured, args->coef, args->results, args->decided,
		hidden, n_layers, args->layer_index};
	void *kernel_args[] = {&a};
	if (hidden % TT_CUDA_GRANULE)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "control: a hidden size of %u is not a multiple of %d", hidden,
			TT_CUDA_GRANULE);
	/* What a gate observes is known to the device alone: one layer is counted. */
	uint64_t n = args->step->n_decisions;
	struct tt_launch launch = {"control", dim3(BLOCKS), dim3(THREADS), WARPS * sizeof(double), cuda->stream,
		n * 4 * (2 * (uint64_t)hidden + 3 * (uint64_t)n_layers), n * 2 * hidden, cuda->dependent,
		&cuda->counters};
	return tt_launch_kernel(&launch, TT_KERNEL(control_kernel), kernel_args, err);
}
