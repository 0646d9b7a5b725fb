/* Eigenvalues and eigenvectors of small symmetric matrices. */
#ifndef CONTROLLER_NUMERICS_EIGEN_H
#define CONTROLLER_NUMERICS_EIGEN_H

#include <stddef.h>

#include "base/tt_error.h"

/* a [n][n] symmetric, destroyed. values [n] descending; vectors [n][n] has the unit vector of values[i] as row i.
 * TT_ERR_FORMAT if the iteration does not end, as with numbers that are not finite. */
int tt_eigen(double *a, size_t n, double *values, double *vectors, struct tt_error *err);

#endif
