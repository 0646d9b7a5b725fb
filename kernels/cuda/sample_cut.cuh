/* Top-k, top-p, and the draw from what they leave. All have the same form: the weights of a row, likeliest first and
 * then by id, are passed until a count or a share of their sum is reached. Without a sort: the weight at which that
 * happens is found 5 bits at a time, from the sums of the weights for each value of those bits.
 *
 * Weights are 0..1, so their bits are ascending and below 2^30: 6 digits. Segments whose peak is below what is still
 * sought are skipped; after the first digit that is nearly all of them. The first digit of top-p alone would read the
 * whole row, so the sums kernel adds up its high values, on all multiprocessors. */
#ifndef KERNELS_CUDA_SAMPLE_CUT_CUH
#define KERNELS_CUDA_SAMPLE_CUT_CUH

#include "kernels/cuda/sample_row.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum {
	CUT_THREADS = 512,
	CUT_WARPS = CUT_THREADS / TT_WARP,
	CUT_GROUPS = CUT_THREADS / SAMPLE_LANES,
};

/* The block's shared memory: this, then bins, a column for each thread, so that no two threads write the same and no
 * bank is hit twice. */
struct cut_shared {
	double totals[SAMPLE_BINS];
	uint32_t peaks[SAMPLE_MAX_SEGMENTS]; /* the bits of each segment's */
	uint32_t counts[SAMPLE_MAX_SEGMENTS];
	float left[SAMPLE_MAX_SEGMENTS];
	uint32_t id;
};

/* Bins are for as many values of a digit as shared memory holds: all 32, or half of them. Then the weights are read
 * twice, and the sums are the same. */
static __host__ __device__ __forceinline__ uint32_t cut_shared_bytes(uint32_t bins)
{
	return (uint32_t)sizeof(struct cut_shared) + bins * CUT_THREADS * (uint32_t)sizeof(double);
}

TT_DEVICE double *cut_bin(struct cut_shared *shared, uint32_t bin)
{
	return (double *)(shared + 1) + bin * CUT_THREADS;
}

/* What a cut keeps: the weights above key, and those equal to key up to id. */
struct cut {
	uint32_t key, id;
};

/* Where to stop: at a count, or at a share of the weights' sum. more: it must be exceeded, not only reached. */
struct cut_target {
	bool by_count, more, needs_id;
	bool high;        /* by the sums that the row has of its high digits, where they reach it */
	double share, of; /* of: the sum, or negative for the sum of what the last cut left */
};

TT_DEVICE bool cut_keeps(struct cut cut, uint32_t key, uint32_t id)
{
	return key > cut.key || (key == cut.key && id <= cut.id);
}

/* Adds up the weights whose bits above the digit at shift are prefix, by that digit: for row->bins values from first
 * on. */
TT_DEVICE void cut_add_up(const struct sample_row *row, const struct cut_target *target, struct cut last,
	uint32_t prefix, uint32_t shift, uint32_t first, struct cut_shared *shared)
{
	uint32_t lane = threadIdx.x % SAMPLE_LANES, above = shift + SAMPLE_DIGIT_BITS;
	uint32_t lowest = prefix << above > last.key ? prefix << above : last.key;
	for (uint32_t b = 0; b < row->bins; b++)
		tt_shared_store_f64(cut_bin(shared, b) + threadIdx.x, 0);
	for (uint32_t s = threadIdx.x / SAMPLE_LANES; s < row->n_segments; s += CUT_GROUPS) {
		if (tt_shared_load_4(shared->peaks + s) < lowest)
			continue;
		sample_each(row->logits, s * row->segment + lane, SAMPLE_LANES, sample_segment_end(row, s),
			TT_TRAFFIC_ACTIVATION, [&](uint32_t id, float logit) {
				float weight = sample_weight(row, logit);
				uint32_t key = tt_bits_from_f32(weight);
				uint32_t bin = (key >> shift & (SAMPLE_BINS - 1)) - first;
				if (!(weight > 0) || key >> above != prefix || !cut_keeps(last, key, id) ||
					bin >= row->bins)
					return;
				double *sum = cut_bin(shared, bin) + threadIdx.x;
				tt_shared_store_f64(
					sum, tt_shared_load_f64(sum) + (target->by_count ? 1 : (double)weight));
			});
	}
	tt_sync_block();
	for (uint32_t b = tt_warp(); b < row->bins; b += CUT_WARPS) {
		double sum = 0;
		for (uint32_t i = tt_lane(); i < CUT_THREADS; i += TT_WARP)
			sum += tt_shared_load_f64(cut_bin(shared, b) + i);
		sum = tt_warp_sum_f64(sum, TT_WARP);
		if (tt_lane() == 0)
			tt_shared_store_f64(&shared->totals[first + b], sum);
	}
	tt_sync_block();
}

/* The digit, from the largest down, at which the target is reached. Where rounding lets no digit reach it, the smallest
 * that holds anything. */
TT_DEVICE uint32_t cut_digit(const struct cut_shared *shared, bool more, double target, double *passed, double *held)
{
	uint32_t digit = 0;
	double at = *passed;
	TT_ROLLED
	for (uint32_t i = 0; i < SAMPLE_BINS; i++) {
		double sum = tt_shared_load_f64(&shared->totals[SAMPLE_BINS - 1 - i]);
		if (sum == 0)
			continue;
		digit = SAMPLE_BINS - 1 - i;
		*passed = at;
		*held = sum;
		at += sum;
		if (more ? at > target : at >= target)
			break;
	}
	return digit;
}

/* Among the ids whose weight is exactly key, ascending: the first up to which more than rank of them have passed. */
TT_DEVICE uint32_t cut_tie(const struct sample_row *row, uint32_t key, double rank, struct cut_shared *shared)
{
	uint32_t lane = threadIdx.x % SAMPLE_LANES, rounds = (row->n_segments + CUT_GROUPS - 1) / CUT_GROUPS;
	for (uint32_t round = 0; round < rounds; round++) { /* all lanes take part in the shuffles */
		uint32_t s = round * CUT_GROUPS + threadIdx.x / SAMPLE_LANES, count = 0;
		if (s < row->n_segments && tt_shared_load_4(shared->peaks + s) >= key)
			sample_each(row->logits, s * row->segment + lane, SAMPLE_LANES, sample_segment_end(row, s),
				TT_TRAFFIC_ACTIVATION, [&](uint32_t, float logit) {
					count += tt_bits_from_f32(sample_weight(row, logit)) == key;
				});
		for (uint32_t lanes = SAMPLE_LANES / 2; lanes; lanes /= 2)
			count += tt_shuffle_xor(count, lanes);
		if (lane == 0 && s < row->n_segments)
			tt_shared_store_4(shared->counts + s, count);
	}
	tt_sync_block();
	if (tt_warp() == 0) {
		struct sample_walk walk = {true, 0, key, shared->counts};
		uint32_t id = sample_walk_to(row, &walk, rank, true);
		if (tt_lane() == 0)
			tt_shared_store_4(&shared->id, id);
	}
	tt_sync_block();
	return tt_shared_load_4(&shared->id);
}

/* The totals of the first digit's high values above last, from what the sums kernel left; the others' become 0. */
TT_DEVICE void cut_high(const struct sample_row *row, struct cut last, struct cut_shared *shared)
{
	const uint32_t lowest = SAMPLE_BINS - SAMPLE_HIGH, digit = last.key >> (SAMPLE_DIGITS - 1) * SAMPLE_DIGIT_BITS;
	for (uint32_t b = tt_warp(); b < SAMPLE_BINS; b += CUT_WARPS) {
		double sum = 0;
		if (b >= lowest && b > digit)
			sample_each(row->high + (b - lowest), tt_lane() * SAMPLE_HIGH, TT_WARP * SAMPLE_HIGH,
				row->n_scans * SAMPLE_HIGH, TT_TRAFFIC_SCRATCH, [&](uint32_t, double x) { sum += x; });
		sum = tt_warp_sum_f64(sum, TT_WARP);
		if (tt_lane() == 0)
			tt_shared_store_f64(&shared->totals[b], sum);
	}
	tt_sync_block();
}

TT_DEVICE struct cut cut_at(
	const struct sample_row *row, const struct cut_target *how, struct cut last, struct cut_shared *shared)
{
	double target = how->share * how->of, passed = 0, held = 0;
	uint32_t key = 0;
	bool high = how->high;
	TT_ROLLED
	for (uint32_t i = 0; i < SAMPLE_DIGITS;) {
		uint32_t shift = (SAMPLE_DIGITS - 1 - i) * SAMPLE_DIGIT_BITS;
		if (high)
			cut_high(row, last, shared);
		for (uint32_t first = 0; first < SAMPLE_BINS && !high; first += row->bins)
			cut_add_up(row, how, last, key, shift, first, shared);
		if (i == 0 && how->of < 0) {
			double sum = 0;
			for (uint32_t b = 0; b < SAMPLE_BINS; b++)
				sum += tt_shared_load_f64(&shared->totals[b]);
			target = how->share * sum;
		}
		uint32_t digit = cut_digit(shared, how->more, target, &passed, &held);
		bool again = high && !(held > 0 && passed + held >= target); /* it is among the lower ones */
		high = false;
		if (again) {
			passed = held = 0;
			continue;
		}
		key = key << SAMPLE_DIGIT_BITS | digit;
		i++;
	}
	/* The weights that are left are all equal: how many of them it takes. */
	double value = how->by_count ? 1 : (double)tt_f32_from_bits(key), needed = (target - passed) / value;
	double n_ties = floor(held / value + 0.5), rank = how->more ? floor(needed) + 1 : ceil(needed);
	rank = rank > n_ties ? n_ties : rank;
	rank = rank < 1 ? 1 : rank;
	struct cut cut = {key, key == last.key ? last.id : UINT32_MAX};
	if (rank < n_ties || how->needs_id)
		cut.id = cut_tie(row, key, rank - 1, shared);
	return cut;
}

/* A weight that at least top_k ids reach, from the segments' peaks: with it the first digit need not read most of the
 * row. */
TT_DEVICE uint32_t cut_least_of_top_k(const struct sample_row *row, struct cut_shared *shared)
{
	uint32_t least = 0;
	for (uint32_t i = threadIdx.x; i < row->n_segments; i += CUT_THREADS) {
		uint32_t own = tt_shared_load_4(shared->peaks + i), n = 0;
		for (uint32_t j = 0; j < row->n_segments; j++)
			n += tt_shared_load_4(shared->peaks + j) >= own;
		if (n >= row->top_k && own > least)
			least = own;
	}
	for (uint32_t lanes = TT_WARP / 2; lanes; lanes /= 2) {
		uint32_t other = tt_shuffle_xor(least, lanes);
		least = other > least ? other : least;
	}
	if (tt_lane() == 0)
		tt_shared_store_f64(&shared->totals[tt_warp()], (double)least);
	tt_sync_block();
	for (uint32_t i = 0; i < CUT_WARPS; i++) {
		uint32_t other = (uint32_t)tt_shared_load_f64(&shared->totals[i]);
		least = other > least ? other : least;
	}
	tt_sync_block();
	return least;
}

/* A weight below which no id is in the nucleus of the whole row, whose weights' sum is sum: all that are lighter weigh
 * less than 1 - top_p of it together. */
TT_DEVICE uint32_t cut_least_of_top_p(const struct sample_row *row, double share, double sum)
{
	return tt_bits_from_f32((float)((1 - share) * sum / row->vocab * 0.999));
}

/* Top-k first; then top-p, min-p and the draw, each from what the one before left. uniform is in [0, 1). The code of a
 * cut stands here once. */
TT_DEVICE uint32_t cut_draw(const struct sample_row *row, double uniform, struct cut_shared *shared)
{
	enum { TOP_K, TOP_P, DRAW, CUTS };
	struct cut cut = {0, UINT32_MAX};
	TT_ROLLED
	for (uint32_t i = 0; i < CUTS; i++) {
		struct cut_target how = {false, true, true, false, uniform, -1};
		if ((i == TOP_K && !row->by_count) || (i == TOP_P && !row->by_share))
			continue;
		if (i == TOP_K) {
			how = {true, false, false, false, (double)row->top_k, 1};
			cut.key = cut_least_of_top_k(row, shared);
		} else if (i == TOP_P) {
			how = {false, false, false, !row->by_count, (double)row->share, -1};
			if (how.high) {
				how.of = sample_total(row->masses, row->n_segments);
				cut.key = cut_least_of_top_p(row, how.share, how.of);
			}
		} else if (tt_bits_from_f32(row->floor) > cut.key)
			cut = {tt_bits_from_f32(row->floor), UINT32_MAX};
		cut = cut_at(row, &how, cut, shared);
	}
	return cut.id;
}

#endif
