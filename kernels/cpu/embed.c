/* h = embedding[token], times embedding_scale where the model has one. */
#include "base/fail.h"
#include "kernels/cpu/cpu.h"

int tt_cpu_embed(struct tt_backend *backend, const struct tt_embed_args *args, struct tt_error *err)
{
	const struct tt_cpu *cpu = (const struct tt_cpu *)backend;
	const struct tt_matrix *m = args->embedding;
	const int32_t *tokens = tt_step_tokens(args->step);
	size_t row_bytes = tt_type_row_bytes(m->type, m->n_in);
	float scale = args->config->embedding_scale;
	for (uint32_t t = 0; t < args->step->n_tokens; t++) {
		int32_t id = tokens[t] < 0 && args->sampled ? args->sampled[-1 - tokens[t]].token : tokens[t];
		if ((uint32_t)id >= m->n_out) /* rejects negative ids too */
			return tt_fail(err, TT_ERR_ARGUMENT, "token %d is not one of the model's %u", id, m->n_out);
		float *row = args->h + (size_t)t * m->n_in;
		cpu->body->dequantise(m->type, (const uint8_t *)m->data + (size_t)id * row_bytes, row, m->n_in);
		for (uint32_t i = 0; i < m->n_in && scale; i++)
			row[i] *= scale;
	}
	return TT_OK;
}
