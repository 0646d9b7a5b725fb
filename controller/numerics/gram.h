/* Standardised rows and their products with one another, which ridge regression and principal components start from.
 * Where there are fewer rows than features, this matrix is the smaller one. */
#ifndef CONTROLLER_NUMERICS_GRAM_H
#define CONTROLLER_NUMERICS_GRAM_H

#include <stddef.h>

#include "base/tt_error.h"

struct tt_rows {
	const float *x;       // [n][stride] rows, of which the first d numbers are the features
	const double *weight; // [n] 0 or more, not all 0; NULL: 1 each
	size_t n, d, stride;
};

/* Row i is standardised to z_i = (x_i - mean) / divisor; divisor = (deviation + 1e-3) * sqrt(d), so that a feature that
 * hardly varies is not blown up, and |z_i|^2 is about 1. Mean and deviation are weighted, over all rows. */
struct tt_gram {
	struct tt_rows rows; /* as given: x and weight are the caller's, and must stay */
	double *mean;        // [d]
	double *divisor;     // [d]
	double *products;    // [n][n] z_i . z_j
	double *panel;       // [TT_PRODUCT_PANEL] for products of whoever uses the matrix, one at a time
};

/* Memory: 8 n^2 bytes, and 2 KiB a row while it is made. */
int tt_gram_open(struct tt_gram **out, const struct tt_rows *rows, struct tt_error *err);
/* The same of the rows as they are, with mean 0 and divisor 1: principal components are then about zero, and those of
 * differences hold what the differences have in common. */
int tt_gram_open_raw(struct tt_gram **out, const struct tt_rows *rows, struct tt_error *err);
void tt_gram_close(struct tt_gram *gram);

double tt_row_weight(const struct tt_rows *rows, size_t i);

/* The features first to first + n - 1 of every row, standardised: z [rows.n][n]. */
void tt_gram_standardise(const struct tt_gram *gram, size_t first, size_t n, double *z);

#endif
