/* L2-regularised logistic regression, fitted in double with L-BFGS. */
#ifndef CONTROLLER_TRAIN_LOGISTIC_H
#define CONTROLLER_TRAIN_LOGISTIC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

struct tt_logistic {
	const float *x;    // [n][stride] rows, the first d numbers of each
	const bool *label; // [n]
	size_t n, d, stride;
	double l2; /* times the sum of squares of the weights on the standardised features, beside the mean loss */
};

/* Fits p = sigmoid(w.x + b) on the features as they are: inside, each is standardised to mean 0 and deviation 1 and both
 * labels weigh the same, whatever their numbers. Deterministic. *loss, which may be NULL, gets the final objective. */
int tt_logistic_fit(const struct tt_logistic *data, float *w, float *b, double *loss, struct tt_error *err);

#endif
