/* Conditions against scikit-learn: the vector of pairs, the similarities of rows that it was made without, and the best
 * point of them. */
#include "controller/train/condition.h"
#include "train_golden.h"

struct world {
	struct tt_safetensors *file;
	struct tt_condition_rows rows;
	float *x;
	bool *positive, *partner;
	size_t *order;
	uint8_t *fold;
};

static void world_make(struct world *w)
{
	size_t n, n_x;
	w->file = golden_open(GOLDEN("train/condition.safetensors"));
	w->x = golden_array(w->file, sizeof *w->x, &n_x, "x");
	w->positive = golden_array(w->file, sizeof *w->positive, &n, "positive");
	w->partner = golden_array(w->file, sizeof *w->partner, &n, "partner");
	w->fold = golden_array(w->file, sizeof *w->fold, &n, "fold");
	int32_t *order = golden_array(w->file, sizeof *order, &n, "order");
	w->order = malloc(n * sizeof *w->order);
	for (size_t i = 0; i < n; i++)
		w->order[i] = (size_t)order[i];
	free(order);
	w->rows = (struct tt_condition_rows){.x = w->x,
		.positive = w->positive,
		.partner = w->partner,
		.order = w->order,
		.fold = w->fold,
		.n = n,
		.d = n_x / n,
		.n_folds = 5};
}

static void world_free(struct world *w)
{
	free(w->x);
	free(w->positive);
	free(w->partner);
	free(w->order);
	free(w->fold);
	tt_safetensors_close(w->file);
}

static void check_point(const struct tt_condition_point *point, const double *want, const char *what)
{
	cr_expect_float_eq((double)point->threshold, want[0], 1e-6, "%s: threshold %g", what, (double)point->threshold);
	cr_expect_eq(point->below, want[1] != 0, "%s", what);
	cr_expect_float_eq(point->f1, want[2], 1e-9, "%s: F1 %g", what, point->f1);
}

Test(train_condition, is_that_of_scikit_learn)
{
	struct world w;
	struct tt_condition c;
	size_t n;
	world_make(&w);
	must(tt_condition_fit(&c, &w.rows, err));
	double *vector = golden_array(w.file, sizeof *vector, &n, "w");
	cr_assert_eq(n, w.rows.d);
	/* f32 vectors; a wrong sign gives 2. */
	for (size_t k = 0; k < n; k++)
		cr_expect_float_eq((double)c.w[k], vector[k], 1e-6, "w[%zu]", k);
	double *held = golden_array(w.file, sizeof *held, &n, "held"), *auc = golden_array(w.file, 8, &n, "auc");
	for (size_t i = 0; i < w.rows.n; i++)
		cr_expect_float_eq((double)c.held[i], held[i], 1e-6, "row %zu", i);
	cr_expect_float_eq(c.auc, *auc, 1e-12);
	free(auc);
	double *want = golden_array(w.file, sizeof *want, &n, "best");
	check_point(&c.point, want, "all");
	free(want);
	for (uint32_t fold = 0; fold < 5; fold++) {
		struct tt_condition_point point;
		want = golden_array(w.file, sizeof *want, &n, "best.%u", fold);
		must(tt_condition_best(&point, c.held, &w.rows, fold, err));
		check_point(&point, want, "without a fold");
		free(want);
	}
	free(vector);
	free(held);
	tt_condition_free(&c);
	world_free(&w);
}

/* Where the positive rows have the smaller similarities, the condition holds below, at the same place. */
Test(train_condition, holds_below_where_that_is_better)
{
	struct world w;
	struct tt_condition c;
	struct tt_condition_point point;
	world_make(&w);
	must(tt_condition_fit(&c, &w.rows, err));
	cr_assert(!c.point.below && c.point.f1 < 1, "the golden does not tell the sides apart");
	size_t flagged[2] = {0};
	for (size_t i = 0; i < w.rows.n; i++)
		flagged[0] += tt_condition_holds(&c.point, c.held[i]);
	for (size_t i = 0; i < w.rows.n; i++)
		c.held[i] = -c.held[i];
	must(tt_condition_best(&point, c.held, &w.rows, 5, err));
	for (size_t i = 0; i < w.rows.n; i++)
		flagged[1] += tt_condition_holds(&point, c.held[i]);
	cr_expect(point.below && point.threshold == -c.point.threshold && point.f1 == c.point.f1);
	cr_expect_eq(flagged[0], flagged[1]);
	tt_condition_free(&c);
	world_free(&w);
}

/* Rows of one similarity are never told apart, and a NaN is no row. */
Test(train_condition, threshold_lies_between_two_similarities)
{
	static const float similarity[] = {0.5f, 0.5f, 0.25f, 0.25f, NAN, 0.25f};
	static const bool positive[] = {true, true, true, false, true, false};
	static const uint8_t fold[6] = {0};
	const struct tt_condition_rows rows = {.positive = positive, .fold = fold, .n = 6, .n_folds = 1};
	static const float same[] = {1, 1, 1, 1, 1, 1};
	struct tt_condition_point point;
	must(tt_condition_best(&point, similarity, &rows, 1, err));
	cr_expect(point.threshold == 0.375f && !point.below);
	cr_expect_float_eq(point.f1, 0.8, 1e-12); /* two of three, and nothing else */
	must(tt_condition_best(&point, same, &rows, 1, err));
	cr_expect_eq(point.f1, -1);
}

Test(train_condition, refuses_pairs_that_do_not_differ)
{
	struct world w;
	struct tt_condition c;
	struct tt_error failure = {0};
	world_make(&w);
	for (size_t i = 1; i < w.rows.n; i++)
		memcpy(w.x + i * w.rows.d, w.x, w.rows.d * sizeof *w.x);
	cr_expect_eq(tt_condition_fit(&c, &w.rows, &failure), TT_ERR_ARGUMENT);
	tt_condition_free(&c);
	world_free(&w);
}
