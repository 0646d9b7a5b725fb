#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "weights/safetensors.h"
#include "weights/safetensors_types.h"

static int no_memory(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MEMORY, "safetensors: out of memory for the header");
}

static bool is_utf8(const char *text)
{
	json_error_t why = {0};
	json_decref(json_pack_ex(&why, 0, "s", text));
	return json_error_code(&why) != json_error_invalid_utf8;
}

/* text: what value was made from. jansson's setters take the reference, and fail in the same way for text that is not
 * UTF-8 and for lack of memory. */
static int set(json_t *object, const char *key, json_t *value, const char *text, struct tt_error *err)
{
	if (json_object_get(object, key)) {
		json_decref(value);
		return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: %s is there twice", key);
	}
	if (json_object_set_new(object, key, value) < 0)
		return is_utf8(key) && is_utf8(text)
			       ? no_memory(err)
			       : tt_fail(err, TT_ERR_ARGUMENT, "safetensors: %s or its value is not UTF-8", key);
	return TT_OK;
}

static int size_of(const struct tt_st_tensor *t, size_t *out, struct tt_error *err)
{
	size_t bytes = tt_dtype_bytes(t->dtype);
	if (bytes == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: tensor %s: its dtype cannot be written", t->name);
	if (t->n_dims > TT_SAFETENSORS_MAX_DIMS)
		return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: tensor %s: %u dimensions, at most %d", t->name,
			t->n_dims, TT_SAFETENSORS_MAX_DIMS);
	for (uint32_t i = 0; i < t->n_dims; i++)
		if (t->shape[i] > INT64_MAX || !tt_mul_size(bytes, (size_t)t->shape[i], &bytes))
			return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: tensor %s: its size overflows", t->name);
	*out = bytes;
	return TT_OK;
}

/* Adds a tensor's header entry and moves *offset past its data. */
static int describe(json_t *header, const struct tt_st_tensor *t, size_t *offset, struct tt_error *err)
{
	size_t bytes, end;
	if (strcmp(t->name, "__metadata__") == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: a tensor cannot be called __metadata__");
	TT_TRY(size_of(t, &bytes, err));
	if (!tt_add_size(*offset, bytes, &end) || end > INT64_MAX)
		return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: tensor %s: its offset overflows", t->name);
	json_t *shape = json_array();
	for (uint32_t i = 0; i < t->n_dims; i++)
		if (json_array_append_new(shape, json_integer((json_int_t)t->shape[i])) < 0) {
			json_decref(shape);
			return no_memory(err);
		}
	json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", tt_dtype_name(t->dtype), "shape", shape,
		"data_offsets", (json_int_t)*offset, (json_int_t)end);
	if (!entry)
		return no_memory(err);
	*offset = end;
	return set(header, t->name, entry, "", err);
}

static int build_header(json_t *header, size_t *n_data_bytes, const struct tt_st_tensor *tensors, size_t n_tensors,
	const struct tt_st_pair *metadata, size_t n_metadata, struct tt_error *err)
{
	if (n_metadata) {
		json_t *pairs = json_object();
		TT_TRY(set(header, "__metadata__", pairs, "", err));
		for (size_t i = 0; i < n_metadata; i++)
			TT_TRY(set(pairs, metadata[i].key, json_string(metadata[i].value), metadata[i].value, err));
	}
	*n_data_bytes = 0;
	for (size_t i = 0; i < n_tensors; i++)
		TT_TRY(describe(header, &tensors[i], n_data_bytes, err));
	return TT_OK;
}

/* The header's length; the header, padded with spaces to a multiple of 8 so that the data is aligned. */
static int add_header(struct tt_buffer *out, const char *header, struct tt_error *err)
{
	size_t n = strlen(header), n_spaces = (8 - n % 8) % 8;
	uint64_t length = (uint64_t)n + n_spaces;
	TT_TRY(tt_buffer_add(out, &length, sizeof length, err));
	TT_TRY(tt_buffer_add(out, header, n, err));
	return tt_buffer_add(out, "       ", n_spaces, err);
}

int tt_safetensors_header(struct tt_buffer *out, size_t *n_data_bytes, const struct tt_st_tensor *tensors,
	size_t n_tensors, const struct tt_st_pair *metadata, size_t n_metadata, struct tt_error *err)
{
	char *text = NULL;
	json_t *header = json_object();
	int status = header ? TT_OK : no_memory(err);
	if (status == TT_OK)
		status = build_header(header, n_data_bytes, tensors, n_tensors, metadata, n_metadata, err);
	if (status == TT_OK)
		status = tt_json_dump(&text, json_incref(header), JSON_COMPACT, err);
	if (status == TT_OK)
		status = add_header(out, text, err);
	free(text);
	json_decref(header);
	return status;
}

static int add_data(struct tt_buffer *file, size_t n_data_bytes, const struct tt_st_tensor *tensors, size_t n_tensors,
	struct tt_error *err)
{
	size_t total;
	if (!tt_add_size(file->len + 1, n_data_bytes, &total))
		return tt_fail(err, TT_ERR_ARGUMENT, "safetensors: the file's size overflows");
	TT_TRY(tt_grow(&file->data, &file->capacity, total, 1, err));
	for (size_t i = 0; i < n_tensors; i++) {
		size_t bytes;
		TT_TRY(size_of(&tensors[i], &bytes, err));
		TT_TRY(tt_buffer_add(file, tensors[i].data, bytes, err));
	}
	return TT_OK;
}

int tt_safetensors_write(const char *path, const struct tt_st_tensor *tensors, size_t n_tensors,
	const struct tt_st_pair *metadata, size_t n_metadata, struct tt_error *err)
{
	struct tt_buffer file = {0};
	size_t n_data_bytes;
	int status = tt_safetensors_header(&file, &n_data_bytes, tensors, n_tensors, metadata, n_metadata, err);
	if (status == TT_OK)
		status = add_data(&file, n_data_bytes, tensors, n_tensors, err);
	if (status == TT_OK)
		status = tt_file_write(path, file.data, file.len, err);
	tt_buffer_free(&file);
	return status;
}
