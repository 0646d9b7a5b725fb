#include "weights/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "weights/quant.h"
#include "weights/safetensors_types.h"

/* The format allows a header of 100 MB. It is parsed into a tree here, some twenty times its size, so a longer one
 * is refused: a model of 100,000 tensors needs 12 MiB. */
enum { MAX_FORMAT_HEADER = 100000000, MAX_HEADER = 32 << 20 };

static const struct {
	const char *name;
	enum tt_dtype dtype;
	uint32_t bits;
} DTYPES[] = {
	{"F32", TT_DTYPE_F32, 32},
	{"F16", TT_DTYPE_F16, 16},
	{"BF16", TT_DTYPE_BF16, 16},
	{"I32", TT_DTYPE_I32, 32},
	{"I64", TT_DTYPE_I64, 64},
	{"U8", TT_DTYPE_U8, 8},
	{"BOOL", TT_DTYPE_OTHER, 8},
	{"I8", TT_DTYPE_OTHER, 8},
	{"I16", TT_DTYPE_OTHER, 16},
	{"U16", TT_DTYPE_OTHER, 16},
	{"U32", TT_DTYPE_OTHER, 32},
	{"U64", TT_DTYPE_OTHER, 64},
	{"F64", TT_DTYPE_OTHER, 64},
	{"C64", TT_DTYPE_OTHER, 64},
	{"F8_E4M3", TT_DTYPE_F8_E4M3, 8},
	{"F8_E5M2", TT_DTYPE_OTHER, 8},
	{"F8_E8M0", TT_DTYPE_OTHER, 8},
	{"F8_E4M3FNUZ", TT_DTYPE_OTHER, 8},
	{"F8_E5M2FNUZ", TT_DTYPE_OTHER, 8},
	{"F6_E2M3", TT_DTYPE_OTHER, 6},
	{"F6_E3M2", TT_DTYPE_OTHER, 6},
	{"F4", TT_DTYPE_OTHER, 4},
};

enum { N_DTYPES = sizeof DTYPES / sizeof *DTYPES };

const char *tt_dtype_name(enum tt_dtype dtype)
{
	for (size_t i = 0; i < N_DTYPES && dtype != TT_DTYPE_OTHER; i++)
		if (DTYPES[i].dtype == dtype)
			return DTYPES[i].name;
	return "?";
}

uint32_t tt_dtype_bytes(enum tt_dtype dtype)
{
	for (size_t i = 0; i < N_DTYPES && dtype != TT_DTYPE_OTHER; i++)
		if (DTYPES[i].dtype == dtype)
			return DTYPES[i].bits / 8;
	return 0;
}

/* A tensor while the header is read, with the range that its data is said to have. */
struct entry {
	struct tt_st_tensor tensor;
	uint64_t begin, end;
};

static int read_dtype(struct tt_st_tensor *t, const json_t *value, uint32_t *bits, struct tt_error *err)
{
	const char *name = json_string_value(value);
	if (!name)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: dtype is not a string", t->name);
	for (size_t i = 0; i < N_DTYPES; i++)
		if (strcmp(DTYPES[i].name, name) == 0) {
			t->dtype = DTYPES[i].dtype;
			*bits = DTYPES[i].bits;
			return TT_OK;
		}
	return tt_fail(err, TT_ERR_FORMAT, "tensor %s: dtype %s does not exist", t->name, name);
}

static int read_shape(struct tt_st_tensor *t, const json_t *value, struct tt_error *err)
{
	size_t n = json_array_size(value);
	if (!json_is_array(value))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: shape is not a list", t->name);
	if (n > TT_SAFETENSORS_MAX_DIMS)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "tensor %s: shape has %zu dimensions, at most %d are supported",
			t->name, n, TT_SAFETENSORS_MAX_DIMS);
	t->n_dims = (uint32_t)n;
	t->n_elements = 1;
	for (size_t i = 0; i < n; i++) {
		const json_t *dim = json_array_get(value, i);
		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return tt_fail(
				err, TT_ERR_FORMAT, "tensor %s: shape holds something that is not a count", t->name);
		t->shape[i] = (uint64_t)json_integer_value(dim);
		if (__builtin_mul_overflow(t->n_elements, t->shape[i], &t->n_elements))
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s: the product of its shape overflows", t->name);
	}
	return TT_OK;
}

static int read_offsets(struct entry *e, const json_t *value, struct tt_error *err)
{
	const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
	if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
		json_integer_value(begin) < 0 || json_integer_value(end) < 0)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: data_offsets is not two counts", e->tensor.name);
	e->begin = (uint64_t)json_integer_value(begin);
	e->end = (uint64_t)json_integer_value(end);
	return TT_OK;
}

/* Computes the shape's bytes, which data_offsets must span. */
static int check_size(struct entry *e, uint32_t bits, struct tt_error *err)
{
	struct tt_st_tensor *t = &e->tensor;
	uint64_t total;
	if (e->end < e->begin)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: data_offsets end before they begin", t->name);
	if (__builtin_mul_overflow(t->n_elements, (uint64_t)bits, &total))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: the product of its shape overflows", t->name);
	if (total % 8)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: its shape is not a whole number of bytes", t->name);
	if (e->end - e->begin != total / 8)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: data_offsets span %llu bytes, its shape needs %llu",
			t->name, (unsigned long long)(e->end - e->begin), (unsigned long long)(total / 8));
	t->n_bytes = (size_t)(total / 8);
	return TT_OK;
}

static int read_entry(struct entry *e, const json_t *value, struct tt_error *err)
{
	uint32_t bits = 0;
	if (!json_is_object(value))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: its entry is not an object", e->tensor.name);
	TT_TRY(read_dtype(&e->tensor, json_object_get(value, "dtype"), &bits, err));
	TT_TRY(read_shape(&e->tensor, json_object_get(value, "shape"), err));
	TT_TRY(read_offsets(e, json_object_get(value, "data_offsets"), err));
	if (json_object_size(value) != 3)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: its entry holds more than dtype, shape and data_offsets",
			e->tensor.name);
	return check_size(e, bits, err);
}

static int compare_offsets(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return (x->end > y->end) - (x->end < y->end);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct tt_st_tensor *)a)->name, ((const struct tt_st_tensor *)b)->name);
}

/* The data of all tensors must be contiguous from 0 to the end of the file. */
static int place_entries(
	struct entry *entries, size_t n, const uint8_t *data, uint64_t n_data_bytes, struct tt_error *err)
{
	uint64_t expected = 0;
	qsort(entries, n, sizeof *entries, compare_offsets);
	for (size_t i = 0; i < n; i++) {
		struct entry *e = &entries[i];
		if (e->begin != expected)
			return tt_fail(err, TT_ERR_FORMAT,
				"tensor %s: data_offsets begin at %llu, the data before it ends at %llu",
				e->tensor.name, (unsigned long long)e->begin, (unsigned long long)expected);
		if (e->end > n_data_bytes)
			return tt_fail(err, TT_ERR_FORMAT,
				"tensor %s: data_offsets end at %llu, the file's data at %llu", e->tensor.name,
				(unsigned long long)e->end, (unsigned long long)n_data_bytes);
		e->tensor.data = data + e->begin;
		expected = e->end;
	}
	if (expected != n_data_bytes)
		return tt_fail(err, TT_ERR_FORMAT, "the tensors' data_offsets end at %llu, the file's data at %llu",
			(unsigned long long)expected, (unsigned long long)n_data_bytes);
	return TT_OK;
}

/* Copies a string and its 0 to the memory that own_strings made. */
static const char *own(char **room, const char *text)
{
	size_t n = strlen(text) + 1;
	char *copy = memcpy(*room, text, n);
	*room += n;
	return copy;
}

static int read_metadata(struct tt_safetensors *file, json_t *metadata, char **room, struct tt_error *err)
{
	const char *key;
	json_t *value;
	TT_TRY(tt_alloc(&file->metadata, json_object_size(metadata), sizeof *file->metadata, err));
	json_object_foreach(metadata, key, value) file->metadata[file->n_metadata++] =
		(struct tt_st_pair){own(room, key), own(room, json_string_value(value))};
	return TT_OK;
}

/* Allocates memory for every name, key and value of the header, and checks those that must be strings. */
static int own_strings(struct tt_safetensors *file, json_t *header, struct tt_error *err)
{
	size_t bytes = 0;
	const char *key;
	json_t *value, *metadata = json_object_get(header, "__metadata__");
	if (metadata && !json_is_object(metadata))
		return tt_fail(err, TT_ERR_FORMAT, "__metadata__ is not an object");
	json_object_foreach(metadata, key, value)
	{
		if (!json_is_string(value))
			return tt_fail(err, TT_ERR_FORMAT, "__metadata__: the value of %s is not a string", key);
		bytes += strlen(key) + strlen(json_string_value(value)) + 2;
	}
	json_object_foreach(header, key, value) bytes += strlen(key) + 1;
	return tt_alloc(&file->names, bytes, 1, err);
}

static int read_header(
	struct tt_safetensors *file, json_t *header, const uint8_t *data, size_t n_data_bytes, struct tt_error *err)
{
	json_t *value, *metadata = json_object_get(header, "__metadata__");
	const char *key;
	char *room;
	struct entry *entries = NULL;
	size_t n = 0;
	int status;
	TT_TRY(own_strings(file, header, err));
	room = file->names;
	TT_TRY(read_metadata(file, metadata, &room, err));
	TT_TRY(tt_alloc(&entries, json_object_size(header), sizeof *entries, err));
	status = tt_alloc(&file->tensors, json_object_size(header), sizeof *file->tensors, err);
	json_object_foreach(header, key, value)
	{
		if (status != TT_OK)
			break;
		if (value == metadata)
			continue;
		entries[n].tensor.name = own(&room, key);
		status = read_entry(&entries[n++], value, err);
	}
	if (status == TT_OK)
		status = place_entries(entries, n, data, n_data_bytes, err);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		file->tensors[file->n_tensors++] = entries[i].tensor;
	free(entries);
	if (status == TT_OK)
		qsort(file->tensors, file->n_tensors, sizeof *file->tensors, compare_names);
	return status;
}

static int read_file(struct tt_safetensors *file, struct tt_error *err)
{
	const uint8_t *bytes = file->mapping.data;
	size_t size = file->mapping.size;
	uint64_t n;
	json_t *header = NULL;
	if (size < sizeof n)
		return tt_fail(
			err, TT_ERR_FORMAT, "not a safetensors file: %zu bytes are too few for a header length", size);
	memcpy(&n, bytes, sizeof n);
	/* Of a text, say, whose first letters are no number that anybody wants to read. */
	if (n > MAX_FORMAT_HEADER && (size == sizeof n || bytes[sizeof n] != '{'))
		return tt_fail(err, TT_ERR_FORMAT, "not a safetensors file: it does not begin with a header");
	if (n > MAX_FORMAT_HEADER)
		return tt_fail(err, TT_ERR_FORMAT,
			"not a safetensors file: header length %llu is more than the format's %d",
			(unsigned long long)n, MAX_FORMAT_HEADER);
	if (n > size - sizeof n)
		return tt_fail(err, TT_ERR_FORMAT, "header length %llu runs past the end of the file (%zu bytes)",
			(unsigned long long)n, size);
	if (n > MAX_HEADER)
		return tt_fail(err, TT_ERR_LIMIT, "header length %llu is more than the %d bytes read here",
			(unsigned long long)n, MAX_HEADER);
	if (n == 0 || bytes[sizeof n] != '{')
		return tt_fail(err, TT_ERR_FORMAT, "not a safetensors file: the header does not begin with {");
	const char *text = (const char *)bytes + sizeof n;
	TT_TRY(tt_json_parse(&header, text, (size_t)n, "header", err));
	int status = read_header(file, header, bytes + sizeof n + n, size - sizeof n - (size_t)n, err);
	json_decref(header);
	return status;
}

int tt_safetensors_open(struct tt_safetensors **out, const char *path, struct tt_error *err)
{
	struct tt_safetensors *file = NULL;
	*out = NULL;
	TT_TRY(tt_alloc(&file, 1, sizeof *file, err));
	int status = tt_file_map(&file->mapping, path, err);
	if (status == TT_OK)
		status = tt_within(read_file(file, err), err, path);
	if (status != TT_OK) {
		tt_safetensors_close(file);
		return status;
	}
	*out = file;
	return TT_OK;
}

void tt_safetensors_close(struct tt_safetensors *file)
{
	if (!file)
		return;
	free(file->tensors);
	free(file->metadata);
	free(file->names);
	tt_file_unmap(&file->mapping);
	free(file);
}

const struct tt_st_tensor *tt_safetensors_find(const struct tt_safetensors *file, const char *name)
{
	struct tt_st_tensor wanted = {.name = name};
	return bsearch(&wanted, file->tensors, file->n_tensors, sizeof wanted, compare_names);
}

const char *tt_safetensors_metadata(const struct tt_safetensors *file, const char *key)
{
	for (size_t i = 0; i < file->n_metadata; i++)
		if (strcmp(file->metadata[i].key, key) == 0)
			return file->metadata[i].value;
	return NULL;
}

float tt_st_float(const struct tt_st_tensor *tensor, uint64_t i)
{
	const uint8_t *bytes = tensor->data;
	float single = 0;
	uint16_t half;
	switch (tensor->dtype) {
	case TT_DTYPE_F32:
		memcpy(&single, bytes + 4 * i, sizeof single);
		return single;
	case TT_DTYPE_F16:
		memcpy(&half, bytes + 2 * i, sizeof half);
		return tt_f16_to_f32(half);
	case TT_DTYPE_BF16:
		memcpy(&half, bytes + 2 * i, sizeof half);
		return tt_bf16_to_f32(half);
	case TT_DTYPE_F8_E4M3:
		return tt_fp8_to_f32(bytes[i]);
	default:
		return 0;
	}
}
