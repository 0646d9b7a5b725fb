/* ffn = silu(gate) * up, or gelu(gate) * up, of the normalised h. A tile of 16 rows holds 8 of gate and the same 8 of
 * up. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"

struct gate_up_op {
	enum { FAST = 1 };
	struct product p;
	const float *b_gate, *b_up; // [ffn_size], or NULL
	tt_bf16 *ffn;               // out [n_tokens][ffn_size]
	uint32_t ffn_size;
	bool gelu;

	TT_DEVICE uint32_t span(const struct gate_up_op &a)
	{
		return 2 * a.ffn_size;
	}

	TT_DEVICE float constant(const struct gate_up_op &a, uint32_t which, uint32_t row)
	{
		const float *bias = row < a.ffn_size ? a.b_gate : a.b_up;
		return which == 0 && bias ? tt_load_f32(bias + row % a.ffn_size, TT_TRAFFIC_WEIGHT) : 0.0f;
	}

	TT_DEVICE uint32_t source(const struct gate_up_op &, uint32_t token)
	{
		return token;
	}

	TT_DEVICE void prepare(const struct gate_up_op &, uint32_t *, uint32_t, uint32_t)
	{
	}

	TT_DEVICE void finish(const struct gate_up_op &a, const struct product_tile &tile);
};

/* Both activations are g / (1 + e^power); of gelu with tanh the power is -2 sqrt(2 / pi) (g + 0.044715 g^3). */
TT_DEVICE float gate_up_one(float gate, float up, float inverse, const float *bias, bool gelu)
{
	float g = gate * inverse + tt_shared_load_f32(bias), u = up * inverse + tt_shared_load_f32(bias + 8);
	float power = gelu ? fmaf(g * g * g, 0.044715f, g) * -1.5957691216057308f : -g;
	return tt_div(g, 1.0f + tt_exp(power)) * u;
}

__device__ __forceinline__ void gate_up_op::finish(const struct gate_up_op &a, const struct product_tile &tile)
{
	uint32_t n_quads = tile.n_rows / 8;
	for (uint32_t i = threadIdx.x; i < n_quads * tile.n_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, quad = i % n_quads, at = tile.first_tile + quad / 2;
		uint32_t row = quad / 2 * PRODUCT_TILE + quad % 2 * 4;
		if (at >= a.p.n_tiles)
			continue;
		float inverse = tt_shared_load_f32((const float *)tile.words + token * PRODUCT_WORDS);
		float4 g = product_sum(tile, token, row), u = product_sum(tile, token, row + 8);
		const float *bias = tile.constants + row;
		uint2 v = make_uint2(tt_bf16x2_from_f32(gate_up_one(g.x, u.x, inverse, bias, a.gelu),
					     gate_up_one(g.y, u.y, inverse, bias + 1, a.gelu)),
			tt_bf16x2_from_f32(gate_up_one(g.z, u.z, inverse, bias + 2, a.gelu),
				gate_up_one(g.w, u.w, inverse, bias + 3, a.gelu)));
		tt_store_8(a.ffn + (size_t)(tile.first_token + token) * a.ffn_size + at * 8 + quad % 2 * 4, v,
			TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_gate_up(struct tt_backend *backend, const struct tt_gate_up_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_config *c = args->config;
	uint32_t hidden = c->hidden_size, ffn_size = args->layer->w_gate.n_out;
	const struct tt_matrix *gate = &args->layer->w_gate, *up = &args->layer->w_up;
	struct product_matrix weights;
	TT_TRY(product_matrix_of(&weights, &gate, 1, "gate_up", err));
	if (gate->type != up->type ||
		(const uint8_t *)up->data !=
			(const uint8_t *)gate->data +
				tt_quant_at(gate->type, tt_packed_row(2 * ffn_size, ffn_size), hidden))
		return tt_fail(err, TT_ERR_ARGUMENT, "gate_up: the matrices are not packed as one");
	struct gate_up_op a = {{weights, cuda->x, cuda->squares, cuda->plan, &cuda->plan->n_tokens, 2 * ffn_size,
				       hidden, ffn_size / 8, tt_norm_tiles(hidden), c->rms_norm_eps},
		args->layer->b_gate, args->layer->b_up, (tt_bf16 *)args->ffn, ffn_size, c->activation == TT_GELU_TANH};
	struct product_call how = {
		"gate_up", cuda->grid_tokens, (uint64_t)cuda->grid_tokens * (ffn_size * 2 + a.p.n_norm_tiles * 4)};
	return product_launch(cuda, &a, &how, err);
}
