/* Paged attention, for decode and prefill in one order of summation. For each split of 256 keys at absolute multiples:
 * all scores; their maximum; e^x and its sum by pages; the weights rounded to bf16 and multiplied with the values,
 * pages ascending. Then the splits are added in index order, with the totals rescaled to the larger maximum. A masked
 * key weighs 0 and adds 0, so a split, a stage or a page that a row does not see leaves its totals as they are, bit for
 * bit, whether it is computed or not.
 *
 * Keys and values stream through one ring of stages of 64 keys: first all keys of a split, then its values. In decode
 * each split has a block of its own, and the last block to arrive merges them in index order. In prefill, and where
 * there are enough blocks without that, a block takes all splits of its tile; but tiles that a block alone would take
 * longer for than all blocks for an equal part of the step are shared: of a decode step's each split is one's, of a
 * prompt's some. */
#include "kernels/cuda/attention_list.cuh"
#include "kernels/cuda/attention_merge.cuh"
#include "kernels/cuda/attention_stage.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/soft_cap.cuh"
#include "kernels/cuda/ptx/async.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

/* A thread replaces what it read itself in store_rows of the tile before, so that no barrier is between the two. */
template <typename shape>
TT_DEVICE void fetch_queries(
	const struct attention_kernel_args *a, const struct attention_tile *t, const struct attention_shared<shape> *s)
{
	uint32_t chunks = a->head_dim / 8;
	TT_ROLLED
	for (uint32_t i = threadIdx.x; i < shape::ROWS * chunks; i += shape::THREADS) {
		uint32_t row = i / chunks, chunk = i % chunks;
		bool valid = row < t->n_rows;
		tt_copy_async_or_zero(s->q + row * attention_stride(a->head_dim) + chunk * 16,
			a->q + (valid ? row_at(a, t, row) + chunk * 8 : 0), valid, TT_TRAFFIC_ACTIVATION);
	}
}

/* scores[page][8] of a stage: keys 2t, 2t + 1 and 8 more of row g, interleaved with those of row g + 8 as mma gives
 * them. */
template <typename shape>
TT_DEVICE void score_stage(const struct attention_kernel_args *a, const struct attention_shared<shape> *s,
	uint32_t slot, float scores[shape::KEY_PAGES][8])
{
	uint32_t lane = tt_lane(), m = tt_warp() % shape::M_TILES, stride = attention_stride(a->head_dim);
	uint32_t first_page = tt_warp() / shape::M_TILES * shape::KEY_PAGES, q[4], k[4];
	const unsigned char *rows = s->q + (m * 16 + lane % 16) * stride + lane / 16 * 16;
	const unsigned char *keys =
		s->ring + (slot * STAGE_KEYS + first_page * TT_PAGE_TOKENS + lane / 16 * 8 + lane % 8) * stride +
		lane / 8 % 2 * 16;
	TT_UNROLL
	for (uint32_t p = 0; p < shape::KEY_PAGES; p++)
		TT_UNROLL
	for (uint32_t i = 0; i < 8; i++)
		scores[p][i] = 0;
	TT_ROLLED
	for (uint32_t c = 0; c < a->head_dim / 16; c++) {
		tt_ldmatrix_x4(q, rows + c * 32);
		TT_UNROLL
		for (uint32_t p = 0; p < shape::KEY_PAGES; p++) {
			tt_ldmatrix_x4(k, keys + p * TT_PAGE_TOKENS * stride + c * 32);
			tt_mma(scores[p], q, k);
			tt_mma(scores[p] + 4, q, k + 2);
		}
	}
}

/* Scales the scores, and caps them. */
template <typename shape>
TT_DEVICE void scale_stage(const struct attention_kernel_args *a, float scores[shape::KEY_PAGES][8])
{
	TT_UNROLL
	for (uint32_t i = 0; i < shape::KEY_PAGES * 8; i++)
		scores[i / 8][i % 8] *= a->scale;
	if (a->soft_cap == 0)
		return;
	TT_UNROLL
	for (uint32_t i = 0; i < shape::KEY_PAGES * 8; i++)
		scores[i / 8][i % 8] = soft_cap(scores[i / 8][i % 8], a->soft_cap);
}

/* Sets the scores of keys that the row does not see to -infinity. first: the absolute key of the warp's first page. */
template <typename shape>
TT_DEVICE void mask_stage(const struct attention_kernel_args *a, uint32_t first, const uint32_t sees[2],
	float scores[shape::KEY_PAGES][8])
{
	TT_UNROLL
	for (uint32_t p = 0; p < shape::KEY_PAGES; p++) {
		TT_UNROLL
		for (uint32_t i = 0; i < 8; i++) {
			uint32_t key = first + p * TT_PAGE_TOKENS + i / 4 * 8 + tt_lane() % 4 * 2 + i % 2,
				 end = sees[i / 2 % 2];
			bool seen = key < end && (!a->window || key + a->window >= end);
			scores[p][i] = seen ? scores[p][i] : -INFINITY;
		}
	}
}

/* Moves each stage's scores to the place before; the last ones are then -infinity. */
template <typename shape> TT_DEVICE void next_scores(float scores[SPLIT_STAGES][shape::KEY_PAGES][8])
{
	TT_UNROLL
	for (uint32_t i = 0; i < SPLIT_STAGES * shape::KEY_PAGES * 8; i++) {
		uint32_t stage = i / (shape::KEY_PAGES * 8), page = i / 8 % shape::KEY_PAGES;
		scores[stage][page][i % 8] = stage + 1 < SPLIT_STAGES ? scores[stage + 1][page][i % 8] : -INFINITY;
	}
}

/* The maximum of the split's scores, for the thread's two rows. */
template <typename shape>
TT_DEVICE void split_max(
	const struct attention_shared<shape> *s, const float scores[SPLIT_STAGES][shape::KEY_PAGES][8], float max[2])
{
	uint32_t row = tt_warp() % shape::M_TILES * 16 + tt_lane() / 4;
	max[0] = max[1] = -INFINITY;
	TT_UNROLL
	for (uint32_t i = 0; i < SPLIT_STAGES * shape::KEY_PAGES * 8; i++) {
		float x = scores[i / (8 * shape::KEY_PAGES)][i / 8 % shape::KEY_PAGES][i % 8];
		max[i / 2 % 2] = x > max[i / 2 % 2] ? x : max[i / 2 % 2];
	}
	TT_UNROLL
	for (uint32_t half = 0; half < 2; half++) {
		float x = tt_warp_max(max[half], 4);
		if (tt_lane() % 4 == 0)
			tt_shared_store_f32(
				s->group_max + tt_warp() / shape::M_TILES * shape::ROWS + row + half * 8, x);
	}
	tt_sync_block();
	TT_UNROLL
	for (uint32_t half = 0; half < 2; half++) {
		max[half] = -INFINITY;
		for (uint32_t g = 0; g < shape::KEY_GROUPS; g++) {
			float x = tt_shared_load_f32(s->group_max + g * shape::ROWS + row + half * 8);
			max[half] = x > max[half] ? x : max[half];
		}
	}
}

/* e^(score - max) of a stage in bf16, and its sum by pages: first four keys of a lane, then the four lanes. */
template <typename shape>
TT_DEVICE void weigh_stage(const struct attention_shared<shape> *s, uint32_t stage, const float max[2],
	const float scores[shape::KEY_PAGES][8])
{
	uint32_t row = tt_warp() % shape::M_TILES * 16 + tt_lane() / 4;
	uint32_t first_page = stage * STAGE_PAGES + tt_warp() / shape::M_TILES * shape::KEY_PAGES;
	TT_UNROLL
	for (uint32_t p = 0; p < shape::KEY_PAGES; p++) {
		TT_UNROLL
		for (uint32_t half = 0; half < 2; half++) {
			float w[4];
			TT_UNROLL
			for (uint32_t i = 0; i < 4; i++) {
				float x = scores[p][i / 2 * 4 + half * 2 + i % 2];
				w[i] = x == -INFINITY ? 0 : tt_exp(x - max[half]);
			}
			unsigned char *to = s->weights + (row + half * 8) * WEIGHT_STRIDE + (first_page + p) * 32 +
					    tt_lane() % 4 * 4;
			tt_shared_store_4(to, tt_bf16x2_from_f32(w[0], w[1]));
			tt_shared_store_4(to + 16, tt_bf16x2_from_f32(w[2], w[3]));
			float sum = tt_warp_sum((w[0] + w[1]) + (w[2] + w[3]), 4);
			if (tt_lane() % 4 == 0)
				tt_shared_store_f32(
					s->page_sums + (first_page + p) * shape::ROWS + row + half * 8, sum);
		}
	}
}

/* One thread for each row, after the barrier that follows weigh_stage. */
template <typename shape>
TT_DEVICE void join_rows(const struct attention_shared<shape> *s, uint32_t first_page, uint32_t end_page)
{
	uint32_t row = threadIdx.x;
	if (row >= shape::ROWS)
		return;
	float max = -INFINITY, sum = 0;
	for (uint32_t g = 0; g < shape::KEY_GROUPS; g++) {
		float x = tt_shared_load_f32(s->group_max + g * shape::ROWS + row);
		max = x > max ? x : max;
	}
	TT_ROLLED
	for (uint32_t p = first_page; p < end_page; p++)
		sum += tt_shared_load_f32(s->page_sums + p * shape::ROWS + row);
	float before = tt_shared_load_f32(s->max + row);
	struct factors f = join_factors(before, max);
	sum = max == -INFINITY ? 0 : sum * f.fresh;
	tt_shared_store_f32(s->max + row, join_max(before, max));
	tt_shared_store_f32(s->sum + row, fmaf(tt_shared_load_f32(s->sum + row), f.old, sum));
	tt_shared_store_f32(s->old + row, f.old);
	tt_shared_store_f32(s->fresh + row, f.fresh);
}

/* acc += weights of a stage * its values, for the warp's columns. */
template <typename shape>
TT_DEVICE void add_stage(const struct attention_kernel_args *a, const struct attention_shared<shape> *s,
	uint32_t n_rows, uint32_t stage, uint32_t slot, float acc[shape::N_TILES][shape::M_TILES][4])
{
	uint32_t lane = tt_lane(), stride = attention_stride(a->head_dim), w[2][shape::M_TILES][4], v[4];
	TT_ROLLED
	for (uint32_t pair = 0; pair < STAGE_PAGES / 2; pair++) {
		const unsigned char *rows =
			s->weights + lane % 16 * WEIGHT_STRIDE + (stage * STAGE_PAGES + pair * 2) * 32 + lane / 16 * 16;
		TT_UNROLL
		for (uint32_t m = 0; m < shape::M_TILES; m++) {
			if (m * 16 < n_rows) {
				tt_ldmatrix_x4(w[0][m], rows + m * 16 * WEIGHT_STRIDE);
				tt_ldmatrix_x4(w[1][m], rows + m * 16 * WEIGHT_STRIDE + 32);
			}
		}
		const unsigned char *values = s->ring + (slot * STAGE_KEYS + pair * 2 * TT_PAGE_TOKENS + lane) * stride;
		TT_UNROLL
		for (uint32_t n = 0; n < shape::N_TILES; n++) {
			uint32_t column = n * shape::WARPS + tt_warp();
			if (column >= a->head_dim / 8)
				break;
			tt_ldmatrix_x4_trans(v, values + column * 16);
			TT_UNROLL
			for (uint32_t m = 0; m < shape::M_TILES; m++) {
				if (m * 16 < n_rows) {
					tt_mma(acc[n][m], w[0][m], v);
					tt_mma(acc[n][m], w[1][m], v + 2);
				}
			}
		}
	}
}

/* One split: its keys, then its values, then their sum into the totals. */
template <typename shape>
TT_DEVICE void run_split(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, uint32_t split, struct ring *ring, const uint32_t sees[2],
	float totals[shape::N_TILES][shape::M_TILES][4])
{
	uint32_t first = first_stage(t, split), end = end_stage(t, split), row = tt_lane() / 4;
	uint32_t my_page = tt_warp() / shape::M_TILES * shape::KEY_PAGES;
	float scores[SPLIT_STAGES][shape::KEY_PAGES][8] = {}, acc[shape::N_TILES][shape::M_TILES][4], max[2];
	/* The scores of a stage are always the newest or the oldest, so that one copy of the code serves all stages. */
	TT_ROLLED
	for (uint32_t i = 0; i < SPLIT_STAGES; i++) {
		uint32_t from = split * TT_SPLIT_KEYS + i * STAGE_KEYS;
		next_scores<shape>(scores);
		if (i >= first && i < end) {
			score_stage<shape>(a, s, take_stage<shape>(a, t, s, ring, from), scores[SPLIT_STAGES - 1]);
			scale_stage<shape>(a, scores[SPLIT_STAGES - 1]);
			/* elsewhere all rows see all keys of the stage */
			if (from < t->all_low || from + STAGE_KEYS > t->all_end)
				mask_stage<shape>(a, from + my_page * TT_PAGE_TOKENS, sees, scores[SPLIT_STAGES - 1]);
		}
	}
	split_max<shape>(s, scores, max);
	TT_ROLLED
	for (uint32_t i = 0; i < SPLIT_STAGES; i++) {
		if (i >= first && i < end)
			weigh_stage<shape>(s, i, max, scores[0]);
		next_scores<shape>(scores);
	}
	tt_sync_block();
	join_rows<shape>(s, first * STAGE_PAGES, end * STAGE_PAGES);
	TT_UNROLL
	for (uint32_t i = 0; i < shape::N_TILES * shape::M_TILES * 4; i++)
		acc[i / (4 * shape::M_TILES)][i / 4 % shape::M_TILES][i % 4] = 0;
	TT_ROLLED
	for (uint32_t i = first; i < end; i++)
		add_stage<shape>(a, s, t->n_rows, i,
			take_stage<shape>(a, t, s, ring, split * TT_SPLIT_KEYS + i * STAGE_KEYS), acc);
	TT_UNROLL
	for (uint32_t m = 0; m < shape::M_TILES; m++) {
		TT_UNROLL
		for (uint32_t half = 0; half < 2; half++) {
			float old = tt_shared_load_f32(s->old + m * 16 + half * 8 + row);
			float fresh = tt_shared_load_f32(s->fresh + m * 16 + half * 8 + row);
			TT_UNROLL
			for (uint32_t i = 0; i < shape::N_TILES * 2; i++) {
				float *total = &totals[i / 2][m][half * 2 + i % 2];
				*total = join_values(*total, acc[i / 2][m][half * 2 + i % 2], old, fresh);
			}
		}
	}
}

template <typename shape>
TT_DEVICE void begin_tile(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, uint32_t split)
{
	const int32_t *positions = plan_array(a->plan, &a->plan->positions);
	uint32_t i = threadIdx.x;
	fetch_queries<shape>(a, t, s);
	if (i < 2 * SPLIT_PAGES)
		tt_shared_store_4(s->pages + (split + i / SPLIT_PAGES) % 2 * SPLIT_PAGES + i % SPLIT_PAGES,
			load_page(t, split + i / SPLIT_PAGES, i % SPLIT_PAGES));
	if (i < shape::ROWS)
		tt_shared_store_4(s->positions + i,
			i < t->n_rows ? tt_load_4(positions + t->first + i / t->n_heads, TT_TRAFFIC_PLAN) + 1 : 0);
	tt_sync_block();
}

template <typename shape>
TT_DEVICE void store_partial(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, const float totals[shape::N_TILES][shape::M_TILES][4], float *partial)
{
	TT_UNROLL
	for (uint32_t i = 0; i < shape::N_TILES * shape::M_TILES * 2; i++) {
		uint32_t n = i / (shape::M_TILES * 2), m = i / 2 % shape::M_TILES, half = i % 2;
		uint32_t column = n * shape::WARPS + tt_warp(), row = m * 16 + half * 8 + tt_lane() / 4;
		const float *pair = &totals[n][m][half * 2];
		if (column < a->head_dim / 8 && row < t->n_rows)
			tt_store_8(partial + 2 * shape::ROWS + row * a->head_dim + column * 8 + tt_lane() % 4 * 2,
				make_uint2(tt_bits_from_f32(pair[0]), tt_bits_from_f32(pair[1])), TT_TRAFFIC_SCRATCH);
	}
	if (threadIdx.x < t->n_rows)
		tt_store_8(partial + 2 * threadIdx.x,
			make_uint2(tt_shared_load_4(s->max + threadIdx.x), tt_shared_load_4(s->sum + threadIdx.x)),
			TT_TRAFFIC_SCRATCH);
}

/* Nothing has been added to a tile's totals yet. */
template <typename shape>
TT_DEVICE void clear_totals(const struct attention_shared<shape> *s, float totals[shape::N_TILES][shape::M_TILES][4])
{
	TT_UNROLL
	for (uint32_t i = 0; i < shape::N_TILES * shape::M_TILES * 4; i++)
		totals[i / (4 * shape::M_TILES)][i / 4 % shape::M_TILES][i % 4] = 0;
	if (threadIdx.x < shape::ROWS) {
		tt_shared_store_f32(s->max + threadIdx.x, -INFINITY);
		tt_shared_store_f32(s->sum + threadIdx.x, 0);
	}
}

/* The results of a part, the first of which goes to partial. */
TT_DEVICE float *part_results(
	const struct attention_kernel_args *a, const struct attention_tile *t, const struct part *p, uint32_t size)
{
	uint32_t at = p->each ? p->split - t->first_split - a->share_splits + 1 : 0;
	return a->partial + ((size_t)p->index * a->n_results + at) * size;
}

/* A part of a tile; the totals are not yet divided by the sums. What is shared is left as results. */
template <typename shape, bool may_share>
TT_DEVICE void run_splits(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, const struct part *p, float totals[shape::N_TILES][shape::M_TILES][4])
{
	uint32_t split = p->split, end = p->end, size = tt_attention_result_floats(shape::ROWS, a->head_dim);
	float *partial = !may_share || p->alone ? NULL : part_results(a, t, p, size);
	struct ring ring = {{split, first_stage(t, split), false}, end, 0};
	uint32_t row = tt_warp() % shape::M_TILES * 16 + tt_lane() / 4;
	begin_tile<shape>(a, t, s, split);
	TT_ROLLED
	for (uint32_t i = 0; i < shape::STAGES - 1; i++) {
		if (ring.next.split < end) {
			fetch_stage<shape>(a, t, s, &ring.next, i);
			next_stage(t, &ring.next);
		}
		tt_copy_async_commit();
	}
	uint32_t sees[2] = {tt_shared_load_4(s->positions + row), tt_shared_load_4(s->positions + row + 8)};
	clear_totals<shape>(s, totals);
	for (; split < end; split++) {
		/* The page of the split after the next: asked for now, needed when this split's stages have all been
		 * fetched. */
		uint32_t page = threadIdx.x < SPLIT_PAGES && split + 2 < end ? load_page(t, split + 2, threadIdx.x) : 0;
		run_split<shape>(a, t, s, split, &ring, sees, totals);
		if (threadIdx.x < SPLIT_PAGES)
			tt_shared_store_4(s->pages + split % 2 * SPLIT_PAGES + threadIdx.x, page);
		if (!may_share || p->alone || (!p->each && split + 1 < end))
			continue;
		store_partial<shape>(a, t, s, totals, partial);
		clear_totals<shape>(s, totals);
		partial += size;
	}
}

/* Stores totals / sum in bf16, through shared memory so that rows are stored 16 bytes at a time. */
template <typename shape>
TT_DEVICE void store_rows(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, float totals[shape::N_TILES][shape::M_TILES][4])
{
	uint32_t chunks = a->head_dim / 8, stride = attention_stride(a->head_dim);
	/* The columns of n are always the first, as in run_split. */
	TT_ROLLED
	for (uint32_t n = 0; n < shape::N_TILES; n++) {
		TT_UNROLL
		for (uint32_t i = 0; i < shape::M_TILES * 2; i++) {
			uint32_t column = n * shape::WARPS + tt_warp(), row = i * 8 + tt_lane() / 4;
			if (column >= chunks || row >= t->n_rows)
				continue;
			float sum = tt_shared_load_f32(s->sum + row);
			const float *pair = &totals[0][i / 2][i % 2 * 2];
			tt_shared_store_4(s->q + row * stride + column * 16 + tt_lane() % 4 * 4,
				tt_bf16x2_from_f32(tt_div(pair[0], sum), tt_div(pair[1], sum)));
		}
		TT_UNROLL
		for (uint32_t i = 0; i + shape::M_TILES * 4 < shape::N_TILES * shape::M_TILES * 4; i++) {
			uint32_t to = i / (shape::M_TILES * 4), m = i / 4 % shape::M_TILES;
			totals[to][m][i % 4] = totals[to + 1][m][i % 4];
		}
	}
	tt_sync_block();
	TT_ROLLED
	for (uint32_t i = threadIdx.x; i < t->n_rows * chunks; i += shape::THREADS) {
		uint32_t row = i / chunks, chunk = i % chunks;
		tt_store_16(a->out + row_at(a, t, row) + chunk * 8, tt_shared_load_16(s->q + row * stride + chunk * 16),
			TT_TRAFFIC_ACTIVATION);
	}
}

/* The block's results of a tile are left; the last block to arrive merges those of all. */
template <typename shape>
TT_DEVICE void share_tile(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, const struct part *p)
{
	uint32_t n = t->end_split - t->first_split, share = a->share_splits, n_shares = (n + share - 1) / share;
	size_t first = (size_t)p->index * a->n_results * tt_attention_result_floats(shape::ROWS, a->head_dim);
	tt_sync_block();
	if (threadIdx.x == 0)
		tt_shared_store_4(s->masks, tt_arrive_last(a->arrivals + p->index, n_shares));
	tt_sync_block();
	if (tt_shared_load_4(s->masks))
		merge_partials<shape>(a, t, s, a->partial + first, n + 1 - share);
}

/* The code of a tile stands here once: it is most of the kernel, and a step of few tokens fetches it cold. may_share:
 * blocks may share tiles, which is 25 to 32 KiB more of code where tiles have 64 rows. */
template <typename shape, bool may_share>
static __global__ void __launch_bounds__(shape::THREADS, shape::BLOCKS)
	attention_kernel(const __grid_constant__ struct attention_kernel_args a)
{
	TT_DYNAMIC_SHARED(memory);
	struct attention_shared<shape> s = attention_shared_at<shape>(memory, a.head_dim);
	float totals[shape::N_TILES][shape::M_TILES][4];
	struct tiles tiles = {0, 0, 0, 0, 0, 0};
	struct attention_tile t = {};
	struct part part = {};
	tt_grid_launch_dependents();
	tt_grid_wait();
	uint32_t n_tokens = tt_load_4(&a.plan->n_tokens, TT_TRAFFIC_PLAN);
	TT_ROLLED
	while (next_tile<shape, may_share>(&a, &s, n_tokens, &tiles, &t, &part)) {
		run_splits<shape, may_share>(&a, &t, &s, &part, totals);
		if (!may_share || part.alone) {
			store_rows<shape>(&a, &t, &s, totals);
			continue;
		}
		share_tile<shape>(&a, &t, &s, &part);
		tt_sync_block(); /* what merged them, and the answer, are no longer read */
	}
}

/* -- Launch -- */

/* Bytes and products of the step, as far as the host knows them; a graph counts them once, when it is captured. */
static void account(
	const struct tt_attention_args *args, const struct attention_kernel_args *a, struct tt_launch *launch)
{
	const struct tt_step_plan *step = args->step;
	const int32_t *seqs = tt_step_seqs(step), *positions = tt_step_positions(step);
	uint64_t keys_read = 0, pairs = 0;
	for (uint32_t t = 0; t < step->n_tokens; t++) {
		uint64_t end = (uint64_t)positions[t] + 1, seen = a->window && a->window < end ? a->window : end;
		bool last = t + 1 == step->n_tokens || seqs[t + 1] != seqs[t] ||
			    (uint32_t)positions[t + 1] / a->tile_tokens != (uint32_t)positions[t] / a->tile_tokens;
		pairs += seen;
		keys_read += last ? seen : 0;
	}
	launch->bytes = 2 * tt_kv_position_bytes(args->kv->type, keys_read, a->n_kv_heads * a->n_parts, a->head_dim) +
			(uint64_t)step->n_tokens * a->n_heads * a->head_dim * 2 * sizeof(tt_bf16);
	launch->flops = pairs * a->n_heads * a->head_dim * 4;
}

/* Kernels of a shape, for heads of a size. */
struct shaped {
	const void *kernel, *alone; /* alone: where no tile of the step is shared */
	uint32_t rows, threads, shared_bytes;
};

/* alone: the kernel is one for both, or one for each. */
template <typename shape, bool alone> static struct shaped shaped_of(uint32_t head_dim)
{
	return shaped{TT_KERNEL(attention_kernel<shape, true>), TT_KERNEL(attention_kernel<shape, !alone>), shape::ROWS,
		shape::THREADS, attention_shared_bytes<shape>(head_dim)};
}

static int launch(struct tt_cuda *cuda, const struct tt_attention_args *args, struct attention_kernel_args *a,
	dim3 grid, const struct shaped *by, struct tt_error *err)
{
	void *kernel_args[] = {a};
	struct tt_launch how = {"attention", grid, dim3(by->threads), by->shared_bytes, cuda->stream, 0, 0,
		cuda->dependent, &cuda->counters};
	account(args, a, &how);
	return tt_cuda_launch(cuda, &how, a->n_shared || a->n_results > 1 ? by->kernel : by->alone, kernel_args, err);
}

/* One shape for decode and one for prefill, for heads of up to 64, 128 and 256, and of each one for fp8. */
template <bool fp8> struct shapes {
	typedef attention_shape<1, 4, 2, 4, 4, fp8> decode_64;
	typedef attention_shape<1, 4, 4, 3, 3, fp8> decode_128;
	typedef attention_shape<1, 4, 8, 2, 2, fp8> decode_256;
	typedef attention_shape<4, 8, 1, 4, 1, fp8> prefill_64;
	typedef attention_shape<4, 8, 2, 3, 1, fp8> prefill_128;
	typedef attention_shape<4, 8, 4, 2, 1, fp8> prefill_256;
	/* where the device gives a block too little for that of three stages */
	typedef attention_shape<4, 8, 2, 2, 1, fp8> prefill_128_small;
};

static struct tt_attention_cut cut_tiles(struct attention_kernel_args *a, uint32_t rows)
{
	const struct tt_attention_cut cut = tt_attention_cut_of(rows, a->group);
	a->tile_heads = cut.n_heads;
	a->n_parts = cut.n_parts;
	a->tile_tokens = cut.n_tokens;
	return cut;
}

/* Splits of the longest row that the engine may hold. */
static uint64_t longest(const struct tt_cuda *cuda, const struct tt_config *c, uint32_t window)
{
	uint64_t n = cuda->max_splits ? cuda->max_splits : (c->context_length + TT_SPLIT_KEYS - 1) / TT_SPLIT_KEYS;
	uint64_t in_window = window / TT_SPLIT_KEYS + 2;
	return window && in_window < n ? in_window : n;
}

static uint64_t result_bytes(const struct tt_config *c, uint32_t rows)
{
	return tt_attention_result_floats(rows, c->head_dim) * sizeof(float);
}

/* Whether there is scratch for so many bytes of results. Where pages fill the device there is none, and blocks share
 * less: that fails no step, and is not asked for again. */
static bool has_room(struct tt_cuda *cuda, uint64_t n_bytes, struct attention_kernel_args *a)
{
	bool small = n_bytes <= cuda->partial_bytes, denied = cuda->partial_denied && n_bytes >= cuda->partial_denied;
	if (n_bytes > TT_ATTENTION_RESULTS || (!small && denied))
		return false;
	if (!tt_cuda_may_grow_scratch(cuda, n_bytes)) {
		cuda->partial_denied = n_bytes;
		return false;
	}
	a->partial = cuda->partial;
	return true;
}

template <bool fp8> static struct shaped decode_of(uint32_t hd)
{
	typedef shapes<fp8> of;
	return hd <= 64    ? shaped_of<typename of::decode_64, false>(hd)
	       : hd <= 128 ? shaped_of<typename of::decode_128, false>(hd)
			   : shaped_of<typename of::decode_256, false>(hd);
}

/* Of tiles of 64 rows, or of 16 where shared memory does not hold 64 of heads of 256. */
template <bool fp8> static struct shaped prefill_of(uint32_t hd, uint32_t most_shared)
{
	typedef shapes<fp8> of;
	if (hd <= 64)
		return shaped_of<typename of::prefill_64, true>(hd);
	if (hd > 128)
		return attention_shared_bytes<typename of::prefill_256>(hd) > most_shared
			       ? decode_of<fp8>(hd)
			       : shaped_of<typename of::prefill_256, true>(hd);
	if (attention_shared_bytes<typename of::prefill_128>(hd) <= most_shared)
		return shaped_of<typename of::prefill_128, true>(hd);
	return shaped_of<typename of::prefill_128_small, true>(hd);
}

static struct shaped decode_kernel(uint32_t hd, bool fp8)
{
	return fp8 ? decode_of<true>(hd) : decode_of<false>(hd);
}

static struct shaped prefill_kernel(uint32_t hd, uint32_t most_shared, bool fp8)
{
	return fp8 ? prefill_of<true>(hd, most_shared) : prefill_of<false>(hd, most_shared);
}

/* So many blocks as the device runs at once. */
static int resident(struct tt_cuda *cuda, const struct shaped *by, uint32_t *out, struct tt_error *err)
{
	return tt_cuda_resident(cuda, "attention", by->kernel, by->threads, by->shared_bytes, out, err);
}

int tt_cuda_attention_fits(struct tt_cuda *cuda, const struct tt_config *config, struct tt_error *err)
{
	uint32_t most = 0, blocks = 0;
	TT_TRY(tt_cuda_most_shared(cuda, &most, err));
	for (int fp8 = 0; fp8 < 2; fp8++) {
		const struct shaped decode = decode_kernel(config->head_dim, fp8),
				    prefill = prefill_kernel(config->head_dim, most, fp8);
		TT_TRY(resident(cuda, &decode, &blocks, err));
		TT_TRY(resident(cuda, &prefill, &blocks, err));
		TT_TRY(tt_cuda_resident(
			cuda, "attention", prefill.alone, prefill.threads, prefill.shared_bytes, &blocks, err));
	}
	return TT_OK;
}

/* Which of a prompt's tiles are shared, where there is room for their results. */
static void share_tiles(struct tt_cuda *cuda, const struct tt_attention_args *args, struct attention_kernel_args *a,
	const struct tt_attention_cut *cut, uint32_t rows, uint32_t n_blocks)
{
	const struct tt_attention_tokens tokens = {
		tt_step_seqs(args->step), tt_step_positions(args->step), args->step->n_tokens};
	uint32_t n_heads = a->n_kv_heads * a->n_parts;
	uint64_t one = result_bytes(args->config, rows),
		 rooms[2] = {TT_ATTENTION_RESULTS / one, cuda->partial_bytes / one};
	if (cuda->max_splits && cuda->max_splits <= TT_ATTENTION_LONG)
		return;
	for (int i = 0; i < 2; i++) {
		const struct tt_attention_share share =
			tt_attention_share_of(&tokens, cut, a->window, n_heads, n_blocks, rooms[i]);
		uint64_t n = (uint64_t)share.n_tiles * n_heads;
		if (!share.long_from || n > TT_ATTENTION_COUNTERS)
			return;
		if (!has_room(cuda, n * share.n_results * one, a))
			continue;
		a->n_results = share.n_results;
		a->n_shared = share.n_tiles;
		a->n_shares = share.n_shares;
		a->share_splits = share.n_splits;
		a->long_from = share.long_from;
		return;
	}
}

/* So many blocks as the device runs at once take tile after tile, or some splits of a long one. */
static int run_prefill(struct tt_cuda *cuda, const struct tt_attention_args *args, struct attention_kernel_args *a,
	struct tt_error *err)
{
	uint32_t most = 0, enough = 0;
	TT_TRY(tt_cuda_most_shared(cuda, &most, err));
	struct shaped by = prefill_kernel(a->head_dim, most, a->scales != NULL);
	TT_TRY(resident(cuda, &by, &enough, err));
	const struct tt_attention_cut cut = cut_tiles(a, by.rows);
	uint64_t blocks = (uint64_t)cuda->grid_tokens * a->n_kv_heads * a->n_parts;
	share_tiles(cuda, args, a, &cut, by.rows, enough);
	return launch(cuda, args, a, dim3((uint32_t)(a->n_shared || blocks > enough ? enough : blocks)), &by, err);
}

/* Where a block takes tile after tile, a sequence that is much longer than the others would hold a decode step up: so
 * many tiles as have room for their results may be shared, a split a block, and no more than can be long in a grid of
 * n_blocks. Which are, the kernel sees. */
static void share_long(struct tt_cuda *cuda, const struct tt_attention_args *args, struct attention_kernel_args *a,
	uint32_t n_heads, uint32_t n_blocks)
{
	uint64_t n = longest(cuda, args->config, a->window), most = n_blocks / (LONG_TIMES * n_heads) + 1;
	most = TT_ATTENTION_COUNTERS / n_heads < most ? TT_ATTENTION_COUNTERS / n_heads : most;
	uint64_t one = n * n_heads * result_bytes(args->config, TT_ATTENTION_FEW_ROWS),
		 room = TT_ATTENTION_RESULTS / one;
	most = room < most ? room : most;
	most = cuda->grid_tokens < most ? cuda->grid_tokens : most;
	if (n <= TT_ATTENTION_LONG || most == 0 || n > 65535 || !has_room(cuda, most * one, a))
		return;
	a->n_results = a->n_shares = (uint32_t)n;
	a->n_shared = (uint32_t)most;
}

/* Any choice gives the same bits, so it is made for speed alone: by whether each sequence has one token, and whether
 * there are enough blocks without one for each split. */
static int run(struct tt_cuda *cuda, const struct tt_attention_args *args, struct attention_kernel_args *a,
	struct tt_error *err)
{
	bool decode = args->step->n_tokens <= args->step->n_seqs;
	struct shaped by = decode_kernel(a->head_dim, a->scales != NULL);
	uint32_t enough = 0;
	TT_TRY(resident(cuda, &by, &enough, err));
	cut_tiles(a, by.rows);
	uint32_t n_heads = a->n_kv_heads * a->n_parts;
	uint64_t blocks = (uint64_t)cuda->grid_tokens * n_heads, n = longest(cuda, args->config, a->window);
	if (tt_attention_spreads(cuda->grid_tokens, n_heads, enough, n, a->head_dim) &&
		has_room(cuda, blocks * n * result_bytes(args->config, by.rows), a)) {
		a->n_results = (uint32_t)n;
		return launch(cuda, args, a, dim3(cuda->grid_tokens, n_heads, a->n_results), &by, err);
	}
	if (!decode)
		return run_prefill(cuda, args, a, err);
	share_long(cuda, args, a, n_heads, enough);
	return launch(cuda, args, a, dim3((uint32_t)(a->n_shared || blocks > enough ? enough : blocks)), &by, err);
}

int tt_cuda_attention(struct tt_backend *backend, const struct tt_attention_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_config *c = args->config;
	struct attention_kernel_args a = {};
	if (cuda->grid_tokens == 0)
		return TT_OK;
	if (!c->head_dim || c->head_dim % TT_CUDA_GRANULE || c->head_dim > 256 || !c->n_kv_heads ||
		c->n_heads % c->n_kv_heads || !c->n_heads)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "attention: %u heads of %u, %u key heads", c->n_heads,
			c->head_dim, c->n_kv_heads);
	a.plan = cuda->plan;
	a.q = (const tt_bf16 *)args->q;
	a.out = (tt_bf16 *)args->attention;
	size_t first_row = (size_t)args->layer_index * args->kv->n_pages * 2 * c->n_kv_heads * TT_PAGE_TOKENS;
	a.kv = (const unsigned char *)args->kv->data + tt_kv_bytes(args->kv->type, first_row * c->head_dim);
	a.scales = args->kv->type == TT_KV_FP8 ? args->kv->scales + first_row : NULL;
	a.arrivals = cuda->arrivals;
	a.n_heads = c->n_heads;
	a.n_kv_heads = c->n_kv_heads;
	a.head_dim = c->head_dim;
	a.group = c->n_heads / c->n_kv_heads;
	a.window = tt_config_window(c, args->layer_index);
	a.scale = tt_config_attention_scale(c);
	a.soft_cap = c->attention_soft_cap;
	a.n_results = a.share_splits = 1;
	return run(cuda, args, &a, err);
}
