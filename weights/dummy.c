#include "weights/dummy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

struct shape {
	const char *name;
	uint32_t n_layers, hidden_size, n_heads, n_kv_heads, head_dim, ffn_size, vocab_size, context_length;
	float rope_theta;
	bool tied_output;
};

static const struct shape SHAPES[] = {
	{"llama-3.1-70b", 80, 8192, 64, 8, 128, 28672, 128256, 131072, 500000, false},
	{"llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 500000, false},
	{"llama-3.2-1b", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 500000, true},
	{"smollm2-135m", 30, 576, 9, 3, 64, 1536, 49152, 8192, 100000, true},
	{"tiny", 3, 64, 4, 2, 16, 96, 320, 1024, 10000, true},
	{"flat", 1, 2048, 4, 4, 16, 64, 320, 1024, 10000, true}, /* columns of h, and little else */
};

float tt_dummy_half(uint32_t n_in)
{
	return (float)sqrt(3.0 / n_in);
}

static const struct shape *find_shape(const char *name)
{
	for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
		if (!strcmp(name, SHAPES[i].name))
			return &SHAPES[i];
	return NULL;
}

static int refuse(const char *name, struct tt_error *err)
{
	char names[200] = "";
	size_t n = 0;
	for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", SHAPES[i].name);
	return tt_fail(err, TT_ERR_ARGUMENT, "there is no dummy model \"%.40s\"; there are %s", name, names);
}

static void set_config(struct tt_config *c, const struct shape *s)
{
	*c = (struct tt_config){
		.arch = TT_ARCH_LLAMA,
		.n_layers = s->n_layers,
		.hidden_size = s->hidden_size,
		.n_heads = s->n_heads,
		.n_kv_heads = s->n_kv_heads,
		.head_dim = s->head_dim,
		.ffn_size = s->ffn_size,
		.vocab_size = s->vocab_size,
		.context_length = s->context_length,
		.rms_norm_eps = 1e-5f,
		.rope_theta = s->rope_theta,
		.tied_output = s->tied_output,
		.bos = -1,
	};
}

static struct tt_matrix matrix(struct tt_model *model, uint32_t n_out, uint32_t n_in)
{
	uint64_t n = (uint64_t)n_out * n_in;
	model->n_parameters += n;
	model->n_weight_bytes += n * sizeof(uint16_t);
	return (struct tt_matrix){NULL, TT_TYPE_BF16, n_out, n_in, 0};
}

static void set_layer(struct tt_model *model, struct tt_layer *layer, const float *ones)
{
	const struct tt_config *c = &model->config;
	uint32_t d = c->hidden_size, n_q = c->n_heads * c->head_dim, n_kv = c->n_kv_heads * c->head_dim;
	*layer = (struct tt_layer){
		.attn_norm = ones,
		.ffn_norm = ones,
		.wq = matrix(model, n_q, d),
		.wk = matrix(model, n_kv, d),
		.wv = matrix(model, n_kv, d),
		.wo = matrix(model, d, n_q),
		.w_gate = matrix(model, c->ffn_size, d),
		.w_up = matrix(model, c->ffn_size, d),
		.w_down = matrix(model, d, c->ffn_size),
	};
}

int tt_model_open_dummy(struct tt_model *model, const char *name, struct tt_error *err)
{
	const struct shape *shape = find_shape(name);
	float *ones = NULL;
	if (!shape)
		return refuse(name, err);
	set_config(&model->config, shape);
	TT_TRY(tt_model_own(model, &ones, shape->hidden_size * sizeof *ones, err));
	for (uint32_t i = 0; i < shape->hidden_size; i++)
		ones[i] = 1;
	TT_TRY(tt_alloc(&model->layers, shape->n_layers, sizeof *model->layers, err));
	model->embedding = model->output = matrix(model, shape->vocab_size, shape->hidden_size);
	model->output_norm = ones;
	if (!shape->tied_output)
		model->output = matrix(model, shape->vocab_size, shape->hidden_size);
	for (uint32_t l = 0; l < shape->n_layers; l++)
		set_layer(model, &model->layers[l], ones);
	return TT_OK;
}

static int fill(struct tt_model *model, struct tt_matrix *m, struct tt_error *err)
{
	size_t n = (size_t)m->n_out * m->n_in; /* fits: it is a size from the table above */
	uint16_t *data = NULL;
	float half = tt_dummy_half(m->n_in);
	TT_TRY(tt_model_own(model, &data, n * sizeof *data, err));
	for (size_t i = 0; i < n; i++)
		data[i] = tt_f32_to_bf16(tt_dummy_weight(i, half));
	m->data = data;
	return TT_OK;
}

int tt_model_fill_dummy(struct tt_model *model, struct tt_error *err)
{
	if (model->embedding.data)
		return TT_OK;
	TT_TRY(fill(model, &model->embedding, err));
	model->output = model->embedding;
	if (!model->config.tied_output)
		TT_TRY(fill(model, &model->output, err));
	for (uint32_t l = 0; l < model->config.n_layers; l++) {
		struct tt_layer *layer = &model->layers[l];
		struct tt_matrix *all[] = {
			&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->w_gate, &layer->w_up, &layer->w_down};
		for (size_t i = 0; i < sizeof all / sizeof *all; i++)
			TT_TRY(fill(model, all[i], err));
	}
	return TT_OK;
}
