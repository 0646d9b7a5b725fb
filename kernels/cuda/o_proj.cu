/* h += attention * wo^T + bo, with what the norm before the feed-forward part needs. Where the layer normalises the
 * product first, or ranks have columns of it, it goes to y, and the row kernel does the rest. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/steer_row.h"
#include "kernels/cuda/ptx/memory.cuh"

struct o_proj_op {
	enum { FAST = 1 };
	struct product p;
	const float *bo;    // [hidden], or NULL
	const float *gamma; // [hidden] of the norm that follows
	float *h;           // in and out [n_tokens][hidden]
	tt_bf16 *x;         // out [n_tokens][hidden]
	float *squares;     // out [n_tokens][n_norm_tiles]
	float *y;           // out [n_tokens][hidden] the product, and nothing else; or NULL

	TT_DEVICE uint32_t span(const struct o_proj_op &)
	{
		return PRODUCT_TILE;
	}

	TT_DEVICE float constant(const struct o_proj_op &a, uint32_t which, uint32_t row)
	{
		const float *from = which ? a.gamma : a.bo;
		return from ? tt_load_f32(from + row, TT_TRAFFIC_WEIGHT) : 0.0f;
	}

	TT_DEVICE uint32_t source(const struct o_proj_op &, uint32_t token)
	{
		return token;
	}

	TT_DEVICE void prepare(const struct o_proj_op &, uint32_t *, uint32_t, uint32_t)
	{
	}

	TT_DEVICE void finish(const struct o_proj_op &a, const struct product_tile &tile);
};

__device__ __forceinline__ void o_proj_op::finish(const struct o_proj_op &a, const struct product_tile &tile)
{
	uint32_t n_quads = tile.n_rows / 4, hidden = a.p.n_rows;
	if (a.y) {
		product_store(tile, a.y, hidden);
		return;
	}
	/* Over max_tokens, so that whole warps take part: four lanes share a norm tile. */
	for (uint32_t i = threadIdx.x; i < n_quads * tile.max_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, row = i % n_quads * 4, column = tile.first_tile * PRODUCT_TILE + row;
		bool valid = token < tile.n_tokens && column < hidden;
		size_t at = (size_t)(tile.first_token + token) * hidden + column;
		float4 h = make_float4(0, 0, 0, 0);
		if (valid)
			h = product_residual(tile, token, row, a.h + at);
		float squares = norm_tile_squares(h);
		if (!valid)
			continue;
		tt_store_f32x4(a.h + at, h, TT_TRAFFIC_ACTIVATION);
		norm_store_x(a.x + at, h, product_constant_four(tile, 1, row));
		if (column % TT_NORM_TILE == 0)
			tt_store_f32(a.squares + (size_t)(tile.first_token + token) * a.p.n_norm_tiles +
					     column / TT_NORM_TILE,
				squares, TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_o_proj(struct tt_backend *backend, const struct tt_o_proj_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_matrix *wo = &args->layer->wo;
	float *y = NULL;
	struct product_matrix weights;
	TT_TRY(product_matrix_of(&weights, &wo, 1, "o_proj", err));
	TT_TRY(row_product(cuda, args->layer->attn_post_norm != NULL, wo->n_out, &y, err));
	struct o_proj_op a = {{weights, (const tt_bf16 *)args->attention, NULL, cuda->plan, &cuda->plan->n_tokens,
				      wo->n_out, wo->n_in, wo->n_out / PRODUCT_TILE, tt_norm_tiles(wo->n_out), 0},
		args->layer->bo, args->layer->ffn_norm, args->h, cuda->x, cuda->squares, y};
	struct product_call how = {"o_proj", cuda->grid_tokens, (uint64_t)cuda->grid_tokens * wo->n_out * (8 + 2)};
	TT_TRY(product_launch(cuda, &a, &how, err));
	return y ? post_norm_launch(cuda, args, y, err) : TT_OK;
}
