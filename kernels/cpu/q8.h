/* Products with eight-bit activations (--compute q8): what they are, and the table of functions that computes them.
 *
 * x is cut into groups of 32 along k. With m the largest magnitude of a group, it becomes one number d = m / 127 and 32
 * integers q, x * (127 / m) rounded to nearest, ties to even: x is about d * q. The weights of a group are integers
 * too, times numbers of their own. So
 *
 *     y = 0; for each group, ascending: y = fma(dot, w_factor * d, y), then y = fma(w_offset, d * sum of q, y)
 *
 * where dot, the sum of the 32 products, is exact in integers, and the second step is there for types whose weights
 * have a minimum. In Q6_K dot is s0 * (the first 16) + s1 * (the last 16), exact as well. One chain of roundings an
 * output and nothing else that rounds: however the integers are added, by whatever instructions, the bits are the same.
 * Types of plain numbers, F8_E4M3 among them, have no integer form; their products stay those of f32. */
#ifndef KERNELS_CPU_Q8_H
#define KERNELS_CPU_Q8_H

#include "kernels/cpu/stream.h"

enum { TT_Q8_GROUP = 32 };

/* How the integers of a type's weights are meant. */
enum tt_q8_kind {
	TT_Q8_NONE,    /* plain numbers */
	TT_Q8_SIGNED,  /* w = factor * q */
	TT_Q8_MINIMUM, /* w = factor * q + offset, q >= 0 */
	TT_Q8_HALVES,  /* w = factor * scale * q, a scale for each 16 */
};

static inline enum tt_q8_kind tt_q8_kind(enum tt_type type)
{
	switch (type) {
	case TT_TYPE_Q4_0:
	case TT_TYPE_Q5_0:
	case TT_TYPE_Q8_0:
	case TT_TYPE_IQ4_NL:
		return TT_Q8_SIGNED;
	case TT_TYPE_Q4_1:
	case TT_TYPE_Q5_1:
	case TT_TYPE_Q4_K:
	case TT_TYPE_Q5_K:
		return TT_Q8_MINIMUM;
	case TT_TYPE_Q6_K:
		return TT_Q8_HALVES;
	case TT_TYPE_F32:
	case TT_TYPE_F16:
	case TT_TYPE_BF16:
	case TT_TYPE_F8_E4M3:
		break;
	}
	return TT_Q8_NONE;
}

/* The rows of x of a product, quantised. A row is its integers, then five arrays with a number for each group. Groups
 * are made an even number by one of zeros, so that two can be read at once. */
struct tt_q8_rows {
	uint8_t *data; // [n_rows][stride]
	size_t stride;
	uint32_t n_groups;
};

struct tt_q8_row {
	int8_t *q;       // [groups][32]
	float *factor;   // [groups] d
	float *offset;   // [groups] d * the sum of q
	int32_t *bias;   // [groups] -128 * the sum of q: what weights that are kept as q + 128 add too much
	int32_t *halves; // [groups][2] the same for each 16
};

static inline size_t tt_q8_even(size_t n_groups)
{
	return (n_groups + 1) / 2 * 2;
}

/* Bytes of a row, whole cache lines. */
static inline size_t tt_q8_stride(uint32_t n)
{
	size_t bytes = tt_q8_even(n / TT_Q8_GROUP) * (TT_Q8_GROUP + 5 * sizeof(float));
	return (bytes + 63) / 64 * 64;
}

static inline struct tt_q8_row tt_q8_row(const struct tt_q8_rows *rows, uint32_t r)
{
	size_t n = tt_q8_even(rows->n_groups);
	uint8_t *data = rows->data + r * rows->stride;
	float *factor = (float *)(void *)(data + n * TT_Q8_GROUP);
	int32_t *bias = (int32_t *)(void *)(factor + 2 * n);
	return (struct tt_q8_row){(int8_t *)data, factor, factor + n, bias, bias + n};
}

/* Rows of weights, first .. first + count of a matrix, times n_rows rows of x. */
struct tt_q8_product {
	const struct tt_matrix *matrix;
	const struct tt_q8_rows *x;
	uint32_t row, n_rows, first, count;
	float *y; // [n_rows][y_stride]; what is between count and a whole panel may be overwritten
	size_t y_stride;
	struct tt_cpu_stream stream;
};

struct tt_q8_body {
	const char *name;
	uint32_t panel; /* outputs of a panel */
	/* Bytes of a panel for n_groups groups, whole cache lines. */
	size_t (*panel_bytes)(size_t n_groups);
	void (*quantise)(const float *x, const struct tt_q8_row *row, uint32_t n);
	/* A product of one row, from the file's bytes. NULL: from panels too. */
	void (*one_row)(const struct tt_q8_product *p);
	/* The panel of outputs first and following; where end is nearer, what the other places hold is of no use. */
	void (*pack)(const struct tt_matrix *m, uint32_t first, uint32_t end, uint8_t *panel);
	/* All of a product, from its panels, contiguous. */
	void (*multiply)(const struct tt_q8_product *p, const uint8_t *panels);
};

/* NULL where the compiler's target cannot have it. */
const struct tt_q8_body *tt_q8_body_vnni(void);
const struct tt_q8_body *tt_q8_body_avxvnni(void);
const struct tt_q8_body *tt_q8_body_avx2(void);
const struct tt_q8_body *tt_q8_body_dotprod(void);
const struct tt_q8_body *tt_q8_body_neon(void);
const struct tt_q8_body *tt_q8_body_portable(void);

#endif
