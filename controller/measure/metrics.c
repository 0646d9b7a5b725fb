#include "controller/measure/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

static const double z95 = 1.959963984540054; /* the normal distribution's 97.5% */

struct scored {
	double score;
	bool positive;
};

static int descending(const void *a, const void *b)
{
	double x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
	return (x < y) - (x > y);
}

/* The rows by descending score, and how many have each label; *usable is false where there is no curve. */
struct curve {
	struct scored *rows; // [n]
	size_t n, n_of[2];   /* negative, positive */
	bool usable;
};

static int curve_open(struct curve *c, const double *scores, const bool *positive, size_t n, struct tt_error *err)
{
	*c = (struct curve){.n = n, .usable = true};
	TT_TRY(tt_alloc(&c->rows, n, sizeof *c->rows, err));
	for (size_t i = 0; i < n; i++) {
		c->rows[i] = (struct scored){scores[i], positive[i]};
		c->n_of[positive[i]]++;
		c->usable = c->usable && !isnan(scores[i]);
	}
	c->usable = c->usable && c->n_of[0] && c->n_of[1];
	if (c->usable)
		qsort(c->rows, n, sizeof *c->rows, descending);
	return TT_OK;
}

/* Counts the rows of the score of row i, and gives where the next score begins. */
static size_t take_ties(const struct curve *c, size_t i, size_t taken[2])
{
	double score = c->rows[i].score;
	taken[0] = taken[1] = 0;
	for (; i < c->n && c->rows[i].score == score; i++)
		taken[c->rows[i].positive]++;
	return i;
}

int tt_auc(const double *scores, const bool *positive, size_t n, double *auc, struct tt_error *err)
{
	struct curve c;
	size_t above = 0, taken[2];
	double area = 0;
	TT_TRY(curve_open(&c, scores, positive, n, err));
	for (size_t i = 0; c.usable && i < n; above += taken[1]) {
		i = take_ties(&c, i, taken);
		area += (double)taken[0] * ((double)above + (double)taken[1] / 2);
	}
	*auc = c.usable ? area / ((double)c.n_of[0] * (double)c.n_of[1]) : (double)NAN;
	free(c.rows);
	return TT_OK;
}

int tt_tpr_at_fpr(const double *scores, const bool *positive, size_t n, double max_fpr, double *tpr, double *threshold,
	struct tt_error *err)
{
	struct curve c;
	size_t above[2] = {0}, taken[2];
	double lowest = (double)INFINITY;
	TT_TRY(curve_open(&c, scores, positive, n, err));
	for (size_t i = 0; c.usable && i < n;) {
		double score = c.rows[i].score;
		i = take_ties(&c, i, taken);
		if ((double)(above[0] + taken[0]) / (double)c.n_of[0] > max_fpr)
			break;
		above[0] += taken[0];
		above[1] += taken[1];
		lowest = score;
	}
	*tpr = c.usable ? (double)above[1] / (double)c.n_of[1] : (double)NAN;
	if (threshold)
		*threshold = c.usable ? lowest : (double)NAN;
	free(c.rows);
	return TT_OK;
}

int tt_cost_curve(const double *scores, const bool *positive, size_t n, double price_false, double price_miss,
	struct tt_errors **out, size_t *n_out, size_t *cheapest, struct tt_error *err)
{
	struct curve c;
	struct tt_errors *points = NULL; // [1 + n]
	size_t taken[2], n_points = 0;
	*out = NULL;
	*n_out = *cheapest = 0;
	TT_TRY(curve_open(&c, scores, positive, n, err));
	int status = tt_alloc(&points, 1 + n, sizeof *points, err);
	if (status == TT_OK && c.usable)
		points[n_points++] = (struct tt_errors){.from = (double)INFINITY, .n_missed = c.n_of[1]};
	for (size_t i = 0; n_points && i < n;) {
		const struct tt_errors *before = &points[n_points - 1];
		double score = c.rows[i].score;
		i = take_ties(&c, i, taken);
		points[n_points++] = (struct tt_errors){
			.from = score, .n_missed = before->n_missed - taken[1], .n_false = before->n_false + taken[0]};
	}
	for (size_t i = 0; i < n_points; i++) {
		points[i].cost =
			((double)points[i].n_missed * price_miss + (double)points[i].n_false * price_false) / (double)n;
		*cheapest = points[i].cost < points[*cheapest].cost ? i : *cheapest;
	}
	*out = points;
	*n_out = n_points;
	free(c.rows);
	return status;
}

/* Whether an area is further from the one seen than 1.96 standard errors. */
static bool is_excluded(double area, double seen, double n_positive, double n_negative)
{
	double others = (n_positive + n_negative) / 2 - 1;
	double variance = area * (1 - area) * (1 + others * ((1 - area) / (2 - area) + area / (1 + area))) /
			  (n_positive * n_negative);
	return (seen - area) * (seen - area) > z95 * z95 * variance;
}

/* The bound between an area that is excluded and one that is not. */
static double find_bound(double excluded, double seen, size_t n_positive, size_t n_negative)
{
	double included = seen;
	for (int i = 0; i < 64; i++) { /* as many halvings as a double has places for */
		double middle = (excluded + included) / 2;
		if (is_excluded(middle, seen, (double)n_positive, (double)n_negative))
			excluded = middle;
		else
			included = middle;
	}
	return included;
}

void tt_auc_interval(double auc, size_t n_positive, size_t n_negative, double *low, double *high)
{
	*low = 0;
	*high = 1;
	if (!n_positive || !n_negative)
		return;
	*low = find_bound(0, auc, n_positive, n_negative);
	*high = find_bound(1, auc, n_positive, n_negative);
}

void tt_wilson(size_t count, size_t n, double *low, double *high)
{
	if (!n) {
		*low = 0;
		*high = 1;
		return;
	}
	double rows = (double)n, share = (double)count / rows, spread = z95 * z95 / rows;
	double middle = (share + spread / 2) / (1 + spread);
	double half = z95 / (1 + spread) * sqrt(share * (1 - share) / rows + spread / (4 * rows));
	/* Rounding would leave some 1e-17 at the ends. */
	*low = count == 0 ? 0 : middle - half;
	*high = count == n ? 1 : middle + half;
}

/* Student's t that 2.5% are above: Abramowitz and Stegun 26.7.5, 0.3% too small at 4 degrees of freedom and 0.03% at
 * 7. */
static double t95(double degrees)
{
	double z = z95, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
	return z + (z3 + z) / (4 * degrees) + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees) +
	       (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees * degrees * degrees);
}

void tt_cluster_mean(const double *sums, const double *counts, size_t n, double *mean, double *low, double *high)
{
	double sum = 0, count = 0, squares = 0, clusters = (double)n;
	for (size_t i = 0; i < n; i++) {
		sum += sums[i];
		count += counts[i];
	}
	*mean = count > 0 ? sum / count : (double)NAN;
	*low = *high = (double)NAN;
	if (n < TT_MIN_CLUSTERS || !(count > 0))
		return;
	for (size_t i = 0; i < n; i++)
		squares += (sums[i] - *mean * counts[i]) * (sums[i] - *mean * counts[i]);
	double error = sqrt(squares * clusters / (clusters - 1)) / count;
	*low = *mean - t95(clusters - 1) * error;
	*high = *mean + t95(clusters - 1) * error;
}

double tt_sign_test(size_t better, size_t worse)
{
	size_t n = better + worse, fewer = better < worse ? better : worse;
	double log_term = -(double)n * log(2), sum = 0;
	if (better == worse)
		return 1;
	for (size_t i = 0; i <= fewer; i++) {
		sum += exp(log_term);
		log_term += log((double)(n - i) / (double)(i + 1));
	}
	return sum < 0.5 ? 2 * sum : 1;
}
