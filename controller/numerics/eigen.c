/* Householder's reduction to a tridiagonal matrix, then the QL iteration with implicit shifts. */
#include "controller/numerics/eigen.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

enum { MAX_ITERATIONS = 60 }; /* for each value; two or three are usual */

/* A reflection I - 2 v v^T for each of the first n - 2 columns; v, of length 1 or 0, is left in the column's row, from
 * the diagonal's right on. */
static void reduce(double *a, size_t n, double *diagonal, double *beside, double *image)
{
	for (size_t k = 0; k + 1 < n; k++) {
		size_t m = n - k - 1;
		double *v = a + k * n + k + 1, *rest = a + (k + 1) * n + k + 1, norm = 0, length = 0, inner = 0;
		diagonal[k] = a[k * n + k];
		for (size_t i = 0; i < m; i++)
			norm += v[i] * v[i];
		norm = sqrt(norm);
		beside[k] = v[0] > 0 ? -norm : norm;
		v[0] -= beside[k];
		for (size_t i = 0; i < m; i++)
			length += v[i] * v[i];
		length = sqrt(length);
		for (size_t i = 0; i < m; i++) {
			v[i] = length > 0 ? v[i] / length : 0;
			image[i] = 0;
		}
		for (size_t i = 0; i < m; i++)
			for (size_t j = 0; j < m; j++)
				image[j] += v[i] * rest[i * n + j];
		for (size_t i = 0; i < m; i++)
			inner += v[i] * image[i];
		for (size_t i = 0; i < m; i++)
			image[i] = 2 * (image[i] - inner * v[i]);
		for (size_t i = 0; i < m; i++)
			for (size_t j = 0; j < m; j++)
				rest[i * n + j] -= v[i] * image[j] + image[i] * v[j];
	}
	diagonal[n - 1] = a[n * n - 1];
	beside[n - 1] = 0;
}

static void rotate(double *first, double *second, size_t n, double c, double s)
{
	for (size_t k = 0; k < n; k++) {
		double f = second[k];
		second[k] = s * first[k] + c * f;
		first[k] = c * first[k] - s * f;
	}
}

/* One QL step on rows from to last, with the shift that the first two rows give. */
static void step(double *diagonal, double *beside, double *vectors, size_t n, size_t from, size_t last)
{
	double g = (diagonal[from + 1] - diagonal[from]) / (2 * beside[from]), s = 1, c = 1, p = 0;
	g = diagonal[last] - diagonal[from] + beside[from] / (g + copysign(hypot(g, 1), g));
	for (size_t i = last; i-- > from;) {
		double f = s * beside[i], b = c * beside[i], r = hypot(f, g);
		beside[i + 1] = r;
		if (r == 0) {
			diagonal[i + 1] -= p;
			beside[last] = 0;
			return;
		}
		s = f / r;
		c = g / r;
		g = diagonal[i + 1] - p;
		r = (diagonal[i] - g) * s + 2 * c * b;
		p = s * r;
		diagonal[i + 1] = g + p;
		g = c * r - b;
		rotate(vectors + i * n, vectors + (i + 1) * n, n, c, s);
	}
	diagonal[from] -= p;
	beside[from] = g;
	beside[last] = 0;
}

static int iterate(double *diagonal, double *beside, double *vectors, size_t n, struct tt_error *err)
{
	for (size_t from = 0; from < n; from++)
		for (int k = 0;; k++) {
			size_t last = from;
			for (; last + 1 < n; last++) {
				double size = fabs(diagonal[last]) + fabs(diagonal[last + 1]);
				if (fabs(beside[last]) <= 0x1p-53 * size)
					break;
			}
			if (last == from)
				break;
			if (k == MAX_ITERATIONS)
				return tt_fail(err, TT_ERR_FORMAT, "the eigenvalues of a matrix were not found");
			step(diagonal, beside, vectors, n, from, last);
		}
	return TT_OK;
}

/* From vectors of the tridiagonal matrix to those of the matrix. */
static void reflect_back(const double *a, size_t n, double *vectors)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = n - 1; k-- > 0;) {
			const double *v = a + k * n + k + 1;
			double *e = vectors + i * n + k + 1, inner = 0;
			for (size_t j = 0; j < n - k - 1; j++)
				inner += v[j] * e[j];
			for (size_t j = 0; j < n - k - 1; j++)
				e[j] -= 2 * inner * v[j];
		}
}

static void sort(double *values, double *vectors, size_t n)
{
	for (size_t i = 0; i + 1 < n; i++) {
		size_t best = i;
		for (size_t j = i + 1; j < n; j++)
			if (values[j] > values[best])
				best = j;
		if (best == i)
			continue;
		double swap = values[i];
		values[i] = values[best];
		values[best] = swap;
		rotate(vectors + i * n, vectors + best * n, n, 0, 1);
	}
}

int tt_eigen(double *a, size_t n, double *values, double *vectors, struct tt_error *err)
{
	double *memory = NULL;
	if (!n)
		return TT_OK;
	TT_TRY(tt_alloc(&memory, n, 2 * sizeof *memory, err));
	reduce(a, n, values, memory, memory + n);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++)
			vectors[i * n + j] = i == j;
	int status = iterate(values, memory, vectors, n, err);
	free(memory);
	TT_TRY(status);
	reflect_back(a, n, vectors);
	sort(values, vectors, n);
	return TT_OK;
}
