/* q, k, v: norm, projection, bias, rotation, and k and v into their pages. A tile of 16 rows holds 8 rotated pairs (i,
 * i + head_dim / 2) of one head. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/step.cuh"

enum { POSITION = 1, PAGE = 2 }; /* a token's words */

struct qkv_op {
	struct product p;
	const float *bq, *bk, *bv;        // [n_out], or NULL
	const float *inverse_frequencies; // [head_dim / 2]
	tt_bf16 *q;                       // out [n_tokens][n_heads * head_dim]
	tt_bf16 *kv;                      // out, the pages
	uint32_t n_heads, n_kv_heads, head_dim, layer, n_pages;

	TT_DEVICE uint32_t first_row(const struct qkv_op &a, uint32_t tile, uint32_t half)
	{
		uint32_t tiles_a_head = a.head_dim / PRODUCT_TILE;
		return tile / tiles_a_head * a.head_dim + tile % tiles_a_head * 8 + half * (a.head_dim / 2);
	}

	TT_DEVICE float constant(const struct qkv_op &a, uint32_t which, uint32_t row)
	{
		uint32_t q_width = a.n_heads * a.head_dim, kv_width = a.n_kv_heads * a.head_dim;
		const float *bias = row < q_width ? a.bq : row < q_width + kv_width ? a.bk : a.bv;
		uint32_t at = row < q_width ? row : (row - q_width) % kv_width;
		return which == 0 && bias ? tt_load_f32(bias + at, TT_TRAFFIC_WEIGHT) : 0.0f;
	}

	TT_DEVICE uint32_t source(const struct qkv_op &, uint32_t token)
	{
		return token;
	}

	TT_DEVICE void prepare(const struct qkv_op &a, uint32_t *words, uint32_t token, uint32_t)
	{
		const struct tt_step *plan = a.p.plan;
		uint32_t position = step_word(plan, &plan->positions, token), seq = step_word(plan, &plan->seqs, token);
		uint32_t max_pages = tt_load_4(&plan->max_pages, TT_TRAFFIC_PLAN);
		uint32_t page = step_word(plan, &plan->pages, seq * max_pages + position / TT_PAGE_TOKENS);
		tt_shared_store_4(words + POSITION, position);
		tt_shared_store_4(words + PAGE, page);
	}

	TT_DEVICE void finish(const struct qkv_op &a, const struct product_tile &tile);
};

/* Where four neighbouring outputs of a head go. head counts q heads, then k, then v. */
TT_DEVICE tt_bf16 *qkv_to(const struct qkv_op &a, const uint32_t *words, uint32_t token, uint32_t head, uint32_t column)
{
	if (head < a.n_heads)
		return a.q + ((size_t)token * a.n_heads + head) * a.head_dim + column;
	uint32_t which = (head - a.n_heads) / a.n_kv_heads, kv_head = (head - a.n_heads) % a.n_kv_heads;
	uint32_t slot = tt_shared_load_4(words + POSITION) % TT_PAGE_TOKENS;
	size_t page = (size_t)a.layer * a.n_pages + tt_shared_load_4(words + PAGE);
	return a.kv + (((page * 2 + which) * a.n_kv_heads + kv_head) * TT_PAGE_TOKENS + slot) * a.head_dim + column;
}

TT_DEVICE float4 qkv_scaled(float4 sum, float inverse, const float *bias)
{
	return make_float4(sum.x * inverse + tt_shared_load_f32(bias), sum.y * inverse + tt_shared_load_f32(bias + 1),
		sum.z * inverse + tt_shared_load_f32(bias + 2), sum.w * inverse + tt_shared_load_f32(bias + 3));
}

TT_DEVICE void qkv_rotate(float *a, float *b, float position, const float *inverse_frequency)
{
	float cosine, sine, low = *a, high = *b;
	tt_cos_sin(position * tt_load_f32(inverse_frequency, TT_TRAFFIC_ACTIVATION), &cosine, &sine);
	*a = low * cosine - high * sine;
	*b = high * cosine + low * sine;
}

TT_DEVICE uint2 qkv_pack(float4 v)
{
	return make_uint2(tt_bf16x2_from_f32(v.x, v.y), tt_bf16x2_from_f32(v.z, v.w));
}

TT_DEVICE void qkv_four_pairs(const struct qkv_op &a, const struct product_tile &tile, uint32_t token, uint32_t row,
	uint32_t head, uint32_t pair)
{
	const uint32_t *words = tile.words + token * PRODUCT_WORDS;
	float inverse = tt_shared_load_f32((const float *)words);
	float4 low = qkv_scaled(product_sum(tile, token, row), inverse, tile.constants + row);
	float4 high = qkv_scaled(product_sum(tile, token, row + 8), inverse, tile.constants + row + 8);
	if (head < a.n_heads + a.n_kv_heads) {
		float position = (float)tt_shared_load_4(words + POSITION);
		qkv_rotate(&low.x, &high.x, position, a.inverse_frequencies + pair);
		qkv_rotate(&low.y, &high.y, position, a.inverse_frequencies + pair + 1);
		qkv_rotate(&low.z, &high.z, position, a.inverse_frequencies + pair + 2);
		qkv_rotate(&low.w, &high.w, position, a.inverse_frequencies + pair + 3);
	}
	tt_bf16 *to = qkv_to(a, words, tile.first_token + token, head, pair);
	enum tt_traffic kind = head < a.n_heads ? TT_TRAFFIC_ACTIVATION : TT_TRAFFIC_KV;
	tt_store_8(to, qkv_pack(low), kind);
	tt_store_8(to + a.head_dim / 2, qkv_pack(high), kind);
}

__device__ __forceinline__ void qkv_op::finish(const struct qkv_op &a, const struct product_tile &tile)
{
	uint32_t n_quads = tile.n_rows / 8, tiles_a_head = a.head_dim / PRODUCT_TILE;
	for (uint32_t i = threadIdx.x; i < n_quads * tile.n_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, quad = i % n_quads, at = tile.first_tile + quad / 2;
		if (at < a.p.n_tiles)
			qkv_four_pairs(a, tile, token, quad / 2 * PRODUCT_TILE + quad % 2 * 4, at / tiles_a_head,
				at % tiles_a_head * 8 + quad % 2 * 4);
	}
}

int tt_cuda_qkv(struct tt_backend *backend, const struct tt_qkv_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_config *c = args->config;
	const struct tt_layer *layer = args->layer;
	uint32_t n_out = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim, hidden = c->hidden_size;
	TT_TRY(product_check_behind(&layer->wq, c->n_heads * c->head_dim, &layer->wk, "qkv", err));
	TT_TRY(product_check_behind(&layer->wk, c->n_kv_heads * c->head_dim, &layer->wv, "qkv", err));
	struct qkv_op a = {{(const tt_bf16 *)layer->wq.data, cuda->x, cuda->squares, cuda->plan, &cuda->plan->n_tokens,
				   n_out, hidden, n_out / PRODUCT_TILE, tt_norm_tiles(hidden), c->rms_norm_eps},
		layer->bq, layer->bk, layer->bv, args->inverse_frequencies, (tt_bf16 *)args->q,
		(tt_bf16 *)args->kv->data, c->n_heads, c->n_kv_heads, c->head_dim, args->layer_index,
		args->kv->n_pages};
	struct product_call how = {
		"qkv", cuda->grid_tokens, (uint64_t)cuda->grid_tokens * (n_out * 2 + a.p.n_norm_tiles * 4)};
	return product_launch(cuda, &a, &how, err);
}
