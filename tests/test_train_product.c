/* Products, eigenvalues of symmetric matrices, and Cholesky's factors: against plain loops in double, a matrix whose
 * eigenvectors are known, and the equations themselves. */
#include "controller/numerics/cholesky.h"
#include "controller/numerics/eigen.h"
#include "controller/numerics/product.h"
#include "golden.h"
#include "random.h"

/* Less, equal to and more than a tile, a panel's columns and a block's depth. */
static const size_t SHAPES[][3] = {
	{1, 1, 1}, {3, 5, 7}, {4, 16, 2}, {5, 129, 256}, {17, 128, 257}, {131, 33, 600}, {2, 300, 0}};

static double number(uint64_t *random)
{
	return (double)next_random(random) / 0x1p30 - 1;
}

struct world {
	double *a, *b, *c, *want, *panel;
	float *a32, *b32, *c32, *panel32;
	size_t n_a, n_b, n_c;
};

static void world_make(struct world *w, size_t n_rows, size_t n_columns, size_t depth, uint64_t *random)
{
	*w = (struct world){.n_a = n_rows * depth, .n_b = depth * n_columns, .n_c = n_rows * (n_columns + 3)};
	must(tt_alloc(&w->a, 3 * w->n_a, sizeof(double), err));
	must(tt_alloc(&w->b, 3 * w->n_b, sizeof(double), err));
	must(tt_alloc(&w->c, 4 * w->n_c, sizeof(double), err));
	must(tt_alloc_aligned(&w->panel, 2 * TT_PRODUCT_PANEL, sizeof(double), err));
	w->want = w->c + w->n_c;
	w->a32 = (float *)(w->a + w->n_a);
	w->b32 = (float *)(w->b + w->n_b);
	w->c32 = (float *)(w->c + 2 * w->n_c);
	w->panel32 = (float *)(w->panel + TT_PRODUCT_PANEL);
	for (size_t i = 0; i < w->n_a; i++)
		w->a[i] = (double)(w->a32[i] = (float)number(random));
	for (size_t i = 0; i < w->n_b; i++)
		w->b[i] = (double)(w->b32[i] = (float)number(random));
	for (size_t i = 0; i < w->n_c; i++)
		w->c[i] = w->want[i] = (double)(w->c32[i] = (float)number(random));
}

static void world_free(struct world *w)
{
	free(w->a);
	free(w->b);
	free(w->c);
	free(w->panel);
}

/* turned: of a and of b, which then lie transposed. */
static void check_product(size_t n_rows, size_t n_columns, size_t depth, int turned, uint64_t *random)
{
	struct world w;
	world_make(&w, n_rows, n_columns, depth, random);
	const struct tt_product_f64 p = {
		.a = w.a,
		.b = w.b,
		.a_row = turned & 1 ? 1 : depth,
		.a_column = turned & 1 ? n_rows : 1,
		.b_row = turned & 2 ? 1 : n_columns,
		.b_column = turned & 2 ? depth : 1,
		.c = w.c,
		.c_row = n_columns + 3,
		.n_rows = n_rows,
		.n_columns = n_columns,
		.depth = depth,
		.scale = -0.5,
	};
	const struct tt_product_f32 q = {w.a32, w.b32, p.a_row, p.a_column, p.b_row, p.b_column, w.c32, p.c_row, n_rows,
		n_columns, depth, -0.5f};
	for (size_t i = 0; i < n_rows; i++)
		for (size_t j = 0; j < n_columns; j++)
			for (size_t k = 0; k < depth; k++)
				w.want[i * p.c_row + j] -=
					0.5 * w.a[i * p.a_row + k * p.a_column] * w.b[k * p.b_row + j * p.b_column];
	tt_product_f64(&p, w.panel);
	tt_product_f32(&q, w.panel32);
	/* Rounding of sums of up to 600 numbers up to 1; the columns beside c are as they were. */
	for (size_t i = 0; i < w.n_c; i++) {
		cr_assert(fabs(w.c[i] - w.want[i]) <= 1e-13, "element %zu of f64, turned %d", i, turned);
		cr_assert(fabs((double)w.c32[i] - w.want[i]) <= 3e-5, "element %zu of f32, turned %d", i, turned);
	}
	world_free(&w);
}

Test(train_product, is_that_of_plain_loops)
{
	uint64_t random = 1;
	for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++)
		for (int turned = 0; turned < 4; turned++)
			check_product(SHAPES[s][0], SHAPES[s][1], SHAPES[s][2], turned, &random);
}

Test(train_product, has_the_same_bits_on_every_processor)
{
	enum { N = 70, DEPTH = 530 };
	uint64_t random = 2;
	struct world w;
	world_make(&w, N, N, DEPTH, &random);
	struct tt_product_f64 p = {w.a, w.b, DEPTH, 1, N, 1, w.c, N, N, N, DEPTH, 1};
	struct tt_product_f32 q = {w.a32, w.b32, DEPTH, 1, N, 1, w.c32, N, N, N, DEPTH, 1};
	memcpy(w.want, w.c, N * N * sizeof *w.want);
	tt_product_f64(&p, w.panel);
	p.c = w.want;
	tt_product_plain_f64(&p, w.panel);
	cr_expect_arr_eq(w.c, w.want, N * N * sizeof *w.want);
	memcpy(w.want, w.c32, N * N * sizeof *w.c32);
	tt_product_f32(&q, w.panel32);
	q.c = (float *)w.want;
	tt_product_plain_f32(&q, w.panel32);
	cr_expect_arr_eq(w.c32, w.want, N * N * sizeof *w.c32);
	world_free(&w);
}

/* 2 on the diagonal and -1 beside it: value k is 2 - 2 cos(k pi / (n + 1)), its vector sin(k pi i / (n + 1)). */
Test(train_eigen, knows_the_vibrating_string)
{
	enum { N = 61 };
	const double pi = acos(-1);
	static double a[N * N], values[N], vectors[N * N];
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			a[i * N + j] = i == j ? 2 : -(double)(abs(i - j) == 1);
	must(tt_eigen(a, N, values, vectors, err));
	for (int k = 0; k < N; k++) {
		double inner = 0, angle = (N - k) * pi / (N + 1);
		cr_expect(fabs(values[k] - (2 - 2 * cos(angle))) <= 1e-14 * N, "value %d is %.17g", k, values[k]);
		for (int i = 0; i < N; i++)
			inner += vectors[k * N + i] * sin(angle * (i + 1)) * sqrt(2.0 / (N + 1));
		cr_expect(fabs(fabs(inner) - 1) <= 1e-12, "vector %d: %.17g", k, inner);
	}
}

/* The equations themselves, for full matrices, some with equal values, some of low rank. */
Test(train_eigen, solves_its_equations)
{
	enum { N = 40 };
	static double a[N * N], copy[N * N], values[N], vectors[N * N], g[N * N];
	uint64_t random = 3;
	for (int rank = 0; rank <= N; rank += 8) {
		for (int i = 0; i < N * N; i++)
			g[i] = number(&random);
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				a[i * N + j] = i == j ? 3 : 0;
				for (int k = 0; k < rank; k++)
					a[i * N + j] += g[i * N + k] * g[j * N + k];
			}
		memcpy(copy, a, sizeof a);
		must(tt_eigen(a, N, values, vectors, err));
		for (int k = 0; k < N; k++) {
			cr_assert(k == 0 || values[k] <= values[k - 1]);
			for (int i = 0; i < N; i++) {
				double image = 0, inner = 0;
				for (int j = 0; j < N; j++) {
					image += copy[i * N + j] * vectors[k * N + j];
					inner += vectors[i * N + j] * vectors[k * N + j];
				}
				cr_assert(fabs(image - values[k] * vectors[k * N + i]) <= 1e-13 * values[0],
					"rank %d, vector %d", rank, k);
				cr_assert(fabs(inner - (i == k)) <= 1e-13, "rank %d: vectors %d and %d", rank, i, k);
			}
		}
	}
}

Test(train_eigen, ends_on_numbers_that_are_not_finite)
{
	double a[9] = {1, NAN, 2, NAN, 1, 3, 2, 3, 1}, values[3], vectors[9];
	struct tt_error err = {0};
	cr_expect_eq(tt_eigen(a, 3, values, vectors, &err), TT_ERR_FORMAT);
	cr_expect(*err.message);
}

Test(train_cholesky, solves_its_equations)
{
	enum { N = 150 }; /* more than a block */
	static double a[N * N], l[N * N], x[N];
	double *panel = NULL;
	uint64_t random = 4;
	struct tt_error failure = {0};
	must(tt_alloc_aligned(&panel, TT_PRODUCT_PANEL, sizeof *panel, err));
	for (int i = 0; i < N; i++) {
		for (int j = 0; j < i; j++)
			a[i * N + j] = a[j * N + i] = number(&random);
		a[i * N + i] = N; /* more than the rest of its row together */
		x[i] = number(&random);
	}
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			l[i * N + j] = j <= i ? a[i * N + j] : (double)NAN;
	double right[N];
	memcpy(right, x, sizeof right);
	must(tt_cholesky(l, N, panel, err));
	tt_cholesky_solve(l, N, x);
	for (int i = 0; i < N; i++) {
		double sum = 0;
		for (int j = 0; j < N; j++)
			sum += a[i * N + j] * x[j];
		cr_assert(fabs(sum - right[i]) <= 1e-13, "row %d: %g", i, sum - right[i]);
	}
	memcpy(l, a, sizeof l);
	l[140 * N + 140] = -1;
	cr_expect_eq(tt_cholesky(l, N, panel, &failure), TT_ERR_FORMAT);
	cr_expect(*failure.message);
	free(panel);
}
