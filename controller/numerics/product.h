/* Products of matrices for training: c += scale * a b. Each element of c has one order of sums, whatever the processor
 * and wherever it lies: over k ascending, in blocks of TT_PRODUCT_DEPTH, each summed from zero and then added to c. */
#ifndef CONTROLLER_NUMERICS_PRODUCT_H
#define CONTROLLER_NUMERICS_PRODUCT_H

#include <stddef.h>

enum {
	TT_PRODUCT_DEPTH = 256,
	TT_PRODUCT_COLUMNS = 128, /* of b at a time: with their depth, 256 KiB of f64 in the second cache */
	/* What a product needs for copies of blocks in the order in which it reads them. */
	TT_PRODUCT_PANEL = TT_PRODUCT_DEPTH * (TT_PRODUCT_COLUMNS + 8),
};

/* a(i, k) is a[i * a_row + k * a_column], and b(k, j) is b[k * b_row + j * b_column]: a transposed matrix is one with
 * its strides exchanged. */
struct tt_product_f32 {
	const float *a, *b;
	size_t a_row, a_column, b_row, b_column;
	float *c; // [n_rows][c_row], of which the first n_columns numbers are added to
	size_t c_row;
	size_t n_rows, n_columns, depth;
	float scale;
};

struct tt_product_f64 {
	const double *a, *b;
	size_t a_row, a_column, b_row, b_column;
	double *c; // [n_rows][c_row]
	size_t c_row;
	size_t n_rows, n_columns, depth;
	double scale;
};

/* panel: [TT_PRODUCT_PANEL], aligned to 64 bytes. c overlaps neither a nor b. */
void tt_product_f32(const struct tt_product_f32 *p, float *panel);
void tt_product_f64(const struct tt_product_f64 *p, double *panel);

/* The same in plain C on every processor: what a test holds the others to. */
void tt_product_plain_f32(const struct tt_product_f32 *p, float *panel);
void tt_product_plain_f64(const struct tt_product_f64 *p, double *panel);

#endif
