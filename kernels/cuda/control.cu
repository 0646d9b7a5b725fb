/* The gates: from the captured rows x_c, the controller's scalar s, and with it the row of coefficients. No two
 * decisions of a step name the same row.
 *
 * A decision by a probe or similarities, or without a gate, is made by one block. The first matrix of a network is far
 * more than one multiprocessor can stream (168 MB for an 8B model), so all blocks compute some of its hidden units, and
 * the block that ends last does the rest. The order of every sum depends on the sizes of the gate alone, never on the
 * block that computes it nor on how many decisions share the step. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/f64.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum { THREADS = 256, WARPS = THREADS / TT_WARP };
static const uint32_t MIN_BLOCKS = 32;
/* Hidden units that a block computes together, so that x_c is read once for four rows of weights. */
static const uint32_t UNITS = 4;

struct control_args {
	const struct tt_step_plan *plan;    // device
	const struct tt_steer_slot *slots;  // device
	const float *captured;              // [n_captures][n_layers][hidden]
	float *coef;                        // [n_rows][n_layers]
	struct tt_decision_result *results; // [n_decisions]
	float *decided;                     // [n_decisions][n_layers]
	double *units;                      // scratch [n_decisions][max_units]
	uint32_t *arrivals;                 // [n_decisions]
	uint32_t hidden, n_layers, max_units;
	int32_t layer_index;
};

/* The block's dynamic shared memory. */
struct control_memory {
	double *sums;  // [WARPS][UNITS]
	double *z;     // [1 + n_layers] a network's outputs
	uint32_t *due; // [WARPS + 1] one bit a decision; the last word: whether this block ends last
};

/* One decision, the same in all threads. */
struct decision {
	const struct tt_steer_slot *slot; // device
	uint32_t index, row, capture, mean_capture;
	float scale;
	uint32_t gate, gate_form;
};

/* What a decision reads. */
struct gate_input {
	enum tt_gate_pool pool;
	uint32_t n_observed, n_vectors; /* n_vectors of x_c, see tt_gate_vectors */
	const uint32_t *observed;       // device [n_observed]
};

static uint32_t control_shared_bytes(uint32_t n_layers)
{
	return (WARPS * UNITS + 1 + n_layers) * (uint32_t)sizeof(double) + (WARPS + 1) * (uint32_t)sizeof(uint32_t);
}

TT_DEVICE const void *load_pointer(const void *at)
{
	uint2 words = tt_load_8(at, TT_TRAFFIC_DIRECTION);
	return (const void *)(uintptr_t)((uint64_t)words.y << 32 | words.x);
}

TT_DEVICE const struct tt_decision_plan *decision_plan(const struct control_args &a, uint32_t index)
{
	uint32_t offset = tt_load_4(&a.plan->decisions, TT_TRAFFIC_PLAN);
	return (const struct tt_decision_plan *)((const char *)a.plan + offset) + index;
}

TT_DEVICE bool decision_due(const struct control_args &a, uint32_t index)
{
	return (int32_t)tt_load_4(&decision_plan(a, index)->after_layer, TT_TRAFFIC_PLAN) == a.layer_index;
}

TT_DEVICE struct decision load_decision(const struct control_args &a, uint32_t index)
{
	const struct tt_decision_plan *d = decision_plan(a, index);
	const struct tt_steer_slot *slot = a.slots + tt_load_4(&d->slot, TT_TRAFFIC_PLAN);
	struct decision out = {slot, index, tt_load_4(&d->row, TT_TRAFFIC_PLAN),
		tt_load_4(&d->capture, TT_TRAFFIC_PLAN), tt_load_4(&d->mean_capture, TT_TRAFFIC_PLAN),
		tt_load_f32(&d->scale, TT_TRAFFIC_PLAN), tt_load_4(&slot->gate, TT_TRAFFIC_DIRECTION),
		tt_load_4(&slot->gate_form, TT_TRAFFIC_DIRECTION)};
	return out;
}

TT_DEVICE struct gate_input load_input(const struct decision &d)
{
	enum tt_gate_pool pool = (enum tt_gate_pool)tt_load_4(&d.slot->pool, TT_TRAFFIC_DIRECTION);
	uint32_t n_observed = tt_load_4(&d.slot->n_observed, TT_TRAFFIC_DIRECTION);
	struct gate_input out = {
		pool, n_observed, tt_gate_vectors(pool, n_observed), (const uint32_t *)load_pointer(&d.slot->observed)};
	return out;
}

/* Vector i of x_c, [hidden]. */
TT_DEVICE const float *input_vector(
	const struct control_args &a, const struct decision &d, const struct gate_input &in, uint32_t i)
{
	uint32_t row = tt_gate_vector_is_mean(in.pool, in.n_observed, i) ? d.mean_capture : d.capture;
	uint32_t layer = tt_load_4(in.observed + (i < in.n_observed ? i : i - in.n_observed), TT_TRAFFIC_DIRECTION);
	return a.captured + ((size_t)row * a.n_layers + layer) * a.hidden;
}

/* Whether all blocks make the decision together. */
TT_DEVICE bool has_network(const struct decision &d)
{
	return d.gate == TT_GATE_MLP || d.gate == TT_GATE_PROBE_MLP;
}

TT_DEVICE double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

TT_DEVICE double dot_four(double sum, float4 w, const double x[4])
{
	sum += (double)w.x * x[0];
	sum += (double)w.y * x[1];
	sum += (double)w.z * x[2];
	sum += (double)w.w * x[3];
	return sum;
}

/* Sums n numbers over the lanes of each warp, into m.sums, which block_sum then sums over the warps. */
template <uint32_t n> TT_DEVICE void block_sums(const struct control_memory &m, const double *sum)
{
	TT_UNROLL
	for (uint32_t r = 0; r < n; r++) {
		double lanes = tt_warp_sum_f64(sum[r], TT_WARP);
		if (tt_lane() == 0)
			tt_shared_store_f64(m.sums + tt_warp() * n + r, lanes);
	}
	tt_sync_block();
}

/* Returns start plus sum r of the n that block_sums has left, warp after warp. */
TT_DEVICE double block_sum(const struct control_memory &m, uint32_t n, uint32_t r, double start)
{
	for (uint32_t i = 0; i < WARPS; i++)
		start += tt_shared_load_f64(m.sums + i * n + r);
	return start;
}

/* The dot products of x_c with n rows of weights in double, at most UNITS, left for block_sum. Each thread sums its
 * columns by ascending vector; then follow lanes, then warps. If n is below `rows`, the rows from n on read row n - 1
 * again. */
template <uint32_t rows>
TT_DEVICE void gate_dots(const struct control_args &a, const struct control_memory &m, const struct decision &d,
	const float *weight, uint32_t n)
{
	const struct gate_input in = load_input(d);
	double sum[rows] = {};
	for (uint32_t i = 0; i < in.n_vectors; i++) {
		const float *x = input_vector(a, d, in, i);
		for (uint32_t k = 4 * threadIdx.x; k < a.hidden; k += 4 * THREADS) {
			float4 w[rows];
			TT_UNROLL
			for (uint32_t r = 0; r < rows; r++) {
				size_t row = r < n ? r : n - 1;
				w[r] = tt_load_f32x4(
					weight + (row * in.n_vectors + i) * a.hidden + k, TT_TRAFFIC_DIRECTION);
			}
			float4 four = tt_load_f32x4(x + k, TT_TRAFFIC_RESULT);
			const double wide[4] = {(double)four.x, (double)four.y, (double)four.z, (double)four.w};
			TT_UNROLL
			for (uint32_t r = 0; r < rows; r++)
				sum[r] = dot_four(sum[r], w[r], wide);
		}
	}
	block_sums<rows>(m, sum);
}

/* Returns sum r of gate_dots plus a bias. */
TT_DEVICE double gate_sum(const struct control_memory &m, uint32_t rows, uint32_t r, const float *bias)
{
	return block_sum(m, rows, r, (double)tt_load_f32(bias, TT_TRAFFIC_DIRECTION));
}

/* x.v, v.v and x.x, left for block_sum, where x is x_c, and v is condition vector number `row` or, element by element,
 * tanh(share * w). Of a rule's condition x is 0 where w is. */
template <bool projected>
TT_DEVICE void cosine_sums(const struct control_args &a, const struct control_memory &m, const struct decision &d,
	uint32_t row, double share)
{
	const struct gate_input in = load_input(d);
	const float *weight = (const float *)load_pointer(&d.slot->gate_weight) + (size_t)row * in.n_vectors * a.hidden;
	bool whole = d.gate != TT_GATE_RULE;
	double sum[3] = {};
	for (uint32_t i = 0; i < in.n_vectors; i++) {
		const float *x = input_vector(a, d, in, i);
		for (uint32_t k = 4 * threadIdx.x; k < a.hidden; k += 4 * THREADS) {
			float4 w = tt_load_f32x4(weight + (size_t)i * a.hidden + k, TT_TRAFFIC_DIRECTION);
			float4 four = tt_load_f32x4(x + k, TT_TRAFFIC_RESULT);
			const double xs[4] = {(double)four.x, (double)four.y, (double)four.z, (double)four.w};
			double vs[4] = {(double)w.x, (double)w.y, (double)w.z, (double)w.w};
			TT_UNROLL
			for (uint32_t j = 0; j < 4; j++) {
				sum[2] += whole || vs[j] != 0 ? xs[j] * xs[j] : 0;
				vs[j] = projected ? tanh(share * vs[j]) : vs[j];
				sum[0] += xs[j] * vs[j];
				sum[1] += vs[j] * vs[j];
			}
		}
	}
	block_sums<3>(m, sum);
}

TT_DEVICE float similarity(
	const struct control_args &a, const struct control_memory &m, const struct decision &d, uint32_t row)
{
	cosine_sums<false>(a, m, d, row, 0);
	double share = block_sum(m, 3, 0, 0) / block_sum(m, 3, 1, 0);
	tt_sync_block();
	cosine_sums<true>(a, m, d, row, share);
	return (float)tt_steer_cosine(block_sum(m, 3, 0, 0), block_sum(m, 3, 1, 0), block_sum(m, 3, 2, 0));
}

/* Which conditions of a rule hold, a bit each; NaN if a similarity is. */
TT_DEVICE float held(const struct control_args &a, const struct control_memory &m, const struct decision &d)
{
	uint32_t n = tt_load_4(&d.slot->n_conditions, TT_TRAFFIC_DIRECTION);
	uint32_t below = tt_load_4(&d.slot->below, TT_TRAFFIC_DIRECTION), bits = 0;
	const float *thresholds = (const float *)load_pointer(&d.slot->thresholds);
	bool known = true;
	for (uint32_t k = 0; k < n; k++) {
		float p = similarity(a, m, d, k), threshold = tt_load_f32(thresholds + k, TT_TRAFFIC_DIRECTION);
		known = known && !isnan(p);
		bits |= tt_steer_opens(below >> k & 1, p, threshold) ? 1u << k : 0;
		tt_sync_block(); /* the next condition overwrites the sums */
	}
	return known ? (float)bits : NAN;
}

/* Whether a gate with a threshold opens. */
TT_DEVICE float opens(const struct decision &d, float gate)
{
	float threshold = tt_load_f32(&d.slot->threshold, TT_TRAFFIC_DIRECTION);
	return tt_steer_opens(tt_gate_opens_below(d.gate, d.gate_form), gate, threshold) ? 1 : 0;
}

/* The sum of a probe, w . x_c + b. */
TT_DEVICE double probe_sum(const struct control_args &a, const struct control_memory &m, const struct decision &d)
{
	gate_dots<1>(a, m, d, (const float *)load_pointer(&d.slot->gate_weight), 1);
	return gate_sum(m, 1, 0, &d.slot->gate_bias);
}

/* Writes the row of coefficients, its copy for the host and the result. z: in shared memory, the outputs of a network
 * that gives the weights of the layers, or NULL. */
TT_DEVICE void write_row(const struct control_args &a, const struct decision &d, float s, float gate, const double *z)
{
	const float *weights = (const float *)load_pointer(&d.slot->weights);
	float alpha = tt_load_f32(&d.slot->alpha, TT_TRAFFIC_DIRECTION);
	if (threadIdx.x == 0) {
		tt_store_f32(&a.results[d.index].s, s, TT_TRAFFIC_RESULT);
		tt_store_f32(&a.results[d.index].gate, gate, TT_TRAFFIC_RESULT);
	}
	for (uint32_t l = threadIdx.x; l < a.n_layers; l += THREADS) {
		float w = tt_load_f32(weights + l, TT_TRAFFIC_DIRECTION);
		if (z && w != 0)
			w *= (float)sigmoid(tt_shared_load_f64(z + 1 + l));
		float c = tt_steer_coefficient(d.scale, alpha, s, w);
		tt_store_f32(a.coef + (size_t)d.row * a.n_layers + l, c, TT_TRAFFIC_DIRECTION);
		tt_store_f32(a.decided + (size_t)d.index * a.n_layers + l, c, TT_TRAFFIC_RESULT);
	}
}

/* Makes a decision that takes one block. A gate without a case steers nothing, here and below. */
TT_DEVICE void decide_alone(const struct control_args &a, const struct control_memory &m, const struct decision &d)
{
	float s = 0, gate = NAN;
	switch (d.gate) {
	case TT_GATE_ALWAYS:
		s = gate = 1;
		break;
	case TT_GATE_PROBE:
		gate = (float)sigmoid(probe_sum(a, m, d));
		s = opens(d, gate);
		break;
	case TT_GATE_COSINE:
		gate = similarity(a, m, d, 0);
		s = opens(d, gate);
		break;
	case TT_GATE_RULE:
		gate = held(a, m, d);
		s = !isnan(gate) && tt_steer_rule(tt_load_4(&d.slot->table, TT_TRAFFIC_DIRECTION), (uint32_t)gate);
		break;
	}
	tt_sync_block(); /* the next decision overwrites the sums */
	write_row(a, d, s, gate, NULL);
}

/* Computes this block's hidden units. */
TT_DEVICE void network_units(
	const struct control_args &a, const struct control_memory &m, const struct decision &d, uint32_t n)
{
	const float *weight = (const float *)load_pointer(&d.slot->fc1_weight),
		    *bias = (const float *)load_pointer(&d.slot->fc1_bias);
	size_t n_in = (size_t)load_input(d).n_vectors * a.hidden;
	uint32_t first = blockIdx.x * UNITS, here = n - first < UNITS ? n - first : UNITS, unit = first + threadIdx.x;
	gate_dots<UNITS>(a, m, d, weight + first * n_in, here);
	if (threadIdx.x < here) {
		double z = gate_sum(m, UNITS, threadIdx.x, bias + unit);
		tt_store_f64(a.units + (size_t)d.index * a.max_units + unit, z <= 0 ? 0 : z, /* a NaN passes through */
			TT_TRAFFIC_SCRATCH);
	}
	tt_sync_block();
}

/* z = fc2 units + bias. A warp computes an output: each lane sums its units in ascending order, then follow the
 * lanes. */
TT_DEVICE void network_outputs(const struct control_args &a, const struct control_memory &m, const struct decision &d,
	uint32_t n, uint32_t n_outputs)
{
	const float *weight = (const float *)load_pointer(&d.slot->fc2_weight),
		    *bias = (const float *)load_pointer(&d.slot->fc2_bias);
	const double *units = a.units + (size_t)d.index * a.max_units;
	for (uint32_t o = tt_warp(); o < n_outputs; o += WARPS) {
		double sum = 0;
		for (uint32_t u = tt_lane(); u < n; u += TT_WARP)
			sum += (double)tt_load_f32(weight + (size_t)o * n + u, TT_TRAFFIC_DIRECTION) *
			       tt_load_f64(units + u, TT_TRAFFIC_SCRATCH);
		sum = tt_warp_sum_f64(sum, TT_WARP);
		if (tt_lane() == 0)
			tt_shared_store_f64(m.z + o, sum + (double)tt_load_f32(bias + o, TT_TRAFFIC_DIRECTION));
	}
	tt_sync_block();
}

/* Makes one decision by a gate with a network, with all blocks. */
TT_DEVICE void decide_together(const struct control_args &a, const struct control_memory &m, const struct decision &d)
{
	uint32_t n = tt_load_4(&d.slot->n_units, TT_TRAFFIC_DIRECTION), n_blocks = (n + UNITS - 1) / UNITS;
	if (blockIdx.x >= n_blocks)
		return;
	network_units(a, m, d, n);
	if (threadIdx.x == 0)
		tt_shared_store_4(m.due + WARPS, tt_arrive_last(a.arrivals + d.index, n_blocks));
	tt_sync_block();
	if (!tt_shared_load_4(m.due + WARPS))
		return;
	bool learns_layers = tt_gate_learns_layers(d.gate, d.gate_form);
	network_outputs(a, m, d, n, learns_layers ? 1 + a.n_layers : 1);
	double z = tt_shared_load_f64(m.z);
	float s = 0, gate = NAN;
	switch (d.gate) {
	case TT_GATE_MLP:
		gate = (float)z;
		s = d.gate_form ? gate : (float)sigmoid(z);
		break;
	case TT_GATE_PROBE_MLP:
		gate = (float)sigmoid(probe_sum(a, m, d) + z);
		s = opens(d, gate);
		tt_sync_block(); /* the next decision overwrites the sums; z only after barriers of its own */
		break;
	}
	write_row(a, d, isfinite(s) ? s : 0.0f, gate, learns_layers ? m.z : NULL);
}

/* Makes the decisions that take one block; the blocks take turns. Before the first layer, the rows of the other
 * decisions are cleared. */
TT_DEVICE void run_alone(const struct control_args &a, const struct control_memory &m, uint32_t n_decisions)
{
	for (uint32_t i = blockIdx.x; i < n_decisions; i += gridDim.x) {
		struct decision d = load_decision(a, i);
		bool due = decision_due(a, i);
		if (due && !has_network(d))
			decide_alone(a, m, d);
		else if (!due && a.layer_index < 0)
			for (uint32_t l = threadIdx.x; l < a.n_layers; l += THREADS)
				tt_store_f32(a.coef + (size_t)d.row * a.n_layers + l, 0.0f, TT_TRAFFIC_DIRECTION);
	}
}

/* Makes the decisions that take all blocks. Every block finds them by itself, with a thread for each of THREADS
 * decisions at a time. */
TT_DEVICE void run_together(const struct control_args &a, const struct control_memory &m, uint32_t n_decisions)
{
	for (uint32_t first = 0; first < n_decisions; first += THREADS) {
		uint32_t mine = first + threadIdx.x;
		bool due = mine < n_decisions && decision_due(a, mine);
		uint32_t found = tt_ballot(due && has_network(load_decision(a, mine)));
		if (tt_lane() == 0)
			tt_shared_store_4(m.due + tt_warp(), found);
		tt_sync_block();
		for (uint32_t i = 0; i < THREADS && first + i < n_decisions; i++)
			if (tt_shared_load_4(m.due + i / TT_WARP) >> i % TT_WARP & 1)
				decide_together(a, m, load_decision(a, first + i));
		tt_sync_block();
	}
}

/* Two blocks a multiprocessor, which together have 40 KiB of a network's weights in flight. Without this number ptxas
 * aims at four and spills registers. */
static __global__ void __launch_bounds__(THREADS, 2) control_kernel(const __grid_constant__ struct control_args a)
{
	TT_DYNAMIC_SHARED(shared);
	double *memory = (double *)shared;
	const struct control_memory m = {
		memory, memory + WARPS * UNITS, (uint32_t *)(memory + WARPS * UNITS + 1 + a.n_layers)};
	tt_grid_launch_dependents();
	tt_grid_wait();
	uint32_t n_decisions = tt_load_4(&a.plan->n_decisions, TT_TRAFFIC_PLAN);
	run_alone(a, m, n_decisions);
	if (a.max_units)
		run_together(a, m, n_decisions);
}

int tt_cuda_control(struct tt_backend *backend, const struct tt_control_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t hidden = args->config->hidden_size, n_layers = args->config->n_layers, n = args->step->n_decisions;
	uint32_t max_units = args->layer_index < 0 ? 0 : args->max_units, blocks = (max_units + UNITS - 1) / UNITS;
	if (hidden % TT_CUDA_GRANULE)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "control: a hidden size of %u is not a multiple of %d", hidden,
			TT_CUDA_GRANULE);
	if (max_units && n > TT_CUDA_ARRIVALS)
		return tt_fail(err, TT_ERR_LIMIT, "control: %u decisions in a step, at most %d", n, TT_CUDA_ARRIVALS);
	TT_TRY(tt_cuda_scratch(cuda, (size_t)n * max_units * sizeof(double), err));
	blocks = blocks < MIN_BLOCKS ? MIN_BLOCKS : blocks;
	struct control_args a = {cuda->plan, args->slots, args->captured, args->coef, args->results, args->decided,
		(double *)cuda->partial, cuda->arrivals, hidden, n_layers, max_units, args->layer_index};
	void *kernel_args[] = {&a};
	/* Only the device knows what a gate observes, so the work is counted for one layer and the largest network. */
	uint64_t rows = max_units ? max_units : 1;
	struct tt_launch launch = {"control", dim3(blocks), dim3(THREADS), control_shared_bytes(n_layers), cuda->stream,
		n * 4 * ((rows + 1) * hidden + 3 * (uint64_t)n_layers), n * 2 * rows * hidden, cuda->dependent,
		&cuda->counters};
	return tt_cuda_launch(cuda, &launch, TT_KERNEL(control_kernel), kernel_args, err);
}
