/* logits = rmsnorm(h) * output^T, capped where the model has a cap, for the rows that sample. */
#include "kernels/cuda/exchange.h"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/soft_cap.cuh"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/shared.cuh"

struct logits_op {
	enum { FAST = 0 };
	struct product p;
	float *logits;   // out [n_samples][stride]
	uint32_t stride; /* at least n_rows */
	float cap;       // of logits; 0: none

	TT_DEVICE uint32_t span(const struct logits_op &)
	{
		return PRODUCT_TILE;
	}

	TT_DEVICE float constant(const struct logits_op &, uint32_t, uint32_t)
	{
		return 0.0f;
	}

	TT_DEVICE uint32_t source(const struct logits_op &a, uint32_t token)
	{
		return step_sampled_token(a.p.plan, token);
	}

	TT_DEVICE void prepare(const struct logits_op &, uint32_t *, uint32_t, uint32_t)
	{
	}

	TT_DEVICE void finish(const struct logits_op &a, const struct product_tile &tile);
};

__device__ __forceinline__ void logits_op::finish(const struct logits_op &a, const struct product_tile &tile)
{
	uint32_t n_quads = tile.n_rows / 4, vocab = a.p.n_rows;
	for (uint32_t i = threadIdx.x; i < n_quads * tile.n_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, row = i % n_quads * 4, column = tile.first_tile * PRODUCT_TILE + row;
		if (column >= vocab)
			continue;
		float inverse = tt_shared_load_f32((const float *)tile.words + token * PRODUCT_WORDS);
		float4 y = product_sum(tile, token, row);
		y = make_float4(y.x * inverse, y.y * inverse, y.z * inverse, y.w * inverse);
		if (a.cap != 0)
			y = make_float4(
				soft_cap(y.x, a.cap), soft_cap(y.y, a.cap), soft_cap(y.z, a.cap), soft_cap(y.w, a.cap));
		float *to = a.logits + (size_t)(tile.first_token + token) * a.stride + column;
		if (a.stride % 4 == 0 && vocab % 4 == 0) {
			tt_store_f32x4(to, y, TT_TRAFFIC_ACTIVATION);
			continue;
		}
		const float four[4] = {y.x, y.y, y.z, y.w};
		TT_UNROLL
		for (uint32_t j = 0; j < 4; j++)
			if (column + j < vocab)
				tt_store_f32(to + j, four[j], TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_logits(struct tt_backend *backend, const struct tt_logits_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_matrix *m = args->output;
	uint32_t stride = tt_cuda_logits_stride(cuda, m->n_out);
	uint32_t n = cuda->grid_samples;
	struct product_matrix weights;
	TT_TRY(product_matrix_of(&weights, &m, 1, "logits", err));
	struct logits_op a = {{weights, cuda->x, cuda->squares, cuda->plan, &cuda->plan->n_samples, m->n_out, m->n_in,
				      (m->n_out + PRODUCT_TILE - 1) / PRODUCT_TILE, tt_norm_tiles(m->n_in),
				      args->config->rms_norm_eps},
		args->logits, stride, args->config->logit_soft_cap};
	struct product_call how = {"logits", n, (uint64_t)n * ((uint64_t)m->n_out * 4 + a.p.n_norm_tiles * 4)};
	return product_launch(cuda, &a, &how, err);
}
