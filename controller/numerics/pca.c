#include "controller/numerics/pca.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/random.h"
#include "controller/numerics/eigen.h"
#include "controller/numerics/product.h"

enum { MAX_ITERATIONS = 8, MAX_SPAN = TT_MAX_COMPONENTS + 64 };

/* The subspace: m columns, some more than components are wanted, since the last ones converge slowly. M is the Gram
 * matrix, each row and column times the root of its row's share of the weight; its eigenvalues are the variances. */
struct subspace {
	struct tt_gram *gram;
	size_t n, m;
	double *root;   // [n]
	double *basis;  // [n][m] orthonormal columns
	double *image;  // [n][m] M basis
	double *scaled; // [n][m]
	double *small;  // [m][m]
	double *turn;   // [m][m]
	double *values; // [m]
	uint64_t random;
};

static void subspace_free(struct subspace *s)
{
	free(s->root);
	free(s->basis);
	free(s->image);
	free(s->scaled);
	free(s->small);
	free(s->turn);
	free(s->values);
}

static int subspace_alloc(struct subspace *s, struct tt_error *err)
{
	TT_TRY(tt_alloc(&s->root, s->n, sizeof *s->root, err));
	TT_TRY(tt_alloc(&s->basis, s->n, s->m * sizeof *s->basis, err));
	TT_TRY(tt_alloc(&s->image, s->n, s->m * sizeof *s->image, err));
	TT_TRY(tt_alloc(&s->scaled, s->n, s->m * sizeof *s->scaled, err));
	TT_TRY(tt_alloc(&s->small, s->m, s->m * sizeof *s->small, err));
	TT_TRY(tt_alloc(&s->turn, s->m, s->m * sizeof *s->turn, err));
	return tt_alloc(&s->values, s->m, sizeof *s->values, err);
}

/* out [n_rows][n_columns] = a b, with a(i, k) at a[i * a_row + k * a_column] and rows of b in their order. */
static void product(struct tt_gram *gram, const double *a, size_t a_row, size_t a_column, const double *b, double *out,
	size_t n_rows, size_t n_columns, size_t depth)
{
	memset(out, 0, n_rows * n_columns * sizeof *out);
	const struct tt_product_f64 p = {
		.a = a,
		.b = b,
		.a_row = a_row,
		.a_column = a_column,
		.b_row = n_columns,
		.b_column = 1,
		.c = out,
		.c_row = n_columns,
		.n_rows = n_rows,
		.n_columns = n_columns,
		.depth = depth,
		.scale = 1,
	};
	tt_product_f64(&p, gram->panel);
}

/* Fills column j of x [n][m] with random numbers. */
static void fill(struct subspace *s, double *x, size_t j)
{
	for (size_t i = 0; i < s->n; i++)
		x[i * s->m + j] = tt_random_unit(&s->random) - 0.5;
}

/* x = x U^-1, where U^T U is x^T x: Cholesky's way to orthonormal columns. A column that lies in the span of those
 * before it, as far as rounding can tell, becomes random numbers. */
static void orthonormalise_once(struct subspace *s, double *x)
{
	size_t n = s->n, m = s->m;
	double *u = s->small;
	bool dependent[MAX_SPAN];
	product(s->gram, x, 1, m, x, u, m, m, n);
	for (size_t j = 0; j < m; j++) {
		double before = u[j * m + j];
		for (size_t k = 0; k < j; k++)
			for (size_t i = m; i-- > j;)
				u[j * m + i] -= u[k * m + j] * u[k * m + i];
		double pivot = u[j * m + j];
		dependent[j] = !(pivot > 1e-12 * before && before > 1e-280);
		for (size_t i = j; i < m; i++)
			u[j * m + i] = dependent[j] ? i == j : u[j * m + i] / sqrt(pivot);
	}
	for (size_t i = 0; i < n; i++) {
		double *row = x + i * m;
		for (size_t j = 0; j < m; j++) {
			row[j] = dependent[j] ? 0 : row[j] / u[j * m + j];
			for (size_t k = j + 1; k < m; k++)
				row[k] -= row[j] * u[j * m + k];
		}
	}
	for (size_t j = 0; j < m; j++)
		if (dependent[j])
			fill(s, x, j);
}

/* Fills basis, image and values. The span is followed until the variance that it holds stands still; then the
 * eigenvectors of M within it are told apart, which turn gets as rows over the basis. */
static int find(struct subspace *s, struct tt_error *err)
{
	size_t n = s->n, m = s->m;
	double held = 0, before;
	for (size_t j = 0; j < m; j++)
		fill(s, s->image, j);
	for (int k = 0; k < MAX_ITERATIONS; k++) {
		double *swap = s->basis;
		s->basis = s->image;
		s->image = swap;
		/* The first leaves random columns, and an error as the condition squared; the second, rounding. */
		orthonormalise_once(s, s->basis);
		orthonormalise_once(s, s->basis);
		for (size_t i = 0; i < n; i++)
			for (size_t j = 0; j < m; j++)
				s->scaled[i * m + j] = s->root[i] * s->basis[i * m + j];
		product(s->gram, s->gram->products, n, 1, s->scaled, s->image, n, m, n);
		before = held;
		held = 0;
		for (size_t i = 0; i < n; i++)
			for (size_t j = 0; j < m; j++) {
				s->image[i * m + j] *= s->root[i];
				held += s->basis[i * m + j] * s->image[i * m + j];
			}
		if (fabs(held - before) <= 1e-12 * fabs(held))
			break;
	}
	product(s->gram, s->basis, 1, m, s->image, s->small, m, m, n);
	return tt_eigen(s->small, m, s->values, s->turn, err);
}

/* What each row contributes to each component, out [n][k]: component c is the sum of out(i, c) z_i. */
static void contributions(struct subspace *s, size_t k, double *out)
{
	for (size_t j = 0; j < s->m; j++)
		for (size_t c = 0; c < k; c++)
			s->small[j * k + c] = s->turn[c * s->m + j] / sqrt(s->values[c]);
	product(s->gram, s->basis, s->m, 1, s->small, out, s->n, k, s->m);
	for (size_t i = 0; i < s->n; i++)
		for (size_t c = 0; c < k; c++)
			out[i * k + c] *= s->root[i];
}

/* The projection from the components, which block [k][width] has for the features from first on. */
static void store(const struct tt_pca *pca, const struct tt_gram *gram, const double *block, size_t first, size_t width,
	double scale)
{
	for (size_t c = 0; c < pca->k; c++)
		for (size_t j = 0; j < width; j++)
			pca->projection[c * pca->d + first + j] =
				(float)(scale * block[c * width + j] / gram->divisor[first + j]);
}

/* The largest number of each component becomes positive; of several, the first counts. */
static void fix_signs(const struct tt_pca *pca, const struct tt_gram *gram)
{
	for (size_t c = 0; c < pca->k; c++) {
		float *row = pca->projection + c * pca->d;
		double largest = 0;
		for (size_t j = 0; j < pca->d; j++)
			if (fabs((double)row[j] * gram->divisor[j]) > fabs(largest))
				largest = (double)row[j] * gram->divisor[j];
		for (size_t j = 0; j < pca->d && largest < 0; j++)
			row[j] = -row[j];
	}
}

static int project(struct tt_pca *pca, struct subspace *s, struct tt_error *err)
{
	struct tt_gram *gram = s->gram;
	double *parts = NULL, *z = NULL, *block = NULL, sum = 0;
	for (size_t c = 0; c < pca->k; c++)
		sum += s->values[c];
	double scale = sqrt((double)pca->k / sum);
	int status = tt_alloc(&parts, s->n, pca->k * sizeof *parts, err);
	if (status == TT_OK)
		status = tt_alloc(&z, s->n, TT_PRODUCT_DEPTH * sizeof *z, err);
	if (status == TT_OK)
		status = tt_alloc(&block, pca->k, TT_PRODUCT_DEPTH * sizeof *block, err);
	if (status == TT_OK) {
		contributions(s, pca->k, parts);
		for (size_t first = 0; first < pca->d; first += TT_PRODUCT_DEPTH) {
			size_t width = pca->d - first < TT_PRODUCT_DEPTH ? pca->d - first : TT_PRODUCT_DEPTH;
			tt_gram_standardise(gram, first, width, z);
			product(gram, parts, 1, pca->k, z, block, pca->k, width, s->n);
			store(pca, gram, block, first, width, scale);
		}
		fix_signs(pca, gram);
		for (size_t j = 0; j < pca->d; j++)
			pca->mean[j] = (float)gram->mean[j];
		for (size_t c = 0; c < pca->k; c++)
			pca->variance[c] = s->values[c] * scale * scale;
	}
	free(parts);
	free(z);
	free(block);
	return status;
}

static int fit(struct tt_pca *pca, struct subspace *s, size_t k, struct tt_error *err)
{
	const struct tt_rows *rows = &s->gram->rows;
	double total = 0;
	TT_TRY(subspace_alloc(s, err));
	for (size_t i = 0; i < s->n; i++)
		total += tt_row_weight(rows, i);
	for (size_t i = 0; i < s->n; i++)
		s->root[i] = sqrt(tt_row_weight(rows, i) / total);
	TT_TRY(find(s, err));
	/* Below that, rounding of the largest is all there is. */
	while (pca->k < k && s->values[pca->k] > 1e-9 * s->values[0])
		pca->k++;
	if (!pca->k || !(s->values[0] > 0))
		return tt_fail(err, TT_ERR_ARGUMENT, "rows that are all the same have no principal components");
	TT_TRY(tt_alloc(&pca->projection, pca->k, pca->d * sizeof *pca->projection, err));
	TT_TRY(tt_alloc(&pca->mean, pca->d, sizeof *pca->mean, err));
	TT_TRY(tt_alloc(&pca->variance, pca->k, sizeof *pca->variance, err));
	return project(pca, s, err);
}

int tt_pca_fit(struct tt_pca **out, struct tt_gram *gram, size_t k, struct tt_error *err)
{
	struct subspace s = {.gram = gram, .n = gram->rows.n};
	struct tt_pca *pca = NULL;
	if (!k || k > TT_MAX_COMPONENTS)
		return tt_fail(err, TT_ERR_ARGUMENT, "principal components are 1 to %d", TT_MAX_COMPONENTS);
	k = k < s.n ? k : s.n;
	s.m = k + (k / 8 > 16 ? k / 8 : 16);
	s.m = s.m < s.n ? s.m : s.n;
	TT_TRY(tt_alloc(&pca, 1, sizeof *pca, err));
	pca->d = gram->rows.d;
	int status = fit(pca, &s, k, err);
	subspace_free(&s);
	if (status != TT_OK)
		tt_pca_free(pca);
	else
		*out = pca;
	return status;
}

void tt_pca_free(struct tt_pca *pca)
{
	if (!pca)
		return;
	free(pca->projection);
	free(pca->mean);
	free(pca->variance);
	free(pca);
}

/* Centres a block of features at a time. */
int tt_pca_project(const struct tt_pca *pca, const struct tt_rows *rows, float *out, struct tt_error *err)
{
	float *block = NULL, *panel = NULL; // [n][TT_PRODUCT_DEPTH], [TT_PRODUCT_PANEL]
	memset(out, 0, rows->n * pca->k * sizeof *out);
	TT_TRY(tt_alloc_aligned(&panel, TT_PRODUCT_PANEL, sizeof *panel, err));
	int status = tt_alloc(&block, rows->n, TT_PRODUCT_DEPTH * sizeof *block, err);
	for (size_t first = 0; status == TT_OK && first < pca->d; first += TT_PRODUCT_DEPTH) {
		size_t width = pca->d - first < TT_PRODUCT_DEPTH ? pca->d - first : TT_PRODUCT_DEPTH;
		for (size_t i = 0; i < rows->n; i++)
			for (size_t j = 0; j < width; j++)
				block[i * width + j] = rows->x[i * rows->stride + first + j] - pca->mean[first + j];
		const struct tt_product_f32 p = {
			.a = block,
			.a_row = width,
			.a_column = 1,
			.b = pca->projection + first,
			.b_row = 1,
			.b_column = pca->d,
			.c = out,
			.c_row = pca->k,
			.n_rows = rows->n,
			.n_columns = pca->k,
			.depth = width,
			.scale = 1,
		};
		tt_product_f32(&p, panel);
	}
	free(block);
	free(panel);
	return status;
}
