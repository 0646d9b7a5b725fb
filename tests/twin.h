/* How outputs of the CUDA kernels, their CPU twin (the bf16 body) and references in double are held against each other.
 * C, and C++ for the emulator's tests. */
#ifndef TESTS_TWIN_H
#define TESTS_TWIN_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* f32 outputs: relative error in the Frobenius norm. Sums of some hundred products in another order differ by some
 * 1e-7; a bf16 rounding at another place, or a missing one, makes 1e-3. */
static const double TWIN_F32 = 1e-5;

/* bf16 outputs: how many may be the neighbour of what they should be, and what may differ near zero, where a unit in
 * the last place is less than the sums' own error, as a part of the root mean square. */
struct twin_bound {
	double flips, near_zero;
};

/* Another order of f32 sums moves 1e-7 of 2^-8 over the middle between two neighbours, with room for small results of
 * large terms. */
static const struct twin_bound TWIN_BF16 = {1e-3, 1e-6};

static inline float twin_bf16_value(uint16_t bits)
{
	uint32_t word = (uint32_t)bits << 16;
	float value;
	memcpy(&value, &word, sizeof value);
	return value;
}

/* Nearest, ties to even. */
static inline uint16_t twin_bf16(float value)
{
	uint32_t word;
	memcpy(&word, &value, sizeof word);
	return (uint16_t)(isnan(value) ? 0x7fc0 : (word + 0x7fff + (word >> 16 & 1)) >> 16);
}

/* gpu-suites keep how near to its bound a check came, and of one that fails all that differs. */
#ifndef TT_SUITE_VALUES
#define tt_suite_measure(what, value, bound) ((void)(what))
#define tt_suite_values(what, got, want, n, near) ((void)(what), (void)(near))
#endif

/* Root mean square. */
static inline double twin_size(const double *x, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	return sqrt(sum / (double)(n ? n : 1));
}

/* got or halves. */
static inline void twin_keep(const char *what, const float *got, const uint16_t *halves, const double *want, size_t n)
{
	double *numbers = (double *)malloc((n ? n : 1) * sizeof *numbers), near = got ? TWIN_F32 : 0x1p-8;
	near *= twin_size(want, n);
	for (size_t i = 0; numbers && i < n; i++)
		numbers[i] = got ? (double)got[i] : (double)twin_bf16_value(halves[i]);
	if (numbers)
		tt_suite_values(what, numbers, want, n, near);
	free(numbers);
}

static inline void twin_check_f32(const char *what, const float *got, const double *want, size_t n)
{
	double difference = 0, size = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)got[i] - want[i];
		difference += d * d;
		size += want[i] * want[i];
	}
	double error = sqrt(difference / (size > 0 ? size : 1));
	tt_suite_measure(what, error, TWIN_F32);
	if (!(error <= TWIN_F32)) /* true for NaN */
		twin_keep(what, got, NULL, want, n);
	cr_assert(error <= TWIN_F32, "%s: relative error %g", what, error);
}

/* want may be rounded to bf16 or not. */
static inline void twin_check_bf16(
	const char *what, const uint16_t *got, const double *want, size_t n, struct twin_bound bound)
{
	size_t flips = 0, allowed = (size_t)(bound.flips * (double)n) + 1, wrong = n;
	double small = bound.near_zero * twin_size(want, n);
	for (size_t i = 0; i < n; i++) {
		double is = (double)twin_bf16_value(got[i]),
		       rounded = (double)twin_bf16_value(twin_bf16((float)want[i]));
		double unit = rounded != 0 ? ldexp(1, ilogb(rounded) - 7) : 0;
		flips += !(is == rounded);
		if (wrong == n && !(fabs(is - rounded) <= fmax(unit, small)))
			wrong = i;
	}
	tt_suite_measure(what, (double)flips / (double)(n ? n : 1), bound.flips);
	if (wrong < n || flips > allowed)
		twin_keep(what, NULL, got, want, n);
	cr_assert(wrong == n, "%s: element %zu is %.9g, not %.9g", what, wrong, (double)twin_bf16_value(got[wrong % n]),
		want[wrong % n]);
	cr_assert(flips <= allowed, "%s: %zu of %zu differ", what, flips, n);
}

#endif
