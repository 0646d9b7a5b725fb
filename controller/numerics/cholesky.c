#include "controller/numerics/cholesky.h"

#include <math.h>

#include "base/fail.h"
#include "controller/numerics/product.h"

enum { BLOCK = TT_PRODUCT_COLUMNS };
_Static_assert(BLOCK *BLOCK <= TT_PRODUCT_PANEL, "the panel holds a block of the factor");

/* The factor of a block on the diagonal, column by column; its transpose goes to upper [BLOCK][BLOCK]. */
static int factor_block(double *a, size_t row, size_t n, double *upper, struct tt_error *err)
{
	for (size_t j = 0; j < n; j++) {
		double pivot = a[j * row + j];
		if (!(pivot > 0 && isfinite(pivot)))
			return tt_fail(err, TT_ERR_FORMAT,
				"the system of a regression cannot be solved: its penalty is too small, or a feature "
				"is not finite");
		a[j * row + j] = sqrt(pivot);
		for (size_t i = j + 1; i < n; i++)
			a[i * row + j] /= a[j * row + j];
		for (size_t i = j; i < n; i++)
			upper[j * BLOCK + i] = a[i * row + j];
		for (size_t i = j + 1; i < n; i++)
			for (size_t k = j + 1; k <= i; k++)
				a[i * row + k] -= a[i * row + j] * upper[j * BLOCK + k];
	}
	return TT_OK;
}

/* The rows below a block on the diagonal: each is divided by the block's factor from the right. */
static void divide_rows(double *a, size_t row, size_t n_rows, size_t n, const double *upper)
{
	for (size_t i = 0; i < n_rows; i++, a += row)
		for (size_t j = 0; j < n; j++) {
			a[j] /= upper[j * BLOCK + j];
			for (size_t k = j + 1; k < n; k++)
				a[k] -= a[j] * upper[j * BLOCK + k];
		}
}

int tt_cholesky(double *a, size_t n, double *panel, struct tt_error *err)
{
	for (size_t j = 0; j < n; j += BLOCK) {
		size_t width = n - j < BLOCK ? n - j : BLOCK;
		double *corner = a + j * n + j;
		const struct tt_product_f64 left = {
			.a = a + j * n,
			.b = a + j * n,
			.a_row = n,
			.a_column = 1,
			.b_row = 1,
			.b_column = n,
			.c = corner,
			.c_row = n,
			.n_rows = n - j,
			.n_columns = width,
			.depth = j,
			.scale = -1,
		};
		tt_product_f64(&left, panel);
		TT_TRY(factor_block(corner, n, width, panel, err));
		divide_rows(corner + width * n, n, n - j - width, width, panel);
	}
	return TT_OK;
}

void tt_cholesky_solve(const double *l, size_t n, double *x)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < i; j++)
			x[i] -= l[i * n + j] * x[j];
		x[i] /= l[i * n + i];
	}
	for (size_t i = n; i-- > 0;) {
		x[i] /= l[i * n + i];
		for (size_t j = 0; j < i; j++)
			x[j] -= l[i * n + j] * x[i];
	}
}
