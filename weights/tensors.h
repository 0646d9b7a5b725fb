/* The tensors of a model, whatever its files are: one list sorted by name, from GGUF or from safetensors shards. */
#ifndef WEIGHTS_TENSORS_H
#define WEIGHTS_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"
#include "weights/safetensors.h"

/* Types of tensors whose number type is not in enum tt_type. */
enum {
	TT_TENSOR_F8_E4M3 = 0xfffffffe, /* numbers of tt_fp8_to_f32, whose scales another tensor has: fp8.h */
	TT_TENSOR_UNREADABLE = 0xffffffff,
};

struct tt_tensor {
	const char *name;
	uint32_t type; /* enum tt_type when tt_type_known */
	uint32_t n_dims;
	uint64_t shape[4]; /* row-major, outermost first */
	const void *data;  /* points into a mapping, perhaps unaligned */
	size_t n_bytes;
	bool used; /* the model has taken it */
};

/* Names and data point into the open files, which outlive the list. */
struct tt_tensors {
	struct tt_tensor *list; /* sorted by name */
	size_t n;
	struct tt_safetensors **shards; /* owned; none for GGUF */
	size_t n_shards;
};

/* On failure too, *out must be released with tt_tensors_free. */
int tt_tensors_from_gguf(struct tt_tensors *out, const struct tt_gguf *file, struct tt_error *err);
int tt_tensors_from_directory(struct tt_tensors *out, const char *directory, struct tt_error *err);
void tt_tensors_free(struct tt_tensors *tensors);

/* NULL when absent. */
struct tt_tensor *tt_tensors_find(const struct tt_tensors *tensors, const char *name);

#endif
