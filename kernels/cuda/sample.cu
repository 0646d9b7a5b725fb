/* From logits to a token and its log-probability, as kernels/cpu/sample.c and draw.c define them. Three kernels: the
 * largest logit of each segment; the sums that need the row's maximum; and one block a row that chooses. The first two
 * spread a row over the device: one multiprocessor would take 16 us for the exponentials of 128k logits.
 *
 * Bits compared with the CPU twin: chunks of 256 are added in the same order; the chunk sums and the weights, in
 * double, in a different order. So a log-probability may differ in its last bit, and a draw only where it falls within
 * 1e-12 of the edge between two tokens. top-k, greedy, ties and the alternatives' order are exact. */
#include "kernels/cuda/sample_cut.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

static __global__ void __launch_bounds__(SAMPLE_SCAN_THREADS, SAMPLE_SCAN_BLOCKS)
	sample_largest_kernel(const __grid_constant__ struct sample_kernel_args a)
{
	tt_grid_launch_dependents();
	tt_grid_wait();
	uint32_t segment = blockIdx.x * SAMPLE_SCAN_SEGMENTS + threadIdx.x / SAMPLE_LANES;
	if (blockIdx.y >= tt_load_4(&a.plan->n_samples, TT_TRAFFIC_PLAN))
		return;
	const float *logits = a.logits + (size_t)blockIdx.y * a.vocab;
	uint32_t first = segment * a.segment, end = first + a.segment < a.vocab ? first + a.segment : a.vocab;
	float largest = tt_f32_from_bits(0x7fffffff);
	if (segment < a.n_segments)
		sample_each(logits, first + threadIdx.x % SAMPLE_LANES, SAMPLE_LANES, end, TT_TRAFFIC_ACTIVATION,
			[&](uint32_t, float x) { largest = sample_larger(largest, x); });
	for (uint32_t lanes = SAMPLE_LANES / 2; lanes; lanes /= 2)
		largest = sample_larger(largest, tt_shuffle_xor_f32(largest, lanes));
	if (segment < a.n_segments && threadIdx.x % SAMPLE_LANES == 0)
		tt_store_f32(
			a.segments.largest + (size_t)blockIdx.y * a.n_segments + segment, largest, TT_TRAFFIC_SCRATCH);
}

/* The largest logit of the row; every thread of a warp gets it. */
TT_DEVICE float largest_of_row(const struct sample_kernel_args *a, uint32_t index)
{
	const float *largest = a->segments.largest + (size_t)index * a->n_segments;
	float max = tt_f32_from_bits(0x7fffffff);
	sample_each(largest, tt_lane(), TT_WARP, a->n_segments, TT_TRAFFIC_SCRATCH,
		[&](uint32_t, float x) { max = sample_larger(max, x); });
	for (uint32_t lanes = TT_WARP / 2; lanes; lanes /= 2)
		max = sample_larger(max, tt_shuffle_xor_f32(max, lanes));
	return max;
}

struct segment_sums {
	double sum, mass;
	float peak;
};

/* Weights of 2^-31 and more by their first digit, a column for each thread. */
TT_DEVICE void add_high(double *high, float weight)
{
	uint32_t digit = tt_bits_from_f32(weight) >> ((SAMPLE_DIGITS - 1) * SAMPLE_DIGIT_BITS);
	if (digit < SAMPLE_BINS - SAMPLE_HIGH)
		return;
	double *sum = high + (digit - (SAMPLE_BINS - SAMPLE_HIGH)) * SAMPLE_SCAN_THREADS + threadIdx.x;
	tt_shared_store_f64(sum, tt_shared_load_f64(sum) + (double)weight);
}

/* Adds up the columns, a warp for a digit, and stores the block's sums. */
TT_DEVICE void store_high(const double *high, double *to)
{
	tt_sync_block();
	for (uint32_t b = tt_warp(); b < SAMPLE_HIGH; b += SAMPLE_SCAN_THREADS / TT_WARP) {
		double sum = 0;
		for (uint32_t i = tt_lane(); i < SAMPLE_SCAN_THREADS; i += TT_WARP)
			sum += tt_shared_load_f64(high + b * SAMPLE_SCAN_THREADS + i);
		sum = tt_warp_sum_f64(sum, TT_WARP);
		if (tt_lane() == 0)
			tt_store_f64(to + b, sum, TT_TRAFFIC_SCRATCH);
	}
}

/* mass and peak are the share of one lane of 8; the sum is the whole segment's, in all lanes. high, or NULL: shared
 * memory [SAMPLE_HIGH][SAMPLE_SCAN_THREADS] for the sums by the first digit. */
TT_DEVICE struct segment_sums add_segment(const struct sample_row *row, uint32_t first, uint32_t end, double *high)
{
	struct segment_sums s = {0, 0, 0};
	float floor = row->by_count || row->by_share ? 0 : row->floor;
	for (uint32_t chunk = 0; chunk < row->segment; chunk += SAMPLE_CHUNK) {
		float lane = 0;
		uint32_t begin = first + chunk, chunk_end = begin + SAMPLE_CHUNK < end ? begin + SAMPLE_CHUNK : end;
		sample_each(row->logits, begin + threadIdx.x % SAMPLE_LANES, SAMPLE_LANES, chunk_end,
			TT_TRAFFIC_ACTIVATION, [&](uint32_t, float logit) {
				float x = logit - row->max;
				lane += tt_exp(x);
				float weight = row->draws ? tt_exp(x * row->sharpness) : 0;
				if (weight > 0) {
					s.mass += weight >= floor ? (double)weight : 0;
					s.peak = weight > s.peak ? weight : s.peak;
					if (high)
						add_high(high, weight);
				}
			});
		lane += tt_shuffle_xor_f32(lane, 2); /* the tree of the CPU's v8_sum */
		lane += tt_shuffle_xor_f32(lane, 1);
		lane += tt_shuffle_xor_f32(lane, 4);
		s.sum += (double)lane;
	}
	return s;
}

static __global__ void __launch_bounds__(SAMPLE_SCAN_THREADS, SAMPLE_SCAN_BLOCKS)
	sample_sums_kernel(const __grid_constant__ struct sample_kernel_args a)
{
	TT_DYNAMIC_SHARED(memory);
	tt_grid_launch_dependents();
	tt_grid_wait();
	uint32_t segment = blockIdx.x * SAMPLE_SCAN_SEGMENTS + threadIdx.x / SAMPLE_LANES;
	if (blockIdx.y >= tt_load_4(&a.plan->n_samples, TT_TRAFFIC_PLAN))
		return;
	struct sample_row row = sample_row_of(&a, blockIdx.y, largest_of_row(&a, blockIdx.y));
	uint32_t first = segment * a.segment;
	uint32_t end = segment < a.n_segments ? sample_segment_end(&row, segment) : first;
	double *high = row.draws && row.by_share && !row.by_count ? (double *)memory : NULL;
	for (uint32_t b = 0; b < SAMPLE_HIGH && high; b++)
		tt_shared_store_f64(high + b * SAMPLE_SCAN_THREADS + threadIdx.x, 0);
	struct segment_sums s = add_segment(&row, first, end, high);
	if (high)
		store_high(high, a.segments.high + ((size_t)blockIdx.y * a.n_scans + blockIdx.x) * SAMPLE_HIGH);
	s.mass = tt_warp_sum_f64(s.mass, SAMPLE_LANES);
	s.peak = tt_warp_max(s.peak, SAMPLE_LANES);
	if (segment >= a.n_segments || threadIdx.x % SAMPLE_LANES != 0)
		return;
	size_t at = (size_t)blockIdx.y * a.n_segments + segment;
	tt_store_f64(a.segments.sums + at, s.sum, TT_TRAFFIC_SCRATCH);
	tt_store_f64(a.segments.masses + at, s.mass, TT_TRAFFIC_SCRATCH);
	tt_store_f32(a.segments.peaks + at, s.peak, TT_TRAFFIC_SCRATCH);
}

/* A number in [0, 1) with 53 bits, from nothing but the seed and the counter: Philox4x32, ten rounds. */
TT_DEVICE double uniform_of(const struct tt_sample_plan *plan)
{
	uint2 key = tt_load_8(&plan->sampling.seed, TT_TRAFFIC_PLAN),
	      counter = tt_load_8(&plan->counter, TT_TRAFFIC_PLAN);
	uint32_t a = counter.x, b = counter.y, c = 0, d = 0;
	for (int round = 0; round < 10; round++) {
		uint64_t first = (uint64_t)0xd2511f53 * a, second = (uint64_t)0xcd9e8d57 * c;
		a = (uint32_t)(second >> 32) ^ b ^ key.x;
		b = (uint32_t)second;
		c = (uint32_t)(first >> 32) ^ d ^ key.y;
		d = (uint32_t)first;
		key.x += 0x9e3779b9;
		key.y += 0xbb67ae85;
	}
	return (double)(((uint64_t)b << 32 | a) >> 11) * 0x1p-53;
}

/* By all threads of the block; all get the same result. */
TT_DEVICE uint32_t draw(const struct sample_row *row, const struct tt_sample_plan *plan, struct cut_shared *shared)
{
	double uniform = uniform_of(plan);
	if (row->by_count || row->by_share)
		return cut_draw(row, uniform, shared);
	if (tt_warp() == 0) {
		struct sample_walk walk = {false, row->floor, 0, NULL};
		uint32_t id = sample_walk_to(row, &walk, uniform, false);
		if (tt_lane() == 0)
			tt_shared_store_4(&shared->id, id);
	}
	tt_sync_block();
	return tt_shared_load_4(&shared->id);
}

/* x - log of the sum: the log-probability under the model's own distribution. */
TT_DEVICE float log_probability(const struct sample_row *row, uint32_t id, double log_sum)
{
	return (float)((double)sample_logit(row, id) - log_sum);
}

/* By one warp. best: the first of the alternatives, which has already been taken. */
TT_DEVICE void report(const struct sample_row *row, const struct tt_sample_plan *plan, struct tt_sample_result *out,
	struct sample_place best, uint32_t chosen, float *left)
{
	double sum = sample_total(row->sums, row->n_segments);
	double log_sum = sum > 0 ? (double)row->max + tt_log(sum) : sum; /* NaN stays NaN */
	int32_t target = (int32_t)tt_load_4(&plan->target, TT_TRAFFIC_PLAN);
	uint32_t n_top = tt_load_4(&plan->n_top, TT_TRAFFIC_PLAN), count = 0;
	n_top = n_top < (uint32_t)TT_MAX_TOP ? n_top : (uint32_t)TT_MAX_TOP;
	for (uint32_t i = 0; i < TT_MAX_TOP; i++) {
		if (i > 0 && i < n_top && best.id != UINT32_MAX)
			best = sample_take(row, left, false, best);
		bool there = i < n_top && best.id != UINT32_MAX;
		count += there;
		if (tt_lane() == 0) {
			tt_store_4(out->top_tokens + i, there ? best.id : 0, TT_TRAFFIC_RESULT);
			tt_store_f32(out->top_logprobs + i, there ? log_probability(row, best.id, log_sum) : 0,
				TT_TRAFFIC_RESULT);
		}
	}
	if (tt_lane() == 0) {
		bool has_target = target >= 0 && (uint32_t)target < row->vocab;
		tt_store_4(&out->token, chosen, TT_TRAFFIC_RESULT);
		tt_store_f32(&out->logprob, log_probability(row, chosen, log_sum), TT_TRAFFIC_RESULT);
		tt_store_f32(&out->target_logprob, has_target ? log_probability(row, (uint32_t)target, log_sum) : 0,
			TT_TRAFFIC_RESULT);
		tt_store_4(&out->n_top, count, TT_TRAFFIC_RESULT);
	}
}

static __global__ void __launch_bounds__(CUT_THREADS, 1)
	sample_choose_kernel(const __grid_constant__ struct sample_kernel_args a)
{
	TT_DYNAMIC_SHARED(memory);
	struct cut_shared *shared = (struct cut_shared *)memory;
	uint32_t index = blockIdx.x;
	tt_grid_launch_dependents();
	tt_grid_wait();
	if (index >= tt_load_4(&a.plan->n_samples, TT_TRAFFIC_PLAN))
		return;
	const struct tt_sample_plan *plan = sample_plan(&a, index);
	struct sample_row row = sample_row_of(&a, index, largest_of_row(&a, index));
	for (uint32_t s = threadIdx.x; s < a.n_segments; s += CUT_THREADS) {
		size_t at = (size_t)index * a.n_segments + s;
		tt_shared_store_f32(shared->left + s, tt_load_f32(a.segments.largest + at, TT_TRAFFIC_SCRATCH));
		tt_shared_store_4(shared->peaks + s, tt_load_4(a.segments.peaks + at, TT_TRAFFIC_SCRATCH));
	}
	tt_sync_block();
	uint32_t chosen = row.draws ? draw(&row, plan, shared) : 0;
	if (tt_warp() != 0)
		return;
	struct sample_place nothing = {0, 0}, best = sample_take(&row, shared->left, true, nothing);
	if (!row.draws && row.max > -INFINITY)
		chosen = best.id; /* the lowest id among the largest; 0 where every logit is NaN or -infinity */
	report(&row, plan, a.results + index, best, chosen, shared->left);
}

static int launch(struct tt_cuda *cuda, const char *name, const void *kernel, dim3 grid, uint32_t threads,
	uint32_t shared_bytes, struct sample_kernel_args *a, struct tt_error *err)
{
	void *args[] = {a};
	uint64_t n = (uint64_t)a->vocab * cuda->grid_samples;
	struct tt_launch how = {name, grid, dim3(threads), shared_bytes, cuda->stream, n * sizeof(float), n,
		cuda->dependent, &cuda->counters};
	return tt_cuda_launch(cuda, &how, kernel, args, err);
}

int tt_cuda_sample(struct tt_backend *backend, const struct tt_sample_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t vocab = args->config->vocab_size, n_chunks = (vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK;
	uint32_t segment = (n_chunks + SAMPLE_MAX_SEGMENTS - 1) / SAMPLE_MAX_SEGMENTS * SAMPLE_CHUNK;
	if (cuda->grid_samples == 0)
		return TT_OK;
	if (vocab == 0 || vocab > TT_MAX_VOCAB || cuda->grid_samples > 65535)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "sample: a vocabulary of %u, %u rows", vocab, cuda->grid_samples);
	uint32_t most_shared = 0;
	TT_TRY(tt_cuda_most_shared(cuda, &most_shared, err));
	uint32_t n_segments = (vocab + segment - 1) / segment;
	struct sample_kernel_args a = {cuda->plan, args->logits, args->results, {NULL, NULL, NULL, NULL, NULL}, vocab,
		n_segments, segment, (n_segments + SAMPLE_SCAN_SEGMENTS - 1) / SAMPLE_SCAN_SEGMENTS,
		cut_shared_bytes(SAMPLE_BINS) <= most_shared ? (uint32_t)SAMPLE_BINS : (uint32_t)SAMPLE_BINS / 2};
	size_t n = (size_t)a.n_segments * cuda->grid_samples;
	size_t n_high = (size_t)a.n_scans * SAMPLE_HIGH * cuda->grid_samples;
	TT_TRY(tt_cuda_scratch(cuda, n * 2 * (sizeof(double) + sizeof(float)) + n_high * sizeof(double), err));
	a.segments.sums = (double *)cuda->partial;
	a.segments.masses = a.segments.sums + n;
	a.segments.high = a.segments.masses + n;
	a.segments.largest = (float *)(a.segments.high + n_high);
	a.segments.peaks = a.segments.largest + n;
	dim3 scan(a.n_scans, cuda->grid_samples);
	uint32_t high_bytes = SAMPLE_HIGH * SAMPLE_SCAN_THREADS * (uint32_t)sizeof(double);
	TT_TRY(launch(cuda, "sample_largest", TT_KERNEL(sample_largest_kernel), scan, SAMPLE_SCAN_THREADS, 0, &a, err));
	TT_TRY(launch(
		cuda, "sample_sums", TT_KERNEL(sample_sums_kernel), scan, SAMPLE_SCAN_THREADS, high_bytes, &a, err));
	return launch(cuda, "sample_choose", TT_KERNEL(sample_choose_kernel), dim3(cuda->grid_samples), CUT_THREADS,
		cut_shared_bytes(a.bins), &a, err);
}
