/* What the suites of training read from their goldens: arrays as they are in the file. */
#ifndef TESTS_TRAIN_GOLDEN_H
#define TESTS_TRAIN_GOLDEN_H

#include <stdarg.h>

#include "golden.h"

/* A tensor whose name is printed, with elements of `size` bytes, as a new array. */
__attribute__((format(printf, 4, 5))) static inline void *golden_array(
	const struct tt_safetensors *file, size_t size, size_t *n, const char *format, ...)
{
	char name[64];
	va_list list;
	va_start(list, format);
	vsnprintf(name, sizeof name, format, list);
	va_end(list);
	const struct tt_st_tensor *tensor = golden_tensor(file, name);
	cr_assert_eq(tensor->n_bytes, tensor->n_elements * size, "%s has other elements", name);
	void *out = malloc(tensor->n_bytes);
	memcpy(out, tensor->data, tensor->n_bytes);
	*n = tensor->n_elements;
	return out;
}

/* As relative_error of golden.h, in double. */
static inline double relative_error_f64(const double *got, const double *want, size_t n)
{
	double difference = 0, norm = 0;
	for (size_t i = 0; i < n; i++) {
		difference += (got[i] - want[i]) * (got[i] - want[i]);
		norm += want[i] * want[i];
	}
	return sqrt(difference / norm);
}

#endif
