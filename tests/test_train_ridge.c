/* Ridge regression against numpy's normal equations in double. */
#include "controller/numerics/ridge.h"
#include "train_golden.h"

static const double PENALTIES[] = {0.1, 3};

struct world {
	struct tt_safetensors *file;
	struct tt_rows rows;
	float *x;
	double *weight;
	bool *label;
	uint8_t *fold;
	struct tt_gram *gram;
	struct tt_ridge *ridge;
};

static void world_make(struct world *w, const char *name)
{
	size_t n, n_x;
	w->file = golden_open(GOLDEN("train/ridge.safetensors"));
	w->x = golden_array(w->file, sizeof *w->x, &n_x, "%s.x", name);
	w->weight = golden_array(w->file, sizeof *w->weight, &n, "%s.weight", name);
	w->label = golden_array(w->file, sizeof *w->label, &n, "%s.label", name);
	w->fold = golden_array(w->file, sizeof *w->fold, &n, "%s.fold", name);
	w->rows = (struct tt_rows){w->x, w->weight, n, n_x / n, n_x / n};
	must(tt_gram_open(&w->gram, &w->rows, err));
	must(tt_ridge_open(&w->ridge, w->gram, w->label, err));
}

static void world_free(struct world *w)
{
	tt_ridge_close(w->ridge);
	tt_gram_close(w->gram);
	free(w->x);
	free(w->weight);
	free(w->label);
	free(w->fold);
	tt_safetensors_close(w->file);
}

/* The closed form's own error is some 1e-13; w and b are rounded to f32 (6e-8). */
static void check(const char *name)
{
	struct world w;
	world_make(&w, name);
	size_t n = w.rows.n, d = w.rows.d, count;
	float *weights = malloc(d * sizeof *weights), b;
	double *got = malloc(d * sizeof *got), *held = malloc(n * sizeof *held);
	/* The second round, after others have used the same matrices. */
	for (int k = 0; k < 4; k++) {
		double penalty = PENALTIES[k % 2];
		double *want_w = golden_array(w.file, sizeof *want_w, &count, "%s.w.%g", name, penalty);
		double *want_b = golden_array(w.file, sizeof *want_b, &count, "%s.b.%g", name, penalty);
		double *want_held = golden_array(w.file, sizeof *want_held, &count, "%s.held.%g", name, penalty);
		must(tt_ridge_held(w.ridge, w.fold, 4, penalty, held, err));
		must(tt_ridge_fit(w.ridge, penalty, weights, &b, err));
		for (size_t j = 0; j < d; j++)
			got[j] = (double)weights[j];
		double error = relative_error_f64(got, want_w, d);
		cr_expect(error <= 1e-6, "%s, penalty %g: weights differ by %g", name, penalty, error);
		error = fabs((double)b - *want_b) / (1 + fabs(*want_b));
		cr_expect(error <= 1e-6, "%s, penalty %g: b is %g, not %g", name, penalty, (double)b, *want_b);
		error = relative_error_f64(held, want_held, n);
		cr_expect(error <= 1e-9, "%s, penalty %g: held-out scores differ by %g", name, penalty, error);
		free(want_w);
		free(want_b);
		free(want_held);
	}
	free(weights);
	free(got);
	free(held);
	world_free(&w);
}

Test(train_ridge, finds_the_closed_form_with_more_features_than_rows)
{
	check("wide");
}

Test(train_ridge, finds_the_closed_form_with_fewer_features_than_rows)
{
	check("tall");
}

/* Rows of a wider array, and no weights at all. */
Test(train_ridge, takes_rows_with_a_stride)
{
	struct world w;
	world_make(&w, "tall");
	size_t n = w.rows.n, d = w.rows.d, stride = d + 5;
	float *x = malloc(n * stride * sizeof *x), weights[2][64], b[2];
	for (size_t i = 0; i < n; i++) {
		w.weight[i] = 1;
		for (size_t j = 0; j < stride; j++)
			x[i * stride + j] = j < d ? w.x[i * d + j] : NAN;
	}
	const struct tt_rows both[] = {w.rows, {x, NULL, n, d, stride}};
	for (int k = 0; k < 2; k++) {
		struct tt_gram *gram = NULL;
		struct tt_ridge *ridge = NULL;
		must(tt_gram_open(&gram, &both[k], err));
		must(tt_ridge_open(&ridge, gram, w.label, err));
		must(tt_ridge_fit(ridge, 1, weights[k], &b[k], err));
		tt_ridge_close(ridge);
		tt_gram_close(gram);
	}
	cr_expect_arr_eq(weights[0], weights[1], d * sizeof **weights);
	cr_expect(b[0] == b[1]);
	free(x);
	world_free(&w);
}

Test(train_ridge, refuses_what_has_no_solution)
{
	struct world w;
	struct tt_error failure = {0};
	struct tt_gram *gram = NULL;
	world_make(&w, "tall");
	float weights[64], b;
	double *held = malloc(w.rows.n * sizeof *held);
	const double penalties[] = {0, -1, (double)NAN, (double)INFINITY};
	for (int k = 0; k < 4; k++)
		cr_expect_eq(tt_ridge_fit(w.ridge, penalties[k], weights, &b, &failure), TT_ERR_ARGUMENT, "%d", k);
	cr_expect_eq(tt_ridge_held(w.ridge, w.fold, 3, 1, held, &failure), TT_ERR_ARGUMENT, "a fold too large");
	memset(w.fold, 0, w.rows.n);
	cr_expect_eq(tt_ridge_held(w.ridge, w.fold, 1, 1, held, &failure), TT_ERR_ARGUMENT, "no row left to fit");
	w.x[7] = NAN;
	cr_expect_eq(tt_gram_open(&gram, &w.rows, &failure), TT_ERR_FORMAT);
	cr_expect(strstr(failure.message, "feature 7"), "%s", failure.message);
	w.x[7] = INFINITY;
	cr_expect_eq(tt_gram_open(&gram, &w.rows, &failure), TT_ERR_FORMAT);
	w.weight[3] = -1;
	cr_expect_eq(tt_gram_open(&gram, &w.rows, &failure), TT_ERR_ARGUMENT);
	memset(w.weight, 0, w.rows.n * sizeof *w.weight);
	cr_expect_eq(tt_gram_open(&gram, &w.rows, &failure), TT_ERR_ARGUMENT);
	const struct tt_rows empty = {w.x, NULL, 0, 1, 1}, narrow = {w.x, NULL, 2, 4, 3};
	cr_expect_eq(tt_gram_open(&gram, &empty, &failure), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_gram_open(&gram, &narrow, &failure), TT_ERR_ARGUMENT);
	cr_expect_null(gram);
	free(held);
	world_free(&w);
}
