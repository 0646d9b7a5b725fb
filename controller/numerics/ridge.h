/* Ridge regression on the labels +1 and -1, in double, by its dual: as many unknowns as rows, however many features.
 * Minimises, over beta and b,
 *     the sum of weight_i (beta . z_i + b - y_i)^2, plus penalty * n / 100 * |beta|^2,
 * where z_i is the standardised row (gram.h) and n the number of rows of the fit. b is not penalised. */
#ifndef CONTROLLER_NUMERICS_RIDGE_H
#define CONTROLLER_NUMERICS_RIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/numerics/gram.h"

struct tt_ridge;

/* gram is the caller's, as is label [gram->rows.n]; both must stay. Memory: as much as the matrix of gram again. */
int tt_ridge_open(struct tt_ridge **out, struct tt_gram *gram, const bool *label, struct tt_error *err);
void tt_ridge_close(struct tt_ridge *ridge);

/* Cross-validation: scores [n] gets what the fit without the rows of fold[i] gives row i, in units of the targets. The
 * rows are standardised once, by all of them: that uses no label. fold [n] is below n_folds. */
int tt_ridge_held(struct tt_ridge *ridge, const uint8_t *fold, uint32_t n_folds, double penalty, double *scores,
	struct tt_error *err);

/* The fit on all rows: the score of a row is w.x + b, with x as given. w [d]. */
int tt_ridge_fit(struct tt_ridge *ridge, double penalty, float *w, float *b, struct tt_error *err);

#endif
