/* A small layer for the tests of the products: awkward sizes (half a chunk of K, a vocabulary that is no multiple of 4,
 * tiles that do not fill a block), 256 tokens of many sequences, and every op run on any part of them. A token's inputs
 * follow from its place in the pool alone, so that its outputs can be held against those of any other step. */
#ifndef TESTS_EMU_PRODUCT_WORLD_H
#define TESTS_EMU_PRODUCT_WORLD_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/ptx/ptx.cuh"
#include "kernels/cuda/steer_row.h"
#include "kernels/emu/emu.h"
#include "tests/emu/clusters.h"
#include "tests/random.h"
#include "tests/twin.h"

extern "C" {
#include "controller/policy/operations.h"
#include "kernels/cpu/fp8.h"
}

#ifndef WORLD_FFN
#define WORLD_FFN 176
#endif
#ifndef WORLD_HIDDEN
#define WORLD_HIDDEN 112
#endif
#ifndef WORLD_HEADS
#define WORLD_HEADS 5
#endif

enum {
	HIDDEN = WORLD_HIDDEN,
	FFN = WORLD_FFN,
	HEADS = WORLD_HEADS,
	KV_HEADS = 2,
	HEAD_DIM = 48,
	Q = HEADS * HEAD_DIM,
	KV = KV_HEADS * HEAD_DIM
};
enum { VOCAB = 291, LAYERS = 3, LAYER = 1, POOL = 256, NORM_TILES = HIDDEN / TT_NORM_TILE };
enum { N_PAGES = 131, MAX_PAGES = 4, KV_SIZE = LAYERS * N_PAGES * 2 * KV_HEADS * TT_PAGE_TOKENS * HEAD_DIM };
static const float EPS = 0.25f; /* large enough to be missed */
enum { ROWS = 13, SLOTS = 11, MAX_DIRECTIONS = 2 };

/* The inputs of the ops, made once. Row r of the coefficient table: 1 to 3 add, 4 adds nothing (c == 0, and its
 * direction is infinite), 5 ablates 2 directions, 6 clamps 2, 7 ablates with c == 0, 8 is affine in 2, 9 one-sided, 10
 * rotates, 11 rotates adaptively, 12 adds and keeps the length. */
struct inputs {
	tt_bf16 embedding[VOCAB * HIDDEN], w_qkv[(Q + 2 * KV) * HIDDEN], wo[HIDDEN * Q], w_gate_up[2 * FFN * HIDDEN],
		w_down[HIDDEN * FFN], output[VOCAB * HIDDEN];
	float bq[Q], bk[KV], bv[KV], bo[HIDDEN], b_gate[FFN], b_up[FFN], b_down[HIDDEN], attn_norm[HIDDEN],
		ffn_norm[HIDDEN], q_norm[HEAD_DIM], k_norm[HEAD_DIM], next_norm[HIDDEN],
		inverse_frequencies[HEAD_DIM / 2];
	float h[POOL * HIDDEN], squares[POOL * NORM_TILES];
	tt_bf16 x[POOL * HIDDEN], x_ffn[POOL * HIDDEN], x_output[POOL * HIDDEN], attention[POOL * Q], ffn[POOL * FFN];
	float directions[SLOTS][LAYERS * MAX_DIRECTIONS * HIDDEN], readers[LAYERS * MAX_DIRECTIONS * HIDDEN],
		targets[LAYERS * MAX_DIRECTIONS];
	float coef[ROWS * LAYERS];
};

/* The outputs of the ops, for each token of the pool. */
struct outputs {
	float h[POOL * HIDDEN], squares[POOL * NORM_TILES], logits[POOL * VOCAB], captured[POOL * LAYERS * HIDDEN],
		norms[POOL * LAYERS * 2];
	tt_bf16 x[POOL * HIDDEN], q[POOL * Q], ffn[POOL * FFN], kv[KV_SIZE];
};

/* The world's scratch is large enough from the start; weak, since the backend brings its own. */
extern "C" __attribute__((weak)) int tt_cuda_scratch(struct tt_cuda *cuda, size_t n_bytes, struct tt_error *err)
{
	return n_bytes <= cuda->partial_bytes ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "scratch of %zu bytes", n_bytes);
}

static inline float random_unit(uint64_t *state) /* -1 to 1 */
{
	return (float)(int32_t)(random_step(state) >> 32) * 0x1p-31f;
}

static inline void fill_f32(float *p, size_t n, float scale, float middle, uint64_t *state)
{
	for (size_t i = 0; i < n; i++)
		p[i] = middle + scale * random_unit(state);
}

static inline void fill_bf16(tt_bf16 *p, size_t n, float scale, uint64_t *state)
{
	for (size_t i = 0; i < n; i++)
		p[i] = tt_emu_bf16(scale * random_unit(state));
}

/* Two orthonormal directions a layer. */
static inline void make_orthonormal(float *directions, uint64_t *state)
{
	for (uint32_t l = 0; l < LAYERS; l++) {
		float *a = directions + l * 2 * HIDDEN, *b = a + HIDDEN;
		double aa = 0, ab = 0, bb = 0;
		fill_f32(a, 2 * HIDDEN, 1, 0, state);
		for (uint32_t i = 0; i < HIDDEN; i++)
			aa += (double)a[i] * a[i], ab += (double)a[i] * b[i];
		for (uint32_t i = 0; i < HIDDEN; i++)
			b[i] = (float)(b[i] - ab / aa * a[i]), bb += (double)b[i] * b[i];
		for (uint32_t i = 0; i < HIDDEN; i++)
			a[i] = (float)(a[i] / sqrt(aa)), b[i] = (float)(b[i] / sqrt(bb));
	}
}

static inline struct inputs *make_inputs(void)
{
	struct inputs *in = (struct inputs *)calloc(1, sizeof *in);
	uint64_t state = 42;
	cr_assert(in);
	fill_bf16(in->embedding, VOCAB * HIDDEN, 1, &state);
	fill_bf16(in->w_qkv, (Q + 2 * KV) * HIDDEN, 0.2f, &state);
	fill_bf16(in->wo, HIDDEN * Q, 0.2f, &state);
	fill_bf16(in->w_gate_up, 2 * FFN * HIDDEN, 0.2f, &state);
	fill_bf16(in->w_down, HIDDEN * FFN, 0.2f, &state);
	fill_bf16(in->output, VOCAB * HIDDEN, 0.2f, &state);
	float *biases[] = {in->bq, in->bk, in->bv, in->bo, in->b_gate, in->b_up, in->b_down};
	const uint32_t bias_sizes[] = {Q, KV, KV, HIDDEN, FFN, FFN, HIDDEN};
	for (uint32_t i = 0; i < 7; i++)
		fill_f32(biases[i], bias_sizes[i], 0.5f, 0, &state);
	fill_f32(in->attn_norm, HIDDEN, 0.3f, 1, &state);
	fill_f32(in->ffn_norm, HIDDEN, 0.3f, 1, &state);
	fill_f32(in->next_norm, HIDDEN, 0.3f, 1, &state);
	for (uint32_t i = 0; i < HEAD_DIM / 2; i++)
		in->inverse_frequencies[i] = (float)pow(10000.0, -2.0 * i / HEAD_DIM);
	fill_f32(in->q_norm, HEAD_DIM, 0.5f, 1, &state);
	fill_f32(in->k_norm, HEAD_DIM, 0.5f, 1, &state);
	fill_f32(in->h, POOL * HIDDEN, 2, 0, &state);
	fill_bf16(in->attention, POOL * Q, 1, &state);
	fill_bf16(in->ffn, POOL * FFN, 1, &state);
	for (uint32_t i = 0; i < POOL * HIDDEN; i++) {
		in->x[i] = tt_emu_bf16(in->h[i] * in->attn_norm[i % HIDDEN]);
		in->x_ffn[i] = tt_emu_bf16(in->h[i] * in->ffn_norm[i % HIDDEN]);
		in->x_output[i] = tt_emu_bf16(in->h[i] * in->next_norm[i % HIDDEN]);
	}
	for (uint32_t i = 0; i < POOL * NORM_TILES; i++) {
		double sum = 0;
		for (uint32_t j = 0; j < TT_NORM_TILE; j++)
			sum += (double)in->h[i * TT_NORM_TILE + j] * in->h[i * TT_NORM_TILE + j];
		in->squares[i] = (float)sum;
	}
	for (uint32_t s = 0; s < 3; s++)
		fill_f32(in->directions[s], LAYERS * HIDDEN, 1, 0, &state);
	for (uint32_t s = 3; s < 5; s++)
		make_orthonormal(in->directions[s], &state);
	for (uint32_t i = 0; i < LAYERS * MAX_DIRECTIONS * HIDDEN; i++)
		in->directions[5][i] = INFINITY;
	fill_f32(in->directions[6], LAYERS * MAX_DIRECTIONS * HIDDEN, 0.3f, 0, &state);
	fill_f32(in->readers, LAYERS * MAX_DIRECTIONS * HIDDEN, 0.1f, 0, &state);
	make_orthonormal(in->directions[7], &state);
	fill_f32(in->targets, LAYERS * MAX_DIRECTIONS, 3, 0, &state);
	fill_f32(in->coef, ROWS * LAYERS, 2, 0, &state);
	make_orthonormal(in->directions[8], &state);
	memcpy(in->directions[9], in->directions[8], sizeof in->directions[9]);
	fill_f32(in->directions[10], LAYERS * HIDDEN, 1, 0, &state);
	in->coef[0 * LAYERS + LAYER] = in->coef[4 * LAYERS + LAYER] = in->coef[7 * LAYERS + LAYER] = 0;
	return in;
}

/* The slot of each row of the table. */
static const uint16_t row_slots[ROWS] = {0, 0, 1, 2, 5, 3, 4, 3, 6, 7, 8, 9, 10};
static const enum tt_policy_op slot_ops[SLOTS] = {TT_OP_ADD, TT_OP_ADD, TT_OP_ADD, TT_OP_ABLATE, TT_OP_CLAMP, TT_OP_ADD,
	TT_OP_AFFINE, TT_OP_ONE_SIDED, TT_OP_ROTATE, TT_OP_ROTATE, TT_OP_ADD};

static const uint32_t slot_forms[SLOTS] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1};

static inline uint32_t slot_directions(uint32_t slot)
{
	return tt_operation_of(slot_ops[slot])->max_rows > 1 ? 2 : 1;
}

/* Whether the slot's operation has a tensor that goes to this member of a slot. */
static inline bool slot_has(uint32_t slot, size_t member)
{
	const struct tt_policy_row *row = &tt_operation_of(slot_ops[slot])->row;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		if (row->tensors[i].slot == member)
			return true;
	return false;
}

/* One step: tokens first to first + n of the pool, on grids made for more. */
struct step_case {
	uint32_t first, n, grid;
	uint32_t n_sms; /* few: the kernels with more rows a block */
	bool dependent, norms, row_steering;
	uint32_t steering; /* 0: none; 1: add; 2: all operations */
};

struct world {
	struct tt_backend *backend; /* the emulated one, or the twin */
	struct inputs *in;
	struct tt_config config;
	struct tt_layer layer;
	struct tt_matrix embedding, output;
	struct tt_cuda cuda;
	struct tt_step_plan *host_plan;
	struct tt_kv_pages kv;
	float *inverse_frequencies, *h, *logits, *captured, *norms, *coef, *q_norm, *k_norm, *next_norm;
	void *q, *attention, *ffn; /* bf16 on the device */
	struct tt_steer_slot *slots;
	struct step_case step;
};

/* Where a world lies: on the emulated device, or for the twin in the host's memory, which world_close releases. */
static struct {
	bool used;
	void *blocks[64];
	uint32_t n;
} host_memory;

static inline void *device(size_t n_bytes)
{
	void *p;
	if (host_memory.used) {
		p = host_memory.blocks[host_memory.n++] = calloc(n_bytes, 1);
		cr_assert(p && host_memory.n < 64);
		return p;
	}
	cr_assert_eq(cudaMalloc(&p, n_bytes), cudaSuccess);
	cr_assert_eq(cudaMemset(p, 0, n_bytes), cudaSuccess);
	return p;
}

template <typename type> static type *uploaded(const type *host, size_t n)
{
	type *p = (type *)device(n * sizeof *host);
	if (host_memory.used)
		memcpy(p, host, n * sizeof *host);
	else
		cr_assert_eq(cudaMemcpy(p, host, n * sizeof *host, cudaMemcpyHostToDevice), cudaSuccess);
	return p;
}

/* Activations: bf16 on the device, for the twin f32 that are bf16 numbers. */
static inline void *uploaded_activation(const tt_bf16 *host, size_t n)
{
	if (!host_memory.used)
		return uploaded(host, n);
	float *p = (float *)device(n * sizeof *p);
	for (size_t i = 0; i < n; i++)
		p[i] = twin_bf16_value(host[i]);
	return p;
}

/* On the device it is packed; the twin has it in rows. */
static inline struct tt_matrix matrix(const tt_bf16 *w, uint32_t n_out, uint32_t n_in, uint32_t span)
{
	struct tt_matrix m = {NULL, TT_TYPE_BF16, n_out, n_in, 0};
	if (host_memory.used) {
		m.data = uploaded(w, (size_t)n_out * n_in);
		return m;
	}
	tt_bf16 *packed = (tt_bf16 *)calloc(tt_packed_size(n_out, n_in), sizeof *packed);
	cr_assert(packed);
	for (uint32_t i = 0; i < n_out; i++)
		tt_packed_store(packed, tt_packed_row(span, i), w + (size_t)i * n_in, n_in);
	m.data = uploaded(packed, tt_packed_size(n_out, n_in));
	free(packed);
	return m;
}

/* Rows of a matrix that holds several. */
static inline struct tt_matrix part_of(const struct tt_matrix *m, uint32_t first, uint32_t n_out, uint32_t span)
{
	size_t at = host_memory.used ? (size_t)first * m->n_in : tt_packed_at(tt_packed_row(span, first), 0, m->n_in);
	struct tt_matrix part = {(const tt_bf16 *)m->data + at, TT_TYPE_BF16, n_out, m->n_in, 0};
	return part;
}

/* The rows that steer a token. */
static inline void choose_rows(uint32_t steering, uint32_t token, uint16_t rows[TT_STACK])
{
	static const uint16_t add[5][TT_STACK] = {{0}, {1}, {2, 4, 1, 3}, {4}, {0, 3, 0, 2}};
	static const uint16_t all[14][TT_STACK] = {{5}, {6}, {1, 5, 2, 7}, {7}, {0, 6, 3, 5}, {8}, {9}, {8, 1, 9, 6},
		{9, 8, 5, 2}, {10}, {11}, {11, 3, 10, 5}, {12}, {5, 12, 1, 10}};
	bool whole = steering == 2 && token % 2; /* some tokens that only add, in the same step */
	for (uint32_t i = 0; i < TT_STACK; i++)
		rows[i] = !steering ? 0 : whole ? all[token / 2 % 14][i] : add[token % 5][i];
}

static inline int32_t position_of(uint32_t token)
{
	return (int32_t)(token / 8 * 7 % 50 + token % 8);
}

static inline int32_t page_of(uint32_t token)
{
	return (int32_t)((token / 8 * MAX_PAGES + (uint32_t)position_of(token) / TT_PAGE_TOKENS) * 37 % N_PAGES);
}

/* Where the keys (0) or values (1) of a token's head lie in the pages. */
static inline size_t kv_at(uint32_t token, uint32_t which, uint32_t head)
{
	size_t page = (size_t)LAYER * N_PAGES + (size_t)page_of(token);
	return (((page * 2 + which) * KV_HEADS + head) * TT_PAGE_TOKENS + (size_t)position_of(token) % TT_PAGE_TOKENS) *
	       HEAD_DIM;
}

static inline struct tt_step_plan *make_plan(const struct step_case *c)
{
	enum { CAPACITY = 1 << 17, N_SEQS = POOL / 8 };
	struct tt_step_plan *plan = (struct tt_step_plan *)calloc(1, CAPACITY);
	struct tt_error err = {0, ""};
	cr_assert(plan);
	plan->n_tokens = plan->n_samples = plan->n_captures = c->n;
	plan->n_seqs = N_SEQS;
	plan->n_rows = ROWS;
	plan->max_pages = MAX_PAGES;
	cr_assert_eq(tt_step_layout(plan, CAPACITY, &err), TT_OK, "%s", err.message);
	for (uint32_t i = 0; i < c->n; i++) {
		uint32_t token = c->first + i;
		tt_step_tokens(plan)[i] = (int32_t)(token * 31 % VOCAB);
		tt_step_positions(plan)[i] = position_of(token);
		tt_step_seqs(plan)[i] = (int32_t)(token / 8);
		tt_step_captures(plan)[i] = token % 3 ? (int32_t)(c->n - 1 - i) : -1;
		choose_rows(c->steering, token, tt_step_coef_rows(plan) + i * TT_STACK);
		tt_step_samples(plan)[i].token = c->n - 1 - i;
	}
	memcpy(tt_step_row_slots(plan), row_slots, sizeof row_slots);
	for (uint32_t i = 0; i < N_SEQS * MAX_PAGES; i++)
		tt_step_pages(plan)[i] = (int32_t)(i * 37 % N_PAGES);
	return plan;
}

static inline struct tt_steer_slot *make_slots(const struct inputs *in)
{
	struct tt_steer_slot slots[SLOTS];
	memset(slots, 0, sizeof slots);
	const float *targets = uploaded(in->targets, LAYERS * MAX_DIRECTIONS);
	const float *readers = uploaded(in->readers, LAYERS * MAX_DIRECTIONS * HIDDEN);
	for (uint32_t i = 0; i < SLOTS; i++) {
		slots[i].op = slot_ops[i];
		slots[i].form = slot_forms[i];
		slots[i].n_directions = slot_directions(i);
		slots[i].directions = uploaded(in->directions[i], LAYERS * MAX_DIRECTIONS * HIDDEN);
		slots[i].targets = slot_has(i, offsetof(struct tt_steer_slot, targets)) ? targets : NULL;
		slots[i].readers = slot_has(i, offsetof(struct tt_steer_slot, readers)) ? readers : NULL;
	}
	return uploaded(slots, SLOTS);
}

static inline void world_layer(struct world *w)
{
	const struct inputs *in = w->in;
	struct tt_layer *l = &w->layer;
	l->wq = matrix(in->w_qkv, Q + 2 * KV, HIDDEN, HEAD_DIM);
	l->wk = part_of(&l->wq, Q, KV, HEAD_DIM);
	l->wv = part_of(&l->wq, Q + KV, KV, HEAD_DIM);
	l->wq.n_out = Q;
	l->wo = matrix(in->wo, HIDDEN, Q, TT_PACKED_ROWS);
	l->w_gate = matrix(in->w_gate_up, 2 * FFN, HIDDEN, 2 * FFN);
	l->w_up = part_of(&l->w_gate, FFN, FFN, 2 * FFN);
	l->w_gate.n_out = FFN;
	l->w_down = matrix(in->w_down, HIDDEN, FFN, TT_PACKED_ROWS);
	l->bq = uploaded(in->bq, Q);
	l->bk = uploaded(in->bk, KV);
	l->bv = uploaded(in->bv, KV);
	l->bo = uploaded(in->bo, HIDDEN);
	l->b_gate = uploaded(in->b_gate, FFN);
	l->b_up = uploaded(in->b_up, FFN);
	l->b_down = uploaded(in->b_down, HIDDEN);
	l->attn_norm = uploaded(in->attn_norm, HIDDEN);
	l->ffn_norm = uploaded(in->ffn_norm, HIDDEN);
	w->embedding = matrix(in->embedding, VOCAB, HIDDEN, TT_PACKED_ROWS);
	w->output = matrix(in->output, VOCAB, HIDDEN, TT_PACKED_ROWS);
}

static inline void world_backend(struct world *w, bool twin)
{
	struct tt_error err;
	struct tt_backend *b = w->backend = &w->cuda.base;
	host_memory.used = twin;
	host_memory.n = 0;
	b->embed = tt_cuda_embed;
	b->qkv = tt_cuda_qkv;
	b->o_proj = tt_cuda_o_proj;
	b->gate_up = tt_cuda_gate_up;
	b->down_proj = tt_cuda_down_proj;
	b->logits = tt_cuda_logits;
	if (twin)
		cr_assert_eq(tt_cpu_open_bf16(&w->backend, 1, &err), TT_OK, "%s", err.message);
}

static uint32_t world_shared; /* bytes that the device gives a block; 0: its own number */
static bool world_alone;      /* without clusters */
static bool world_gemma;      /* norms behind the products, GELU, a cap of logits, scaled embeddings */

static inline void world_set_gemma(struct world *w)
{
	w->config.activation = TT_GELU_TANH;
	w->config.logit_soft_cap = 2;
	w->config.embedding_scale = 10.583f;
	w->config.post_norms = true;
	w->layer.attn_post_norm = uploaded(w->in->next_norm, HIDDEN);
	w->layer.ffn_post_norm = uploaded(w->in->attn_norm, HIDDEN);
}

static bool world_fp8; /* the pages of the worlds that are made next are of eight bits */

/* Call tt_emu_reset before it and world_close after it. */

static inline void world_open(struct world *w, const struct step_case *c, bool twin)
{
	memset(w, 0, sizeof *w);
	world_backend(w, twin);
	w->step = *c;
	w->in = make_inputs();
	w->config.n_layers = LAYERS;
	w->config.hidden_size = HIDDEN;
	w->config.n_heads = HEADS;
	w->config.n_kv_heads = KV_HEADS;
	w->config.head_dim = HEAD_DIM;
	w->config.ffn_size = FFN;
	w->config.vocab_size = VOCAB;
	w->config.rms_norm_eps = EPS;
	world_layer(w);
	if (world_gemma)
		world_set_gemma(w);
	const struct inputs *in = w->in;
	w->host_plan = make_plan(c);
	w->cuda.plan =
		(const struct tt_step_plan *)uploaded((const unsigned char *)w->host_plan, w->host_plan->n_bytes);
	w->cuda.n_sms = c->n_sms;
	w->cuda.prepared.most_shared = world_shared;
	w->cuda.dependent = c->dependent;
	w->cuda.clusters = !twin && !world_alone && device_has_clusters();
	w->cuda.row_steering = c->row_steering;
	w->cuda.grid_tokens = w->cuda.grid_samples = c->grid;
	w->cuda.x = uploaded(in->x + c->first * HIDDEN, c->n * HIDDEN);
	w->cuda.squares = uploaded(in->squares + c->first * NORM_TILES, c->n * NORM_TILES);
	w->cuda.partial_bytes = POOL * (Q + KV) * sizeof(float);
	w->cuda.partial = (float *)device(w->cuda.partial_bytes);
	w->cuda.arrivals = (uint32_t *)device(256 * sizeof(uint32_t));
	w->h = uploaded(in->h + c->first * HIDDEN, c->n * HIDDEN);
	w->attention = uploaded_activation(in->attention + c->first * Q, c->n * Q);
	w->ffn = uploaded_activation(in->ffn + c->first * FFN, c->n * FFN);
	w->q = device(c->n * Q * (host_memory.used ? sizeof(float) : sizeof(tt_bf16)));
	w->logits = (float *)device((size_t)c->n * VOCAB * sizeof(float));
	w->captured = (float *)device((size_t)c->n * LAYERS * HIDDEN * sizeof(float));
	w->norms = c->norms ? (float *)device((size_t)c->n * LAYERS * 2 * sizeof(float)) : NULL;
	w->kv.data = device(KV_SIZE * (world_fp8 ? 1 : sizeof(tt_bf16)));
	w->kv.type = world_fp8 ? TT_KV_FP8 : TT_KV_BF16;
	w->kv.scales = (uint16_t *)device(KV_SIZE / HEAD_DIM * sizeof(uint16_t));
	w->kv.n_pages = N_PAGES;
	w->coef = uploaded(in->coef, ROWS * LAYERS);
	w->inverse_frequencies = uploaded(in->inverse_frequencies, HEAD_DIM / 2);
	w->next_norm = uploaded(in->next_norm, HIDDEN);
	w->q_norm = uploaded(in->q_norm, HEAD_DIM);
	w->k_norm = uploaded(in->k_norm, HEAD_DIM);
	w->slots = make_slots(in);
}

static inline void world_close(struct world *w)
{
	free(w->in);
	free(w->host_plan);
	while (host_memory.n)
		free(host_memory.blocks[--host_memory.n]);
	host_memory.used = false;
	if (w->backend != &w->cuda.base)
		w->backend->close(w->backend);
}

enum {
	OP_EMBED = 1,
	OP_QKV = 2,
	OP_O_PROJ = 4,
	OP_GATE_UP = 8,
	OP_DOWN_PROJ = 16,
	OP_LOGITS = 32,
	OP_QKV_NORMED = 64 /* with norms of heads */
};

/* The chosen ops, each on what the one before it left. */
static inline int world_run(struct world *w, unsigned ops, struct tt_error *err)
{
	struct tt_backend *b = w->backend;
	const struct tt_step_plan *step = w->host_plan;
	const struct tt_embed_args embed = {&w->config, step, &w->embedding, NULL, w->h, w->layer.attn_norm};
	const struct tt_qkv_args qkv = {&w->config, step, &w->layer, LAYER, w->inverse_frequencies, w->h, w->q, &w->kv};
	const struct tt_o_proj_args o_proj = {&w->config, step, &w->layer, w->attention, w->h};
	const struct tt_gate_up_args gate_up = {&w->config, step, &w->layer, w->h, w->ffn};
	const struct tt_down_proj_args down = {&w->config, step, &w->layer, LAYER, w->ffn, w->h, w->slots, w->coef,
		w->captured, w->norms, w->next_norm};
	const struct tt_logits_args logits = {&w->config, step, w->next_norm, &w->output, w->h, w->logits};
	if (ops & OP_EMBED)
		TT_TRY(b->embed(b, &embed, err));
	if (ops & OP_QKV)
		TT_TRY(b->qkv(b, &qkv, err));
	if (ops & OP_QKV_NORMED) {
		w->layer.q_norm = w->q_norm;
		w->layer.k_norm = w->k_norm;
		TT_TRY(b->qkv(b, &qkv, err));
	}
	if (ops & OP_O_PROJ)
		TT_TRY(b->o_proj(b, &o_proj, err));
	if (ops & OP_GATE_UP)
		TT_TRY(b->gate_up(b, &gate_up, err));
	if (ops & OP_DOWN_PROJ)
		TT_TRY(b->down_proj(b, &down, err));
	if (ops & OP_LOGITS)
		TT_TRY(b->logits(b, &logits, err));
	return TT_OK;
}

static inline void fetched(void *to, const void *from, size_t n_bytes)
{
	if (host_memory.used)
		memcpy(to, from, n_bytes);
	else
		cr_assert_eq(cudaMemcpy(to, from, n_bytes, cudaMemcpyDeviceToHost), cudaSuccess, "%s", tt_emu_report());
}

static inline void fetched_activation(tt_bf16 *to, const void *from, size_t n)
{
	if (!host_memory.used)
		fetched(to, from, n * sizeof *to);
	for (size_t i = 0; i < n && host_memory.used; i++)
		to[i] = tt_emu_bf16(((const float *)from)[i]);
}

/* Pages of eight bits as the bf16 numbers that they stand for. */
static inline void fetched_fp8(tt_bf16 *to, const struct tt_kv_pages *kv)
{
	static uint8_t codes[KV_SIZE];
	static uint16_t scales[KV_SIZE / HEAD_DIM];
	fetched(codes, kv->data, sizeof codes);
	fetched(scales, kv->scales, sizeof scales);
	for (uint32_t i = 0; i < KV_SIZE; i++)
		to[i] = tt_emu_bf16(tt_fp8_to_f32(codes[i]) * twin_bf16_value(scales[i / HEAD_DIM]));
}

/* Outputs at their place in the pool; logits and captures by the token they belong to. */
static inline void world_results(const struct world *w, struct outputs *out)
{
	uint32_t first = w->step.first, n = w->step.n;
	float *logits = (float *)malloc((size_t)n * VOCAB * sizeof *logits);
	float *captured = (float *)malloc((size_t)n * LAYERS * HIDDEN * sizeof *captured);
	cr_assert(logits && captured);
	fetched(out->h + first * HIDDEN, w->h, n * HIDDEN * sizeof(float));
	fetched(out->x + first * HIDDEN, w->cuda.x, n * HIDDEN * sizeof(tt_bf16));
	fetched(out->squares + first * NORM_TILES, w->cuda.squares, n * NORM_TILES * sizeof(float));
	fetched_activation(out->q + first * Q, w->q, n * Q);
	fetched_activation(out->ffn + first * FFN, w->ffn, n * FFN);
	if (world_fp8)
		fetched_fp8(out->kv, &w->kv);
	else
		fetched(out->kv, w->kv.data, KV_SIZE * sizeof(tt_bf16));
	if (w->norms)
		fetched(out->norms + first * LAYERS * 2, w->norms, n * LAYERS * 2 * sizeof(float));
	fetched(logits, w->logits, (size_t)n * VOCAB * sizeof *logits);
	fetched(captured, w->captured, (size_t)n * LAYERS * HIDDEN * sizeof *captured);
	for (uint32_t i = 0; i < n; i++) {
		memcpy(out->logits + (size_t)(first + n - 1 - i) * VOCAB, logits + (size_t)i * VOCAB,
			VOCAB * sizeof *logits);
		memcpy(out->captured + (size_t)(first + n - 1 - i) * LAYERS * HIDDEN,
			captured + (size_t)i * LAYERS * HIDDEN, LAYERS * HIDDEN * sizeof *captured);
	}
	free(logits);
	free(captured);
}

/* One step from its inputs to its outputs, on the emulator or by the twin. Free the result. */
static inline struct outputs *run_on(const struct step_case *c, unsigned ops, bool twin)
{
	struct world w;
	struct tt_error err = {0, ""};
	struct outputs *out = (struct outputs *)calloc(1, sizeof *out);
	cr_assert(out);
	world_open(&w, c, twin);
	if (ops == OP_GATE_UP || ops == OP_LOGITS) /* what the op before them would have left */
		w.cuda.x =
			uploaded((ops == OP_LOGITS ? w.in->x_output : w.in->x_ffn) + c->first * HIDDEN, c->n * HIDDEN);
	tt_emu_clear_counters();
	cr_assert_eq(world_run(&w, ops, &err), TT_OK, "%s", err.message);
	world_results(&w, out);
	world_close(&w);
	return out;
}

static inline struct outputs *run_step(const struct step_case *c, unsigned ops, enum tt_emu_order order)
{
	tt_emu_reset(order, 7);
	return run_on(c, ops, false);
}

static inline void same_f32(const char *what, const float *got, const float *want, size_t n)
{
	double *wanted = (double *)malloc(n * sizeof *wanted);
	for (size_t i = 0; i < n; i++)
		wanted[i] = (double)want[i];
	twin_check_f32(what, got, wanted, n);
	free(wanted);
}

static inline void same_bf16(const char *what, const tt_bf16 *got, const tt_bf16 *want, size_t n)
{
	double *wanted = (double *)malloc(n * sizeof *wanted);
	for (size_t i = 0; i < n; i++)
		wanted[i] = (double)twin_bf16_value(want[i]);
	twin_check_bf16(what, got, wanted, n, TWIN_BF16);
	free(wanted);
}

/* An op on the emulator wrote the same values as its twin. */
static inline void like_the_twin(const struct step_case *c, unsigned op, const struct outputs *got)
{
	struct outputs *twin = run_on(c, op, true);
	same_f32("h", got->h, twin->h, POOL * HIDDEN);
	same_f32("logits", got->logits, twin->logits, POOL * VOCAB);
	same_f32("captured", got->captured, twin->captured, POOL * LAYERS * HIDDEN);
	same_f32("norms", got->norms, twin->norms, POOL * LAYERS * 2);
	same_bf16("q", got->q, twin->q, POOL * Q);
	same_bf16("pages", got->kv, twin->kv, KV_SIZE);
	same_bf16("ffn", got->ffn, twin->ffn, POOL * FFN);
	free(twin);
}

static inline double from_bf16(tt_bf16 x)
{
	return twin_bf16_value(x);
}

#endif
