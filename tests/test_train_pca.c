/* Principal components against numpy's singular value decomposition, and a perceptron on them against one that was
 * unprojected. */
#include "controller/numerics/mlp.h"
#include "controller/numerics/pca.h"
#include "random.h"
#include "train_golden.h"

struct world {
	struct tt_safetensors *file;
	struct tt_rows rows;
	float *x;
	double *weight;
	struct tt_gram *gram;
};

static void world_make(struct world *w, const char *name)
{
	size_t n, n_x;
	w->file = golden_open(GOLDEN("train/pca.safetensors"));
	w->x = golden_array(w->file, sizeof *w->x, &n_x, "%s.x", name);
	w->weight = golden_array(w->file, sizeof *w->weight, &n, "%s.weight", name);
	w->rows = (struct tt_rows){w->x, w->weight, n, n_x / n, n_x / n};
	must(tt_gram_open(&w->gram, &w->rows, err));
}

static void world_free(struct world *w)
{
	tt_gram_close(w->gram);
	free(w->x);
	free(w->weight);
	tt_safetensors_close(w->file);
}

/* |P - Q| of the projectors on two spaces: that of k orthonormal rows, and that of k orthogonal ones of one length. */
static double projector_difference(const double *a, const struct tt_pca *pca, const double *divisor)
{
	size_t k = pca->k, d = pca->d;
	double length = 0, sum = 0;
	for (size_t i = 0; i < k * d; i++)
		length += pow((double)pca->projection[i] * divisor[i % d], 2) / (double)k;
	for (size_t i = 0; i < d; i++)
		for (size_t j = 0; j < d; j++) {
			double difference = 0;
			for (size_t c = 0; c < k; c++)
				difference += a[c * d + i] * a[c * d + j] -
					      (double)pca->projection[c * d + i] * divisor[i] *
						      (double)pca->projection[c * d + j] * divisor[j] / length;
			sum += difference * difference;
		}
	return sqrt(sum);
}

static void check(const char *name)
{
	struct world w;
	struct tt_pca *pca = NULL;
	size_t n_components, n_variance, n;
	world_make(&w, name);
	double *components = golden_array(w.file, sizeof *components, &n_components, "%s.components", name);
	double *divisor = golden_array(w.file, sizeof *divisor, &n, "%s.divisor", name);
	double *projection = golden_array(w.file, sizeof *projection, &n, "%s.projection", name);
	double *mean = golden_array(w.file, sizeof *mean, &n, "%s.mean", name);
	double *variance = golden_array(w.file, sizeof *variance, &n_variance, "%s.variance", name);
	size_t k = n_variance, d = w.rows.d;
	cr_expect(relative_error_f64(w.gram->divisor, divisor, d) <= 1e-13);
	must(tt_pca_fit(&pca, w.gram, k, err));
	cr_assert(pca->k == k && pca->d == d);
	/* Rounding of the projection to f32 is up to 6e-8 of each number. */
	double error = projector_difference(components, pca, divisor);
	cr_expect(error <= 1e-6, "%s: projectors differ by %g", name, error);
	for (size_t c = 0; c < k; c++) {
		double difference = 0, length = 0;
		for (size_t j = 0; j < d; j++) {
			double want = projection[c * d + j] * divisor[j];
			difference += pow((double)pca->projection[c * d + j] * divisor[j] - want, 2);
			length += want * want;
		}
		error = sqrt(difference / length);
		cr_expect(error <= 1e-6, "%s: component %zu differs by %g", name, c, error);
	}
	cr_expect(relative_error_f64(pca->variance, variance, k) <= 1e-9);
	for (size_t j = 0; j < d; j++)
		cr_expect(fabs((double)pca->mean[j] - mean[j]) <= 1e-7 * fabs(mean[j]) + 1e-12, "mean %zu", j);
	tt_pca_free(pca);
	free(components);
	free(divisor);
	free(projection);
	free(mean);
	free(variance);
	world_free(&w);
}

Test(train_pca, finds_the_components_with_more_features_than_rows)
{
	check("wide");
}

Test(train_pca, finds_the_components_with_fewer_features_than_rows)
{
	check("tall");
}

/* Of the subspace, all: then the iteration has nothing to converge to. */
Test(train_pca, gives_no_more_components_than_the_rows_span)
{
	struct world w;
	struct tt_pca *pca = NULL;
	struct tt_gram *gram = NULL;
	struct tt_error failure = {0};
	world_make(&w, "wide");
	/* Seven rows and their copies span six dimensions about their mean. */
	for (size_t i = 7; i < w.rows.n; i++)
		memcpy(w.x + i * w.rows.d, w.x + i % 7 * w.rows.d, w.rows.d * sizeof *w.x);
	must(tt_gram_open(&gram, &w.rows, err));
	must(tt_pca_fit(&pca, gram, 20, err));
	cr_expect_eq(pca->k, 6, "%zu", pca->k);
	tt_pca_free(pca);
	tt_gram_close(gram);
	gram = NULL;
	pca = NULL;
	for (size_t i = 1; i < w.rows.n; i++)
		memcpy(w.x + i * w.rows.d, w.x, w.rows.d * sizeof *w.x);
	must(tt_gram_open(&gram, &w.rows, err));
	cr_expect_eq(tt_pca_fit(&pca, gram, 20, &failure), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_pca_fit(&pca, w.gram, 0, &failure), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_pca_fit(&pca, w.gram, TT_MAX_COMPONENTS + 1, &failure), TT_ERR_ARGUMENT);
	cr_expect_null(pca);
	tt_gram_close(gram);
	world_free(&w);
}

/* The rows' projections by the formula: with mean 0, uncorrelated, and as large as pca says. */
Test(train_pca, projects_to_mean_unit_variance)
{
	struct world w;
	struct tt_pca *pca = NULL;
	world_make(&w, "wide");
	must(tt_pca_fit(&pca, w.gram, 40, err));
	enum { K = 40 };
	double moment[K + 1][K] = {{0}}, total = 0, mean = 0;
	cr_assert_eq(pca->k, K);
	for (size_t i = 0; i < w.rows.n; i++) {
		double y[K] = {0};
		for (size_t c = 0; c < K; c++)
			for (size_t j = 0; j < pca->d; j++)
				y[c] += (double)pca->projection[c * pca->d + j] *
					((double)w.x[i * pca->d + j] - (double)pca->mean[j]);
		for (size_t c = 0; c < K; c++) {
			moment[K][c] += w.weight[i] * y[c];
			for (size_t e = 0; e < K; e++)
				moment[c][e] += w.weight[i] * y[c] * y[e];
		}
		total += w.weight[i];
	}
	/* f32 means beside features with a hundredth of their size as deviation. */
	for (size_t c = 0; c < K; c++) {
		cr_expect(fabs(moment[K][c] / total) <= 1e-4, "mean %zu is %g", c, moment[K][c] / total);
		for (size_t e = 0; e < K; e++)
			cr_expect(
				fabs(moment[c][e] / total - (c == e ? pca->variance[c] : 0)) <= 1e-4, "%zu, %zu", c, e);
		mean += moment[c][c] / total / K;
	}
	cr_expect(fabs(mean - 1) <= 1e-5, "%g", mean);
	tt_pca_free(pca);
	world_free(&w);
}

Test(train_pca, a_perceptron_on_components_is_one_on_the_features)
{
	enum { K = 9, UNITS = 11, OUTPUTS = 2 };
	struct world w;
	struct tt_pca *pca = NULL;
	struct tt_mlp *mlp = NULL, *raw = NULL;
	struct tt_error failure = {0};
	world_make(&w, "wide");
	size_t n = w.rows.n, d = w.rows.d;
	float *projected = malloc(n * K * sizeof *projected), *z = malloc(2 * n * OUTPUTS * sizeof *z);
	must(tt_pca_fit(&pca, w.gram, K, err));
	must(tt_mlp_open(&mlp, K, UNITS, OUTPUTS, err));
	tt_mlp_start(mlp, 5);
	for (size_t i = 0; i < n; i++)
		for (size_t c = 0; c < K; c++) {
			double sum = 0;
			for (size_t j = 0; j < d; j++)
				sum += (double)pca->projection[c * d + j] *
				       ((double)w.x[i * d + j] - (double)pca->mean[j]);
			projected[i * K + c] = (float)sum;
		}
	const struct tt_rows rows = {projected, NULL, n, K, K};
	must(tt_mlp_run(mlp, &rows, z, err));
	must(tt_mlp_unproject(&raw, mlp, pca, err));
	cr_assert(raw->d == d && raw->units == UNITS && raw->outputs == OUTPUTS);
	must(tt_mlp_run(raw, &w.rows, z + n * OUTPUTS, err));
	/* In f32, sums of features that are up to a hundred times as large as their deviation. */
	double error = relative_error(z + n * OUTPUTS, z, n * OUTPUTS);
	cr_expect(error <= 1e-4, "%g", error);
	tt_mlp_close(raw);
	tt_pca_free(pca);
	must(tt_pca_fit(&pca, w.gram, K + 1, err));
	cr_expect_eq(tt_mlp_unproject(&raw, mlp, pca, &failure), TT_ERR_ARGUMENT);
	tt_pca_free(pca);
	tt_mlp_close(mlp);
	free(projected);
	free(z);
	world_free(&w);
}

Test(train_pca, gives_the_same_bits_again)
{
	struct world w;
	struct tt_pca *pca[2] = {NULL, NULL};
	world_make(&w, "tall");
	for (int k = 0; k < 2; k++)
		must(tt_pca_fit(&pca[k], w.gram, 20, err));
	cr_expect_arr_eq(pca[0]->projection, pca[1]->projection, pca[0]->k * pca[0]->d * sizeof(float));
	for (int k = 0; k < 2; k++)
		tt_pca_free(pca[k]);
	world_free(&w);
}
