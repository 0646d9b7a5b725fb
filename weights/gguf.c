#include "weights/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "weights/quant.h"

enum {
	MAX_KEY = 65535,
	MAX_NAME = 64,
	MAX_ALIGNMENT = 1 << 20,
	/* The fewest bytes that one entry takes in the file: with these, a count is checked against the file's size
	 * before anything is allocated for it. */
	MIN_VALUE_BYTES = 8 + 1 + 4 + 1,
	MIN_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8,
};

static const struct {
	const char *name;
	size_t bytes; /* of one element; 0 for kinds without a fixed size */
} KINDS[] = {
	[TT_GGUF_U8] = {"u8", 1},
	[TT_GGUF_I8] = {"i8", 1},
	[TT_GGUF_U16] = {"u16", 2},
	[TT_GGUF_I16] = {"i16", 2},
	[TT_GGUF_U32] = {"u32", 4},
	[TT_GGUF_I32] = {"i32", 4},
	[TT_GGUF_F32] = {"f32", 4},
	[TT_GGUF_BOOL] = {"bool", 1},
	[TT_GGUF_STRING] = {"string", 0},
	[TT_GGUF_ARRAY] = {"array", 0},
	[TT_GGUF_U64] = {"u64", 8},
	[TT_GGUF_I64] = {"i64", 8},
	[TT_GGUF_F64] = {"f64", 8},
};

enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

/* A position in the file. Everything is read through take(), which checks the length against what is left. */
struct cursor {
	const uint8_t *data;
	size_t left;
};

static bool take(struct cursor *c, uint64_t n, const uint8_t **out)
{
	if (n > c->left)
		return false;
	*out = c->data;
	c->data += n;
	c->left -= (size_t)n;
	return true;
}

static bool take_u32(struct cursor *c, uint32_t *out)
{
	const uint8_t *p;
	if (!take(c, sizeof *out, &p))
		return false;
	memcpy(out, p, sizeof *out);
	return true;
}

static bool take_u64(struct cursor *c, uint64_t *out)
{
	const uint8_t *p;
	if (!take(c, sizeof *out, &p))
		return false;
	memcpy(out, p, sizeof *out);
	return true;
}

static bool take_string(struct cursor *c, struct tt_gguf_string *out)
{
	uint64_t len;
	const uint8_t *p;
	if (!take_u64(c, &len) || !take(c, len, &p))
		return false;
	*out = (struct tt_gguf_string){(const char *)p, (size_t)len};
	return true;
}

static int cut(struct tt_error *err, const char *what, size_t index)
{
	return tt_fail(err, TT_ERR_FORMAT, "%s %zu runs past the end of the file", what, index);
}

/* How many bytes of a name a message shows: it is not terminated in the file, and may be long. */
static int shown(struct tt_gguf_string s)
{
	return s.len < 100 ? (int)s.len : 100;
}

static int check_bools(struct tt_gguf_string key, const uint8_t *data, uint64_t n, struct tt_error *err)
{
	for (uint64_t i = 0; i < n; i++)
		if (data[i] > 1)
			return tt_fail(err, TT_ERR_FORMAT, "key %.*s: a bool is %u, not 0 or 1", shown(key), key.data,
				data[i]);
	return TT_OK;
}

/* Skips count elements of one kind. */
static int skip_elements(
	struct cursor *c, struct tt_gguf_string key, enum tt_gguf_kind kind, uint64_t count, struct tt_error *err)
{
	const uint8_t *data;
	bool fits = true;
	if (kind == TT_GGUF_STRING) {
		struct tt_gguf_string ignored;
		for (uint64_t i = 0; i < count && fits; i++)
			fits = take_string(c, &ignored);
	} else {
		size_t bytes;
		fits = count <= c->left && tt_mul_size((size_t)count, KINDS[kind].bytes, &bytes) &&
		       take(c, bytes, &data);
	}
	if (!fits)
		return tt_fail(err, TT_ERR_FORMAT, "key %.*s: its value (%llu of %s) runs past the end of the file",
			shown(key), key.data, (unsigned long long)count, KINDS[kind].name);
	return kind == TT_GGUF_BOOL ? check_bools(key, data, count, err) : TT_OK;
}

static int read_value(struct tt_gguf_value *out, struct cursor *c, size_t index, struct tt_error *err)
{
	uint32_t kind, element = 0;
	struct tt_gguf_string key;
	if (!take_string(c, &key))
		return cut(err, "metadata key", index);
	if (key.len == 0 || key.len > MAX_KEY || memchr(key.data, 0, key.len))
		return tt_fail(err, TT_ERR_FORMAT, "metadata key %zu has a name of %zu bytes, not 1 to %d without a 0",
			index, key.len, MAX_KEY);
	if (!take_u32(c, &kind))
		return tt_fail(
			err, TT_ERR_FORMAT, "key %.*s: its type runs past the end of the file", shown(key), key.data);
	if (kind >= N_KINDS)
		return tt_fail(err, TT_ERR_FORMAT, "key %.*s: type %u does not exist", shown(key), key.data, kind);
	*out = (struct tt_gguf_value){.key = key, .kind = (enum tt_gguf_kind)kind, .count = 1};
	if (kind == TT_GGUF_ARRAY) {
		if (!take_u32(c, &element) || !take_u64(c, &out->count))
			return tt_fail(err, TT_ERR_FORMAT, "key %.*s: its array runs past the end of the file",
				shown(key), key.data);
		if (element == TT_GGUF_ARRAY)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "key %.*s: arrays of arrays are not supported",
				shown(key), key.data);
		if (element >= N_KINDS)
			return tt_fail(err, TT_ERR_FORMAT, "key %.*s: array type %u does not exist", shown(key),
				key.data, element);
		kind = element;
	}
	out->element = (enum tt_gguf_kind)kind;
	out->data = c->data;
	TT_TRY(skip_elements(c, key, (enum tt_gguf_kind)kind, out->count, err));
	out->n_bytes = (size_t)(c->data - out->data);
	return TT_OK;
}

/* Rows are the file's first dimension and hold whole blocks; the product of all dimensions must fit. */
static int size_tensor(struct tt_gguf_tensor *t, struct tt_error *err)
{
	size_t elements = 1, bytes = 0;
	uint64_t row = t->n_dims ? t->shape[t->n_dims - 1] : 1;
	for (uint32_t i = 0; i < t->n_dims; i++) {
		if (t->shape[i] == 0)
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s: dimension %u is 0", t->name, i);
		if (t->shape[i] > SIZE_MAX || !tt_mul_size(elements, (size_t)t->shape[i], &elements))
			return tt_fail(
				err, TT_ERR_FORMAT, "tensor %s: the product of its dimensions overflows", t->name);
	}
	if (!tt_type_in_gguf(t->type))
		return TT_OK;
	enum tt_type type = (enum tt_type)t->type;
	if (row % tt_type_block(type))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: rows of %llu are not whole %s blocks of %u", t->name,
			(unsigned long long)row, tt_type_name(t->type), tt_type_block(type));
	if (!tt_mul_size(elements / tt_type_block(type), tt_type_block_bytes(type), &bytes))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: its size in bytes overflows", t->name);
	t->n_bytes = bytes;
	return TT_OK;
}

static int read_tensor(
	struct tt_gguf_tensor *out, uint64_t *offset, struct cursor *c, size_t index, struct tt_error *err)
{
	struct tt_gguf_string name;
	if (!take_string(c, &name))
		return cut(err, "tensor name", index);
	if (name.len == 0 || name.len > MAX_NAME || memchr(name.data, 0, name.len))
		return tt_fail(err, TT_ERR_FORMAT, "tensor %zu has a name of %zu bytes, not 1 to %d without a 0", index,
			name.len, MAX_NAME);
	*out = (struct tt_gguf_tensor){0};
	memcpy(out->name, name.data, name.len);
	if (!take_u32(c, &out->n_dims))
		return tt_fail(
			err, TT_ERR_FORMAT, "tensor %s: its description runs past the end of the file", out->name);
	if (out->n_dims > 4)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s: %u dimensions, at most 4 exist", out->name, out->n_dims);
	bool fits = true;
	for (uint32_t i = out->n_dims; i-- > 0;)
		fits = fits && take_u64(c, &out->shape[i]);
	if (!fits || !take_u32(c, &out->type) || !take_u64(c, offset))
		return tt_fail(
			err, TT_ERR_FORMAT, "tensor %s: its description runs past the end of the file", out->name);
	return size_tensor(out, err);
}

/* The elements of the index sort, with the name, because qsort passes nothing else to its comparison. */
struct sort_name {
	struct tt_gguf_string name;
	uint32_t index;
};

static int compare_strings(struct tt_gguf_string a, struct tt_gguf_string b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_names(const void *a, const void *b)
{
	return compare_strings(((const struct sort_name *)a)->name, ((const struct sort_name *)b)->name);
}

/* Sorts names into *order and refuses a name that is there twice. */
static int sort_names(uint32_t **order, struct sort_name *names, size_t n, const char *what, struct tt_error *err)
{
	qsort(names, n, sizeof *names, compare_names);
	for (size_t i = 1; i < n; i++)
		if (compare_names(&names[i - 1], &names[i]) == 0)
			return tt_fail(err, TT_ERR_FORMAT, "%s %.*s is there twice", what, shown(names[i].name),
				names[i].name.data);
	TT_TRY(tt_alloc(order, n, sizeof **order, err));
	for (size_t i = 0; i < n; i++)
		(*order)[i] = names[i].index;
	return TT_OK;
}

static int order_values(struct tt_gguf *file, struct tt_error *err)
{
	struct sort_name *names = NULL;
	TT_TRY(tt_alloc(&names, file->n_values, sizeof *names, err));
	for (size_t i = 0; i < file->n_values; i++)
		names[i] = (struct sort_name){file->values[i].key, (uint32_t)i};
	int status = sort_names(&file->value_order, names, file->n_values, "key", err);
	free(names);
	return status;
}

static int order_tensors(struct tt_gguf *file, struct tt_error *err)
{
	struct sort_name *names = NULL;
	TT_TRY(tt_alloc(&names, file->n_tensors, sizeof *names, err));
	for (size_t i = 0; i < file->n_tensors; i++) {
		struct tt_gguf_tensor *t = &file->tensors[i];
		names[i] = (struct sort_name){{t->name, strlen(t->name)}, (uint32_t)i};
	}
	int status = sort_names(&file->tensor_order, names, file->n_tensors, "tensor", err);
	free(names);
	return status;
}

struct span {
	uint64_t offset;
	size_t n_bytes;
	const char *name;
};

static int compare_spans(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* Checks every offset against the data section and points the tensors into it. spans[i] is tensor i's. */
static int place_tensors(
	struct tt_gguf *file, struct span *spans, struct cursor data, uint32_t alignment, struct tt_error *err)
{
	for (size_t i = 0; i < file->n_tensors; i++) {
		struct tt_gguf_tensor *t = &file->tensors[i];
		uint64_t offset = spans[i].offset;
		if (offset % alignment)
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s: offset %llu is not a multiple of alignment %u",
				t->name, (unsigned long long)offset, alignment);
		if (offset > data.left || t->n_bytes > data.left - offset)
			return tt_fail(err, TT_ERR_FORMAT,
				"tensor %s: offset %llu and %zu bytes run past the end of the file", t->name,
				(unsigned long long)offset, t->n_bytes);
		if (tt_type_in_gguf(t->type))
			t->data = data.data + offset;
		spans[i].n_bytes = t->n_bytes;
		spans[i].name = t->name;
	}
	qsort(spans, file->n_tensors, sizeof *spans, compare_spans);
	for (size_t i = 1; i < file->n_tensors; i++)
		if (spans[i].offset - spans[i - 1].offset < spans[i - 1].n_bytes)
			return tt_fail(err, TT_ERR_FORMAT, "tensors %s and %s: their offsets make them overlap",
				spans[i - 1].name, spans[i].name);
	return TT_OK;
}

static int read_tensors(struct tt_gguf *file, struct span *spans, struct cursor *c, struct tt_error *err)
{
	uint32_t alignment = 32;
	for (size_t i = 0; i < file->n_tensors; i++)
		TT_TRY(read_tensor(&file->tensors[i], &spans[i].offset, c, i, err));
	TT_TRY(order_tensors(file, err));
	TT_TRY(tt_gguf_u32(file, "general.alignment", 8, MAX_ALIGNMENT, &alignment, err));
	if (alignment % 8)
		return tt_fail(err, TT_ERR_FORMAT, "general.alignment %u is not a multiple of 8", alignment);
	size_t used = file->mapping.size - c->left, padding = (alignment - used % alignment) % alignment;
	if (file->n_tensors == 0)
		return TT_OK; /* a file of only a vocabulary or a control vector's header needs no padding at its end */
	const uint8_t *ignored;
	if (!take(c, padding, &ignored))
		return tt_fail(err, TT_ERR_FORMAT, "the padding before the tensor data runs past the end of the file");
	return place_tensors(file, spans, *c, alignment, err);
}

static int read_counts(struct tt_gguf *file, struct cursor *c, struct tt_error *err)
{
	uint64_t n_tensors, n_values;
	const uint8_t *magic;
	if (!take(c, 4, &magic) || memcmp(magic, "GGUF", 4))
		return tt_fail(err, TT_ERR_FORMAT, "not a GGUF file: the magic is missing");
	if (!take_u32(c, &file->version))
		return tt_fail(err, TT_ERR_FORMAT, "the GGUF version runs past the end of the file");
	/* The format has no flag for byte order; a small version number with its bytes reversed is the sign. */
	if ((file->version & 0xffff) == 0 && file->version)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "a big-endian GGUF file is not supported");
	if (file->version != 2 && file->version != 3)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "GGUF version %u is not supported (supported: 2, 3)", file->version);
	if (!take_u64(c, &n_tensors) || !take_u64(c, &n_values))
		return tt_fail(err, TT_ERR_FORMAT, "the tensor and key counts run past the end of the file");
	if (n_tensors > UINT32_MAX || n_tensors > c->left / MIN_TENSOR_BYTES)
		return tt_fail(err, TT_ERR_FORMAT, "tensor count %llu is more than the file can hold",
			(unsigned long long)n_tensors);
	if (n_values > UINT32_MAX || n_values > c->left / MIN_VALUE_BYTES)
		return tt_fail(err, TT_ERR_FORMAT, "metadata key count %llu is more than the file can hold",
			(unsigned long long)n_values);
	file->n_tensors = (size_t)n_tensors;
	file->n_values = (size_t)n_values;
	return TT_OK;
}

static int read_file(struct tt_gguf *file, struct tt_error *err)
{
	struct cursor c = {file->mapping.data, file->mapping.size};
	struct span *spans = NULL;
	TT_TRY(read_counts(file, &c, err));
	TT_TRY(tt_alloc(&file->values, file->n_values, sizeof *file->values, err));
	TT_TRY(tt_alloc(&file->tensors, file->n_tensors, sizeof *file->tensors, err));
	for (size_t i = 0; i < file->n_values; i++)
		TT_TRY(read_value(&file->values[i], &c, i, err));
	TT_TRY(order_values(file, err));
	TT_TRY(tt_alloc(&spans, file->n_tensors, sizeof *spans, err));
	int status = read_tensors(file, spans, &c, err);
	free(spans);
	return status;
}

int tt_gguf_open(struct tt_gguf **out, const char *path, struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	*out = NULL;
	TT_TRY(tt_alloc(&file, 1, sizeof *file, err));
	int status = tt_file_map(&file->mapping, path, err);
	if (status == TT_OK)
		status = tt_within(read_file(file, err), err, path);
	if (status != TT_OK) {
		tt_gguf_close(file);
		return status;
	}
	*out = file;
	return TT_OK;
}

void tt_gguf_close(struct tt_gguf *file)
{
	if (!file)
		return;
	free(file->values);
	free(file->tensors);
	free(file->value_order);
	free(file->tensor_order);
	tt_file_unmap(&file->mapping);
	free(file);
}

const struct tt_gguf_value *tt_gguf_find(const struct tt_gguf *file, const char *key)
{
	struct tt_gguf_string wanted = {key, strlen(key)};
	size_t low = 0, high = file->n_values;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct tt_gguf_value *value = &file->values[file->value_order[middle]];
		int order = compare_strings(wanted, value->key);
		if (order == 0)
			return value;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct tt_gguf_tensor *tt_gguf_tensor(const struct tt_gguf *file, const char *name)
{
	size_t low = 0, high = file->n_tensors;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct tt_gguf_tensor *tensor = &file->tensors[file->tensor_order[middle]];
		int order = strcmp(name, tensor->name);
		if (order == 0)
			return tensor;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
