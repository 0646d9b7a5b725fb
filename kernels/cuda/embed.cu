/* h = embedding[token], times embedding_scale where there is one, with what the first norm needs. A block takes 128
 * columns of up to 64 tokens, so that a decode step reads the norm's weight once. A warp goes from token to token; each
 * lane has four columns. */
#include <math.h>

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/quants.cuh"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum { EMBED_THREADS = 512, EMBED_COLUMNS = TT_WARP * 4, EMBED_TOKENS = 64 };

struct embed {
	const struct tt_step_plan *plan;
	const void *embedding;                      // [vocab][hidden] packed, rows in turn
	const struct tt_sample_result *sampled;     // of the previous step
	const float *gamma;                         // [hidden]
	float *h;                                   // out [n_tokens][hidden]
	tt_bf16 *x;                                 // out [n_tokens][hidden]
	float *squares;                             // out [n_tokens][n_norm_tiles]
	uint32_t hidden, vocab, n_norm_tiles, type; /* of the embedding */
	float scale;
};

/* The id of a token of the plan; a negative one stands for a token that was just sampled and that the host has not
 * seen. */
TT_DEVICE uint32_t embed_id(const struct embed &a, uint32_t token)
{
	uint32_t id = step_word(a.plan, &a.plan->tokens, token);
	return (int32_t)id < 0 ? tt_load_4(&a.sampled[~id].token, TT_TRAFFIC_RESULT) : id;
}

TT_DEVICE float4 embed_four(const struct embed &a, uint32_t id, uint32_t column)
{
	if (id >= a.vocab) /* the host refuses such ids; if one ever came here, it must show */
		return make_float4(NAN, NAN, NAN, NAN);
	uint2 v = packed_four(a.embedding, a.type, id, column, a.hidden);
	return make_float4(tt_bf16x2_low(v.x) * a.scale, tt_bf16x2_high(v.x) * a.scale, tt_bf16x2_low(v.y) * a.scale,
		tt_bf16x2_high(v.y) * a.scale);
}

static __global__ void __launch_bounds__(EMBED_THREADS) embed_kernel(const __grid_constant__ struct embed a)
{
	uint32_t column = (blockIdx.x * TT_WARP + tt_lane()) * 4;
	bool valid = column < a.hidden;
	TT_DYNAMIC_SHARED(shared);
	float *gamma = (float *)shared + tt_lane() * 4;
	tt_grid_launch_dependents();
	if (tt_warp() == 0 && valid) {
		uint4 four = tt_load_weight(a.gamma + column);
		tt_shared_store_16(gamma, four);
	}
	tt_grid_wait();
	tt_sync_block();
	uint32_t n_tokens = tt_load_4(&a.plan->n_tokens, TT_TRAFFIC_PLAN), first = blockIdx.y * EMBED_TOKENS;
	for (uint32_t i = tt_warp(); i < EMBED_TOKENS && first + i < n_tokens; i += EMBED_THREADS / TT_WARP) {
		uint32_t token = first + i;
		size_t at = (size_t)token * a.hidden + column;
		float4 h = make_float4(0, 0, 0, 0);
		if (valid)
			h = embed_four(a, embed_id(a, token), column);
		float squares = norm_tile_squares(h);
		if (!valid)
			continue;
		uint4 g = tt_shared_load_16(gamma);
		tt_store_f32x4(a.h + at, h, TT_TRAFFIC_ACTIVATION);
		norm_store_x(a.x + at, h,
			make_float4(tt_f32_from_bits(g.x), tt_f32_from_bits(g.y), tt_f32_from_bits(g.z),
				tt_f32_from_bits(g.w)));
		if (column % TT_NORM_TILE == 0)
			tt_store_f32(a.squares + (size_t)token * a.n_norm_tiles + column / TT_NORM_TILE, squares,
				TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_embed(struct tt_backend *backend, const struct tt_embed_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t hidden = args->config->hidden_size, n = cuda->grid_tokens;
	struct embed a = {cuda->plan, args->embedding->data, args->sampled, args->next_norm, args->h, cuda->x,
		cuda->squares, hidden, args->embedding->n_out, tt_norm_tiles(hidden), (uint32_t)args->embedding->type,
		args->config->embedding_scale ? args->config->embedding_scale : 1.0f};
	void *kernel_args[] = {&a};
	dim3 grid((hidden + EMBED_COLUMNS - 1) / EMBED_COLUMNS, (n + EMBED_TOKENS - 1) / EMBED_TOKENS);
	struct tt_launch launch = {"embed", grid, dim3(EMBED_THREADS), EMBED_COLUMNS * sizeof(float), cuda->stream,
		(uint64_t)n * hidden * (2 * 2 + 4 + 2), (uint64_t)n * hidden * 3, cuda->dependent, &cuda->counters};
	return n ? tt_cuda_launch(cuda, &launch, TT_KERNEL(embed_kernel), kernel_args, err) : TT_OK;
}
