#include "controller/train/fit_embedding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "controller/measure/phrases.h"

struct reading {
	const struct tt_text *text;
	const struct tt_matrix *matrix;
	float *row; // [n_in]
};

static int add_rows(
	const struct reading *r, const int32_t *ids, size_t n_ids, double *sum, size_t *n_tokens, struct tt_error *err)
{
	for (size_t i = 0; i < n_ids; i++, ++*n_tokens) {
		TT_TRY(tt_matrix_row(r->matrix, (uint32_t)ids[i], r->row, err));
		for (uint32_t j = 0; j < r->matrix->n_in; j++)
			sum[j] += (double)r->row[j];
	}
	return TT_OK;
}

/* mean [n_in] = the mean row of all tokens of the phrases. */
static int mean_row(
	const struct reading *r, const char *const *phrases, size_t n_phrases, double *mean, struct tt_error *err)
{
	size_t n_tokens = 0;
	for (size_t i = 0; i < n_phrases; i++) {
		int32_t *ids = NULL;
		size_t n_ids;
		TT_TRY(tt_text_encode(r->text, phrases[i], strlen(phrases[i]), 0, &ids, &n_ids, err));
		int status = add_rows(r, ids, n_ids, mean, &n_tokens, err);
		tt_free(ids);
		TT_TRY(status);
	}
	if (!n_tokens)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the tokenizer makes no tokens of the phrases");
	for (uint32_t j = 0; j < r->matrix->n_in; j++)
		mean[j] /= (double)n_tokens;
	return TT_OK;
}

/* refusing [2][hidden_size], all 0: room for the mean row of either list. */
static int set_directions(
	struct tt_fit_directions *out, const struct reading *r, double *refusing, struct tt_error *err)
{
	size_t d = out->hidden_size;
	double *answering = refusing + d, squares = 0;
	TT_TRY(mean_row(r, tt_refusal_phrases, TT_N_REFUSAL_PHRASES, refusing, err));
	TT_TRY(mean_row(r, tt_answer_phrases, TT_N_ANSWER_PHRASES, answering, err));
	for (size_t j = 0; j < d; j++)
		squares += (refusing[j] - answering[j]) * (refusing[j] - answering[j]);
	if (!(squares > 0 && isfinite(squares)))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model's embedding does not tell refusing from answering");
	for (uint32_t l = 0; l < out->n_layers; l++) {
		for (size_t j = 0; j < d; j++)
			out->response[l * d + j] = (float)((refusing[j] - answering[j]) / sqrt(squares));
		out->norms[l] = 1;
	}
	return TT_OK;
}

int tt_fit_embedding_make(
	struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_matrix *matrix, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct reading r = {.text = tt_engine_text(engine), .matrix = matrix};
	double *means = NULL; // [2][hidden_size]
	*out = (struct tt_fit_directions){.n_layers = info->n_layers, .hidden_size = info->hidden_size};
	TT_TRY(tt_alloc(&out->response, (size_t)info->n_layers * info->hidden_size, sizeof *out->response, err));
	TT_TRY(tt_alloc(&out->norms, info->n_layers, sizeof *out->norms, err));
	TT_TRY(tt_alloc(&r.row, info->hidden_size, sizeof *r.row, err));
	int status = tt_alloc(&means, 2 * (size_t)info->hidden_size, sizeof *means, err);
	if (status == TT_OK)
		status = set_directions(out, &r, means, err);
	free(means);
	free(r.row);
	return status;
}
