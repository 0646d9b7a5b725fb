#include "controller/train/fit_pca.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "controller/numerics/pca.h"

/* What most rows of x [n][d] say of the component's sign; of equally many, what D says. */
static double sign_of(const float *component, const float *x, size_t n, const float *response, size_t d)
{
	size_t ahead = 0, behind = 0;
	double along_response = 0;
	for (size_t i = 0; i < n; i++) {
		double along = 0;
		for (size_t j = 0; j < d; j++)
			along += (double)component[j] * (double)x[i * d + j];
		ahead += along > 0;
		behind += along < 0;
	}
	for (size_t j = 0; j < d; j++)
		along_response += (double)component[j] * (double)response[j];
	return ahead != behind ? (ahead > behind ? 1 : -1) : along_response < 0 ? -1 : 1;
}

/* x [n][d]: the layer's differences. */
static int find(struct tt_fit_directions *out, uint32_t layer, const float *x, struct tt_error *err)
{
	size_t n = out->n_prompts, d = out->hidden_size;
	const struct tt_rows rows = {.x = x, .n = n, .d = d, .stride = d};
	float *response = out->response + layer * d;
	struct tt_gram *gram = NULL;
	struct tt_pca *pca = NULL;
	double squares = 0, all = 0, held = 0;
	TT_TRY(tt_gram_open_raw(&gram, &rows, err));
	int status = tt_pca_fit(&pca, gram, 1, err);
	for (size_t i = 0; i < n; i++)
		all += gram->products[i * n + i];
	tt_gram_close(gram);
	TT_TRY(status);
	for (size_t j = 0; j < d; j++)
		squares += (double)pca->projection[j] * (double)pca->projection[j];
	for (size_t i = 0; i < n; i++) {
		double along = 0;
		for (size_t j = 0; j < d; j++)
			along += (double)pca->projection[j] * (double)x[i * d + j];
		held += along * along / squares;
	}
	out->explained[layer] = held / all;
	double scale = sign_of(pca->projection, x, n, response, d) * out->norms[layer] / sqrt(squares);
	for (size_t j = 0; j < d; j++)
		response[j] = (float)(scale * (double)pca->projection[j]);
	tt_pca_free(pca);
	return TT_OK;
}

int tt_fit_pca(struct tt_fit_directions *out, struct tt_error *err)
{
	size_t n = (size_t)out->n_prompts * out->hidden_size;
	float *x = NULL; // [n_prompts][hidden_size]
	free(out->apology);
	out->apology = NULL;
	TT_TRY(tt_alloc(&out->explained, out->n_layers, sizeof *out->explained, err));
	TT_TRY(tt_alloc(&x, n, sizeof *x, err));
	int status = TT_OK;
	for (uint32_t l = 0; status == TT_OK && l < out->n_layers; l++) {
		for (size_t i = 0; i < n; i++)
			x[i] = out->refusing[l * n + i] - out->answering[l * n + i];
		status = find(out, l, x, err);
		status = tt_within(status, err, "principal components");
	}
	free(x);
	return status;
}
