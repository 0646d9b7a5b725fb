/* Figures of a classifier, and how sure they are. */
#ifndef CONTROLLER_MEASURE_METRICS_H
#define CONTROLLER_MEASURE_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

/* The area under the ROC curve of scores [n]: how often a positive row scores above a negative one, a tie counted as
 * half. NAN without rows of both labels, or where a score is NAN. */
int tt_auc(const double *scores, const bool *positive, size_t n, double *auc, struct tt_error *err);

/* The largest share of the positive rows above a threshold that at most max_fpr of the negative rows are above. Rows of
 * one score pass together; nothing is interpolated. threshold (may be NULL) gets the smallest score that passes, or
 * INFINITY if none may. NAN as tt_auc. */
int tt_tpr_at_fpr(const double *scores, const bool *positive, size_t n, double max_fpr, double *tpr, double *threshold,
	struct tt_error *err);

/* The errors of flagging the rows whose score is `from` or more. */
struct tt_errors {
	double from;              /* INFINITY: none is flagged */
	size_t n_missed, n_false; /* positive rows that are not flagged, negative ones that are */
	double cost;              /* a row: (n_missed * price_miss + n_false * price_false) / n */
};
/* All that flagging by a score can be, from none to all rows; rows of one score pass together. *out [*n_out] (free())
 * has the errors in this order, *cheapest the first of the least cost. *n_out is 0 where tt_auc is NAN. */
int tt_cost_curve(const double *scores, const bool *positive, size_t n, double price_false, double price_miss,
	struct tt_errors **out, size_t *n_out, size_t *cheapest, struct tt_error *err);

/* A 95% interval of an area under the curve that was seen over so many rows of each label: the areas that lie within
 * 1.96 of their own standard errors of it, by Hanley and McNeil's variance with the mean of both counts for each
 * (Newcombe, Statistics in Medicine 25:559, 2006, method 5). It has a length where the area is 1, too. 0 to 1 without
 * rows of both labels. */
void tt_auc_interval(double auc, size_t n_positive, size_t n_negative, double *low, double *high);

/* Wilson's 95% interval of a share, of which count of n were seen; 0 to 1 for n = 0. */
void tt_wilson(size_t count, size_t n, double *low, double *high);

enum { TT_MIN_CLUSTERS = 5 };
/* The mean of what comes in clusters, whose members depend on each other: the sum of sums [n] over the sum of counts
 * [n], and its 95% interval, by the variance of the ratio between clusters (Cochran, Sampling Techniques, 6.4) and
 * Student's t. The bounds are NAN for less than TT_MIN_CLUSTERS, the mean too without members. */
void tt_cluster_mean(const double *sums, const double *counts, size_t n, double *mean, double *low, double *high);

/* Whether two treatments of the same rows differ (McNemar's test, which is the sign test of the rows that differ): the
 * exact probability, on both sides, of a split at least as uneven as `better` against `worse`, if each were as likely
 * as the other. 1 when no rows differ. */
double tt_sign_test(size_t better, size_t worse);

#endif
