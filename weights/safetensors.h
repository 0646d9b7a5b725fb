/* safetensors: a checked reader over a mapping, and a writer. The order of the checks is the reference library's;
 * every length and offset is checked before it is used, and the data has no holes and no overlaps. */
#ifndef WEIGHTS_SAFETENSORS_H
#define WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"

enum { TT_SAFETENSORS_MAX_DIMS = 4 };

enum tt_dtype {
	TT_DTYPE_F32,
	TT_DTYPE_F16,
	TT_DTYPE_BF16,
	TT_DTYPE_I32,
	TT_DTYPE_I64,
	TT_DTYPE_U8,
	TT_DTYPE_F8_E4M3,
	TT_DTYPE_OTHER
};

struct tt_st_tensor {
	const char *name;
	enum tt_dtype dtype;
	uint32_t n_dims;
	uint64_t shape[TT_SAFETENSORS_MAX_DIMS]; /* row-major, outermost first */
	uint64_t n_elements;
	const void *data; /* points into the mapping (reader) or to the caller's data (writer); may be unaligned */
	size_t n_bytes;
};

struct tt_st_pair {
	const char *key, *value;
};

/* One open file. Tensors are sorted by name. Everything it points to lives until tt_safetensors_close. */
struct tt_safetensors {
	struct tt_mapping mapping;
	struct tt_st_tensor *tensors;
	size_t n_tensors;
	struct tt_st_pair *metadata;
	size_t n_metadata;
	char *names; /* owns the strings */
};

int tt_safetensors_open(struct tt_safetensors **out, const char *path, struct tt_error *err);
void tt_safetensors_close(struct tt_safetensors *file); /* NULL is fine */

/* NULL when there is none of that name. */
const struct tt_st_tensor *tt_safetensors_find(const struct tt_safetensors *file, const char *name);
const char *tt_safetensors_metadata(const struct tt_safetensors *file, const char *key);

/* Element i of an F32, F16, BF16 or F8_E4M3 tensor as f32, read byte by byte (data may be unaligned). */
float tt_st_float(const struct tt_st_tensor *tensor, uint64_t i);

/* Appends what a file begins with: all before the data, which follows in the order of the tensors. Of a tensor name,
 * dtype, n_dims and shape are read. */
int tt_safetensors_header(struct tt_buffer *out, size_t *n_data_bytes, const struct tt_st_tensor *tensors,
	size_t n_tensors, const struct tt_st_pair *metadata, size_t n_metadata, struct tt_error *err);

/* Writes the tensors in the given order and the metadata, atomically (a temporary file, fsync, rename). The fields
 * name, dtype, n_dims, shape and data of a tensor are read; n_bytes follows from them. */
int tt_safetensors_write(const char *path, const struct tt_st_tensor *tensors, size_t n_tensors,
	const struct tt_st_pair *metadata, size_t n_metadata, struct tt_error *err);

#endif
