#include "weights/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "weights/dummy.h"
#include "weights/fp8.h"
#include "weights/tensors.h"

enum { DIGEST_BYTES = 4096, MAX_NAME = 128 };

struct tt_model_storage {
	struct tt_tensors tensors;
	/* owned: vectors as f32, and matrices that were unaligned in the file or have scales in another tensor */
	void **copies;
	size_t n_copies, copies_capacity;
	bool has_fp8;
};

int tt_model_own(struct tt_model *model, void *out_pointer, size_t n, struct tt_error *err)
{
	struct tt_model_storage *s = model->storage;
	void *memory = NULL;
	TT_TRY(tt_grow(&s->copies, &s->copies_capacity, s->n_copies + 1, sizeof *s->copies, err));
	TT_TRY(tt_alloc_aligned(&memory, n, 1, err));
	s->copies[s->n_copies++] = memory;
	memcpy(out_pointer, &memory, sizeof memory);
	return TT_OK;
}

/* "[3][64]" */
static void print_shape(char out[100], const struct tt_tensor *t)
{
	size_t n = 0;
	out[0] = 0;
	for (uint32_t i = 0; i < t->n_dims; i++)
		n += (size_t)snprintf(out + n, 100 - n, "[%llu]", (unsigned long long)t->shape[i]);
}

/* Finds a tensor of this shape (n_in 0: a vector) and counts it. */
static int find(struct tt_tensor **out, struct tt_model *model, const char *name, uint32_t n_out, uint32_t n_in,
	struct tt_error *err)
{
	struct tt_tensor *t = tt_tensors_find(&model->storage->tensors, name);
	char shape[100];
	if (!t)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s is missing", name);
	print_shape(shape, t);
	if (n_in && (t->n_dims != 2 || t->shape[0] != n_out || t->shape[1] != n_in))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s has shape %s, the configuration makes it [%u][%u]", name,
			shape, n_out, n_in);
	if (!n_in && (t->n_dims != 1 || t->shape[0] != n_out))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s has shape %s, the configuration makes it [%u]", name,
			shape, n_out);
	if (!n_in && t->type == TT_TENSOR_F8_E4M3)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "tensor %s is a vector of F8_E4M3, which is not supported", name);
	if (!tt_type_known(t->type) && t->type != TT_TENSOR_F8_E4M3)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tensor %s has a number type that is not supported (supported: %s)", name,
			model->gguf ? tt_gguf_type_names : "F32, F16, BF16, F8_E4M3");
	t->used = true;
	model->n_parameters += (uint64_t)n_out * (n_in ? n_in : 1);
	model->n_weight_bytes += t->n_bytes;
	*out = t;
	return TT_OK;
}

/* A matrix of eight bits, as blocks with their scales. */
static int load_fp8(struct tt_matrix *out, struct tt_model *model, const struct tt_tensor *t, struct tt_error *err)
{
	struct tt_tensor *scales = NULL;
	uint8_t *blocks = NULL;
	uint32_t n_out = (uint32_t)t->shape[0], n_in = (uint32_t)t->shape[1];
	if (!model->config.scaled_weights)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tensor %s is F8_E4M3, and config.json does not say how: it has neither quantization_config "
			"nor compression_config",
			t->name);
	TT_TRY(tt_fp8_find_scales(&scales, &model->storage->tensors, t, err));
	TT_TRY(tt_model_own(model, &blocks, tt_type_row_bytes(TT_TYPE_F8_E4M3, n_in) * n_out, err));
	TT_TRY(tt_fp8_blocks(blocks, t, scales, err));
	scales->used = true;
	model->n_weight_bytes += scales->n_bytes;
	model->storage->has_fp8 = true;
	*out = (struct tt_matrix){blocks, TT_TYPE_F8_E4M3, n_out, n_in, 0};
	return TT_OK;
}

static int load_matrix(struct tt_matrix *out, struct tt_model *model, const char *name, uint32_t n_out, uint32_t n_in,
	struct tt_error *err)
{
	struct tt_tensor *t = NULL;
	TT_TRY(find(&t, model, name, n_out, n_in, err));
	if (t->type == TT_TENSOR_F8_E4M3)
		return load_fp8(out, model, t, err);
	*out = (struct tt_matrix){t->data, (enum tt_type)t->type, n_out, n_in, 0};
	/* safetensors promises no alignment, and kernels load whole numbers. */
	size_t element = t->type == TT_TYPE_F32 ? 4 : 2;
	if ((uintptr_t)t->data % element) {
		void *copy = NULL;
		TT_TRY(tt_model_own(model, &copy, t->n_bytes, err));
		memcpy(copy, t->data, t->n_bytes);
		out->data = copy;
	}
	return TT_OK;
}

int tt_matrix_row(const struct tt_matrix *matrix, uint32_t row, float *out, struct tt_error *err)
{
	if (!matrix->data)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no weights to read");
	if (row >= matrix->n_out)
		return tt_fail(err, TT_ERR_ARGUMENT, "row %u is not one of the matrix's %u", row, matrix->n_out);
	const uint8_t *data = matrix->data;
	tt_dequantise(matrix->type, data + row * tt_type_row_bytes(matrix->type, matrix->n_in), out, matrix->n_in);
	return TT_OK;
}

static int load_vector(const float **out, struct tt_model *model, const char *name, uint32_t n, struct tt_error *err)
{
	struct tt_tensor *t = NULL;
	float *copy = NULL;
	TT_TRY(find(&t, model, name, n, 0, err));
	TT_TRY(tt_model_own(model, &copy, (size_t)n * sizeof *copy, err)); /* n is at most TT_MAX_HIDDEN */
	tt_dequantise((enum tt_type)t->type, t->data, copy, n);
	*out = copy;
	return TT_OK;
}

/* Where norms multiply by 1 + w, GGUF files hold that sum already. */
static int load_norm(const float **out, struct tt_model *model, const char *name, uint32_t n, struct tt_error *err)
{
	TT_TRY(load_vector(out, model, name, n, err));
	float *weight = (float *)(uintptr_t)*out; /* a copy of the model's own */
	for (uint32_t i = 0; i < n && TT_ARCHS[model->config.arch].norms_plus_one && model->directory; i++)
		weight[i] += 1;
	return TT_OK;
}

/* The next n_out rows of a tensor that holds several matrices: those from *first on, which then moves past them. Rows
 * are whole blocks. */
static struct tt_matrix take_rows(const struct tt_matrix *all, uint32_t *first, uint32_t n_out)
{
	const uint8_t *data = (const uint8_t *)all->data + tt_type_row_bytes(all->type, all->n_in) * *first;
	*first += n_out;
	return (struct tt_matrix){data, all->type, n_out, all->n_in, 0};
}

/* The names of a layer's tensors in the file. */
struct layer_names {
	const struct tt_arch_names *names;
	uint32_t index;
	char name[MAX_NAME];
};

static const char *part(struct layer_names *l, const char *name, const char *suffix)
{
	snprintf(l->name, sizeof l->name, "%s%u.%s.%s", l->names->layer, l->index, name, suffix);
	return l->name;
}

static int load_qkv(struct tt_layer *layer, struct tt_model *model, struct layer_names *l, struct tt_error *err)
{
	const struct tt_config *c = &model->config;
	const struct tt_arch_names *n = l->names;
	uint32_t d = c->hidden_size, n_q = c->n_heads * c->head_dim, n_kv = c->n_kv_heads * c->head_dim, row = 0;
	struct tt_matrix all;
	if (!TT_ARCHS[c->arch].fused) {
		TT_TRY(load_matrix(&layer->wq, model, part(l, n->q, "weight"), n_q, d, err));
		TT_TRY(load_matrix(&layer->wk, model, part(l, n->k, "weight"), n_kv, d, err));
		return load_matrix(&layer->wv, model, part(l, n->v, "weight"), n_kv, d, err);
	}
	TT_TRY(load_matrix(&all, model, part(l, n->qkv, "weight"), n_q + 2 * n_kv, d, err));
	layer->wq = take_rows(&all, &row, n_q);
	layer->wk = take_rows(&all, &row, n_kv);
	layer->wv = take_rows(&all, &row, n_kv);
	return TT_OK;
}

static int load_attention(struct tt_layer *layer, struct tt_model *model, struct layer_names *l, struct tt_error *err)
{
	const struct tt_config *c = &model->config;
	const struct tt_arch_names *n = l->names;
	uint32_t d = c->hidden_size, n_q = c->n_heads * c->head_dim, n_kv = c->n_kv_heads * c->head_dim;
	TT_TRY(load_norm(&layer->attn_norm, model, part(l, n->attn_norm, "weight"), d, err));
	TT_TRY(load_qkv(layer, model, l, err));
	TT_TRY(load_matrix(&layer->wo, model, part(l, n->o, "weight"), d, n_q, err));
	if (c->head_norms) {
		TT_TRY(load_norm(&layer->q_norm, model, part(l, n->q_norm, "weight"), c->head_dim, err));
		TT_TRY(load_norm(&layer->k_norm, model, part(l, n->k_norm, "weight"), c->head_dim, err));
	}
	if (c->post_norms)
		TT_TRY(load_norm(&layer->attn_post_norm, model, part(l, n->attn_post_norm, "weight"), d, err));
	if (!c->attention_bias)
		return TT_OK;
	TT_TRY(load_vector(&layer->bq, model, part(l, n->q, "bias"), n_q, err));
	TT_TRY(load_vector(&layer->bk, model, part(l, n->k, "bias"), n_kv, err));
	TT_TRY(load_vector(&layer->bv, model, part(l, n->v, "bias"), n_kv, err));
	/* Some models bias q, k and v only; those that bias o do it in every layer. */
	if (l->index ? model->layers[0].bo != NULL
		     : tt_tensors_find(&model->storage->tensors, part(l, n->o, "bias")) != NULL)
		TT_TRY(load_vector(&layer->bo, model, part(l, n->o, "bias"), d, err));
	return TT_OK;
}

static int load_gate_up(struct tt_layer *layer, struct tt_model *model, struct layer_names *l, struct tt_error *err)
{
	const struct tt_config *c = &model->config;
	const struct tt_arch_names *n = l->names;
	uint32_t d = c->hidden_size, ffn = c->ffn_size, row = 0;
	struct tt_matrix all;
	if (!TT_ARCHS[c->arch].fused) {
		TT_TRY(load_matrix(&layer->w_gate, model, part(l, n->gate, "weight"), ffn, d, err));
		return load_matrix(&layer->w_up, model, part(l, n->up, "weight"), ffn, d, err);
	}
	TT_TRY(load_matrix(&all, model, part(l, n->gate_up, "weight"), 2 * ffn, d, err));
	layer->w_gate = take_rows(&all, &row, ffn);
	layer->w_up = take_rows(&all, &row, ffn);
	return TT_OK;
}

static int load_mlp(struct tt_layer *layer, struct tt_model *model, struct layer_names *l, struct tt_error *err)
{
	const struct tt_config *c = &model->config;
	const struct tt_arch_names *n = l->names;
	uint32_t d = c->hidden_size, ffn = c->ffn_size;
	TT_TRY(load_norm(&layer->ffn_norm, model, part(l, n->ffn_norm, "weight"), d, err));
	TT_TRY(load_gate_up(layer, model, l, err));
	TT_TRY(load_matrix(&layer->w_down, model, part(l, n->down, "weight"), d, ffn, err));
	if (c->post_norms)
		TT_TRY(load_norm(&layer->ffn_post_norm, model, part(l, n->ffn_post_norm, "weight"), d, err));
	if (!c->mlp_bias)
		return TT_OK;
	TT_TRY(load_vector(&layer->b_gate, model, part(l, n->gate, "bias"), ffn, err));
	TT_TRY(load_vector(&layer->b_up, model, part(l, n->up, "bias"), ffn, err));
	return load_vector(&layer->b_down, model, part(l, n->down, "bias"), d, err);
}

/* Tensors that the configuration has already used. */
static bool is_rope_table(const struct tt_config *config, const char *name)
{
	return strcmp(name, "rope_freqs.weight") == 0 || tt_ends_with(name, ".rotary_emb.inv_freq") ||
	       (config->rope_scaling == TT_ROPE_LONGROPE && (strcmp(name, "rope_factors_long.weight") == 0 ||
								    strcmp(name, "rope_factors_short.weight") == 0));
}

/* A tensor of the vision tower of a model whose text part alone is read. */
static bool is_vision(const struct tt_config *config, const char *name)
{
	return TT_ARCHS[config->arch].vision &&
	       (strncmp(name, "vision_tower.", 13) == 0 || strncmp(name, "multi_modal_projector.", 22) == 0);
}

/* An output matrix beside a tied embedding, and its scales where it is eight bits. */
static bool is_spare_output(const struct tt_model *model, const struct tt_arch_names *names, const char *name)
{
	const struct tt_tensor *output = tt_tensors_find(&model->storage->tensors, names->output);
	if (!model->config.tied_output || !output)
		return false;
	return strcmp(name, names->output) == 0 ||
	       (output->type == TT_TENSOR_F8_E4M3 && tt_fp8_are_scales(name, names->output));
}

/* A weight that nothing reads (a bias, a q norm, a layer too many) would mean that the model computes something else
 * than what runs here. The exceptions are tables that follow from the configuration, an output matrix beside a tied
 * embedding, which transformers ignores too, and how activations would be rounded beside weights of eight bits, since
 * they are not. */
static int refuse_leftovers(const struct tt_model *model, const struct tt_arch_names *names, struct tt_error *err)
{
	const struct tt_tensors *all = &model->storage->tensors;
	for (size_t i = 0; i < all->n; i++) {
		const char *name = all->list[i].name;
		if (all->list[i].used || is_rope_table(&model->config, name) || is_vision(&model->config, name) ||
			is_spare_output(model, names, name) || (model->storage->has_fp8 && tt_fp8_of_activations(name)))
			continue;
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tensor %s has no place in a model of %u layers with this configuration", name,
			model->config.n_layers);
	}
	return TT_OK;
}

static int load_weights(struct tt_model *model, const struct tt_arch_names *names, struct tt_error *err)
{
	const struct tt_config *c = &model->config;
	struct layer_names l = {.names = names};
	TT_TRY(load_matrix(&model->embedding, model, names->embedding, c->vocab_size, c->hidden_size, err));
	TT_TRY(load_norm(&model->output_norm, model, names->output_norm, c->hidden_size, err));
	model->output = model->embedding;
	if (!c->tied_output)
		TT_TRY(load_matrix(&model->output, model, names->output, c->vocab_size, c->hidden_size, err));
	TT_TRY(tt_alloc(&model->layers, c->n_layers, sizeof *model->layers, err));
	for (l.index = 0; l.index < c->n_layers; l.index++) {
		TT_TRY(load_attention(&model->layers[l.index], model, &l, err));
		TT_TRY(load_mlp(&model->layers[l.index], model, &l, err));
	}
	return refuse_leftovers(model, names, err);
}

/* Hashes every tensor that the model uses, by name: the name with its 0, then type, n_dims (u32) and shape (u64) as
 * little-endian numbers, then up to 4096 bytes. At most 57 MB, because refuse_leftovers and TT_MAX_LAYERS bound the
 * list: 20 tensors of a layer, and the scales of seven. */
static int digest_weights(struct tt_model *model, struct tt_error *err)
{
	const struct tt_tensors *all = &model->storage->tensors;
	struct tt_buffer text = {0};
	int status = TT_OK;
	for (size_t i = 0; i < all->n && status == TT_OK; i++) {
		const struct tt_tensor *t = &all->list[i];
		uint32_t head[2] = {t->type, t->n_dims};
		if (!t->used)
			continue;
		status = tt_buffer_add(&text, t->name, strlen(t->name) + 1, err);
		if (status == TT_OK)
			status = tt_buffer_add(&text, head, sizeof head, err);
		if (status == TT_OK)
			status = tt_buffer_add(&text, t->shape, t->n_dims * sizeof *t->shape, err);
		if (status == TT_OK)
			status = tt_buffer_add(
				&text, t->data, t->n_bytes < DIGEST_BYTES ? t->n_bytes : DIGEST_BYTES, err);
	}
	if (status == TT_OK)
		status = tt_sha256(model->weights_digest, text.data, text.len, err);
	tt_buffer_free(&text);
	return status;
}

static int open_gguf(struct tt_model *model, const char *path, struct tt_error *err)
{
	TT_TRY(tt_gguf_open(&model->gguf, path, err));
	int status = tt_config_from_gguf(&model->config, model->gguf, err);
	if (status == TT_OK)
		status = tt_tensors_from_gguf(&model->storage->tensors, model->gguf, err);
	if (status == TT_OK)
		status = load_weights(model, &TT_GGUF_NAMES, err);
	return tt_within(status, err, path);
}

static int open_directory(struct tt_model *model, const char *path, struct tt_error *err)
{
	TT_TRY(tt_copy_string(&model->directory, path, strlen(path), err));
	TT_TRY(tt_config_from_directory(&model->config, path, err));
	TT_TRY(tt_tensors_from_directory(&model->storage->tensors, path, err));
	return tt_within(load_weights(model, TT_ARCHS[model->config.arch].hf, err), err, path);
}

static int open_any(struct tt_model *model, const char *path, struct tt_error *err)
{
	size_t n = strlen(TT_DUMMY_PREFIX);
	if (!strncmp(path, TT_DUMMY_PREFIX, n))
		return tt_model_open_dummy(model, path + n, err);
	return tt_file_is_directory(path) ? open_directory(model, path, err) : open_gguf(model, path, err);
}

int tt_model_open(struct tt_model **out, const char *path, struct tt_error *err)
{
	struct tt_model *model = NULL;
	*out = NULL;
	TT_TRY(tt_alloc(&model, 1, sizeof *model, err));
	int status = tt_alloc(&model->storage, 1, sizeof *model->storage, err);
	if (status == TT_OK)
		status = open_any(model, path, err);
	if (status == TT_OK)
		status = digest_weights(model, err);
	if (status != TT_OK) {
		tt_model_close(model);
		return status;
	}
	*out = model;
	return TT_OK;
}

static void drop_copy(struct tt_model_storage *s, const void *copy)
{
	for (size_t i = 0; i < s->n_copies; i++)
		if (s->copies[i] == copy) {
			free(s->copies[i]);
			s->copies[i] = s->copies[--s->n_copies];
			return;
		}
}

/* Of matrices that one tensor holds, the first is where its copy begins. */
void tt_model_drop_blocks(struct tt_model *model)
{
	for (uint32_t l = 0; l < model->config.n_layers && model->storage->has_fp8; l++) {
		struct tt_layer *layer = &model->layers[l];
		struct tt_matrix *all[] = {
			&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->w_gate, &layer->w_up, &layer->w_down};
		for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
			if (all[i]->type != TT_TYPE_F8_E4M3)
				continue;
			drop_copy(model->storage, all[i]->data);
			all[i]->data = NULL;
		}
	}
}

void tt_model_close(struct tt_model *model)
{
	if (!model)
		return;
	if (model->storage) {
		for (size_t i = 0; i < model->storage->n_copies; i++)
			free(model->storage->copies[i]);
		free(model->storage->copies);
		tt_tensors_free(&model->storage->tensors);
	}
	free(model->storage);
	free(model->layers);
	free(model->directory);
	tt_gguf_close(model->gguf);
	free(model);
}
