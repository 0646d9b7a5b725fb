/* h = embedding[token], with what the first norm needs. A block a token, a lane four columns. */
#include <math.h>

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/step.cuh"

enum { EMBED_THREADS = 128 };

struct embed {
	const struct tt_step *plan;
	const tt_bf16 *embedding; // [vocab][hidden]
	const float *gamma;       // [hidden]
	float *h;                 // out [n_tokens][hidden]
	tt_bf16 *x;               // out [n_tokens][hidden]
	float *squares;           // out [n_tokens][n_norm_tiles]
	uint32_t hidden, vocab, n_norm_tiles;
};

TT_DEVICE float4 embed_four(const struct embed &a, uint32_t id, uint32_t column)
{
	if (id >= a.vocab) /* the host refuses it; if it ever came here it must show */
		return make_float4(NAN, NAN, NAN, NAN);
	uint2 v = tt_load_8(a.embedding + (size_t)id * a.hidden + column, TT_TRAFFIC_WEIGHT);
	return make_float4(tt_bf16x2_low(v.x), tt_bf16x2_high(v.x), tt_bf16x2_low(v.y), tt_bf16x2_high(v.y));
}

static __global__ void __launch_bounds__(EMBED_THREADS) embed_kernel(const __grid_constant__ struct embed a)
{
	uint32_t token = blockIdx.x;
	tt_grid_launch_dependents();
	tt_grid_wait();
	if (token >= tt_load_4(&a.plan->n_tokens, TT_TRAFFIC_PLAN))
		return;
	uint32_t id = step_word(a.plan, &a.plan->tokens, token);
	size_t row = (size_t)token * a.hidden;
	for (uint32_t first = tt_warp() * TT_WARP * 4; first < a.hidden; first += EMBED_THREADS * 4) {
		uint32_t column = first + tt_lane() * 4;
		bool valid = column < a.hidden;
		float4 h = valid ? embed_four(a, id, column) : make_float4(0, 0, 0, 0);
		float squares = norm_tile_squares(h);
		if (!valid)
			continue;
		tt_store_f32x4(a.h + row + column, h, TT_TRAFFIC_ACTIVATION);
		norm_store_x(a.x + row + column, h, tt_load_f32x4(a.gamma + column, TT_TRAFFIC_WEIGHT));
		if (column % TT_NORM_TILE == 0)
			tt_store_f32(a.squares + (size_t)token * a.n_norm_tiles + column / TT_NORM_TILE, squares,
				TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_embed(struct tt_backend *backend, const struct tt_embed_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t hidden = args->config->hidden_size, n = cuda->grid_tokens;
	struct embed a = {cuda->plan, (const tt_bf16 *)args->embedding->data, args->next_norm, args->h, cuda->x,
		cuda->squares, hidden, args->embedding->n_out, tt_norm_tiles(hidden)};
	void *kernel_args[] = {&a};
	struct tt_launch launch = {"embed", dim3(n), dim3(EMBED_THREADS), 0, cuda->stream,
		(uint64_t)n * hidden * (2 + 4 + 2), (uint64_t)n * hidden * 3, cuda->dependent, &cuda->counters};
	return n ? tt_launch_kernel(&launch, TT_KERNEL(embed_kernel), kernel_args, err) : TT_OK;
}
