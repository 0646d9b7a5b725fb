/* The statistics of a noisy machine: medians and their distribution-free intervals. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>

#include "base/tt_error.h"

/* An interval for the median: the order statistics k and n + 1 - k of n samples, with the largest k at which the
 * interval still covers the true median with the requested probability, whatever the samples' distribution. */
struct tt_bench_summary {
	size_t n;
	double median, min, max; /* NaN when n is 0 */
	double low, high;
	double coverage; /* the interval's own. Below what was requested when n is too small: then it is min..max */
};

/* Rank k, from 1, of the lower end, and the coverage 1 - 2 P(Bin(n, 1/2) < k) that it gives. 0 for n = 0. */
size_t tt_bench_interval_rank(size_t n, double confidence, double *coverage);

/* samples: [n], any order, not changed. */
int tt_bench_summarise(
	struct tt_bench_summary *out, const double *samples, size_t n, double confidence, struct tt_error *err);

/* The summary of factor * a[i] / b[i], i < n: each round's quotient first, then their median. A machine that is slow
 * for a while is slow for both samples of a round, so the quotient is steady where the two medians are not. a NULL: all
 * 1. */
int tt_bench_summarise_ratio(struct tt_bench_summary *out, const double *a, const double *b, size_t n, double factor,
	double confidence, struct tt_error *err);

/* The line y = at_0 + slope x through n points by least squares, and the share of y's variance that it explains. */
struct tt_bench_line {
	double at_0, slope, r2; /* NaN with fewer than two different x; r2 also where all y are the same */
};
struct tt_bench_line tt_bench_fit_line(const double *x, const double *y, size_t n);

#endif
