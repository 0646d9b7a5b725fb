/* Steering by whole rows: every operation but a plain add needs a dot product with h, or its length, before it changes
 * h. The kernel has one block a token. It is launched after down_proj, in the graph variant of sessions that hold such
 * a policy, and then steers all rows. Rows that only add get the same bits as from the epilogue of down_proj, so that
 * loading a policy changes nobody else's tokens.
 *
 * The same kernel finishes o_proj and down_proj of layers that normalise what these add to h: it reads their product,
 * whose length needs the whole row. All rows of such a model are steered here. Of several ranks, which have exchanged
 * their columns, it finishes all layers.
 *
 * The row stays in shared memory twice, as it came and as it becomes. A thread touches the same columns throughout. */
#include "kernels/cuda/mark.cuh"
#include "kernels/cuda/steer.cuh"
#include "kernels/cuda/steer_row.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum { THREADS = 256, WARPS = THREADS / TT_WARP };

struct steer_row_args {
	struct steer s;
	const float *gamma; // [hidden]
	float *h;           // in and out [n_tokens][hidden]
	tt_bf16 *x;         // out [n_tokens][hidden]
	float *squares;     // out [n_tokens][n_norm_tiles]
	uint32_t n_norm_tiles;
	const float *y; // [n_tokens][hidden] what is added to h first; of several ranks [ranks][y_rows][y_columns]
	const float *post_gamma; // [hidden] of the norm of y
	float eps;
	uint32_t y_rows, y_columns;
	struct tt_cuda_mark mark; /* of several ranks, behind the exchange */
};

/* What a row kernel adds to h first; the last is all of h. */
enum row_adds { ROW_NOTHING, ROW_NORMED, ROW_OF_RANKS, ROW_OF_RANKS_NORMED, ROW_OF_RANKS_STEERED };

/* The block's dynamic shared memory. */
struct row_memory {
	float *came, *becomes; // [hidden]
	float *before, *after; // [n_norm_tiles]
	float *warps;          // [WARPS]
};

uint32_t tt_cuda_steer_row_shared(uint32_t hidden)
{
	return (2 * hidden + 2 * tt_norm_tiles(hidden) + WARPS) * (uint32_t)sizeof(float);
}

TT_DEVICE float4 shared_four(const float *p)
{
	uint4 v = tt_shared_load_16(p);
	return make_float4(tt_f32_from_bits(v.x), tt_f32_from_bits(v.y), tt_f32_from_bits(v.z), tt_f32_from_bits(v.w));
}

TT_DEVICE void shared_store_four(float *p, float4 v)
{
	tt_shared_store_16(p,
		make_uint4(tt_bits_from_f32(v.x), tt_bits_from_f32(v.y), tt_bits_from_f32(v.z), tt_bits_from_f32(v.w)));
}

/* Returns the sum over the block to all threads: first over lanes, then over warps. */
TT_DEVICE float row_sum(const struct row_memory *m, float sum)
{
	sum = tt_warp_sum(sum, TT_WARP);
	if (tt_lane() == 0)
		tt_shared_store_f32(m->warps + tt_warp(), sum);
	tt_sync_block();
	sum = tt_shared_load_f32(m->warps);
	for (uint32_t i = 1; i < WARPS; i++)
		sum += tt_shared_load_f32(m->warps + i);
	tt_sync_block(); /* the next sum overwrites them */
	return sum;
}

TT_DEVICE float four_squares(float4 v, float sum)
{
	return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
}

/* Returns came . reader to all threads: each thread sums its columns in ascending order, then row_sum. */
TT_DEVICE float row_dot(const struct row_memory *m, const float *reader, uint32_t hidden)
{
	float sum = 0;
	for (uint32_t column = threadIdx.x * 4; column < hidden; column += THREADS * 4) {
		float4 h = shared_four(m->came + column), d = tt_load_f32x4(reader + column, TT_TRAFFIC_DIRECTION);
		sum = fmaf(h.x, d.x, sum);
		sum = fmaf(h.y, d.y, sum);
		sum = fmaf(h.z, d.z, sum);
		sum = fmaf(h.w, d.w, sum);
	}
	return row_sum(m, sum);
}

/* The readings of the row for direction k, the same in all threads of the block. */
TT_DEVICE struct tt_steer_read row_read(
	const struct row_memory *m, const struct steer_row *r, uint32_t k, uint32_t hidden)
{
	struct tt_steer_read read = {0, 0};
	if (tt_steer_reads(r->op))
		read.along = row_dot(m, r->readers + (size_t)k * hidden, hidden);
	if (r->targets)
		read.target = tt_load_f32(r->targets + k, TT_TRAFFIC_DIRECTION);
	return read;
}

/* Adds direction k, multiplied with g. */
TT_DEVICE void row_add(const struct row_memory *m, const struct steer_row *r, uint32_t k, float g, uint32_t hidden)
{
	const float *direction = r->directions + (size_t)k * hidden;
	for (uint32_t column = threadIdx.x * 4; column < hidden && g != 0; column += THREADS * 4)
		shared_store_four(
			m->becomes + column, steer_add(shared_four(m->becomes + column), g, direction + column));
}

/* becomes + sum * ratio - came, where sum is came + c * d. If no other row steers the token, becomes is came, so
 * subtracting came first leaves 0 and the result is the product, rounded once. */
TT_DEVICE float4 row_kept(float4 becomes, float4 came, float4 sum, float ratio)
{
	return make_float4(fmaf(ratio, sum.x, becomes.x - came.x), fmaf(ratio, sum.y, becomes.y - came.y),
		fmaf(ratio, sum.z, becomes.z - came.z), fmaf(ratio, sum.w, becomes.w - came.w));
}

/* Applies add in the form that keeps the length of h. It has one direction. */
TT_DEVICE void row_apply_keeping(const struct row_memory *m, const struct steer_row *r, uint32_t hidden)
{
	float before = 0, after = 0;
	for (uint32_t column = threadIdx.x * 4; column < hidden; column += THREADS * 4) {
		float4 came = shared_four(m->came + column);
		before = four_squares(came, before);
		after = four_squares(steer_add(came, r->c, r->directions + column), after);
	}
	before = row_sum(m, before);
	float ratio = tt_steer_ratio(before, row_sum(m, after));
	for (uint32_t column = threadIdx.x * 4; column < hidden; column += THREADS * 4) {
		float4 came = shared_four(m->came + column);
		shared_store_four(m->becomes + column, row_kept(shared_four(m->becomes + column), came,
							       steer_add(came, r->c, r->directions + column), ratio));
	}
}

/* Applies all directions of one of the token's rows. */
TT_DEVICE void row_apply(const struct row_memory *m, const struct steer_row *r, uint32_t hidden)
{
	uint32_t together = tt_steer_together(r->op);
	if (tt_steer_keeps_length(r->op, r->form)) {
		row_apply_keeping(m, r, hidden);
		return;
	}
	for (uint32_t k = 0; k < r->n_directions; k += together) {
		struct tt_steer_read read[TT_MAX_TOGETHER] = {};
		float g[TT_MAX_TOGETHER] = {};
		TT_UNROLL
		for (uint32_t i = 0; i < TT_MAX_TOGETHER; i++)
			if (i < together)
				read[i] = row_read(m, r, k + i, hidden);
		tt_steer_factors(r->op, r->form, r->c, read, g);
		TT_UNROLL
		for (uint32_t i = 0; i < TT_MAX_TOGETHER; i++)
			if (i < together)
				row_add(m, r, k + i, g[i], hidden);
	}
}

/* Four columns of a token's row of y. */
template <int adds> TT_DEVICE float4 row_y(const struct steer_row_args &a, size_t row, uint32_t column)
{
	const float *at = a.y + row + column;
	if (adds == ROW_OF_RANKS || adds == ROW_OF_RANKS_NORMED || adds == ROW_OF_RANKS_STEERED)
		at = a.y + ((size_t)(column / a.y_columns) * a.y_rows + blockIdx.x) * a.y_columns +
		     column % a.y_columns;
	return tt_load_f32x4(at, TT_TRAFFIC_SCRATCH);
}

/* The inverse length of the token's row of y, which came then holds. */
template <int adds>
TT_DEVICE float row_post_scale(const struct steer_row_args &a, const struct row_memory *m, size_t row, uint32_t hidden)
{
	float sum = 0;
	for (uint32_t column = threadIdx.x * 4; column < hidden; column += THREADS * 4) {
		float4 y = row_y<adds>(a, row, column);
		shared_store_four(m->came + column, y);
		sum = four_squares(y, sum);
	}
	return tt_rsqrt(tt_div(row_sum(m, sum), (float)hidden) + a.eps);
}

/* h + gamma * (y * scale), in the CPU's order */
TT_DEVICE float4 row_residual(float4 h, float4 y, float scale, float4 gamma)
{
	return make_float4(h.x + gamma.x * (y.x * scale), h.y + gamma.y * (y.y * scale), h.z + gamma.z * (y.z * scale),
		h.w + gamma.w * (y.w * scale));
}

/* h + y */
TT_DEVICE float4 row_plus(float4 h, float4 y)
{
	return make_float4(h.x + y.x, h.y + y.y, h.z + y.z, h.w + y.w);
}

template <int adds>
TT_DEVICE void row_load(const struct steer_row_args &a, const struct row_memory *m, size_t row, uint32_t hidden)
{
	const bool norms = adds == ROW_NORMED || adds == ROW_OF_RANKS_NORMED;
	float scale = norms ? row_post_scale<adds>(a, m, row, hidden) : 0;
	for (uint32_t first = tt_warp() * TT_WARP * 4; first < hidden; first += THREADS * 4) {
		uint32_t column = first + tt_lane() * 4;
		bool valid = column < hidden;
		float4 v = make_float4(0, 0, 0, 0);
		if (valid)
			v = adds == ROW_OF_RANKS_STEERED ? row_y<adds>(a, row, column)
							 : tt_load_f32x4(a.h + row + column, TT_TRAFFIC_ACTIVATION);
		if (adds == ROW_OF_RANKS && valid)
			v = row_plus(v, row_y<adds>(a, row, column));
		if (norms && valid)
			v = row_residual(v, shared_four(m->came + column), scale,
				tt_load_f32x4(a.post_gamma + column, TT_TRAFFIC_WEIGHT));
		float squares = norm_tile_squares(v);
		if (!valid)
			continue;
		shared_store_four(m->came + column, v);
		shared_store_four(m->becomes + column, v);
		if (column % TT_NORM_TILE == 0)
			tt_shared_store_f32(m->before + column / TT_NORM_TILE, squares);
	}
}

TT_DEVICE void row_store(const struct steer_row_args &a, const struct row_memory *m, uint32_t token, uint32_t hidden)
{
	int32_t capture = (int32_t)step_word(a.s.plan, &a.s.plan->captures, token);
	size_t row = (size_t)token * hidden;
	for (uint32_t first = tt_warp() * TT_WARP * 4; first < hidden; first += THREADS * 4) {
		uint32_t column = first + tt_lane() * 4;
		bool valid = column < hidden;
		float4 v = valid ? shared_four(m->becomes + column) : make_float4(0, 0, 0, 0);
		float squares = norm_tile_squares(v);
		if (!valid)
			continue;
		tt_store_f32x4(a.h + row + column, v, TT_TRAFFIC_ACTIVATION);
		steer_capture(a.s, capture, column, v);
		norm_store_x(a.x + row + column, v, tt_load_f32x4(a.gamma + column, TT_TRAFFIC_WEIGHT));
		if (column % TT_NORM_TILE)
			continue;
		tt_shared_store_f32(m->after + column / TT_NORM_TILE, squares);
		tt_store_f32(a.squares + (size_t)token * a.n_norm_tiles + column / TT_NORM_TILE, squares,
			TT_TRAFFIC_ACTIVATION);
	}
}

/* The sum over the tiles by one warp, in the order of norm_sum_tiles. */
TT_DEVICE float row_sum_tiles(const float *squares, uint32_t n_tiles)
{
	float sum = 0;
	for (uint32_t i = tt_lane(); i < n_tiles; i += TT_WARP)
		sum += tt_shared_load_f32(squares + i);
	return tt_warp_sum(sum, TT_WARP);
}

/* Four blocks a multiprocessor: without this number ptxas aims at eight and spills registers. */
template <int adds>
static __global__ void __launch_bounds__(THREADS, 4) steer_row_kernel(const __grid_constant__ struct steer_row_args a)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t token = blockIdx.x, hidden = a.s.hidden;
	float *memory = (float *)shared;
	const struct row_memory m = {memory, memory + hidden, memory + 2 * hidden, memory + 2 * hidden + a.n_norm_tiles,
		memory + 2 * hidden + 2 * a.n_norm_tiles};
	tt_grid_launch_dependents();
	tt_grid_wait();
	if (token >= tt_load_4(&a.s.plan->n_tokens, TT_TRAFFIC_PLAN))
		return;
	uint2 rows = adds == ROW_NOTHING || a.s.slots ? steer_rows(a.s, token) : make_uint2(0, 0);
	row_load<adds>(a, &m, (size_t)token * hidden, hidden);
	for (uint32_t i = 0; i < TT_STACK; i++) {
		struct steer_row r = steer_load_row(a.s, steer_row_index(rows, i));
		if (r.c != 0) /* the same for the whole block */
			row_apply(&m, &r, hidden);
	}
	row_store(a, &m, token, hidden);
	if (adds >= ROW_OF_RANKS && blockIdx.x == 0)
		mark_reach(a.mark);
	if (!a.s.norms)
		return;
	tt_sync_block();
	if (tt_warp() == 0) {
		float before = row_sum_tiles(m.before, a.n_norm_tiles), after = row_sum_tiles(m.after, a.n_norm_tiles);
		steer_store_norms(a.s, token, rows.x | rows.y, before, after);
	}
}

static const void *row_kernel(const struct tt_cuda *cuda, const struct steer_row_args *a, bool steered)
{
	if (steered)
		return TT_KERNEL(steer_row_kernel<ROW_OF_RANKS_STEERED>);
	if (cuda->ranks)
		return a->post_gamma ? TT_KERNEL(steer_row_kernel<ROW_OF_RANKS_NORMED>)
				     : TT_KERNEL(steer_row_kernel<ROW_OF_RANKS>);
	return a->y ? TT_KERNEL(steer_row_kernel<ROW_NORMED>) : TT_KERNEL(steer_row_kernel<ROW_NOTHING>);
}

/* A block for each token of the step. */
static int row_launch(
	struct tt_cuda *cuda, struct steer_row_args *a, const char *name, bool steered, struct tt_error *err)
{
	uint32_t n = cuda->grid_tokens, hidden = a->s.hidden;
	void *kernel_args[] = {a};
	a->n_norm_tiles = tt_norm_tiles(hidden);
	if (cuda->ranks) {
		const void *arena = NULL;
		a->y_rows = n;
		a->y_columns = cuda->shard.hidden.count;
		TT_TRY(tt_cuda_gather(cuda, n, a->y_columns * sizeof(float), &arena, err));
		a->y = (const float *)arena;
	}
	struct tt_launch launch = {name, dim3(n), dim3(THREADS), tt_cuda_steer_row_shared(hidden), cuda->stream,
		(uint64_t)n * hidden * (4 + 4 + 2 + (a->y ? 4 : 0)), (uint64_t)n * hidden * 4, cuda->dependent,
		&cuda->counters};
	TT_TRY(n ? tt_cuda_launch(cuda, &launch, row_kernel(cuda, a, steered), kernel_args, err) : TT_OK);
	if (n)
		tt_cuda_ranks_marked(cuda);
	return TT_OK;
}

int row_product(struct tt_cuda *cuda, bool norm, uint32_t n_out, float **y, struct tt_error *err)
{
	size_t row = n_out * sizeof(float);
	*y = NULL;
	if (cuda->ranks)
		*y = (float *)tt_cuda_own_block(cuda, cuda->grid_tokens, row);
	if (cuda->ranks || !norm)
		return TT_OK;
	TT_TRY(tt_cuda_scratch(cuda, cuda->grid_tokens * row, err));
	*y = cuda->partial;
	return TT_OK;
}

int steer_row_launch(
	struct tt_cuda *cuda, const struct tt_down_proj_args *args, const float *y, bool steered, struct tt_error *err)
{
	struct steer_row_args a = {{cuda->plan, steered ? NULL : args->slots, args->coef, args->captured, args->norms,
					   args->config->n_layers, args->layer_index, args->config->hidden_size},
		args->next_norm, args->h, cuda->x, cuda->squares, 0, y, args->layer->ffn_post_norm,
		args->config->rms_norm_eps, 0, 0, tt_cuda_ranks_mark(cuda)};
	return row_launch(cuda, &a, steered ? "place_row" : "steer_row", steered, err);
}

int post_norm_launch(struct tt_cuda *cuda, const struct tt_o_proj_args *args, const float *y, struct tt_error *err)
{
	const float *norm = args->layer->attn_post_norm;
	struct steer_row_args a = {
		{cuda->plan, NULL, NULL, NULL, NULL, args->config->n_layers, 0, args->config->hidden_size},
		args->layer->ffn_norm, args->h, cuda->x, cuda->squares, 0, y, norm, args->config->rms_norm_eps, 0, 0,
		tt_cuda_ranks_mark(cuda)};
	return row_launch(cuda, &a, norm ? "post_norm" : "add_row", false, err);
}
