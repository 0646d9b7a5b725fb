#include "controller/numerics/ridge.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/numerics/cholesky.h"

struct tt_ridge {
	struct tt_gram *gram;
	const bool *label;
	double *factor; // [n_used][n_used]
	size_t *used;   // [n_used] the rows of the fit, ascending
	size_t n_used;
	double *alpha;    // [n_used] the score of a row is sum_i alpha_i z_i . z + bias
	double *constant; // [n_used]
	double bias;
};

int tt_ridge_open(struct tt_ridge **out, struct tt_gram *gram, const bool *label, struct tt_error *err)
{
	size_t n = gram->rows.n;
	struct tt_ridge *ridge = NULL;
	TT_TRY(tt_alloc(&ridge, 1, sizeof *ridge, err));
	*ridge = (struct tt_ridge){.gram = gram, .label = label};
	/* The matrix of gram was allocated, so n * n is a size. */
	int status = tt_alloc(&ridge->factor, n * n, sizeof *ridge->factor, err);
	if (status == TT_OK)
		status = tt_alloc(&ridge->used, n, sizeof *ridge->used, err);
	if (status == TT_OK)
		status = tt_alloc(&ridge->alpha, n, sizeof *ridge->alpha, err);
	if (status == TT_OK)
		status = tt_alloc(&ridge->constant, n, sizeof *ridge->constant, err);
	if (status != TT_OK)
		tt_ridge_close(ridge);
	else
		*out = ridge;
	return status;
}

void tt_ridge_close(struct tt_ridge *ridge)
{
	if (!ridge)
		return;
	free(ridge->factor);
	free(ridge->used);
	free(ridge->alpha);
	free(ridge->constant);
	free(ridge);
}

/* Fits the rows in used. With K their products, D the roots of their weights and s = D (y - K alpha - b) / lambda, the
 * minimum has alpha = D s, (D K D + lambda) s = D (y - b), and, since b is free, a sum of D s of 0. So s is u - b v, of
 * the solutions u for D y and v for D alone. D instead of weights in lambda: a weight of 0 is one like any other. */
static int solve(struct tt_ridge *r, double penalty, struct tt_error *err)
{
	const struct tt_rows *rows = &r->gram->rows;
	size_t n = r->n_used;
	double lambda = penalty * (double)n / 100, of_label = 0, of_constant = 0;
	if (!(penalty > 0 && isfinite(lambda)))
		return tt_fail(err, TT_ERR_ARGUMENT, "the penalty of a regression must be above 0");
	for (size_t i = 0; i < n; i++) {
		double root = sqrt(tt_row_weight(rows, r->used[i]));
		const double *products = r->gram->products + r->used[i] * rows->n;
		r->constant[i] = root;
		r->alpha[i] = r->label[r->used[i]] ? root : -root;
		for (size_t j = 0; j <= i; j++)
			r->factor[i * n + j] = root * r->constant[j] * products[r->used[j]];
		r->factor[i * n + i] += lambda;
	}
	TT_TRY(tt_cholesky(r->factor, n, r->gram->panel, err));
	tt_cholesky_solve(r->factor, n, r->alpha);
	tt_cholesky_solve(r->factor, n, r->constant);
	for (size_t i = 0; i < n; i++) {
		double root = sqrt(tt_row_weight(rows, r->used[i]));
		of_label += root * r->alpha[i];
		of_constant += root * r->constant[i];
	}
	if (!(of_constant > 0))
		return tt_fail(err, TT_ERR_ARGUMENT, "a regression needs rows with a weight above 0");
	r->bias = of_label / of_constant;
	for (size_t i = 0; i < n; i++)
		r->alpha[i] = sqrt(tt_row_weight(rows, r->used[i])) * (r->alpha[i] - r->bias * r->constant[i]);
	return TT_OK;
}

static double score(const struct tt_ridge *r, size_t row)
{
	const double *products = r->gram->products + row * r->gram->rows.n;
	double sum = r->bias;
	for (size_t i = 0; i < r->n_used; i++)
		sum += r->alpha[i] * products[r->used[i]];
	return sum;
}

int tt_ridge_held(
	struct tt_ridge *r, const uint8_t *fold, uint32_t n_folds, double penalty, double *scores, struct tt_error *err)
{
	size_t n = r->gram->rows.n;
	for (size_t i = 0; i < n; i++)
		if (fold[i] >= n_folds)
			return tt_fail(err, TT_ERR_ARGUMENT, "row %zu is of fold %u of %u", i, fold[i], n_folds);
	for (uint32_t k = 0; k < n_folds; k++) {
		r->n_used = 0;
		for (size_t i = 0; i < n; i++)
			if (fold[i] != k)
				r->used[r->n_used++] = i;
		if (r->n_used == n)
			continue;
		TT_TRY(solve(r, penalty, err));
		for (size_t i = 0; i < n; i++)
			if (fold[i] == k)
				scores[i] = score(r, i);
	}
	return TT_OK;
}

/* With beta = sum_i alpha_i z_i and z = (x - mean) / divisor: beta . z + bias = w.x + b. */
static int fold_into_raw(const struct tt_ridge *r, double *weight, float *w, float *b, struct tt_error *err)
{
	const struct tt_gram *gram = r->gram;
	const struct tt_rows *rows = &gram->rows;
	double bias = r->bias;
	for (size_t i = 0; i < r->n_used; i++) {
		const float *x = rows->x + r->used[i] * rows->stride;
		for (size_t j = 0; j < rows->d; j++)
			weight[j] += r->alpha[i] * ((double)x[j] - gram->mean[j]);
	}
	for (size_t j = 0; j < rows->d; j++) {
		w[j] = (float)(weight[j] / (gram->divisor[j] * gram->divisor[j]));
		/* With the weight rounded to f32, so that the mean of the features gives the score of the fit. */
		bias -= (double)w[j] * gram->mean[j];
		if (!isfinite(w[j]))
			return tt_fail(err, TT_ERR_FORMAT, "a weight of a regression is not finite");
	}
	*b = (float)bias;
	return isfinite(*b) ? TT_OK : tt_fail(err, TT_ERR_FORMAT, "the bias of a regression is not finite");
}

int tt_ridge_fit(struct tt_ridge *r, double penalty, float *w, float *b, struct tt_error *err)
{
	double *weight = NULL;
	r->n_used = r->gram->rows.n;
	for (size_t i = 0; i < r->n_used; i++)
		r->used[i] = i;
	TT_TRY(solve(r, penalty, err));
	TT_TRY(tt_alloc(&weight, r->gram->rows.d, sizeof *weight, err));
	int status = fold_into_raw(r, weight, w, b, err);
	free(weight);
	return status;
}
