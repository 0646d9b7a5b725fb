/* h = steer(h + ffn * w_down^T + bias), the capture of the result, and what the next norm needs. Policies that need a
 * whole row (all but add) are steered by the row kernel, which runs after this one and then does everything but the
 * residual; and that too where the layer normalises the product first. Of several ranks each steers its own columns,
 * and so reads its part of the directions alone, unless the row kernel is to steer; that follows in any case, since
 * squares, x and captures are of whole rows. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/steer.cuh"
#include "kernels/cuda/steer_row.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

/* A token's words; directions are pairs of words. */
enum { CAPTURE = 1, ANY = 2, LAST = 3, COEF = 4, DIRECTION = 8 };

struct down_proj_op {
	enum { FAST = 1 };
	struct product p;
	struct steer s;
	const float *bias;  // [hidden], or NULL
	const float *gamma; // [hidden] of the norm that follows
	float *h;           // in and out [n_tokens][hidden]
	tt_bf16 *x;         // out [n_tokens][hidden]
	float *squares;     // out [n_tokens][n_norm_tiles]
	float *before;      // scratch [n_tokens][n_norm_tiles]: the squares before steering, where norms are asked for
	uint32_t *arrivals; // [gridDim.x]
	float *y;           // out [n_tokens][n_rows] the product, and nothing else; or NULL
	uint32_t row_steering;
	float *steered;        // out [n_tokens][n_rows] h of the rank's columns, which h does not become here; or NULL
	uint32_t first_column; // of those in h

	TT_DEVICE uint32_t span(const struct down_proj_op &)
	{
		return PRODUCT_TILE;
	}

	TT_DEVICE float constant(const struct down_proj_op &a, uint32_t which, uint32_t row)
	{
		const float *from = which ? a.gamma : a.bias;
		return from ? tt_load_f32(from + row, TT_TRAFFIC_WEIGHT) : 0.0f;
	}

	TT_DEVICE uint32_t source(const struct down_proj_op &, uint32_t token)
	{
		return token;
	}

	TT_DEVICE void prepare(const struct down_proj_op &a, uint32_t *words, uint32_t token, uint32_t first_tile);
	TT_DEVICE void finish(const struct down_proj_op &a, const struct product_tile &tile);
};

/* Follows the chain row, coefficient, slot, direction while the weights are under way. */
__device__ __forceinline__ void down_proj_op::prepare(
	const struct down_proj_op &a, uint32_t *words, uint32_t token, uint32_t first_tile)
{
	if (a.row_steering)
		return;
	uint2 rows = steer_rows(a.s, token);
	tt_shared_store_4(words + CAPTURE, step_word(a.s.plan, &a.s.plan->captures, token));
	tt_shared_store_4(words + ANY, rows.x | rows.y);
	for (uint32_t i = 0; i < TT_STACK; i++) {
		struct steer_row r = steer_load_row(a.s, steer_row_index(rows, i));
		uint64_t direction = (uint64_t)(uintptr_t)r.directions;
		if (r.c != 0)
			tt_prefetch(r.directions + a.first_column + first_tile * PRODUCT_TILE);
		/* The host launches the row kernel for these; if it did not, the result must not look sound. */
		float c = tt_steer_whole_row(r.op, r.form) ? NAN : r.c;
		tt_shared_store_f32((float *)words + COEF + i, c);
		tt_shared_store_8(
			words + DIRECTION + 2 * i, make_uint2((uint32_t)direction, (uint32_t)(direction >> 32)));
	}
}

TT_DEVICE float4 down_proj_steer(float4 h, const uint32_t *words, uint32_t column)
{
	if (!tt_shared_load_4(words + ANY))
		return h;
	uint4 coef = tt_shared_load_16(words + COEF);
	const uint32_t c[TT_STACK] = {coef.x, coef.y, coef.z, coef.w};
	TT_UNROLL
	for (uint32_t i = 0; i < TT_STACK; i++) {
		if (tt_f32_from_bits(c[i]) == 0) /* a select: an added zero would turn -0.0 into +0.0 */
			continue;
		uint2 at = tt_shared_load_8(words + DIRECTION + 2 * i);
		const float *direction = (const float *)(uintptr_t)((uint64_t)at.y << 32 | at.x);
		h = steer_add(h, tt_f32_from_bits(c[i]), direction + column);
	}
	return h;
}

/* What all ranks are told of the rank's columns. */
TT_DEVICE void down_proj_own(const struct down_proj_op &a, const struct product_tile &tile)
{
	uint32_t n_quads = tile.n_rows / 4, own = a.p.n_rows;
	for (uint32_t i = threadIdx.x; i < n_quads * tile.n_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, row = i % n_quads * 4, column = tile.first_tile * PRODUCT_TILE + row;
		if (column >= own)
			continue;
		size_t at = tile.first_token + token;
		float4 h = product_residual(tile, token, row, a.h + at * a.s.hidden + a.first_column + column);
		h = down_proj_steer(h, tile.words + token * PRODUCT_WORDS, a.first_column + column);
		tt_store_f32x4(a.steered + at * own + column, h, TT_TRAFFIC_SCRATCH);
	}
}

/* Norms need the squares of all blocks: the last block to arrive adds them, in the one order. */
TT_DEVICE void down_proj_norms(const struct down_proj_op &a, const struct product_tile &tile)
{
	uint32_t *flag = tile.words + LAST;
	tt_sync_block();
	if (threadIdx.x == 0)
		tt_shared_store_4(flag, tt_arrive_last(a.arrivals + blockIdx.x, gridDim.y));
	tt_sync_block();
	if (!tt_shared_load_4(flag))
		return;
	for (uint32_t token = tt_warp(); token < tile.n_tokens; token += PRODUCT_WARPS) {
		size_t at = (size_t)(tile.first_token + token) * a.p.n_norm_tiles;
		float before = norm_sum_tiles(a.before + at, a.p.n_norm_tiles, TT_TRAFFIC_SCRATCH);
		float after = norm_sum_tiles(a.squares + at, a.p.n_norm_tiles, TT_TRAFFIC_ACTIVATION);
		steer_store_norms(a.s, tile.first_token + token,
			tt_shared_load_4(tile.words + token * PRODUCT_WORDS + ANY), before, after);
	}
}

__device__ __forceinline__ void down_proj_op::finish(const struct down_proj_op &a, const struct product_tile &tile)
{
	uint32_t n_quads = tile.n_rows / 4, hidden = a.p.n_rows;
	if (a.y) {
		product_store(tile, a.y, hidden);
		return;
	}
	if (a.steered) {
		down_proj_own(a, tile);
		return;
	}
	/* Over max_tokens, so that whole warps take part: four lanes share a norm tile. */
	for (uint32_t i = threadIdx.x; i < n_quads * tile.max_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, row = i % n_quads * 4, column = tile.first_tile * PRODUCT_TILE + row;
		bool valid = token < tile.n_tokens && column < hidden;
		const uint32_t *words = tile.words + token * PRODUCT_WORDS;
		size_t at = (size_t)(tile.first_token + token) * hidden + column;
		size_t square = (size_t)(tile.first_token + token) * a.p.n_norm_tiles + column / TT_NORM_TILE;
		float4 h = make_float4(0, 0, 0, 0);
		if (valid)
			h = product_residual(tile, token, row, a.h + at);
		if (a.s.norms) {
			float before = norm_tile_squares(h);
			if (valid && column % TT_NORM_TILE == 0)
				tt_store_f32(a.before + square, before, TT_TRAFFIC_SCRATCH);
		}
		if (valid && !a.row_steering)
			h = down_proj_steer(h, words, column);
		float squares = norm_tile_squares(h);
		if (!valid)
			continue;
		tt_store_f32x4(a.h + at, h, TT_TRAFFIC_ACTIVATION);
		if (a.row_steering)
			continue;
		steer_capture(a.s, (int32_t)tt_shared_load_4(words + CAPTURE), column, h);
		norm_store_x(a.x + at, h, product_constant_four(tile, 1, row));
		if (column % TT_NORM_TILE == 0)
			tt_store_f32(a.squares + square, squares, TT_TRAFFIC_ACTIVATION);
	}
	if (a.s.norms)
		down_proj_norms(a, tile);
}

int tt_cuda_down_proj(struct tt_backend *backend, const struct tt_down_proj_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_matrix *w = &args->layer->w_down;
	uint32_t hidden = w->n_out, n = cuda->grid_tokens;
	float *y = NULL;
	TT_TRY(row_product(cuda, args->layer->ffn_post_norm != NULL, hidden, &y, err));
	cuda->coef = args->coef;
	/* Norms are of h before steering too, which the row kernel then makes whole. */
	bool own = cuda->ranks && !cuda->row_steering && !args->layer->ffn_post_norm && !args->norms;
	bool row_steering = !own && (cuda->row_steering || y);
	size_t before_bytes = (size_t)n * tt_norm_tiles(hidden) * sizeof(float);
	if (args->norms && !row_steering)
		TT_TRY(tt_cuda_scratch(cuda, before_bytes, err));
	struct product_matrix weights;
	TT_TRY(product_matrix_of(&weights, &w, 1, "down_proj", err));
	struct down_proj_op a = {{weights, (const tt_bf16 *)args->ffn, NULL, cuda->plan, &cuda->plan->n_tokens, hidden,
					 w->n_in, hidden / PRODUCT_TILE, tt_norm_tiles(hidden), 0},
		{cuda->plan, args->slots, args->coef, args->captured, row_steering ? NULL : args->norms,
			args->config->n_layers, args->layer_index, args->config->hidden_size},
		args->layer->b_down, args->next_norm, args->h, cuda->x, cuda->squares, cuda->partial, cuda->arrivals,
		own ? NULL : y, row_steering, own ? y : NULL, cuda->shard.hidden.first};
	struct product_call how = {"down_proj", n, (uint64_t)n * hidden * (8 + 2)};
	TT_TRY(product_launch(cuda, &a, &how, err));
	return (row_steering || own) && n ? steer_row_launch(cuda, args, y, own, err) : TT_OK;
}
