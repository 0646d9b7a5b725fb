/* Loads a model into device memory: quantised matrices as they are (quants.h), other matrices as bf16 (packed.h), both
 * in the order in which products read them; vectors as f32. */
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/quants.h"

enum {
	STAGE_BYTES = 16 << 20,
	/* matrices of one product may have types of their own where they begin with a block */
	PART_ROWS = TT_QUANT_PART_TILES * TT_PACKED_ROWS,
};

/* The loaded model, and the memory that it owns. */
struct loaded {
	struct tt_model model;
	void **memory;
	size_t n, capacity;
};

struct loader {
	struct tt_cuda *cuda;
	struct loaded *to;
	uint8_t *stage; // pinned: stage_bytes, at least a row of tiles of the widest matrix, in bf16
	size_t stage_bytes;
	float *row;          // f32 [the widest n_in]
	uint16_t *converted; // bf16 [the widest n_in]
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

static void convert_row(const struct loader *l, const struct tt_matrix *from, const uint8_t *data, uint16_t *out)
{
	if (from->type == TT_TYPE_BF16) {
		memcpy(out, data, from->n_in * sizeof *out);
		return;
	}
	tt_dequantise(from->type, data, l->row, from->n_in);
	for (uint32_t i = 0; i < from->n_in; i++)
		out[i] = tt_f32_to_bf16(l->row[i]);
}

/* Matrices that one product reads are packed as one. */
struct part {
	const struct tt_matrix *from;
	struct tt_matrix *to;
	bool rotated; /* the rows of q or k, which a file may hold in neighbour order */
};

struct group {
	const struct part *parts;
	uint32_t n_parts, n_rows, n_in, span;
	enum tt_type type; /* on the device */
};

/* Row `row` of the group into its place: packed row `to` of the stage. */
static void pack_row(struct loader *l, const struct group *g, uint32_t row, uint32_t to)
{
	const struct part *part = g->parts;
	const struct tt_config *c = &l->cuda->config;
	while (row >= part->from->n_out)
		row -= part++->from->n_out;
	row = part->rotated && c->rope_interleaved ? half_split_row(row, c->head_dim) : row;
	const uint8_t *data = (const uint8_t *)part->from->data + tt_type_row_bytes(part->from->type, g->n_in) * row;
	if (tt_quant_kept(g->type)) {
		tt_quant_store(
			g->type, l->stage + tt_quant_at(g->type, to, g->n_in), to % TT_PACKED_ROWS, data, g->n_in);
		return;
	}
	convert_row(l, part->from, data, l->converted);
	tt_packed_store((uint16_t *)(void *)l->stage, to, l->converted, g->n_in);
}

/* The wait keeps the stage from being overwritten while it is copied; the conversion is the slow part. */
static int copy_group(struct loader *l, uint8_t *to, const struct group *g, struct tt_error *err)
{
	size_t tile_row = tt_quant_tile_row(g->type, g->n_in);
	uint32_t n_tiles = (g->n_rows + TT_PACKED_ROWS - 1) / TT_PACKED_ROWS;
	uint32_t most = (uint32_t)(l->stage_bytes / tile_row);
	for (uint32_t first = 0; first < n_tiles; first += most) {
		uint32_t n = n_tiles - first < most ? n_tiles - first : most;
		memset(l->stage, 0, n * tile_row); /* what is missing to whole tiles */
		for (uint32_t i = 0; i < n * TT_PACKED_ROWS; i++) {
			uint32_t row = tt_packed_first_row(g->span, first + i / TT_PACKED_ROWS, i / 8 % 2) + i % 8;
			if (row < g->n_rows)
				pack_row(l, g, row, i);
		}
		TT_TRY(tt_copy_in(
			&l->cuda->counters, to + first * tile_row, l->stage, n * tile_row, l->cuda->stream, err));
		TT_TRY(tt_wait(&l->cuda->counters, l->cuda->stream, err));
	}
	return TT_OK;
}

/* Matrices of one type. */
static int load_group(
	struct loader *l, const struct part *parts, uint32_t n, uint32_t span, enum tt_type type, struct tt_error *err)
{
	struct group g = {parts, n, 0, parts[0].from->n_in, span, type};
	uint8_t *data = NULL;
	for (uint32_t i = 0; i < n; i++)
		g.n_rows += parts[i].from->n_out;
	size_t n_tiles = (g.n_rows + TT_PACKED_ROWS - 1) / TT_PACKED_ROWS;
	TT_TRY(own(l, &data, n_tiles, tt_quant_tile_row(type, g.n_in), err));
	l->cuda->base.weight_bytes += n_tiles * tt_quant_tile_row(type, g.n_in);
	for (uint32_t i = 0; i < n && !tt_quant_kept(type); i++)
		if (tt_quant_kept(parts[i].from->type))
			l->cuda->base.rounded_bytes += (uint64_t)parts[i].from->n_out * g.n_in * sizeof(uint16_t);
	if (parts[0].from->data)
		TT_TRY(copy_group(l, data, &g, err));
	for (uint32_t i = 0, row = 0; i < n; row += parts[i++].from->n_out) {
		const struct tt_matrix *from = parts[i].from;
		if (!from->data)
			TT_TRY(tt_cuda_fill_dummy(l->cuda, (uint16_t *)(void *)data, from, row, span, err));
		*parts[i].to = (struct tt_matrix){
			data + tt_quant_at(type, tt_packed_row(span, row), g.n_in), type, from->n_out, g.n_in, 0};
	}
	return TT_OK;
}

/* Whether matrices of one product can each keep their type: a block of a product must not have tiles of two. */
static bool keep_types(const struct part *parts, uint32_t n, uint32_t span)
{
	uint32_t row = 0, n_rows = 0;
	for (uint32_t i = 0; i < n; i++)
		n_rows += parts[i].from->n_out;
	for (uint32_t i = 0; i < n; row += parts[i++].from->n_out) {
		bool other = i && parts[i].from->type != parts[i - 1].from->type;
		if (!parts[i].from->data || !tt_quant_kept(parts[i].from->type) ||
			(other && (row % PART_ROWS || span == n_rows)))
			return false;
	}
	return true;
}

static int load_matrices(struct loader *l, const struct part *parts, uint32_t n, uint32_t span, struct tt_error *err)
{
	if (!keep_types(parts, n, span))
		return load_group(l, parts, n, span, TT_TYPE_BF16, err);
	for (uint32_t first = 0, i = 1; i <= n; i++) {
		if (i < n && parts[i].from->type == parts[first].from->type)
			continue;
		TT_TRY(load_group(l, parts + first, i - first, span, parts[first].from->type, err));
		first = i;
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
	uint32_t d = c->hidden_size;
	const struct part qkv[] = {{&from->wq, &to->wq, true}, {&from->wk, &to->wk, true}, {&from->wv, &to->wv, false}};
	const struct part o = {&from->wo, &to->wo, false}, down = {&from->w_down, &to->w_down, false};
	const struct part gate_up[] = {{&from->w_gate, &to->w_gate, false}, {&from->w_up, &to->w_up, false}};
	TT_TRY(load_matrices(l, qkv, 3, c->head_dim, err));
	TT_TRY(load_matrices(l, &o, 1, TT_PACKED_ROWS, err));
	TT_TRY(load_matrices(l, gate_up, 2, 2 * from->w_gate.n_out, err));
	TT_TRY(load_matrices(l, &down, 1, TT_PACKED_ROWS, err));
	TT_TRY(load_vector(l, &to->attn_norm, from->attn_norm, d, false, err));
	TT_TRY(load_vector(l, &to->ffn_norm, from->ffn_norm, d, false, err));
	TT_TRY(load_vector(l, &to->attn_post_norm, from->attn_post_norm, d, false, err));
	TT_TRY(load_vector(l, &to->ffn_post_norm, from->ffn_post_norm, d, false, err));
	TT_TRY(load_vector(l, &to->bq, from->bq, from->wq.n_out, true, err));
	TT_TRY(load_vector(l, &to->bk, from->bk, from->wk.n_out, true, err));
	TT_TRY(load_vector(l, &to->bv, from->bv, from->wv.n_out, false, err));
	TT_TRY(load_vector(l, &to->q_norm, from->q_norm, c->head_dim, true, err));
	TT_TRY(load_vector(l, &to->k_norm, from->k_norm, c->head_dim, true, err));
	TT_TRY(load_vector(l, &to->bo, from->bo, from->wo.n_out, false, err));
	TT_TRY(load_vector(l, &to->b_gate, from->b_gate, from->w_gate.n_out, false, err));
	TT_TRY(load_vector(l, &to->b_up, from->b_up, from->w_up.n_out, false, err));
	return load_vector(l, &to->b_down, from->b_down, from->w_down.n_out, false, err);
}

static int load_weights(struct loader *l, const struct tt_model *host, struct tt_error *err)
{
	struct tt_model *to = &l->to->model;
	const struct part embedding = {&host->embedding, &to->embedding, false};
	const struct part output = {&host->output, &to->output, false};
	TT_TRY(load_matrices(l, &embedding, 1, TT_PACKED_ROWS, err));
	/* of several ranks, the rows that this one has, which begin with a tile */
	to->output = to->embedding;
	to->output.data = (uint8_t *)(uintptr_t)to->embedding.data +
			  tt_quant_at(to->embedding.type, host->output.first_row, host->config.hidden_size);
	to->output.n_out = host->output.n_out;
	if (!host->config.tied_output)
		TT_TRY(load_matrices(l, &output, 1, TT_PACKED_ROWS, err));
	TT_TRY(load_vector(l, &to->output_norm, host->output_norm, host->config.hidden_size, false, err));
	for (uint32_t i = 0; i < host->config.n_layers; i++)
		TT_TRY(load_layer(l, &to->layers[i], &host->layers[i], err));
	return TT_OK;
}

/* The most columns of a matrix. Of one rank of several, wo has those of all heads. */
static uint32_t widest(const struct tt_model *m)
{
	const struct tt_config *c = &m->config;
	uint32_t n = c->hidden_size > c->ffn_size ? c->hidden_size : c->ffn_size;
	return c->n_layers && m->layers[0].wo.n_in > n ? m->layers[0].wo.n_in : n;
}

static int open_loader(struct loader *l, const struct tt_model *host, struct tt_error *err)
{
	const struct tt_config *config = &host->config;
	uint32_t most = widest(host);
	size_t tile_row = tt_quant_tile_row(TT_TYPE_BF16, most);
	l->stage_bytes = tile_row > STAGE_BYTES ? tile_row : STAGE_BYTES;
	TT_TRY(tt_alloc(&l->to, 1, sizeof *l->to, err));
	TT_TRY(tt_alloc(&l->to->model.layers, config->n_layers, sizeof *l->to->model.layers, err));
	TT_TRY(tt_alloc(&l->row, most, sizeof *l->row, err));
	TT_TRY(tt_alloc(&l->converted, most, sizeof *l->converted, err));
	TT_TRY_CUDA(cudaMallocHost((void **)&l->stage, l->stage_bytes), "pinned host memory");
	return TT_OK;
}

int tt_cuda_load(struct tt_cuda *cuda, const struct tt_model *host, const struct tt_model **out, struct tt_error *err)
{
	struct loader l = {.cuda = cuda};
	*out = NULL;
	TT_TRY(cuda->base.can_run(&cuda->base, &host->config, err));
	cuda->base.weight_bytes = cuda->base.rounded_bytes = 0;
	int status = open_loader(&l, host, err);
	if (status == TT_OK) {
		l.to->model.config = host->config;
		l.to->model.config.rope_interleaved = false;
		l.to->model.n_parameters = host->n_parameters;
		status = load_weights(&l, host, err);
	}
	free(l.row);
	free(l.converted);
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
