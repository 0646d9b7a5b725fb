/* A model as the CUDA backend holds it: every matrix rounded to bf16. Vectors are shared with the host's model. */
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

static int round_matrix(struct tt_matrix *m, struct tt_error *err)
{
	const uint8_t *from = m->data;
	size_t row_bytes = tt_type_row_bytes(m->type, m->n_in);
	uint16_t *to;
	float *row;
	m->data = NULL; /* so that after any failure only the copy's own memory is released */
	if (!from)
		return TT_OK;
	TT_TRY(tt_alloc(&row, m->n_in, sizeof *row, err));
	int status = tt_alloc_aligned(&to, (size_t)m->n_out * m->n_in, sizeof *to, err);
	for (size_t i = 0; i < m->n_out && status == TT_OK; i++) {
		tt_dequantise(m->type, from + i * row_bytes, row, m->n_in);
		for (size_t k = 0; k < m->n_in; k++)
			to[i * m->n_in + k] = tt_f32_to_bf16(row[k]);
	}
	free(row);
	TT_TRY(status);
	m->data = to;
	m->type = TT_TYPE_BF16;
	return TT_OK;
}

enum { LAYER_MATRICES = 7 };

static struct tt_matrix *layer_matrix(struct tt_layer *layer, uint32_t i)
{
	struct tt_matrix *const list[LAYER_MATRICES] = {
		&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->w_gate, &layer->w_up, &layer->w_down};
	return list[i];
}

static int round_model(struct tt_model *copy, bool tied, struct tt_error *err)
{
	int status = round_matrix(&copy->embedding, err);
	if (tied)
		copy->output = copy->embedding;
	else if (status == TT_OK)
		status = round_matrix(&copy->output, err);
	else
		copy->output.data = NULL;
	for (uint32_t i = 0; i < copy->config.n_layers * LAYER_MATRICES; i++) {
		struct tt_matrix *m = layer_matrix(&copy->layers[i / LAYER_MATRICES], i % LAYER_MATRICES);
		if (status == TT_OK)
			status = round_matrix(m, err);
		else
			m->data = NULL;
	}
	return status;
}

/* Whether one copy serves as both: the output matrix of a rank may be only the embedding's first rows. */
static bool is_tied(const struct tt_model *host)
{
	return host->output.data == host->embedding.data && host->output.n_out == host->embedding.n_out;
}

int tt_cpu_load_bf16(const struct tt_model *host, const struct tt_model **out, struct tt_error *err)
{
	struct tt_model *copy;
	*out = NULL;
	TT_TRY(tt_cuda_can_run(&host->config, err));
	TT_TRY(tt_alloc(&copy, 1, sizeof *copy, err));
	*copy = *host;
	int status = tt_alloc(&copy->layers, host->config.n_layers, sizeof *copy->layers, err);
	if (status != TT_OK) {
		free(copy);
		return status;
	}
	for (uint32_t l = 0; l < host->config.n_layers; l++)
		copy->layers[l] = host->layers[l];
	status = round_model(copy, is_tied(host), err);
	if (status != TT_OK) {
		tt_cpu_unload_bf16(copy);
		return status;
	}
	*out = copy;
	return TT_OK;
}

void tt_cpu_unload_bf16(const struct tt_model *loaded)
{
	if (!loaded)
		return;
	struct tt_model copy = *loaded;
	for (uint32_t i = 0; i < copy.config.n_layers * LAYER_MATRICES; i++)
		free((void *)(uintptr_t)layer_matrix(&copy.layers[i / LAYER_MATRICES], i % LAYER_MATRICES)->data);
	if (copy.output.data != copy.embedding.data)
		free((void *)(uintptr_t)copy.output.data);
	free((void *)(uintptr_t)copy.embedding.data);
	free(copy.layers);
	free((void *)(uintptr_t)loaded);
}
