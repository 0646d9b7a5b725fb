/* A row of logits as the sampling kernels see it: segments of ids, whose summaries say where looking is worth while,
 * and the walks through them. Everything is in a fixed order, a function of the row and the vocabulary alone. */
#ifndef KERNELS_CUDA_SAMPLE_ROW_CUH
#define KERNELS_CUDA_SAMPLE_ROW_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/f64.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum {
	SAMPLE_CHUNK = 256, /* logits that are added in f32, in 8 lanes, as the CPU twin does */
	SAMPLE_LANES = 8,
	SAMPLE_MAX_SEGMENTS = 1024,
	SAMPLE_AHEAD = 8,         /* logits that a thread has asked for while it computes with as many */
	SAMPLE_SCAN_THREADS = 64, /* so that one row of 128k logits is on 63 multiprocessors */
	SAMPLE_SCAN_BLOCKS = 16,  /* of a multiprocessor, at least: 32 rows in one wave */
	SAMPLE_SCAN_SEGMENTS = SAMPLE_SCAN_THREADS / SAMPLE_LANES,
	/* of a weight's bits below 2^30: digits, from the highest down, as sample_cut.cuh finds them */
	SAMPLE_DIGIT_BITS = 5,
	SAMPLE_DIGITS = 6,
	SAMPLE_BINS = 1 << SAMPLE_DIGIT_BITS,
	SAMPLE_HIGH = 8, /* values of the first digit that weights of 2^-31 or more have */
};

/* The summaries of all segments of all rows, from one kernel to the next. */
struct sample_summaries {
	float *largest; // [n_samples][n_segments] NaN where there is no number
	float *peaks;   // [n_samples][n_segments] largest weight at the row's temperature
	double *sums;   // [n_samples][n_segments] of e^(x - max)
	double *masses; // [n_samples][n_segments] of the weights that a draw without top-k and top-p may choose
	/* [n_samples][n_scans][SAMPLE_HIGH] of a row with top-p and no top-k: the weights' sums by their first digit,
	 * of a block's segments. A digit's weights are less than 16 times the smallest, so the sum is exact, in any
	 * order: 24 bits of a weight, 4 of that, 22 of a count. */
	double *high;
};

struct sample_kernel_args {
	const struct tt_step_plan *plan;  // device
	const float *logits;              // [n_samples][vocab]
	struct tt_sample_result *results; // [n_samples]
	struct sample_summaries segments;
	uint32_t vocab, n_segments, segment; /* ids in a segment, whole chunks */
	uint32_t n_scans;                    /* blocks that share a row, SAMPLE_SCAN_SEGMENTS each */
	uint32_t bins;                       /* digits that a cut adds up at a time */
};

/* A row and its request's sampling. Weights are e^((x - max) * sharpness): 0..1, the largest 1. */
struct sample_row {
	const float *logits;
	const double *sums;   // [n_segments]
	const double *masses; // [n_segments]
	const double *high;   // [n_scans][SAMPLE_HIGH]
	uint32_t vocab, n_segments, segment, n_scans, bins;
	float max, sharpness, floor, share;
	uint32_t top_k;
	bool draws, by_count, by_share;
};

TT_DEVICE bool sample_is_finite(float x)
{
	return x - x == 0.0f;
}

/* The larger of two; a number wins over NaN. */
TT_DEVICE float sample_larger(float a, float b)
{
	return b > a || a != a ? b : a;
}

TT_DEVICE const struct tt_sample_plan *sample_plan(const struct sample_kernel_args *a, uint32_t index)
{
	uint32_t offset = tt_load_4(&a->plan->samples, TT_TRAFFIC_PLAN);
	return (const struct tt_sample_plan *)((const char *)a->plan + offset) + index;
}

/* max: the largest of the row's numbers; NaN or -infinity where there is nothing to choose from. */
TT_DEVICE struct sample_row sample_row_of(const struct sample_kernel_args *a, uint32_t index, float max)
{
	const struct tt_sample_plan *plan = sample_plan(a, index);
	size_t first = (size_t)index * a->n_segments;
	struct sample_row row = {a->logits + (size_t)index * a->vocab, a->segments.sums + first,
		a->segments.masses + first, a->segments.high + (size_t)index * a->n_scans * SAMPLE_HIGH, a->vocab,
		a->n_segments, a->segment, a->n_scans, a->bins, max, 0, 0, 0, 0, false, false, false};
	float temperature = tt_load_f32(&plan->sampling.temperature, TT_TRAFFIC_PLAN);
	float top_p = tt_load_f32(&plan->sampling.top_p, TT_TRAFFIC_PLAN),
	      min_p = tt_load_f32(&plan->sampling.min_p, TT_TRAFFIC_PLAN);
	row.top_k = tt_load_4(&plan->sampling.top_k, TT_TRAFFIC_PLAN);
	row.sharpness = tt_div(1.0f, temperature);
	row.draws = temperature > 0 && sample_is_finite(row.sharpness) && sample_is_finite(max);
	row.by_count = row.top_k && row.top_k < a->vocab;
	row.by_share = top_p < 1;
	row.share = top_p > 0 ? top_p : 0;
	row.floor = min_p > 0 ? min_p : 0;
	row.floor = row.floor < 1 ? row.floor : 1; /* the largest weight is 1, and stays */
	return row;
}

TT_DEVICE float sample_logit(const struct sample_row *row, uint32_t id)
{
	return tt_load_f32(row->logits + id, TT_TRAFFIC_ACTIVATION);
}

TT_DEVICE float sample_weight(const struct sample_row *row, float logit)
{
	return tt_exp((logit - row->max) * row->sharpness);
}

TT_DEVICE float sample_load(const float *p, enum tt_traffic kind)
{
	return tt_load_f32(p, kind);
}

TT_DEVICE double sample_load(const double *p, enum tt_traffic kind)
{
	return tt_load_f64(p, kind);
}

/* x[i] = from[i * step], for i * step < left. */
template <typename number>
TT_DEVICE void sample_fetch(
	const number *from, uint32_t step, uint32_t left, number x[SAMPLE_AHEAD], enum tt_traffic kind)
{
	TT_UNROLL
	for (uint32_t i = 0; i < SAMPLE_AHEAD; i++)
		x[i] = i * step < left ? sample_load(from + i * step, kind) : 0;
}

/* body(i, from[i]) for first, first + step and so on below end, in this order. The loads of a round are under way while
 * the one before computes: a pass that waited for each would take a thread's share of the row times a load's latency.
 */
template <typename number, typename function>
TT_DEVICE void sample_each(
	const number *from, uint32_t first, uint32_t step, uint32_t end, enum tt_traffic kind, function body)
{
	number x[SAMPLE_AHEAD], next[SAMPLE_AHEAD];
	uint32_t left = first < end ? end - first : 0, round = SAMPLE_AHEAD * step;
	from += first;
	sample_fetch(from, step, left, x, kind);
	TT_ROLLED
	while (left) {
		uint32_t after = left > round ? left - round : 0;
		from += round;
		sample_fetch(from, step, after, next, kind);
		TT_UNROLL
		for (uint32_t i = 0; i < SAMPLE_AHEAD; i++)
			if (i * step < left)
				body(first + i * step, x[i]);
		TT_UNROLL
		for (uint32_t i = 0; i < SAMPLE_AHEAD; i++)
			x[i] = next[i];
		first += round;
		left = after;
	}
}

TT_DEVICE uint32_t sample_segment_end(const struct sample_row *row, uint32_t segment)
{
	uint32_t end = (segment + 1) * row->segment;
	return end < row->vocab ? end : row->vocab;
}

/* -- Walks, by one warp: the first id, ascending, up to which more than the target has passed -- */

/* What a walk adds up: the weights from floor on, or 1 for each weight whose bits are exactly key. */
struct sample_walk {
	bool ties;
	float floor;
	uint32_t key;
	const uint32_t *counts; // [n_segments] in shared memory, of ties
};

TT_DEVICE double sample_walk_value(const struct sample_row *row, const struct sample_walk *walk, float logit)
{
	float weight = sample_weight(row, logit);
	if (walk->ties)
		return tt_bits_from_f32(weight) == walk->key ? 1 : 0;
	return weight > 0 && weight >= walk->floor ? (double)weight : 0;
}

/* body(s, what segment s holds) for the segments from first to end. */
template <typename function>
TT_DEVICE void sample_walk_segments(
	const struct sample_row *row, const struct sample_walk *walk, uint32_t first, uint32_t end, function body)
{
	if (walk->ties)
		for (uint32_t s = first; s < end; s++)
			body(s, (double)tt_shared_load_4(walk->counts + s));
	else
		sample_each(row->masses, first, 1, end, TT_TRAFFIC_SCRATCH, body);
}

/* The sum over the lower lanes; *total: the sum over all. Lanes ascending. */
TT_DEVICE double sample_lanes_before(double own, double *total)
{
	double before = 0, sum = 0;
	for (uint32_t lane = 0; lane < TT_WARP; lane++) {
		before = lane == tt_lane() ? sum : before;
		sum += tt_shuffle_f64(own, lane);
	}
	*total = sum;
	return before;
}

/* The lane in whose share the target is passed. Where rounding lets no lane pass it, the last that holds anything. */
TT_DEVICE uint32_t sample_lane_of(double before, double own, double target)
{
	uint32_t passing = tt_ballot(own > 0 && before + own > target), holding = tt_ballot(own > 0);
	uint32_t lane = 0;
	for (uint32_t i = 0; i < TT_WARP; i++)
		if (passing >> (TT_WARP - 1 - i) & 1)
			lane = TT_WARP - 1 - i;
	for (uint32_t i = 0; i < TT_WARP && !passing; i++)
		if (holding >> i & 1)
			lane = i;
	return lane;
}

/* The target is share of the total, or share itself where absolute. */
TT_DEVICE uint32_t sample_walk_to(
	const struct sample_row *row, const struct sample_walk *walk, double share, bool absolute)
{
	uint32_t each = (row->n_segments + TT_WARP - 1) / TT_WARP, found = 0;
	uint32_t first = tt_lane() * each, end = first + each < row->n_segments ? first + each : row->n_segments;
	double own = 0, total, passed;
	sample_walk_segments(row, walk, first, end, [&](uint32_t, double mass) { own += mass; });
	double before = sample_lanes_before(own, &total), target = absolute ? share : share * total;
	uint32_t lane = sample_lane_of(before, own, target);
	passed = before;
	bool going = tt_lane() == lane;
	double at = before;
	sample_walk_segments(row, walk, first, going ? end : first, [&](uint32_t s, double mass) {
		if (!going || !(mass > 0))
			return;
		found = s;
		passed = at;
		going = !(at + mass > target);
		at += mass;
	});
	uint32_t segment = tt_shuffle(found, lane);
	passed = tt_shuffle_f64(passed, lane);
	uint32_t segment_end = sample_segment_end(row, segment);
	each = row->segment / TT_WARP;
	first = segment * row->segment + tt_lane() * each;
	end = first + each < segment_end ? first + each : segment_end;
	own = 0;
	sample_each(row->logits, first, 1, end, TT_TRAFFIC_ACTIVATION,
		[&](uint32_t, float logit) { own += sample_walk_value(row, walk, logit); });
	before = passed + sample_lanes_before(own, &total);
	lane = sample_lane_of(before, own, target);
	going = tt_lane() == lane;
	sample_each(row->logits, first, 1, going ? end : first, TT_TRAFFIC_ACTIVATION, [&](uint32_t id, float logit) {
		double value = sample_walk_value(row, walk, logit);
		if (!going || !(value > 0))
			return;
		found = id;
		going = !(before + value > target);
		before += value;
	});
	return tt_shuffle(found, lane);
}

/* The sum of all segments' sums. */
TT_DEVICE double sample_total(const double *sums, uint32_t n_segments)
{
	uint32_t each = (n_segments + TT_WARP - 1) / TT_WARP, first = tt_lane() * each;
	uint32_t end = first + each < n_segments ? first + each : n_segments;
	double own = 0, total;
	sample_each(sums, first, 1, end, TT_TRAFFIC_SCRATCH, [&](uint32_t, double sum) { own += sum; });
	sample_lanes_before(own, &total);
	return total;
}

/* -- The likeliest ids, in turn, by one warp -- */

struct sample_place {
	float value;
	uint32_t id;
};

/* Whether the id comes after place in the order: by value, then by id. A NaN comes after nothing. */
TT_DEVICE bool sample_comes_after(float value, uint32_t id, struct sample_place place)
{
	return value < place.value || (value == place.value && id > place.id);
}

/* The first, in that order, of the places that the lanes hold; an id of UINT32_MAX is no place. */
TT_DEVICE struct sample_place sample_first_of_lanes(struct sample_place own)
{
	for (uint32_t lanes = TT_WARP / 2; lanes; lanes /= 2) {
		struct sample_place other = {tt_shuffle_xor_f32(own.value, lanes), tt_shuffle_xor(own.id, lanes)};
		if (other.id != UINT32_MAX && (own.id == UINT32_MAX || sample_comes_after(own.value, own.id, other)))
			own = other;
	}
	return own;
}

/* The first place of a segment after place, or of the whole segment. */
TT_DEVICE struct sample_place sample_next_in_segment(
	const struct sample_row *row, uint32_t segment, bool whole, struct sample_place place)
{
	uint32_t end = sample_segment_end(row, segment);
	struct sample_place own = {0, UINT32_MAX};
	sample_each(row->logits, segment * row->segment + tt_lane(), TT_WARP, end, TT_TRAFFIC_ACTIVATION,
		[&](uint32_t id, float x) {
			if (x == x && (whole || sample_comes_after(x, id, place)) &&
				(own.id == UINT32_MAX || x > own.value)) {
				own.value = x;
				own.id = id;
			}
		});
	return sample_first_of_lanes(own);
}

/* Takes the first place of the row that is left. left[n_segments], in shared memory, holds the largest value that is
 * left of each segment, NaN where nothing is. Returns the id UINT32_MAX where there is none. */
TT_DEVICE struct sample_place sample_take(
	const struct sample_row *row, float *left, bool whole, struct sample_place taken)
{
	struct sample_place best = {0, UINT32_MAX};
	for (uint32_t s = tt_lane(); s < row->n_segments; s += TT_WARP) {
		float x = tt_shared_load_f32(left + s);
		if (x == x && (best.id == UINT32_MAX || x > best.value)) {
			best.value = x;
			best.id = s;
		}
	}
	best = sample_first_of_lanes(best);
	uint32_t segment = best.id;
	if (segment == UINT32_MAX)
		return best;
	best = sample_next_in_segment(row, segment, whole, taken);
	struct sample_place next = sample_next_in_segment(row, segment, false, best);
	tt_sync_warp();
	if (tt_lane() == 0)
		tt_shared_store_f32(left + segment, next.id == UINT32_MAX ? tt_f32_from_bits(0x7fffffff) : next.value);
	tt_sync_warp();
	return best;
}

#endif
