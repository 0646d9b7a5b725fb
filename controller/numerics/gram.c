#include "controller/numerics/gram.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/numerics/product.h"

double tt_row_weight(const struct tt_rows *rows, size_t i)
{
	return rows->weight ? rows->weight[i] : 1;
}

/* The sum of the weights. */
static int weigh(const struct tt_rows *rows, double *total, struct tt_error *err)
{
	*total = 0;
	for (size_t i = 0; i < rows->n; i++) {
		double weight = tt_row_weight(rows, i);
		if (!(weight >= 0 && isfinite(weight)))
			return tt_fail(err, TT_ERR_ARGUMENT, "the weight of row %zu is not a number from 0 on", i);
		*total += weight;
	}
	if (!(*total > 0 && isfinite(*total)))
		return tt_fail(err, TT_ERR_ARGUMENT, "training needs rows whose weights have a positive sum");
	return TT_OK;
}

/* Mean and divisor. Row by row, so that memory is read in its order. */
static int measure(struct tt_gram *gram, struct tt_error *err)
{
	const struct tt_rows *rows = &gram->rows;
	double total;
	TT_TRY(weigh(rows, &total, err));
	for (size_t i = 0; i < rows->n; i++)
		for (size_t j = 0; j < rows->d; j++)
			gram->mean[j] += tt_row_weight(rows, i) * (double)rows->x[i * rows->stride + j];
	for (size_t j = 0; j < rows->d; j++)
		gram->mean[j] /= total;
	for (size_t i = 0; i < rows->n; i++)
		for (size_t j = 0; j < rows->d; j++) {
			double x = (double)rows->x[i * rows->stride + j] - gram->mean[j];
			gram->divisor[j] += tt_row_weight(rows, i) * x * x;
		}
	for (size_t j = 0; j < rows->d; j++) {
		gram->divisor[j] = (sqrt(gram->divisor[j] / total) + 1e-3) * sqrt((double)rows->d);
		if (!isfinite(gram->divisor[j]))
			return tt_fail(err, TT_ERR_FORMAT, "feature %zu has values that are not finite", j);
	}
	return TT_OK;
}

void tt_gram_standardise(const struct tt_gram *gram, size_t first, size_t n, double *z)
{
	const struct tt_rows *rows = &gram->rows;
	const double *mean = gram->mean + first, *divisor = gram->divisor + first;
	for (size_t i = 0; i < rows->n; i++) {
		const float *x = rows->x + i * rows->stride + first;
		for (size_t j = 0; j < n; j++)
			z[i * n + j] = ((double)x[j] - mean[j]) / divisor[j];
	}
}

/* The lower triangle, in blocks of features and of columns; then its mirror image. */
static void multiply(struct tt_gram *gram, double *z)
{
	size_t n = gram->rows.n, d = gram->rows.d;
	for (size_t first = 0; first < d; first += TT_PRODUCT_DEPTH) {
		size_t depth = d - first < TT_PRODUCT_DEPTH ? d - first : TT_PRODUCT_DEPTH;
		tt_gram_standardise(gram, first, depth, z);
		for (size_t j = 0; j < n; j += TT_PRODUCT_COLUMNS) {
			const struct tt_product_f64 product = {
				.a = z + j * depth,
				.b = z + j * depth,
				.a_row = depth,
				.a_column = 1,
				.b_row = 1,
				.b_column = depth,
				.c = gram->products + j * n + j,
				.c_row = n,
				.n_rows = n - j,
				.n_columns = n - j < TT_PRODUCT_COLUMNS ? n - j : TT_PRODUCT_COLUMNS,
				.depth = depth,
				.scale = 1,
			};
			tt_product_f64(&product, gram->panel);
		}
	}
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			gram->products[j * n + i] = gram->products[i * n + j];
}

static int measure_none(struct tt_gram *gram, struct tt_error *err)
{
	const struct tt_rows *rows = &gram->rows;
	double total;
	TT_TRY(weigh(rows, &total, err));
	for (size_t j = 0; j < rows->d; j++)
		gram->divisor[j] = 1;
	for (size_t i = 0; i < rows->n; i++)
		for (size_t j = 0; j < rows->d; j++)
			if (!isfinite(rows->x[i * rows->stride + j]))
				return tt_fail(err, TT_ERR_FORMAT, "feature %zu has values that are not finite", j);
	return TT_OK;
}

static int make(struct tt_gram *gram, bool raw, struct tt_error *err)
{
	size_t n = gram->rows.n, d = gram->rows.d, elements;
	double *z = NULL;
	if (!n || !d || gram->rows.stride < d)
		return tt_fail(err, TT_ERR_ARGUMENT, "training needs rows with features");
	if (!tt_mul_size(n, n, &elements))
		return tt_fail(err, TT_ERR_MEMORY, "%zu rows are too many to train on", n);
	TT_TRY(tt_alloc(&gram->mean, d, sizeof *gram->mean, err));
	TT_TRY(tt_alloc(&gram->divisor, d, sizeof *gram->divisor, err));
	TT_TRY(raw ? measure_none(gram, err) : measure(gram, err));
	TT_TRY(tt_alloc_aligned(&gram->panel, TT_PRODUCT_PANEL, sizeof *gram->panel, err));
	TT_TRY(tt_alloc(&gram->products, elements, sizeof *gram->products, err));
	TT_TRY(tt_alloc(&z, n, TT_PRODUCT_DEPTH * sizeof *z, err));
	multiply(gram, z);
	free(z);
	return TT_OK;
}

static int open_gram(struct tt_gram **out, const struct tt_rows *rows, bool raw, struct tt_error *err)
{
	struct tt_gram *gram = NULL;
	TT_TRY(tt_alloc(&gram, 1, sizeof *gram, err));
	gram->rows = *rows;
	int status = make(gram, raw, err);
	if (status != TT_OK)
		tt_gram_close(gram);
	else
		*out = gram;
	return status;
}

int tt_gram_open(struct tt_gram **out, const struct tt_rows *rows, struct tt_error *err)
{
	return open_gram(out, rows, false, err);
}

int tt_gram_open_raw(struct tt_gram **out, const struct tt_rows *rows, struct tt_error *err)
{
	return open_gram(out, rows, true, err);
}

void tt_gram_close(struct tt_gram *gram)
{
	if (!gram)
		return;
	free(gram->mean);
	free(gram->divisor);
	free(gram->products);
	free(gram->panel);
	free(gram);
}
