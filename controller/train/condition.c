#include "controller/train/condition.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/measure/metrics.h"
#include "controller/numerics/pca.h"
#include "kernels/steer.h"

float tt_condition_similarity(const float *w, const float *x, size_t d)
{
	double xw = 0, ww = 0, xv = 0, vv = 0, xx = 0;
	for (size_t i = 0; i < d; i++) {
		xw += (double)x[i] * (double)w[i];
		ww += (double)w[i] * (double)w[i];
	}
	for (size_t i = 0; i < d; i++) {
		double v = tanh(xw / ww * (double)w[i]);
		xv += (double)x[i] * v;
		vv += v * v;
		xx += (double)x[i] * (double)x[i];
	}
	return (float)tt_steer_cosine(xv, vv, xx);
}

bool tt_condition_holds(const struct tt_condition_point *point, float similarity)
{
	return tt_steer_opens(point->below, similarity, point->threshold);
}

struct scored {
	float similarity;
	bool positive;
};

static int ascending(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;
	return (x->similarity > y->similarity) - (x->similarity < y->similarity);
}

static void take_better(struct tt_condition_point *best, const struct tt_condition_point *point)
{
	if (point->f1 > best->f1)
		*best = *point;
}

int tt_condition_best(struct tt_condition_point *out, const float *similarity, const struct tt_condition_rows *rows,
	uint32_t without, struct tt_error *err)
{
	struct scored *sorted = NULL;
	size_t n = 0, n_positive = 0, below = 0;
	*out = (struct tt_condition_point){.f1 = -1};
	TT_TRY(tt_alloc(&sorted, rows->n, sizeof *sorted, err));
	for (size_t i = 0; i < rows->n; i++) {
		if (rows->fold[i] == without || isnan(similarity[i]))
			continue;
		sorted[n++] = (struct scored){similarity[i], rows->positive[i]};
		n_positive += rows->positive[i];
	}
	qsort(sorted, n, sizeof *sorted, ascending);
	for (size_t i = 0; i + 1 < n; i++) {
		float low = sorted[i].similarity, high = sorted[i + 1].similarity, middle = low + (high - low) / 2;
		below += sorted[i].positive;
		/* Not where rounding leaves no number between the two that tells them apart from either side. */
		if (!(low < middle && middle < high))
			continue;
		double above = (double)(n_positive - below);
		take_better(
			out, &(struct tt_condition_point){middle, false, 2 * above / (double)(n - i - 1 + n_positive)});
		take_better(out,
			&(struct tt_condition_point){middle, true, 2 * (double)below / (double)(i + 1 + n_positive)});
	}
	free(sorted);
	return TT_OK;
}

/* The sign in which most of the differences x [n][d] point along w. */
static double vote(const float *w, const float *x, size_t n, size_t d)
{
	size_t ahead = 0, behind = 0;
	for (size_t i = 0; i < n; i++) {
		double along = 0;
		for (size_t k = 0; k < d; k++)
			along += (double)w[k] * (double)x[i * d + k];
		ahead += along > 0;
		behind += along < 0;
	}
	return behind > ahead ? -1 : 1;
}

/* w = the first principal component of the rows of all pairs, each less the mean of its pair. These are half the
 * differences x [n][d] with either sign, so it is the component of the differences about zero. */
static int find_component(float *w, const float *x, size_t n, size_t d, struct tt_error *err)
{
	const struct tt_rows rows = {.x = x, .n = n, .d = d, .stride = d};
	struct tt_gram *gram = NULL;
	struct tt_pca *pca = NULL;
	double squares = 0;
	TT_TRY(tt_gram_open_raw(&gram, &rows, err));
	int status = tt_pca_fit(&pca, gram, 1, err);
	tt_gram_close(gram);
	TT_TRY(status);
	for (size_t k = 0; k < d; k++)
		squares += (double)pca->projection[k] * (double)pca->projection[k];
	double scale = vote(pca->projection, x, n, d) / sqrt(squares);
	for (size_t k = 0; k < d; k++)
		w[k] = (float)(scale * (double)pca->projection[k]);
	tt_pca_free(pca);
	return TT_OK;
}

/* Moves *at to the next row of the order that is one of those and whose fold is not `without`; n if there is none. */
static void seek(const struct tt_condition_rows *rows, const bool *one_of, uint32_t without, size_t *at)
{
	while (*at < rows->n && (!one_of[rows->order[*at]] || rows->fold[rows->order[*at]] == without))
		++*at;
}

/* The vector of the rows whose fold is not `without`. differences: room for n / 2 rows. */
static int find_vector(
	const struct tt_condition_rows *rows, uint32_t without, float *differences, float *w, struct tt_error *err)
{
	size_t positive = 0, partner = 0, n = 0, d = rows->d;
	for (;; n++, positive++, partner++) {
		seek(rows, rows->positive, without, &positive);
		seek(rows, rows->partner, without, &partner);
		if (positive == rows->n || partner == rows->n)
			break;
		const float *a = rows->x + rows->order[positive] * d, *b = rows->x + rows->order[partner] * d;
		for (size_t k = 0; k < d; k++)
			differences[n * d + k] = a[k] - b[k];
	}
	return find_component(w, differences, n, d, err);
}

static int measure(struct tt_condition *c, const struct tt_condition_rows *rows, struct tt_error *err)
{
	double *scores = NULL;
	TT_TRY(tt_alloc(&scores, rows->n, sizeof *scores, err));
	for (size_t i = 0; i < rows->n; i++)
		scores[i] = (double)c->held[i];
	int status = tt_auc(scores, rows->positive, rows->n, &c->auc, err);
	free(scores);
	return status;
}

static int fit(struct tt_condition *c, const struct tt_condition_rows *rows, float *differences, struct tt_error *err)
{
	TT_TRY(tt_alloc(&c->w, rows->d, sizeof *c->w, err));
	TT_TRY(tt_alloc(&c->held, rows->n, sizeof *c->held, err));
	for (uint32_t fold = 0; fold < rows->n_folds; fold++) {
		TT_TRY(find_vector(rows, fold, differences, c->w, err));
		for (size_t i = 0; i < rows->n; i++)
			if (rows->fold[i] == fold)
				c->held[i] = tt_condition_similarity(c->w, rows->x + i * rows->d, rows->d);
	}
	TT_TRY(find_vector(rows, rows->n_folds, differences, c->w, err));
	TT_TRY(tt_condition_best(&c->point, c->held, rows, rows->n_folds, err));
	if (c->point.f1 < 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "the condition has one similarity to all rows");
	return measure(c, rows, err);
}

int tt_condition_fit(struct tt_condition *out, const struct tt_condition_rows *rows, struct tt_error *err)
{
	float *differences = NULL; // [n / 2][d]
	*out = (struct tt_condition){0};
	TT_TRY(tt_alloc(&differences, rows->n / 2, rows->d * sizeof *differences, err));
	int status = fit(out, rows, differences, err);
	free(differences);
	return status;
}

void tt_condition_free(struct tt_condition *condition)
{
	free(condition->w);
	free(condition->held);
	*condition = (struct tt_condition){0};
}
