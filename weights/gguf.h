/* GGUF version 3 (and 2, which reads the same): a checked reader over a mapping. Every count, length and offset
 * is checked against the file before it is used or allocated for. */
#ifndef WEIGHTS_GGUF_H
#define WEIGHTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"

enum tt_gguf_kind {
	TT_GGUF_U8,
	TT_GGUF_I8,
	TT_GGUF_U16,
	TT_GGUF_I16,
	TT_GGUF_U32,
	TT_GGUF_I32,
	TT_GGUF_F32,
	TT_GGUF_BOOL,
	TT_GGUF_STRING,
	TT_GGUF_ARRAY,
	TT_GGUF_U64,
	TT_GGUF_I64,
	TT_GGUF_F64,
};

struct tt_gguf_string {
	const char *data; /* not terminated; points into the mapping */
	size_t len;
};

/* A key and where its value is. Arrays of arrays are refused. */
struct tt_gguf_value {
	struct tt_gguf_string key;
	enum tt_gguf_kind kind;
	enum tt_gguf_kind element; /* of an array's elements */
	uint64_t count;            /* elements of an array, else 1 */
	const uint8_t *data;       /* points into the mapping */
	size_t n_bytes;
};

struct tt_gguf_tensor {
	char name[65]; /* terminated */
	uint32_t type; /* GGUF's id; if tt_type_in_gguf refuses it, data is NULL and n_bytes is 0 */
	uint32_t n_dims;
	uint64_t shape[4]; /* row-major, outermost first: the reverse of the order in the file */
	const void *data;
	size_t n_bytes;
};

struct tt_gguf {
	struct tt_mapping mapping;
	uint32_t version;
	struct tt_gguf_value *values; /* in file order */
	size_t n_values;
	struct tt_gguf_tensor *tensors; /* in file order */
	size_t n_tensors;
	/* Sorted indices for look-up; private. */
	uint32_t *value_order, *tensor_order;
};

int tt_gguf_open(struct tt_gguf **out, const char *path, struct tt_error *err);
void tt_gguf_close(struct tt_gguf *file); /* NULL is fine */

/* NULL when absent. */
const struct tt_gguf_value *tt_gguf_find(const struct tt_gguf *file, const char *key);
const struct tt_gguf_tensor *tt_gguf_tensor(const struct tt_gguf *file, const char *name);

/* Scalars: an absent key leaves *out as it was; a wrong kind or a value out of range is TT_ERR_FORMAT, naming the key.
 * The unsigned readers take any integer kind. */
int tt_gguf_u32(
	const struct tt_gguf *file, const char *key, uint32_t min, uint32_t max, uint32_t *out, struct tt_error *err);
int tt_gguf_float(const struct tt_gguf *file, const char *key, float *out, struct tt_error *err);
int tt_gguf_bool(const struct tt_gguf *file, const char *key, bool *out, struct tt_error *err);
int tt_gguf_text(const struct tt_gguf *file, const char *key, struct tt_gguf_string *out, struct tt_error *err);

/* An array of strings, read in order: start with *cursor = value->data and call count times. */
struct tt_gguf_string tt_gguf_next_string(const uint8_t **cursor);
/* Element i of a numeric array as a double (exact for the kinds that tokenizers use). */
double tt_gguf_number(const struct tt_gguf_value *value, uint64_t i);

#endif
