/* Cholesky's factors of symmetric positive definite matrices, in place. */
#ifndef CONTROLLER_NUMERICS_CHOLESKY_H
#define CONTROLLER_NUMERICS_CHOLESKY_H

#include <stddef.h>

#include "base/tt_error.h"

/* a [n][n]: of its lower triangle becomes L, L L^T = a; above the diagonal it is not read, and then of no meaning.
 * panel: [TT_PRODUCT_PANEL] of product.h. TT_ERR_FORMAT if the matrix is not positive definite. */
int tt_cholesky(double *a, size_t n, double *panel, struct tt_error *err);

/* x [n] becomes the solution of L L^T x = x. */
void tt_cholesky_solve(const double *l, size_t n, double *x);

#endif
