/* Loads a model into device memory: matrices as bf16, vectors as f32, in the layout that cuda.h states. */
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cuda/cuda.h"

enum { STAGE_BYTES = 16 << 20 };

/* The loaded model, and the memory that it owns. */
struct loaded {
	struct tt_model model;
	void **memory;
	size_t n, capacity;
};

struct loader {
	struct tt_cuda *cuda;
	struct loaded *to;
	uint16_t *stage; // bf16 [STAGE_BYTES / 2] pinned
	float *row;      // f32 [the widest n_in]
};

static int own(struct loader *l, void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	void *memory = NULL;
	TT_TRY(tt_grow(&l->to->memory, &l->to->capacity, l->to->n + 1, sizeof *l->to->memory, err));
	TT_TRY(l->cuda->base.allocate(&l->cuda->base, &memory, count, size, err));
	l->to->memory[l->to->n++] = memory;
	memcpy(out_pointer, &memory, sizeof memory);
	return TT_OK;
}

/* Row r of a head in half-split order is row 2r of the head in neighbour order, or 2r - head_dim + 1 in the upper
 * half. */
static uint32_t half_split_row(uint32_t row, uint32_t head_dim)
{
	uint32_t first = row / head_dim * head_dim, r = row - first;
	return first + (r < head_dim / 2 ? 2 * r : 2 * r - head_dim + 1);
}

static void convert_row(const struct loader *l, const struct tt_matrix *from, uint32_t row, uint16_t *out)
{
	const uint8_t *data = (const uint8_t *)from->data + tt_type_row_bytes(from->type, from->n_in) * row;
	if (from->type == TT_TYPE_BF16) {
		memcpy(out, data, from->n_in * sizeof *out);
		return;
	}
	tt_dequantise(from->type, data, l->row, from->n_in);
	for (uint32_t i = 0; i < from->n_in; i++)
		out[i] = tt_f32_to_bf16(l->row[i]);
}

/* rotated: these are the rows of q or k, which a file may hold in neighbour order. The wait keeps the stage from being
 * overwritten while it is copied; the conversion is the slow part. */
static int copy_matrix(struct loader *l, uint16_t *to, const struct tt_matrix *from, bool rotated, struct tt_error *err)
{
	const struct tt_config *c = &l->cuda->config;
	uint32_t rows = STAGE_BYTES / sizeof *to / from->n_in;
	bool reorder = rotated && c->rope_interleaved;
	if (!from->data)
		return tt_cuda_fill_dummy(l->cuda, to, from, err);
	rows = rows ? rows : 1;
	for (uint32_t first = 0; first < from->n_out; first += rows) {
		uint32_t n = from->n_out - first < rows ? from->n_out - first : rows;
		for (uint32_t i = 0; i < n; i++)
			convert_row(l, from, reorder ? half_split_row(first + i, c->head_dim) : first + i,
				l->stage + (size_t)i * from->n_in);
		TT_TRY(tt_copy_in(&l->cuda->counters, to + (size_t)first * from->n_in, l->stage,
			(size_t)n * from->n_in * sizeof *to, l->cuda->stream, err));
		TT_TRY(tt_wait(&l->cuda->counters, l->cuda->stream, err));
	}
	return TT_OK;
}

/* Matrices that one product reads must be contiguous. */
struct part {
	const struct tt_matrix *from;
	struct tt_matrix *to;
	bool rotated;
};

static int load_matrices(struct loader *l, const struct part *parts, uint32_t n, struct tt_error *err)
{
	size_t n_in = parts[0].from->n_in, rows = 0;
	uint16_t *data = NULL;
	for (uint32_t i = 0; i < n; i++)
		rows += parts[i].from->n_out;
	TT_TRY(own(l, &data, rows, n_in * sizeof *data, err));
	for (uint32_t i = 0; i < n; i++) {
		const struct tt_matrix *from = parts[i].from;
		TT_TRY(copy_matrix(l, data, from, parts[i].rotated, err));
		*parts[i].to = (struct tt_matrix){data, TT_TYPE_BF16, from->n_out, from->n_in};
		data += (size_t)from->n_out * n_in;
	}
	return TT_OK;
}

static int load_vector(
	struct loader *l, const float **to, const float *from, uint32_t n, bool rotated, struct tt_error *err)
{
	const struct tt_config *c = &l->cuda->config;
	float *copy = NULL, *ordered = NULL;
	*to = NULL;
	if (!from)
		return TT_OK;
	TT_TRY(own(l, &copy, n, sizeof *copy, err));
	*to = copy;
	if (!rotated || !c->rope_interleaved)
		return l->cuda->base.upload(&l->cuda->base, copy, from, n * sizeof *from, err);
	TT_TRY(tt_alloc(&ordered, n, sizeof *ordered, err));
	for (uint32_t i = 0; i < n; i++)
		ordered[i] = from[half_split_row(i, c->head_dim)];
	int status = l->cuda->base.upload(&l->cuda->base, copy, ordered, n * sizeof *from, err);
	free(ordered);
	return status;
}

static int load_layer(struct loader *l, struct tt_layer *to, const struct tt_layer *from, struct tt_error *err)
{
	const struct tt_config *c = &l->cuda->config;
	uint32_t d = c->hidden_size, n_q = c->n_heads * c->head_dim, n_kv = c->n_kv_heads * c->head_dim;
	const struct part qkv[] = {{&from->wq, &to->wq, true}, {&from->wk, &to->wk, true}, {&from->wv, &to->wv, false}};
	const struct part o = {&from->wo, &to->wo, false}, down = {&from->w_down, &to->w_down, false};
	const struct part gate_up[] = {{&from->w_gate, &to->w_gate, false}, {&from->w_up, &to->w_up, false}};
	TT_TRY(load_matrices(l, qkv, 3, err));
	TT_TRY(load_matrices(l, &o, 1, err));
	TT_TRY(load_matrices(l, gate_up, 2, err));
	TT_TRY(load_matrices(l, &down, 1, err));
	TT_TRY(load_vector(l, &to->attn_norm, from->attn_norm, d, false, err));
	TT_TRY(load_vector(l, &to->ffn_norm, from->ffn_norm, d, false, err));
	TT_TRY(load_vector(l, &to->bq, from->bq, n_q, true, err));
	TT_TRY(load_vector(l, &to->bk, from->bk, n_kv, true, err));
	TT_TRY(load_vector(l, &to->bv, from->bv, n_kv, false, err));
	TT_TRY(load_vector(l, &to->q_norm, from->q_norm, c->head_dim, true, err));
	TT_TRY(load_vector(l, &to->k_norm, from->k_norm, c->head_dim, true, err));
	TT_TRY(load_vector(l, &to->bo, from->bo, d, false, err));
	TT_TRY(load_vector(l, &to->b_gate, from->b_gate, c->ffn_size, false, err));
	TT_TRY(load_vector(l, &to->b_up, from->b_up, c->ffn_size, false, err));
	return load_vector(l, &to->b_down, from->b_down, d, false, err);
}

static int load_weights(struct loader *l, const struct tt_model *host, struct tt_error *err)
{
	struct tt_model *to = &l->to->model;
	const struct part embedding = {&host->embedding, &to->embedding, false};
	const struct part output = {&host->output, &to->output, false};
	TT_TRY(load_matrices(l, &embedding, 1, err));
	to->output = to->embedding;
	if (!host->config.tied_output)
		TT_TRY(load_matrices(l, &output, 1, err));
	TT_TRY(load_vector(l, &to->output_norm, host->output_norm, host->config.hidden_size, false, err));
	for (uint32_t i = 0; i < host->config.n_layers; i++)
		TT_TRY(load_layer(l, &to->layers[i], &host->layers[i], err));
	return TT_OK;
}

static uint32_t widest(const struct tt_config *c)
{
	uint32_t n = c->hidden_size, q = c->n_heads * c->head_dim;
	n = c->ffn_size > n ? c->ffn_size : n;
	return q > n ? q : n;
}

static int open_loader(struct loader *l, const struct tt_config *config, struct tt_error *err)
{
	size_t stage = (size_t)widest(config) * sizeof *l->stage;
	stage = stage > STAGE_BYTES ? stage : STAGE_BYTES;
	TT_TRY(tt_alloc(&l->to, 1, sizeof *l->to, err));
	TT_TRY(tt_alloc(&l->to->model.layers, config->n_layers, sizeof *l->to->model.layers, err));
	TT_TRY(tt_alloc(&l->row, widest(config), sizeof *l->row, err));
	TT_TRY_CUDA(cudaMallocHost((void **)&l->stage, stage), "pinned host memory");
	return TT_OK;
}

int tt_cuda_load(struct tt_cuda *cuda, const struct tt_model *host, const struct tt_model **out, struct tt_error *err)
{
	struct loader l = {.cuda = cuda};
	*out = NULL;
	TT_TRY(cuda->base.can_run(&cuda->base, &host->config, err));
	int status = open_loader(&l, &host->config, err);
	if (status == TT_OK) {
		l.to->model.config = host->config;
		l.to->model.config.rope_interleaved = false;
		l.to->model.n_parameters = host->n_parameters;
		status = load_weights(&l, host, err);
	}
	free(l.row);
	cudaFreeHost(l.stage);
	if (status != TT_OK) {
		tt_cuda_unload(cuda, l.to ? &l.to->model : NULL);
		return status;
	}
	*out = &l.to->model;
	return TT_OK;
}

void tt_cuda_unload(struct tt_cuda *cuda, const struct tt_model *loaded)
{
	struct loaded *l = (struct loaded *)(uintptr_t)loaded; /* its first member */
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++)
		cuda->base.release(&cuda->base, l->memory[i]);
	free(l->memory);
	free(l->model.layers);
	free(l);
}
