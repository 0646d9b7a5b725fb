/* L2-regularised logistic regression, fitted in double with L-BFGS. */
#ifndef CONTROLLER_NUMERICS_LOGISTIC_H
#define CONTROLLER_NUMERICS_LOGISTIC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

struct tt_logistic {
	const float *x;    // [n][stride] rows, of which the first d numbers are the features
	const bool *label; // [n]
	size_t n, d, stride;
	double l2; /* objective: mean loss + l2 * the sum of squares of the weights on standardised features */
};

/* Fits p = sigmoid(w.x + b); w [d] and b apply to the features as given. For the fit, each feature is standardised to
 * mean 0 and deviation 1, and both labels get the same weight, however many rows they have. Deterministic. *loss (may
 * be NULL) gets the final objective. */
int tt_logistic_fit(const struct tt_logistic *data, float *w, float *b, double *loss, struct tt_error *err);

#endif
