/* Top-k, top-p, and the draw from what they leave. All have the same form: the weights of a row, likeliest first and
 * then by id, are passed until a count or a share of their sum is reached. Without a sort: the weight at which that
 * happens is found 5 bits at a time, from the sums of the weights for each value of those bits.
 *
 * Weights are 0..1, so their bits are ascending and below 2^30: 6 digits. Segments whose peak is below what is still
 * sought are skipped; after the first digit that is nearly all of them. */
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
	CUT_BITS = 5,
	CUT_BINS = 1 << CUT_BITS,
	CUT_DIGITS = 6,
};

/* The block's shared memory: this, then bins, a column for each thread, so that no two threads write the same and no
 * bank is hit twice. */
struct cut_shared {
	double totals[CUT_BINS];
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
	double share, of; /* of: the sum, or negative for the sum of what the last cut left */
};

TT_DEVICE bool cut_keeps(struct cut cut, uint32_t key, uint32_t id)
{
	return key > cut.key || (key == cut.key && id <= cut.id);
}

/* Adds up the weights whose bits above shift + CUT_BITS are prefix, by the digit at shift: for row->bins digits from
 * first on. */
TT_DEVICE void cut_add_up(const struct sample_row *row, const struct cut_target *target, struct cut last,
	uint32_t prefix, uint32_t shift, uint32_t first, struct cut_shared *shared)
{
	uint32_t lane = threadIdx.x % SAMPLE_LANES, above = shift + CUT_BITS;
	uint32_t lowest = prefix << above > last.key ? prefix << above : last.key;
	for (uint32_t b = 0; b < row->bins; b++)
		tt_shared_store_f64(cut_bin(shared, b) + threadIdx.x, 0);
	for (uint32_t s = threadIdx.x / SAMPLE_LANES; s < row->n_segments; s += CUT_GROUPS) {
		uint32_t end = sample_segment_end(row, s);
		if (tt_load_4(row->peaks + s, TT_TRAFFIC_SCRATCH) < lowest)
			continue;
		for (uint32_t i = s * row->segment + lane; i < end; i += SAMPLE_LANES) {
			float weight = sample_weight(row, i);
			uint32_t key = tt_bits_from_f32(weight), bin = (key >> shift & (CUT_BINS - 1)) - first;
			if (!(weight > 0) || key >> above != prefix || !cut_keeps(last, key, i) || bin >= row->bins)
				continue;
			double *sum = cut_bin(shared, bin) + threadIdx.x;
			tt_shared_store_f64(sum, tt_shared_load_f64(sum) + (target->by_count ? 1 : (double)weight));
		}
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
	for (uint32_t i = 0; i < CUT_BINS; i++) {
		double sum = tt_shared_load_f64(&shared->totals[CUT_BINS - 1 - i]);
		if (sum == 0)
			continue;
		digit = CUT_BINS - 1 - i;
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
		if (s < row->n_segments && tt_load_4(row->peaks + s, TT_TRAFFIC_SCRATCH) >= key)
			for (uint32_t i = s * row->segment + lane; i < sample_segment_end(row, s); i += SAMPLE_LANES)
				count += tt_bits_from_f32(sample_weight(row, i)) == key;
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

TT_DEVICE struct cut cut_at(
	const struct sample_row *row, const struct cut_target *how, struct cut last, struct cut_shared *shared)
{
	double target = how->share * how->of, passed = 0, held = 0;
	uint32_t key = 0;
	for (uint32_t i = 0; i < CUT_DIGITS; i++) {
		uint32_t shift = (CUT_DIGITS - 1 - i) * CUT_BITS;
		for (uint32_t first = 0; first < CUT_BINS; first += row->bins)
			cut_add_up(row, how, last, key, shift, first, shared);
		if (i == 0 && how->of < 0) {
			double sum = 0;
			for (uint32_t b = 0; b < CUT_BINS; b++)
				sum += tt_shared_load_f64(&shared->totals[b]);
			target = how->share * sum;
		}
		key = key << CUT_BITS | cut_digit(shared, how->more, target, &passed, &held);
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
	for (uint32_t i = threadIdx.x; i < row->n_segments; i += CUT_THREADS)
		tt_shared_store_4(shared->counts + i, tt_load_4(row->peaks + i, TT_TRAFFIC_SCRATCH));
	tt_sync_block();
	for (uint32_t i = threadIdx.x; i < row->n_segments; i += CUT_THREADS) {
		uint32_t own = tt_shared_load_4(shared->counts + i), n = 0;
		for (uint32_t j = 0; j < row->n_segments; j++)
			n += tt_shared_load_4(shared->counts + j) >= own;
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

/* Top-k first; then top-p, min-p and the draw, each from what the one before left. uniform is in [0, 1). */
TT_DEVICE uint32_t cut_draw(const struct sample_row *row, double uniform, struct cut_shared *shared)
{
	struct cut cut = {0, UINT32_MAX};
	if (row->by_count) {
		struct cut_target k = {true, false, false, (double)row->top_k, 1};
		cut.key = cut_least_of_top_k(row, shared);
		cut = cut_at(row, &k, cut, shared);
	}
	if (row->by_share) {
		struct cut_target p = {false, false, false, (double)row->share, -1};
		if (!row->by_count) {
			/* All ids lighter than this together weigh less than 1 - top_p of the sum: they are never in
			 * the nucleus. */
			double sum = sample_total(row->masses, row->n_segments);
			cut.key = tt_bits_from_f32((float)((1 - p.share) * sum / row->vocab * 0.999));
			p.of = sum;
		}
		cut = cut_at(row, &p, cut, shared);
	}
	uint32_t floor_key = tt_bits_from_f32(row->floor);
	if (floor_key > cut.key) {
		cut.key = floor_key;
		cut.id = UINT32_MAX;
	}
	struct cut_target draw = {false, true, true, uniform, -1};
	return cut_at(row, &draw, cut, shared).id;
}

#endif
