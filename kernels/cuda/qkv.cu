/* q, k, v: norm, projection, bias, rotation, and k and v into their pages. A tile of 16 rows holds 8 rotated pairs (i,
 * i + head_dim / 2) of one head.
 *
 * A norm over each head needs all tiles of the head, which may be in several blocks: each leaves its part of q and k in
 * f32, and the last block to arrive normalises, rotates and stores the head. So the norm costs no launch. Keys and
 * values of fp8 go the same way, because their scale is that of a head's largest number. */
#include "kernels/cuda/kv_fp8.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/functions.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum { POSITION = 1, PAGE = 2, LAST = 3 }; /* a token's words */

struct qkv_op {
	enum { FAST = 1 };
	struct product p;
	const float *bq, *bk, *bv;        // [n_out], or NULL
	const float *inverse_frequencies; // [head_dim / 2]
	tt_bf16 *q;                       // out [n_tokens][n_heads * head_dim]
	void *kv;                         // out, the pages, bf16 or fp8
	tt_bf16 *scales;                  // out, of fp8; NULL: the pages are bf16
	const float *q_norm, *k_norm;     // [head_dim], or NULL
	/* scratch [n_tokens][n_heads + 2 * n_kv_heads][head_dim], where a head is finished as a whole */
	float *raw;
	uint32_t *arrivals; // [gridDim.x][n_heads + 2 * n_kv_heads]
	uint32_t n_heads, n_kv_heads, head_dim, layer, n_pages;

	TT_DEVICE uint32_t span(const struct qkv_op &a)
	{
		return a.head_dim;
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
		const struct tt_step_plan *plan = a.p.plan;
		uint32_t position = step_word(plan, &plan->positions, token), seq = step_word(plan, &plan->seqs, token);
		uint32_t max_pages = tt_load_4(&plan->max_pages, TT_TRAFFIC_PLAN);
		uint32_t page = step_word(plan, &plan->pages, seq * max_pages + position / TT_PAGE_TOKENS);
		tt_shared_store_4(words + POSITION, position);
		tt_shared_store_4(words + PAGE, page);
	}

	TT_DEVICE void finish(const struct qkv_op &a, const struct product_tile &tile);
};

/* Heads are counted q first, then k, then v: whether one has no rotation, and whether it is finished as a whole. */
TT_DEVICE bool qkv_is_value(const struct qkv_op &a, uint32_t head)
{
	return head >= a.n_heads + a.n_kv_heads;
}

TT_DEVICE bool qkv_is_whole(const struct qkv_op &a, uint32_t head)
{
	return (a.q_norm && !qkv_is_value(a, head)) || (a.scales && head >= a.n_heads);
}

/* The row of the pages that a token's key or value has, of all rows of a head. */
TT_DEVICE size_t qkv_kv_row(const struct qkv_op &a, const uint32_t *words, uint32_t head)
{
	uint32_t which = (head - a.n_heads) / a.n_kv_heads, kv_head = (head - a.n_heads) % a.n_kv_heads;
	uint32_t slot = tt_shared_load_4(words + POSITION) % TT_PAGE_TOKENS;
	size_t page = (size_t)a.layer * a.n_pages + tt_shared_load_4(words + PAGE);
	return ((page * 2 + which) * a.n_kv_heads + kv_head) * TT_PAGE_TOKENS + slot;
}

/* Where four contiguous outputs of a head go as bf16. */
TT_DEVICE tt_bf16 *qkv_to(const struct qkv_op &a, const uint32_t *words, uint32_t token, uint32_t head, uint32_t column)
{
	if (head < a.n_heads)
		return a.q + ((size_t)token * a.n_heads + head) * a.head_dim + column;
	return (tt_bf16 *)a.kv + qkv_kv_row(a, words, head) * a.head_dim + column;
}

TT_DEVICE float4 qkv_scaled(float4 sum, float inverse, const float *bias)
{
	return make_float4(sum.x * inverse + tt_shared_load_f32(bias), sum.y * inverse + tt_shared_load_f32(bias + 1),
		sum.z * inverse + tt_shared_load_f32(bias + 2), sum.w * inverse + tt_shared_load_f32(bias + 3));
}

TT_DEVICE void qkv_rotate(float *a, float *b, float position, float inverse_frequency)
{
	float cosine, sine, low = *a, high = *b;
	tt_cos_sin(position * inverse_frequency, &cosine, &sine);
	*a = low * cosine - high * sine;
	*b = high * cosine + low * sine;
}

TT_DEVICE uint2 qkv_pack(float4 v)
{
	return make_uint2(tt_bf16x2_from_f32(v.x, v.y), tt_bf16x2_from_f32(v.z, v.w));
}

TT_DEVICE void qkv_rotate_four(const struct qkv_op &a, const uint32_t *words, uint32_t pair, float4 *low, float4 *high)
{
	float position = (float)tt_shared_load_4(words + POSITION);
	float4 f = tt_load_f32x4(a.inverse_frequencies + pair, TT_TRAFFIC_ACTIVATION);
	qkv_rotate(&low->x, &high->x, position, f.x);
	qkv_rotate(&low->y, &high->y, position, f.y);
	qkv_rotate(&low->z, &high->z, position, f.z);
	qkv_rotate(&low->w, &high->w, position, f.w);
}

/* Stores four pairs, which are complete except for the rotation, as bf16. */
TT_DEVICE void qkv_store(const struct qkv_op &a, const struct product_tile &tile, uint32_t token, uint32_t head,
	uint32_t pair, float4 low, float4 high)
{
	const uint32_t *words = tile.words + token * PRODUCT_WORDS;
	if (!qkv_is_value(a, head))
		qkv_rotate_four(a, words, pair, &low, &high);
	tt_bf16 *to = qkv_to(a, words, tile.first_token + token, head, pair);
	enum tt_traffic kind = head < a.n_heads ? TT_TRAFFIC_ACTIVATION : TT_TRAFFIC_KV;
	tt_store_8(to, qkv_pack(low), kind);
	tt_store_8(to + a.head_dim / 2, qkv_pack(high), kind);
}

TT_DEVICE float *qkv_raw(const struct qkv_op &a, const struct product_tile &tile, uint32_t token, uint32_t head)
{
	size_t row = (size_t)(tile.first_token + token) * (a.n_heads + 2 * a.n_kv_heads) + head;
	return a.raw + row * a.head_dim;
}

TT_DEVICE void qkv_four_pairs(const struct qkv_op &a, const struct product_tile &tile, uint32_t token, uint32_t row,
	uint32_t head, uint32_t pair)
{
	float inverse = tt_shared_load_f32((const float *)tile.words + token * PRODUCT_WORDS);
	float4 low = qkv_scaled(product_sum(tile, token, row), inverse, tile.constants + row);
	float4 high = qkv_scaled(product_sum(tile, token, row + 8), inverse, tile.constants + row + 8);
	if (!qkv_is_whole(a, head)) {
		qkv_store(a, tile, token, head, pair, low, high);
		return;
	}
	float *raw = qkv_raw(a, tile, token, head) + pair;
	tt_store_f32x4(raw, low, TT_TRAFFIC_SCRATCH);
	tt_store_f32x4(raw + a.head_dim / 2, high, TT_TRAFFIC_SCRATCH);
}

TT_DEVICE float4 qkv_normed(float4 x, float inverse, float4 gamma)
{
	return make_float4(
		x.x * inverse * gamma.x, x.y * inverse * gamma.y, x.z * inverse * gamma.z, x.w * inverse * gamma.w);
}

TT_DEVICE float qkv_add_squares(float sum, float4 x)
{
	return fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, sum))));
}

/* As bf16 first, the way all keys and values are rounded. */
TT_DEVICE float4 qkv_rounded(float4 v)
{
	uint2 pairs = qkv_pack(v);
	return make_float4(
		tt_bf16x2_low(pairs.x), tt_bf16x2_high(pairs.x), tt_bf16x2_low(pairs.y), tt_bf16x2_high(pairs.y));
}

TT_DEVICE uint32_t qkv_larger(uint32_t most, float4 v)
{
	const float x[4] = {v.x, v.y, v.z, v.w};
	TT_UNROLL
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t magnitude = tt_bits_from_f32(x[i]) & 0x7fffffff;
		most = magnitude > most ? magnitude : most;
	}
	return most;
}

/* Stores a token's key or value, four pairs a lane, as fp8, rotated or to be. All lanes of the warp take part. */
TT_DEVICE void qkv_store_fp8(const struct qkv_op &a, const struct product_tile &tile, uint32_t token, uint32_t head,
	bool valid, float4 low, float4 high)
{
	const uint32_t *words = tile.words + token * PRODUCT_WORDS;
	uint32_t pair = tt_lane() * 4, most;
	if (valid && !qkv_is_value(a, head))
		qkv_rotate_four(a, words, pair, &low, &high);
	low = qkv_rounded(low);
	high = qkv_rounded(high);
	most = qkv_larger(qkv_larger(0, low), high);
	for (uint32_t lanes = TT_WARP / 2; lanes; lanes /= 2) {
		uint32_t other = tt_shuffle_xor(most, lanes);
		most = other > most ? other : most;
	}
	uint32_t scale = fp8_scale(most);
	float inverse = fp8_inverse(scale);
	size_t row = qkv_kv_row(a, words, head);
	unsigned char *to = (unsigned char *)a.kv + row * a.head_dim + pair;
	if (valid) {
		bool finite = scale != FP8_NAN_SCALE;
		tt_store_4(to, finite ? fp8_codes(low, inverse) : 0, TT_TRAFFIC_KV);
		tt_store_4(to + a.head_dim / 2, finite ? fp8_codes(high, inverse) : 0, TT_TRAFFIC_KV);
	}
	if (tt_lane() == 0)
		tt_store_2(a.scales + row, (uint16_t)scale, TT_TRAFFIC_KV);
}

/* One warp for each token, four pairs a lane: head_dim is at most 256. */
TT_DEVICE void qkv_finish_head(const struct qkv_op &a, const struct product_tile &tile, uint32_t head)
{
	uint32_t pair = tt_lane() * 4, half = a.head_dim / 2;
	bool valid = pair < half;
	const float *weight = head < a.n_heads ? a.q_norm : qkv_is_value(a, head) ? NULL : a.k_norm;
	float4 zero = make_float4(0, 0, 0, 0), gamma[2] = {zero, zero};
	for (uint32_t i = 0; i < 2 && valid && weight && tt_warp() < tile.n_tokens; i++)
		gamma[i] = tt_load_f32x4(weight + pair + i * half, TT_TRAFFIC_WEIGHT);
	for (uint32_t token = tt_warp(); token < tile.n_tokens; token += PRODUCT_WARPS) {
		const float *raw = qkv_raw(a, tile, token, head) + pair;
		float4 low = valid ? tt_load_f32x4(raw, TT_TRAFFIC_SCRATCH) : zero;
		float4 high = valid ? tt_load_f32x4(raw + half, TT_TRAFFIC_SCRATCH) : zero;
		if (weight) {
			float sum = tt_warp_sum(qkv_add_squares(qkv_add_squares(0, low), high), TT_WARP);
			float inverse = tt_rsqrt(tt_div(sum, (float)a.head_dim) + a.p.eps);
			low = qkv_normed(low, inverse, gamma[0]);
			high = qkv_normed(high, inverse, gamma[1]);
		}
		if (a.scales && head >= a.n_heads)
			qkv_store_fp8(a, tile, token, head, valid, low, high);
		else if (valid)
			qkv_store(a, tile, token, head, pair, low, high);
	}
}

/* The heads of which this block computed a part, and which are finished as a whole. */
TT_DEVICE void qkv_finish_heads(const struct qkv_op &a, const struct product_tile &tile)
{
	uint32_t n_heads = a.n_heads + 2 * a.n_kv_heads, tiles_a_head = a.head_dim / PRODUCT_TILE;
	uint32_t block_tiles = tile.n_rows / PRODUCT_TILE, *last = tile.words + LAST;
	uint32_t end = (tile.first_tile + block_tiles - 1) / tiles_a_head + 1;
	for (uint32_t head = tile.first_tile / tiles_a_head; head < end && head < n_heads; head++) {
		if (!qkv_is_whole(a, head))
			continue;
		uint32_t first_tile = head * tiles_a_head;
		uint32_t n_blocks = (first_tile + tiles_a_head - 1) / block_tiles - first_tile / block_tiles + 1;
		tt_sync_block();
		if (threadIdx.x == 0)
			tt_shared_store_4(last, tt_arrive_last(a.arrivals + blockIdx.x * n_heads + head, n_blocks));
		tt_sync_block();
		if (tt_shared_load_4(last))
			qkv_finish_head(a, tile, head);
	}
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
	if (a.q_norm || a.scales)
		qkv_finish_heads(a, tile);
}

/* Makes room for what heads need that are finished as a whole. */
static int prepare_heads(struct tt_cuda *cuda, const struct tt_config *c, struct tt_error *err)
{
	size_t n = cuda->grid_tokens, n_heads = c->n_heads + 2 * (size_t)c->n_kv_heads;
	/* blocks along the tokens: of long steps, and of those that clusters may take */
	size_t long_step = n / (cuda->fast ? PRODUCT_APPLY_TOKENS : PRODUCT_WIDE_TOKENS) + 1;
	size_t clusters = PRODUCT_CLUSTER_MOST / PRODUCT_WIDE_TOKENS * PRODUCT_CLUSTER;
	if (c->head_dim > TT_WARP * 8 || (long_step > clusters ? long_step : clusters) * n_heads > TT_CUDA_ARRIVALS)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "qkv: norms or scales of %zu heads of %u at %zu tokens",
			n_heads, c->head_dim, n);
	return tt_cuda_scratch(cuda, n * n_heads * c->head_dim * sizeof(float), err);
}

int tt_cuda_qkv(struct tt_backend *backend, const struct tt_qkv_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	const struct tt_config *c = args->config;
	const struct tt_layer *layer = args->layer;
	uint32_t n_out = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim, hidden = c->hidden_size;
	const struct tt_matrix *const matrices[] = {&layer->wq, &layer->wk, &layer->wv};
	struct product_matrix weights;
	TT_TRY(product_matrix_of(&weights, matrices, 3, "qkv", err));
	bool fp8 = args->kv->type == TT_KV_FP8;
	if (layer->q_norm || fp8)
		TT_TRY(prepare_heads(cuda, c, err));
	struct qkv_op a = {{weights, cuda->x, cuda->squares, cuda->plan, &cuda->plan->n_tokens, n_out, hidden,
				   n_out / PRODUCT_TILE, tt_norm_tiles(hidden), c->rms_norm_eps},
		layer->bq, layer->bk, layer->bv, args->inverse_frequencies, (tt_bf16 *)args->q, args->kv->data,
		fp8 ? args->kv->scales : NULL, layer->q_norm, layer->k_norm, cuda->partial, cuda->arrivals, c->n_heads,
		c->n_kv_heads, c->head_dim, args->layer_index, args->kv->n_pages};
	struct product_call how = {
		"qkv", cuda->grid_tokens, (uint64_t)cuda->grid_tokens * (n_out * 2 + a.p.n_norm_tiles * 4)};
	return product_launch(cuda, &a, &how, err);
}
