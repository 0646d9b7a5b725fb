/* How splits of keys are added up: within a block one by one, and where each has a block of its own, by the last of
 * these to arrive, in the same order and with the same bits. */
#ifndef KERNELS_CUDA_ATTENTION_MERGE_CUH
#define KERNELS_CUDA_ATTENTION_MERGE_CUH

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/numbers.cuh"

/* The factors of a row's totals and of its next split. */
struct factors {
	float old, fresh;
};

/* The larger maximum; a NaN stays. */
TT_DEVICE float join_max(float max, float next)
{
	return next > max || next != next ? next : max;
}

TT_DEVICE struct factors join_factors(float max, float next)
{
	float larger = join_max(max, next);
	if (next == -INFINITY)
		return factors{1, 0};
	if (max == -INFINITY)
		return factors{0, 1};
	return factors{tt_exp(max - larger), tt_exp(next - larger)};
}

/* Adds a split to the totals. A value whose factor is 0 is left out, whatever it is. */
TT_DEVICE float join_values(float total, float next, float old, float fresh)
{
	return fmaf(total, old, fresh == 0 ? 0 : next * fresh);
}

/* A merge's shared memory, in place of the weights and of the ring behind them: of each row of MERGED splits. */
struct merge {
	float *max, *sum;  // [MERGED][ROWS] of the split alone; then the factor of the totals, and the sum's part
	float *max_before; // [MERGED][ROWS] of the splits before it; then the factor of the split
	float *totals;     // [ROWS][head_dim]
};

/* The factors of MERGED splits or fewer, which all threads make together: the larger maximum is exact, so only it and
 * the sum go from split to split. */
template <typename shape>
TT_DEVICE void merge_factors(const struct merge *m, float *row_max, float *row_sum, uint32_t n_rows, uint32_t n_splits)
{
	uint32_t row = threadIdx.x;
	if (row < n_rows) {
		float max = tt_shared_load_f32(row_max + row);
		TT_BY_8
		for (uint32_t i = 0; i < n_splits; i++) {
			float next = tt_shared_load_f32(m->max + i * shape::ROWS + row);
			tt_shared_store_f32(m->max_before + i * shape::ROWS + row, max);
			max = join_max(max, next);
		}
		tt_shared_store_f32(row_max + row, max);
	}
	tt_sync_block();
	for (uint32_t i = threadIdx.x; i < n_splits * shape::ROWS; i += shape::THREADS) {
		if (i % shape::ROWS >= n_rows)
			continue;
		float next = tt_shared_load_f32(m->max + i);
		struct factors f = join_factors(tt_shared_load_f32(m->max_before + i), next);
		tt_shared_store_f32(m->max + i, f.old);
		tt_shared_store_f32(m->max_before + i, f.fresh);
		tt_shared_store_f32(m->sum + i, next == -INFINITY ? 0 : tt_shared_load_f32(m->sum + i) * f.fresh);
	}
	tt_sync_block();
	if (row < n_rows) {
		float sum = tt_shared_load_f32(row_sum + row);
		TT_BY_8
		for (uint32_t i = 0; i < n_splits; i++)
			sum = fmaf(sum, tt_shared_load_f32(m->max + i * shape::ROWS + row),
				tt_shared_load_f32(m->sum + i * shape::ROWS + row));
		tt_shared_store_f32(row_sum + row, sum);
	}
}

/* Adds n_splits splits, which begin at partial, to the totals. What waits for the split before is one fused
 * multiply-add. */
template <typename shape>
TT_DEVICE void merge_values(const struct attention_kernel_args *a, const struct merge *m, const float *partial,
	uint32_t n_rows, uint32_t n_splits)
{
	uint32_t quads = a->head_dim / 4, size = tt_attention_result_floats(shape::ROWS, a->head_dim);
	TT_ROLLED
	for (uint32_t i = threadIdx.x; i < n_rows * quads; i += shape::THREADS) {
		uint32_t row = i / quads;
		float4 total = tt_shared_load_f32x4(m->totals + i * 4);
		const float *from = partial + 2 * shape::ROWS + i * 4;
		TT_BY_8
		for (uint32_t split = 0; split < n_splits; split++, from += size) {
			float4 v = tt_load_f32x4(from, TT_TRAFFIC_SCRATCH);
			float old = tt_shared_load_f32(m->max + split * shape::ROWS + row);
			float fresh = tt_shared_load_f32(m->max_before + split * shape::ROWS + row);
			total.x = join_values(total.x, v.x, old, fresh);
			total.y = join_values(total.y, v.y, old, fresh);
			total.z = join_values(total.z, v.z, old, fresh);
			total.w = join_values(total.w, v.w, old, fresh);
		}
		tt_shared_store_f32x4(m->totals + i * 4, total);
	}
}

/* Merges n results of a tile in index order, as run_split adds them up. The first are totals already. */
template <typename shape>
TT_DEVICE void merge_partials(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, const float *partial, uint32_t n)
{
	uint32_t quads = a->head_dim / 4, size = tt_attention_result_floats(shape::ROWS, a->head_dim);
	float *memory = (float *)s->weights;
	const struct merge m = {memory, memory + MERGED * shape::ROWS, memory + 2 * MERGED * shape::ROWS,
		memory + 3 * MERGED * shape::ROWS};
	for (uint32_t i = threadIdx.x; i < t->n_rows * quads; i += shape::THREADS)
		tt_shared_store_f32x4(
			m.totals + i * 4, tt_load_f32x4(partial + 2 * shape::ROWS + i * 4, TT_TRAFFIC_SCRATCH));
	if (threadIdx.x < t->n_rows) {
		uint2 stats = tt_load_8(partial + threadIdx.x * 2, TT_TRAFFIC_SCRATCH);
		tt_shared_store_4(s->max + threadIdx.x, stats.x);
		tt_shared_store_4(s->sum + threadIdx.x, stats.y);
	}
	TT_ROLLED
	for (uint32_t first = 1; first < n; first += MERGED) {
		uint32_t here = n - first < MERGED ? n - first : (uint32_t)MERGED;
		const float *from = partial + (size_t)first * size;
		tt_sync_block(); /* the splits before have been added */
		for (uint32_t i = threadIdx.x; i < here * shape::ROWS; i += shape::THREADS) {
			if (i % shape::ROWS >= t->n_rows)
				continue;
			uint2 stats =
				tt_load_8(from + i / shape::ROWS * size + i % shape::ROWS * 2, TT_TRAFFIC_SCRATCH);
			tt_shared_store_4(m.max + i, stats.x);
			tt_shared_store_4(m.sum + i, stats.y);
		}
		tt_sync_block();
		merge_factors<shape>(&m, s->max, s->sum, t->n_rows, here);
		merge_values<shape>(a, &m, from, t->n_rows, here);
	}
	tt_sync_block();
	for (uint32_t i = threadIdx.x; i < t->n_rows * quads; i += shape::THREADS) {
		uint32_t row = i / quads;
		float sum = tt_shared_load_f32(s->sum + row);
		float4 total = tt_shared_load_f32x4(m.totals + i * 4);
		tt_store_8(a->out + row_at(a, t, row) + i % quads * 4,
			make_uint2(tt_bf16x2_from_f32(tt_div(total.x, sum), tt_div(total.y, sum)),
				tt_bf16x2_from_f32(tt_div(total.z, sum), tt_div(total.w, sum))),
			TT_TRAFFIC_ACTIVATION);
	}
}

#endif
