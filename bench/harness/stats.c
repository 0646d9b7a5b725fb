#include "bench/harness/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

size_t tt_bench_interval_rank(size_t n, double confidence, double *coverage)
{
	/* In logarithms: 2^-n is no longer a double from n = 1075 on. */
	double log_term = -(double)n * log(2.0), tail = 0;
	size_t rank = 0;
	*coverage = 0;
	for (size_t k = 0; 2 * (k + 1) <= n + 1; k++) {
		tail += exp(log_term); /* P(Bin(n, 1/2) <= k) */
		double covered = 1 - 2 * tail;
		if (rank > 0 && covered < confidence)
			break;
		rank = k + 1;
		*coverage = covered > 0 ? covered : 0;
		log_term += log((double)(n - k) / (double)(k + 1));
	}
	return rank;
}

static int compare(const void *a, const void *b)
{
	double x, y;
	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return (x > y) - (x < y);
}

int tt_bench_summarise(
	struct tt_bench_summary *out, const double *samples, size_t n, double confidence, struct tt_error *err)
{
	double *sorted = NULL;
	*out = (struct tt_bench_summary){n, NAN, NAN, NAN, NAN, NAN, 0};
	if (n == 0)
		return TT_OK;
	int status = tt_alloc(&sorted, n, sizeof *sorted, err);
	if (status != TT_OK)
		return status;
	memcpy(sorted, samples, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, compare);
	size_t rank = tt_bench_interval_rank(n, confidence, &out->coverage);
	out->median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
	out->min = sorted[0];
	out->max = sorted[n - 1];
	out->low = sorted[rank - 1];
	out->high = sorted[n - rank];
	free(sorted);
	return TT_OK;
}

int tt_bench_summarise_ratio(struct tt_bench_summary *out, const double *a, const double *b, size_t n, double factor,
	double confidence, struct tt_error *err)
{
	double *ratios = NULL;
	int status = tt_alloc(&ratios, n, sizeof *ratios, err);
	if (status != TT_OK)
		return status;
	for (size_t i = 0; i < n; i++)
		ratios[i] = factor * (a ? a[i] : 1) / b[i];
	status = tt_bench_summarise(out, ratios, n, confidence, err);
	free(ratios);
	return status;
}

struct tt_bench_line tt_bench_fit_line(const double *x, const double *y, size_t n)
{
	double mean_x = 0, mean_y = 0, xx = 0, xy = 0, yy = 0;
	for (size_t i = 0; i < n; i++) {
		mean_x += x[i] / (double)n;
		mean_y += y[i] / (double)n;
	}
	for (size_t i = 0; i < n; i++) {
		xx += (x[i] - mean_x) * (x[i] - mean_x);
		xy += (x[i] - mean_x) * (y[i] - mean_y);
		yy += (y[i] - mean_y) * (y[i] - mean_y);
	}
	if (xx <= 0)
		return (struct tt_bench_line){NAN, NAN, NAN};
	double slope = xy / xx;
	return (struct tt_bench_line){mean_y - slope * mean_x, slope, yy > 0 ? slope * xy / yy : NAN};
}
