/* The safetensors reader and writer: bytes worked out by hand from the format, and headers that lie. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "weights/safetensors.h"
#include "weights_files.h"

static const char *const FILES[] = {"t.safetensors"};

/* Length, header, and n_data bytes that count up. */
static struct tt_buffer build(const char *header, size_t n_data)
{
	struct tt_buffer out = {0};
	struct tt_error err = {0};
	uint64_t n = strlen(header);
	cr_assert_eq(tt_buffer_add(&out, &n, sizeof n, &err), TT_OK);
	cr_assert_eq(tt_buffer_add(&out, header, n, &err), TT_OK);
	for (size_t i = 0; i < n_data; i++) {
		uint8_t byte = (uint8_t)i;
		cr_assert_eq(tt_buffer_add(&out, &byte, 1, &err), TT_OK);
	}
	return out;
}

Test(safetensors, reads_tensors_metadata_scalars_and_empty_ones)
{
	struct scratch s;
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	struct tt_buffer bytes = build("{\"b\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[4,10]},"
				       "\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"\"},"
				       "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
				       "\"empty\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[10,10]},"
				       "\"wide\":{\"shape\":[1,1,1,1],\"data_offsets\":[10,12],\"dtype\":\"BF16\"}}   ",
		12);
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], bytes.data, bytes.len);
	cr_assert_eq(tt_safetensors_open(&file, path, &err), TT_OK, "%s", err.message);
	cr_assert_eq(file->n_tensors, 4);
	cr_expect_str_eq(file->tensors[0].name, "a");
	cr_expect_str_eq(file->tensors[3].name, "wide");
	const struct tt_st_tensor *a = tt_safetensors_find(file, "a"), *b = tt_safetensors_find(file, "b");
	cr_expect(a->n_dims == 0 && a->n_elements == 1 && a->n_bytes == 4 && a->dtype == TT_DTYPE_F32);
	cr_expect(memcmp(a->data, "\0\1\2\3", 4) == 0);
	cr_expect(b->n_dims == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->n_elements == 6);
	cr_expect(memcmp(b->data, "\4\5\6\7\10\11", 6) == 0);
	cr_expect_eq(tt_safetensors_find(file, "empty")->n_bytes, 0);
	/* 0x0b0a as bfloat16: exponent 0x16, mantissa 0x0a: 2^(22-127) * (1 + 10/128). */
	cr_expect_eq(tt_st_float(tt_safetensors_find(file, "wide"), 0), 0x1.14p-105f);
	cr_expect_null(tt_safetensors_find(file, "c"));
	cr_expect_str_eq(tt_safetensors_metadata(file, "format"), "pt");
	cr_expect_str_eq(tt_safetensors_metadata(file, "\xc3\xa9"), "");
	cr_expect_null(tt_safetensors_metadata(file, "a"));
	tt_safetensors_close(file);
	tt_buffer_free(&bytes);
	scratch_remove(&s, FILES, 1);
}

Test(safetensors, writes_the_bytes_of_the_format)
{
	static const uint8_t DATA[] = {1, 2, 3, 4, 5, 6, 7, 8};
	static const uint16_t HALVES[] = {0x3c00};
	static const struct tt_st_tensor TENSORS[] = {
		{.name = "z", .dtype = TT_DTYPE_I32, .n_dims = 2, .shape = {1, 2}, .data = DATA},
		{.name = "a\"", .dtype = TT_DTYPE_F16, .n_dims = 0, .data = HALVES},
	};
	static const struct tt_st_pair METADATA[] = {{"k", "v\n"}};
	static const char HEADER[] =
		"{\"__metadata__\":{\"k\":\"v\\n\"},\"z\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
		"\"a\\\"\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[8,10]}}";
	struct scratch s;
	struct tt_error err = {0};
	struct tt_buffer got = {0};
	size_t n = sizeof HEADER - 1, padded = (n + 7) / 8 * 8;
	uint64_t length;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "old", 3);
	cr_assert_eq(tt_safetensors_write(path, TENSORS, 2, METADATA, 1, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_file_read(&got, path, 1 << 20, &err), TT_OK);
	cr_assert_eq(got.len, 8 + padded + 10);
	memcpy(&length, got.data, 8);
	cr_expect_eq(length, padded);
	cr_expect_eq(memcmp(got.data + 8, HEADER, n), 0, "%.*s", (int)padded, got.data + 8);
	for (size_t i = n; i < padded; i++)
		cr_expect_eq(got.data[8 + i], ' ');
	cr_expect_eq(memcmp(got.data + 8 + padded, DATA, 8), 0);
	cr_expect_eq(memcmp(got.data + 8 + padded + 8, "\0\x3c", 2), 0);
	tt_buffer_free(&got);
	scratch_remove(&s, FILES, 1);
}

Test(safetensors, refuses_to_write_what_it_could_not_read_back)
{
	static const float ONE[] = {1};
	struct tt_st_tensor t[] = {
		{.name = "a", .dtype = TT_DTYPE_F32, .data = ONE}, {.name = "a", .dtype = TT_DTYPE_F32, .data = ONE}};
	struct tt_st_pair pairs[] = {{"k", "1"}, {"k", "2"}};
	struct scratch s;
	struct tt_error err = {0};
	scratch_make(&s);
	snprintf(s.path, sizeof s.path, "%s/%s", s.directory, FILES[0]);
	cr_expect_eq(tt_safetensors_write(s.path, t, 2, NULL, 0, &err), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_safetensors_write(s.path, t, 1, pairs, 2, &err), TT_ERR_ARGUMENT);
	pairs[0].value = "\xff";
	cr_expect_eq(tt_safetensors_write(s.path, t, 1, pairs, 1, &err), TT_ERR_ARGUMENT);
	t[0].dtype = TT_DTYPE_OTHER;
	cr_expect_eq(tt_safetensors_write(s.path, t, 1, NULL, 0, &err), TT_ERR_ARGUMENT);
	t[0] = (struct tt_st_tensor){.name = "a", .n_dims = 2, .shape = {1ull << 40, 1ull << 40}, .data = ONE};
	cr_expect_eq(tt_safetensors_write(s.path, t, 1, NULL, 0, &err), TT_ERR_ARGUMENT);
	t[0] = (struct tt_st_tensor){.name = "__metadata__", .data = ONE};
	cr_expect_eq(tt_safetensors_write(s.path, t, 1, NULL, 0, &err), TT_ERR_ARGUMENT);
	cr_expect(!tt_file_exists(s.path));
	scratch_remove(&s, FILES, 1);
}

#define ENTRY(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
	const char *header;
	size_t n_data;
	const char *words;
} HOSTILE[] = {
	{"", 0, "does not begin with {"},
	{" {}", 0, "does not begin with {"},
	{"[]", 0, "does not begin with {"},
	{"{", 0, "not valid JSON"},
	{"{}x", 0, "not valid JSON"},
	{"{\"\xff\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, "not valid JSON"},
	{"{\"a\\u0000\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, "not valid JSON"},
	{"{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"a\":" ENTRY("U8", "[1]", "[1,2]") "}", 2, "duplicate"},
	{"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "duplicate"},
	{"{\"__metadata__\":1}", 0, "__metadata__"},
	{"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: the value of k"},
	{"{\"__metadata__\":{\"k\":null}}", 0, "__metadata__: the value of k"},
	{"{\"a\":7}", 0, "tensor a: its entry"},
	{"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a: dtype"},
	{"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor a: shape"},
	{"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor a: data_offsets"},
	{"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, "tensor a: its entry"},
	{"{\"a\":" ENTRY("U9", "[1]", "[0,1]") "}", 1, "tensor a: dtype U9"},
	{"{\"a\":" ENTRY("U8", "1", "[0,1]") "}", 1, "tensor a: shape"},
	{"{\"a\":" ENTRY("U8", "[-1]", "[0,1]") "}", 1, "tensor a: shape"},
	{"{\"a\":" ENTRY("U8", "[1.0]", "[0,1]") "}", 1, "tensor a: shape"},
	{"{\"a\":" ENTRY("U8", "[1,1,1,1,1]", "[0,1]") "}", 1, "tensor a: shape has 5"},
	{"{\"a\":" ENTRY("U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "tensor a: the product"},
	{"{\"a\":" ENTRY("F32", "[2305843009213693952]", "[0,0]") "}", 0, "tensor a: the product"},
	{"{\"a\":" ENTRY("U8", "[99999999999999999999]", "[0,0]") "}", 0, "not valid JSON"},
	{"{\"a\":" ENTRY("F4", "[3]", "[0,1]") "}", 1, "tensor a: its shape is not a whole number"},
	{"{\"a\":" ENTRY("U8", "[1]", "[0]") "}", 1, "tensor a: data_offsets"},
	{"{\"a\":" ENTRY("U8", "[1]", "[0,1,2]") "}", 1, "tensor a: data_offsets"},
	{"{\"a\":" ENTRY("U8", "[1]", "[-1,0]") "}", 1, "tensor a: data_offsets"},
	{"{\"a\":" ENTRY("U8", "[0]", "[1,0]") "}", 1, "tensor a: data_offsets end before"},
	{"{\"a\":" ENTRY("U8", "[2]", "[0,1]") "}", 1, "tensor a: data_offsets span 1"},
	{"{\"a\":" ENTRY("U8", "[1]", "[1,2]") "}", 2, "tensor a: data_offsets begin at 1"},
	{"{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"b\":" ENTRY("U8", "[1]", "[2,3]") "}", 3, "tensor b: data_offsets"},
	{"{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[1,3]") "}", 3, "tensor b: data_offsets"},
	{"{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"b\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, "data_offsets begin at 0"},
	{"{\"a\":" ENTRY("U8", "[9223372036854775807]", "[0,9223372036854775807]") "}", 1, "the product"},
	{"{\"a\":" ENTRY("U8", "[1152921504606846976]", "[0,1152921504606846976]") "}", 1,
		"tensor a: data_offsets end"},
	{"{\"a\":" ENTRY("U8", "[2]", "[0,2]") "}", 1, "tensor a: data_offsets end at 2"},
	{"{\"a\":" ENTRY("U8", "[1]", "[0,1]") "}", 2, "data_offsets end at 1, the file's data at 2"},
	{"{}", 1, "data_offsets end at 0"},
};

Test(safetensors, refuses_hostile_headers_by_field)
{
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof HOSTILE / sizeof *HOSTILE; i++) {
		struct tt_buffer bytes = build(HOSTILE[i].header, HOSTILE[i].n_data);
		struct tt_safetensors *file = NULL;
		struct tt_error err = {0};
		const char *path = scratch_write(&s, FILES[0], bytes.data, bytes.len);
		expect_refused(tt_safetensors_open(&file, path, &err), &err, HOSTILE[i].header, path, HOSTILE[i].words);
		tt_safetensors_close(file);
		tt_buffer_free(&bytes);
	}
	scratch_remove(&s, FILES, 1);
}

Test(safetensors, refuses_lengths_that_lie)
{
	static const struct {
		uint64_t length;
		const char *words;
	} CASES[] = {{100000001, "more than the format's"}, {~0ull, "more than the format's"},
		{1ull << 63, "more than the format's"}, {100000000, "past the end of the file"},
		{3, "past the end of the file"}, {0, "does not begin with {"}, {1, "not valid JSON"}};
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
		struct tt_buffer bytes = build("{}", 0);
		struct tt_safetensors *file = NULL;
		struct tt_error err = {0};
		memcpy(bytes.data, &CASES[i].length, 8);
		const char *path = scratch_write(&s, FILES[0], bytes.data, bytes.len);
		expect_refused(tt_safetensors_open(&file, path, &err), &err, "length", path, CASES[i].words);
		tt_buffer_free(&bytes);
	}
	for (size_t n = 0; n < 8; n++) {
		struct tt_safetensors *file = NULL;
		struct tt_error err = {0};
		const char *path = scratch_write(&s, FILES[0], "\2\0\0\0\0\0\0\0", n);
		expect_refused(tt_safetensors_open(&file, path, &err), &err, "short", path, "too few");
	}
	/* Nobody wants to read the first eight letters of a text as a number. */
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	const char *path = scratch_write(&s, FILES[0], "# A title", 9);
	expect_refused(tt_safetensors_open(&file, path, &err), &err, "text", path, "does not begin with a header");
	path = scratch_write(&s, FILES[0], "# A titl", 8);
	expect_refused(tt_safetensors_open(&file, path, &err), &err, "8 letters", path, "does not begin with a header");
	scratch_remove(&s, FILES, 1);
}

Test(safetensors, a_header_of_deep_brackets_is_an_error_not_an_overflow)
{
	struct scratch s;
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	char *deep = malloc(200001);
	memset(deep, '[', 200000);
	memcpy(deep, "{\"a\":", 5);
	deep[200000] = 0;
	struct tt_buffer bytes = build(deep, 0);
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], bytes.data, bytes.len);
	expect_refused(tt_safetensors_open(&file, path, &err), &err, "deep", path, "not valid JSON");
	tt_buffer_free(&bytes);
	free(deep);
	scratch_remove(&s, FILES, 1);
}

Test(safetensors, refuses_a_file_cut_off_anywhere_and_survives_random_changes)
{
	struct scratch s;
	struct tt_buffer good = golden("tiny/model.safetensors"), bytes = golden("tiny/model.safetensors");
	uint64_t state = 2, header;
	size_t refused = 0;
	scratch_make(&s);
	memcpy(&header, good.data, 8);
	const char *path = scratch_write(&s, FILES[0], good.data, good.len);
	for (size_t n = good.len; n-- > 0;) {
		struct tt_safetensors *file = NULL;
		struct tt_error err = {0};
		cr_assert_eq(truncate(path, (off_t)n), 0);
		expect_refused(tt_safetensors_open(&file, path, &err), &err, "cut off", path, "");
	}
	for (int round = 0; round < 3000; round++) {
		struct tt_safetensors *file = NULL;
		struct tt_error err = {0};
		memcpy(bytes.data, good.data, good.len);
		/* Digits for digits keep the JSON valid, so that the checks after the parser are reached. */
		for (uint32_t i = 1 + next_random(&state) % 3; i-- > 0;) {
			size_t at = next_random(&state) % (header + 8);
			char old = bytes.data[at];
			bytes.data[at] = (char)(old >= '0' && old <= '9' ? '0' + next_random(&state) % 10
									 : next_random(&state) & 0xff);
		}
		scratch_write(&s, FILES[0], bytes.data, bytes.len);
		int status = tt_safetensors_open(&file, path, &err);
		if (status != TT_OK) {
			expect_refused(status, &err, "random change", path, "");
			refused++;
		}
		tt_safetensors_close(file);
	}
	cr_expect(refused > 1000 && refused < 3000, "%zu of 3000 refused", refused);
	tt_buffer_free(&good);
	tt_buffer_free(&bytes);
	scratch_remove(&s, FILES, 1);
}
