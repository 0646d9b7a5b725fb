/* How outputs of the CUDA kernels, their CPU twin (the bf16 body) and references in double are held against each other. C, and
 * C++ for the emulator's tests. */
#ifndef TESTS_TWIN_H
#define TESTS_TWIN_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* f32 outputs: relative error in the Frobenius norm. Sums of some hundred products in another order differ by some 1e-7; a
 * bf16 rounding at another place, or a missing one, makes 1e-3. */
static const double TWIN_F32 = 1e-5;

/* bf16 outputs: what another order of f32 sums moves over the middle between two neighbours, 1e-7 of 2^-8, with room for the
 * small results of large terms. */
static const double TWIN_FLIPS = 1e-3;

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

static inline void twin_check_f32(const char *what, const float *got, const double *want, size_t n)
{
	double difference = 0, size = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)got[i] - want[i];
		difference += d * d;
		size += want[i] * want[i];
	}
	double error = sqrt(difference / (size > 0 ? size : 1));
	cr_assert(error <= TWIN_F32, "%s: relative error %g", what, error); /* false for NaN */
}

/* Near zero a unit in the last place is less than what may differ: some 1e-7 of the terms of a sum in f32; for attention, one
 * weight of some hundred rounded to its other neighbour, 2^-8 of it. As parts of the root mean square of all outputs. */
static const double TWIN_SUMS = 1e-6, TWIN_ATTENTION = 1e-3;

/* want may be rounded to bf16 or not. */
static inline void twin_check_bf16(
	const char *what, const uint16_t *got, const double *want, size_t n, double near_zero)
{
	double size = 0;
	size_t flips = 0, allowed = (size_t)(TWIN_FLIPS * (double)n) + 1;
	for (size_t i = 0; i < n; i++)
		size += want[i] * want[i];
	double small = near_zero * sqrt(size / (double)(n ? n : 1));
	for (size_t i = 0; i < n; i++) {
		double is = (double)twin_bf16_value(got[i]),
		       rounded = (double)twin_bf16_value(twin_bf16((float)want[i]));
		double unit = rounded != 0 ? ldexp(1, ilogb(rounded) - 7) : 0;
		flips += !(is == rounded);
		cr_assert(fabs(is - rounded) <= fmax(unit, small), "%s: element %zu is %.9g, not %.9g", what, i, is,
			want[i]);
	}
	cr_assert(flips <= allowed, "%s: %zu of %zu differ", what, flips, n);
}

#endif
