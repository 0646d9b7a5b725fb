#include "bench/gpu/world.h"

#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/harness.h"
#include "kernels/cuda/quants.h"

enum { BLOCK = 1 << 22, TINY_BLOCK = 1 << 16 }; /* bytes of random values, repeated to fill memory */
enum { PARTIAL_BYTES = 256 << 20, TINY_PARTIAL = 4 << 20, MAX_PLANS = 64 };

static int device_block(void *out_pointer, size_t n_bytes, struct tt_error *err)
{
	void *p = NULL;
	TT_TRY_CUDA(cudaMalloc(&p, n_bytes), "the benchmark's memory");
	memcpy(out_pointer, &p, sizeof p);
	TT_TRY_CUDA(cudaMemset(p, 0, n_bytes), "the benchmark's memory");
	return TT_OK;
}

/* Over the bus once, and from then on within the device, twice as much each time. */
int tt_kernel_world_fill(void *to, size_t n_bytes, const void *block, size_t block_bytes, struct tt_error *err)
{
	size_t done = n_bytes < block_bytes ? n_bytes : block_bytes;
	TT_TRY_CUDA(cudaMemcpy(to, block, done, cudaMemcpyHostToDevice), "the benchmark's inputs");
	for (size_t n; done < n_bytes; done += n) {
		n = n_bytes - done < done ? n_bytes - done : done;
		TT_TRY_CUDA(cudaMemcpy((char *)to + done, to, n, cudaMemcpyDeviceToDevice), "the benchmark's inputs");
	}
	return TT_OK;
}

/* The same in newly allocated memory. */
static int device_filled(void *out_pointer, size_t n_bytes, const void *block, size_t block_bytes, struct tt_error *err)
{
	char *p = NULL;
	TT_TRY(device_block(&p, n_bytes, err));
	memcpy(out_pointer, &p, sizeof p);
	return tt_kernel_world_fill(p, n_bytes, block, block_bytes, err);
}

static float uniform(uint64_t *state) /* -1 to 1 */
{
	return (float)((double)(tt_bench_draw(state) >> 11) * 0x1p-52 - 1);
}

/* bf16 within scale, never zeros, which multiply faster. */
static int device_random_bf16(void *out_pointer, size_t n, float scale, bool tiny, struct tt_error *err)
{
	size_t n_block = (tiny ? TINY_BLOCK : BLOCK) / sizeof(uint16_t);
	uint16_t *block = NULL;
	uint64_t state = n;
	TT_TRY(tt_alloc(&block, n_block, sizeof *block, err));
	for (size_t i = 0; i < n_block; i++)
		block[i] = tt_f32_to_bf16(scale * uniform(&state));
	int status = device_filled(out_pointer, n * sizeof(uint16_t), block, n_block * sizeof(uint16_t), err);
	free(block);
	return status;
}

static int device_random_f32(void *out_pointer, size_t n, float scale, float middle, bool tiny, struct tt_error *err)
{
	size_t n_block = (tiny ? TINY_BLOCK : BLOCK) / sizeof(float);
	float *block = NULL;
	uint64_t state = n;
	TT_TRY(tt_alloc(&block, n_block, sizeof *block, err));
	for (size_t i = 0; i < n_block; i++)
		block[i] = middle + scale * uniform(&state);
	int status = device_filled(out_pointer, n * sizeof(float), block, n_block * sizeof(float), err);
	free(block);
	return status;
}

static uint64_t matrix_bytes(enum tt_type type, uint32_t n_out, uint32_t n_in)
{
	return (uint64_t)((n_out + TT_PACKED_ROWS - 1) / TT_PACKED_ROWS) * tt_quant_tile_row(type, n_in);
}

/* A quarter of a GiB of weights, several times an L2 cache; or the largest matrix, if that is more. */
static uint64_t weight_bytes(const struct tt_config *c, bool tiny)
{
	uint64_t least = tiny ? 1 << 20 : 1 << 28, output = matrix_bytes(TT_TYPE_BF16, c->vocab_size, c->hidden_size),
		 gate_up = matrix_bytes(TT_TYPE_BF16, 2 * c->ffn_size, c->hidden_size);
	uint64_t most = output > gate_up ? output : gate_up;
	return most > least ? most : least;
}

/* h, with x and squares as the op that wrote h would have left them. */
static int make_stream(struct tt_kernel_world *w, struct tt_error *err)
{
	uint32_t d = w->config.hidden_size, tiles = tt_norm_tiles(d);
	size_t n = (size_t)w->max_tokens * d;
	float *squares = NULL;
	uint16_t *x = NULL;
	uint64_t state = 3;
	TT_TRY(tt_alloc(&w->host_h, n, sizeof *w->host_h, err));
	int status = tt_alloc(&squares, (size_t)w->max_tokens * tiles, sizeof *squares, err);
	if (status == TT_OK)
		status = tt_alloc(&x, n, sizeof *x, err);
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		w->host_h[i] = uniform(&state);
		x[i] = tt_f32_to_bf16(w->host_h[i]);
		squares[i / d * tiles + i % d / TT_NORM_TILE] += w->host_h[i] * w->host_h[i];
	}
	if (status == TT_OK)
		status = device_filled(&w->h_start, n * sizeof(float), w->host_h, n * sizeof(float), err);
	if (status == TT_OK)
		status = device_filled(&w->x_start, n * sizeof *x, x, n * sizeof *x, err);
	size_t n_squares = (size_t)w->max_tokens * tiles * sizeof(float);
	if (status == TT_OK)
		status = device_filled(&w->squares_start, n_squares, squares, n_squares, err);
	free(squares);
	free(x);
	TT_TRY(status);
	TT_TRY(device_block(&w->h, n * sizeof(float), err));
	TT_TRY(device_block(&w->cuda.x, n * sizeof(uint16_t), err));
	return device_block(&w->cuda.squares, n_squares, err);
}

/* A policy for each sequence, each with its own directions. */
static int make_policies(struct tt_kernel_world *w, bool tiny, struct tt_error *err)
{
	const struct tt_config *c = &w->config;
	size_t n = (size_t)c->n_layers * c->hidden_size;
	struct tt_steer_slot *slots = NULL;
	float *directions = NULL;
	TT_TRY(device_random_f32(&directions, n * w->max_seqs, 1, 0, tiny, err));
	TT_TRY(device_random_f32(&w->coef, ((size_t)w->max_seqs + 1) * c->n_layers, 0.1f, 0.5f, tiny, err));
	TT_TRY(tt_alloc(&slots, w->max_seqs, sizeof *slots, err));
	for (uint32_t i = 0; i < w->max_seqs; i++)
		slots[i] = (struct tt_steer_slot){
			.op = TT_OP_ADD, .n_directions = 1, .directions = directions + i * n, .alpha = 1};
	int status = device_filled(&w->slots, w->max_seqs * sizeof *slots, slots, w->max_seqs * sizeof *slots, err);
	free(slots);
	return status;
}

static int make_backend(struct tt_kernel_world *w, bool tiny, struct tt_error *err)
{
	int n_sms = 0, major = 0, clusters = 0;
	uint32_t most_shared = 0;
	TT_TRY_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, 0), "the device");
	TT_TRY_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "the device");
	TT_TRY_CUDA(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, 0), "the device");
	w->cuda.n_sms = (uint32_t)n_sms;
	w->cuda.dependent = major == 9;
	w->cuda.clusters = major == 9 && clusters;
	w->cuda.partial_bytes = tiny ? TINY_PARTIAL : PARTIAL_BYTES;
	TT_TRY(device_block(&w->cuda.partial, w->cuda.partial_bytes, err));
	TT_TRY(device_block(&w->cuda.arrivals, TT_CUDA_ARRIVALS * sizeof(uint32_t), err));
	TT_TRY_CUDA(cudaStreamCreateWithFlags(&w->cuda.stream, cudaStreamNonBlocking), "a stream");
	TT_TRY(tt_cuda_most_shared(&w->cuda, &most_shared, err));
	return tt_cuda_try(&w->cuda, err); /* as where a backend is opened */
}

int tt_kernel_world_open(struct tt_kernel_world *w, const char *model, bool tiny, struct tt_error *err)
{
	char path[64];
	struct tt_model *shapes = NULL;
	memset(w, 0, sizeof *w);
	w->is_base = true;
	w->tiny = tiny;
	snprintf(path, sizeof path, "dummy:%s", model);
	TT_TRY(tt_model_open(&shapes, path, err));
	w->config = shapes->config;
	tt_model_close(shapes);

	const struct tt_config *c = &w->config;
	w->context = tiny ? 48 : 512;
	w->max_seqs = tiny ? 8 : 256;
	w->max_tokens = tiny ? 64 : 2048;
	w->kv.type = TT_KV_BF16;
	w->kv.n_pages = w->max_seqs * ((w->context + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS);
	w->weight_bytes = weight_bytes(c, tiny);
	w->weight_type = TT_TYPE_BF16;
	size_t n = w->max_tokens, n_q = (size_t)c->n_heads * c->head_dim, n_seqs = w->max_seqs;
	size_t page = (size_t)2 * c->n_kv_heads * TT_PAGE_TOKENS * c->head_dim;
	TT_TRY(make_backend(w, tiny, err));
	TT_TRY(device_random_bf16(&w->weights, w->weight_bytes / sizeof(uint16_t), 0.05f, tiny, err));
	TT_TRY(device_random_bf16(&w->kv.data, page * w->kv.n_pages, 1, tiny, err));
	TT_TRY(device_random_bf16(&w->q, n * n_q, 1, tiny, err));
	TT_TRY(device_random_bf16(&w->attention, n * n_q, 1, tiny, err));
	TT_TRY(device_random_bf16(&w->ffn, n * c->ffn_size, 1, tiny, err));
	TT_TRY(device_random_f32(&w->logits, n_seqs * c->vocab_size, 8, 0, tiny, err));
	TT_TRY(device_random_f32(&w->inverse_frequencies, c->head_dim / 2, 0.5f, 0.5f, tiny, err));
	TT_TRY(device_random_f32(&w->ones, c->hidden_size, 0, 1, tiny, err));
	TT_TRY(device_block(&w->samples, n_seqs * sizeof *w->samples, err));
	size_t widest = n * 2 * c->ffn_size, n_logits = n_seqs * c->vocab_size;
	TT_TRY(device_block(&w->scratch, (widest > n_logits ? widest : n_logits) * sizeof(uint16_t), err));
	TT_TRY(make_policies(w, tiny, err));
	return make_stream(w, err);
}

/* The tokens of the step, on pages from first on. */
static void fill_step(const struct tt_kernel_world *w, struct tt_step_plan *step, bool steered, uint32_t first)
{
	for (uint32_t i = 0; i < step->n_tokens; i++) {
		tt_step_tokens(step)[i] = (int32_t)(i * 7919 % w->config.vocab_size);
		tt_step_positions(step)[i] = w->prefill ? (int32_t)i : (int32_t)w->context - 1;
		tt_step_seqs(step)[i] = w->prefill ? 0 : (int32_t)i;
		tt_step_captures(step)[i] = -1;
		memset(tt_step_coef_rows(step) + (size_t)i * TT_STACK, 0, TT_STACK * sizeof(uint16_t));
		if (steered)
			tt_step_coef_rows(step)[(size_t)i * TT_STACK] = w->prefill ? 1 : (uint16_t)(1 + i);
	}
	for (uint32_t row = 1; row < step->n_rows; row++)
		tt_step_row_slots(step)[row] = (uint16_t)(row - 1);
	for (uint32_t i = 0; i < step->n_seqs * step->max_pages; i++)
		tt_step_pages(step)[i] = (int32_t)((first + i) % w->kv.n_pages);
	for (uint32_t i = 0; i < step->n_samples; i++)
		tt_step_samples(step)[i] = (struct tt_sample_plan){
			.token = w->prefill ? step->n_tokens - 1 : i, .target = -1, .sampling.top_p = 1};
}

int tt_kernel_world_step(struct tt_kernel_world *w, const struct tt_kernel_world *base, uint32_t n, bool prefill,
	bool steered, struct tt_error *err)
{
	struct tt_step_plan counts = {.n_tokens = n, .n_seqs = prefill ? 1 : n, .n_samples = prefill ? 1 : n};
	*w = *base;
	w->is_base = false;
	w->prefill = prefill;
	w->plans = NULL;
	w->step = NULL;
	if (n < 1 || n > (prefill ? w->max_tokens : w->max_seqs))
		return tt_fail(err, TT_ERR_ARGUMENT, "a step of %u tokens", n);
	w->n_tokens = w->cuda.grid_tokens = n;
	w->n_samples = w->cuda.grid_samples = counts.n_samples;
	uint32_t length = prefill ? n : w->context;
	counts.max_pages = (length + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS;
	counts.n_rows = 1 + (prefill ? 1 : n);
	w->cuda.max_splits = (length + TT_SPLIT_KEYS - 1) / TT_SPLIT_KEYS;
	w->n_plans = w->kv.n_pages / (counts.n_seqs * counts.max_pages);
	w->n_plans = w->n_plans > MAX_PLANS ? MAX_PLANS : w->n_plans < 1 ? 1 : w->n_plans;

	size_t capacity = 1 << 20;
	TT_TRY(tt_alloc(&w->step, capacity, 1, err));
	*w->step = counts;
	TT_TRY(tt_step_layout(w->step, capacity, err));
	w->plan_bytes = (w->step->n_bytes + 255) / 256 * 256;
	TT_TRY(device_block(&w->plans, (size_t)w->n_plans * w->plan_bytes, err));
	for (uint32_t i = 0; i < w->n_plans; i++) {
		fill_step(w, w->step, steered, i * counts.n_seqs * counts.max_pages);
		TT_TRY_CUDA(cudaMemcpy(w->plans + (size_t)i * w->plan_bytes, w->step, w->step->n_bytes,
				    cudaMemcpyHostToDevice),
			"a plan");
	}
	return TT_OK;
}

void tt_kernel_world_close(struct tt_kernel_world *w)
{
	free(w->step);
	cudaFree(w->plans);
	if (!w->is_base)
		return;
	void *blocks[] = {w->cuda.partial, w->cuda.arrivals, w->cuda.x, w->cuda.squares, w->weights, w->kv.data,
		w->x_start, w->h, w->h_start, w->squares_start, w->q, w->attention, w->ffn, w->logits, w->coef, w->ones,
		w->inverse_frequencies, w->scratch, w->slots, w->samples};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		cudaFree(blocks[i]);
	if (w->cuda.stream)
		cudaStreamDestroy(w->cuda.stream);
	free(w->host_h);
}

/* Matrix number copy of its shape, copies repeating when the memory is full; or where at is not NULL the next matrix
 * behind *at. */
static struct tt_matrix place(
	const struct tt_kernel_world *w, uint32_t copy, uint64_t *at, uint32_t n_out, uint32_t n_in)
{
	uint64_t one = matrix_bytes(w->weight_type, n_out, n_in), first = copy % (w->weight_bytes / one) * one;
	if (at) {
		first = *at + one > w->weight_bytes ? 0 : *at;
		*at = first + one;
	}
	return (struct tt_matrix){w->weights + first, w->weight_type, n_out, n_in, 0};
}

/* Takes the first n_out rows of a matrix that is packed as one. */
static struct tt_matrix split_off(struct tt_matrix *rest, uint32_t n_out, uint32_t span)
{
	struct tt_matrix part = *rest;
	part.n_out = n_out;
	rest->data = (const char *)rest->data + tt_quant_at(rest->type, tt_packed_row(span, n_out), rest->n_in);
	rest->n_out -= n_out;
	return part;
}

static void place_layer(const struct tt_kernel_world *w, uint32_t copy, uint64_t *at, struct tt_layer *layer)
{
	const struct tt_config *c = &w->config;
	uint32_t d = c->hidden_size, n_q = c->n_heads * c->head_dim, n_kv = c->n_kv_heads * c->head_dim;
	*layer = (struct tt_layer){.attn_norm = w->ones, .ffn_norm = w->ones};
	struct tt_matrix qkv = place(w, copy, at, n_q + 2 * n_kv, d);
	layer->wq = split_off(&qkv, n_q, c->head_dim);
	layer->wk = split_off(&qkv, n_kv, c->head_dim);
	layer->wv = qkv;
	layer->wo = place(w, copy, at, d, n_q);
	struct tt_matrix gate_up = place(w, copy, at, 2 * c->ffn_size, d);
	layer->w_gate = split_off(&gate_up, c->ffn_size, 2 * c->ffn_size);
	layer->w_up = gate_up;
	layer->w_down = place(w, copy, at, d, c->ffn_size);
}

void tt_kernel_world_weights(
	const struct tt_kernel_world *w, uint32_t copy, struct tt_layer *layer, struct tt_matrix *output)
{
	place_layer(w, copy, NULL, layer);
	*output = place(w, copy, NULL, w->config.vocab_size, w->config.hidden_size);
}

void tt_kernel_world_next_layer(const struct tt_kernel_world *w, uint64_t *at, struct tt_layer *layer)
{
	place_layer(w, 0, at, layer);
}

struct tt_matrix tt_kernel_world_next_output(const struct tt_kernel_world *w, uint64_t *at)
{
	return place(w, 0, at, w->config.vocab_size, w->config.hidden_size);
}

int tt_kernel_world_run(struct tt_kernel_world *w, enum tt_kernel_op op, uint32_t index, const struct tt_layer *layer,
	const struct tt_matrix *output, struct tt_error *err)
{
	struct tt_backend *b = &w->cuda.base;
	uint32_t l = index % w->config.n_layers;
	struct tt_embed_args embed = {&w->config, w->step, output, NULL, w->h, w->ones};
	struct tt_qkv_args qkv = {&w->config, w->step, layer, 0, w->inverse_frequencies, w->h, w->q, &w->kv};
	struct tt_attention_args attention = {&w->config, w->step, 0, w->q, w->attention, &w->kv};
	struct tt_o_proj_args o_proj = {&w->config, w->step, layer, w->attention, w->h};
	struct tt_gate_up_args gate_up = {&w->config, w->step, layer, w->h, w->ffn};
	struct tt_down_proj_args down_proj = {
		&w->config, w->step, layer, l, w->ffn, w->h, w->slots, w->coef, NULL, NULL, w->ones};
	struct tt_logits_args logits = {&w->config, w->step, w->ones, output, w->h, w->logits};
	struct tt_sample_args sample = {&w->config, w->step, w->logits, w->samples};
	w->cuda.plan = tt_kernel_world_plan(w, op == TT_KERNEL_ATTENTION ? index : 0);
	switch (op) {
	case TT_KERNEL_EMBED:
		return tt_cuda_embed(b, &embed, err);
	case TT_KERNEL_QKV:
		return tt_cuda_qkv(b, &qkv, err);
	case TT_KERNEL_ATTENTION:
		return tt_cuda_attention(b, &attention, err);
	case TT_KERNEL_O_PROJ:
		return tt_cuda_o_proj(b, &o_proj, err);
	case TT_KERNEL_GATE_UP:
		return tt_cuda_gate_up(b, &gate_up, err);
	case TT_KERNEL_DOWN_PROJ:
		return tt_cuda_down_proj(b, &down_proj, err);
	case TT_KERNEL_LOGITS:
		return tt_cuda_logits(b, &logits, err);
	default:
		return tt_cuda_sample(b, &sample, err);
	}
}

const struct tt_step_plan *tt_kernel_world_plan(const struct tt_kernel_world *w, uint32_t index)
{
	return (const struct tt_step_plan *)(void *)(w->plans + (size_t)(index % w->n_plans) * w->plan_bytes);
}

int tt_kernel_world_restore(struct tt_kernel_world *w, struct tt_error *err)
{
	uint32_t d = w->config.hidden_size;
	size_t n = (size_t)w->n_tokens * d, n_squares = (size_t)w->n_tokens * tt_norm_tiles(d);
	TT_TRY_CUDA(cudaMemcpy(w->h, w->h_start, n * sizeof(float), cudaMemcpyDeviceToDevice), "h");
	TT_TRY_CUDA(cudaMemcpy(w->cuda.x, w->x_start, n * sizeof(uint16_t), cudaMemcpyDeviceToDevice), "x");
	TT_TRY_CUDA(cudaMemcpy(w->cuda.squares, w->squares_start, n_squares * sizeof(float), cudaMemcpyDeviceToDevice),
		"squares");
	TT_TRY_CUDA(cudaDeviceSynchronize(), "the benchmark's inputs");
	return TT_OK;
}

int tt_kernel_world_launch(const struct tt_kernel_world *w, cudaGraphExec_t graph, uint32_t n, struct tt_error *err)
{
	for (uint32_t i = 0; i < n; i++)
		TT_TRY_CUDA(cudaGraphLaunch(graph, w->cuda.stream), "a graph");
	TT_TRY_CUDA(cudaStreamSynchronize(w->cuda.stream), "a graph");
	return TT_OK;
}

int tt_kernel_world_row(const void *x, uint32_t n_in, uint32_t token, uint16_t **out, struct tt_error *err)
{
	size_t n_bytes = n_in * sizeof **out;
	TT_TRY(tt_alloc(out, n_in, sizeof **out, err));
	cudaError_t error = cudaMemcpy(*out, (const char *)x + token * n_bytes, n_bytes, cudaMemcpyDeviceToHost);
	if (error != cudaSuccess) {
		free(*out);
		*out = NULL;
	}
	TT_TRY_CUDA(error, "a row");
	return TT_OK;
}

int tt_kernel_world_dot(
	const void *x, const void *w, uint32_t n_in, uint32_t token, uint32_t i, double *out, struct tt_error *err)
{
	size_t tiles = tt_packed_size(1, n_in);
	const uint16_t *from = (const uint16_t *)w + i / TT_PACKED_ROWS * tiles;
	uint16_t *a = NULL, *b = NULL;
	TT_TRY(tt_kernel_world_row(x, n_in, token, &a, err));
	int status = tt_alloc(&b, tiles, sizeof *b, err);
	cudaError_t error = cudaSuccess;
	if (status == TT_OK)
		error = cudaMemcpy(b, from, tiles * sizeof *b, cudaMemcpyDeviceToHost);
	*out = 0;
	for (uint32_t k = 0; k < n_in && status == TT_OK; k++)
		*out += (double)tt_bf16_to_f32(a[k]) *
			(double)tt_bf16_to_f32(b[tt_packed_at(i % TT_PACKED_ROWS, k, n_in)]);
	free(a);
	free(b);
	TT_TRY(status);
	TT_TRY_CUDA(error, "a row");
	return TT_OK;
}

double tt_kernel_world_inverse_rms(const struct tt_kernel_world *w, uint32_t token)
{
	uint32_t d = w->config.hidden_size;
	const float *h = w->host_h + (size_t)token * d;
	double sum = 0;
	for (uint32_t i = 0; i < d; i++)
		sum += (double)h[i] * (double)h[i];
	return 1 / sqrt(sum / d + (double)w->config.rms_norm_eps);
}
