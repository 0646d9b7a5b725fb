/* Number types against numpy, torch and gguf-py. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"
#include "weights/quant.h"
#include "weights/safetensors.h"
#include "weights_files.h"

static struct tt_safetensors *open_golden(const char *name)
{
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	char path[512];
	snprintf(path, sizeof path, "%s/weights/%s", TT_TEST_DATA, name);
	cr_assert_eq(tt_safetensors_open(&file, path, &err), TT_OK, "%s", err.message);
	return file;
}

static const struct tt_st_tensor *tensor(const struct tt_safetensors *file, const char *prefix, const char *name)
{
	char full[64];
	snprintf(full, sizeof full, "%s.%s", prefix, name);
	const struct tt_st_tensor *t = tt_safetensors_find(file, full);
	cr_assert_not_null(t, "%s", full);
	return t;
}

/* The same bits, or both not a number: payloads differ between processors. */
static bool same(float a, float b)
{
	return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void check_type(const struct tt_safetensors *file, enum tt_type type)
{
	const char *name = tt_type_name(type);
	const struct tt_st_tensor *raw = tensor(file, "raw", name), *want = tensor(file, "want", name);
	size_t n = want->n_elements, wrong = 0;
	cr_assert_eq(tt_type_row_bytes(type, n), raw->n_bytes, "%s", name);
	float *got = calloc(n, sizeof *got);
	/* One byte off, since nothing in a file is aligned. */
	uint8_t *shifted = malloc(raw->n_bytes + 1);
	memcpy(shifted + 1, raw->data, raw->n_bytes);
	tt_dequantise(type, shifted + 1, got, n);
	for (size_t i = 0; i < n; i++)
		wrong += !same(got[i], tt_st_float(want, i));
	cr_expect_eq(wrong, 0, "%s: %zu of %zu differ", name, wrong, n);
	free(shifted);
	free(got);
}

Test(quant, dequantises_every_type_to_the_bits_of_gguf_py)
{
	static const enum tt_type TYPES[] = {TT_TYPE_F32, TT_TYPE_F16, TT_TYPE_BF16, TT_TYPE_Q4_0, TT_TYPE_Q4_1,
		TT_TYPE_Q5_0, TT_TYPE_Q5_1, TT_TYPE_Q8_0, TT_TYPE_Q4_K, TT_TYPE_Q5_K, TT_TYPE_Q6_K, TT_TYPE_IQ4_NL};
	struct tt_safetensors *file = open_golden("numbers.safetensors");
	for (size_t k = 0; k < sizeof TYPES / sizeof *TYPES; k++)
		check_type(file, TYPES[k]);
	tt_safetensors_close(file);
}

Test(quant, dequantises_f8_e4m3_to_the_bits_of_torch)
{
	struct tt_safetensors *file = open_golden("fp8.safetensors");
	check_type(file, TT_TYPE_F8_E4M3);
	tt_safetensors_close(file);
}

Test(quant, every_half_becomes_numpys_float)
{
	static float values[65536];
	char digest[65], path[512];
	const char *want = NULL;
	struct tt_error err = {0};
	json_t *expected = NULL;
	const uint32_t quiet = 0x7fc00000;
	for (uint32_t i = 0; i < 65536; i++) {
		values[i] = tt_f16_to_f32((uint16_t)i);
		if (isnan(values[i]))
			memcpy(&values[i], &quiet, sizeof quiet);
	}
	snprintf(path, sizeof path, "%s/weights/expected.json", TT_TEST_DATA);
	cr_assert_eq(tt_json_load(&expected, path, 1 << 16, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_json_string(expected, "all_halves", &want, &err), TT_OK);
	cr_assert_eq(tt_sha256(digest, values, sizeof values, &err), TT_OK);
	cr_expect_str_eq(digest, want);
	json_decref(expected);
}

Test(quant, rounds_floats_as_numpy_and_torch_do)
{
	struct tt_safetensors *file = open_golden("numbers.safetensors");
	const struct tt_st_tensor *from = tensor(file, "round", "f32");
	const struct tt_st_tensor *half = tensor(file, "round", "f16"), *brain = tensor(file, "round", "bf16");
	size_t wrong = 0, wrong_brain = 0;
	for (uint64_t i = 0; i < from->n_elements; i++) {
		float value = tt_st_float(from, i);
		wrong += !same(tt_f16_to_f32(tt_f32_to_f16(value)), tt_st_float(half, i));
		wrong_brain += !same(tt_bf16_to_f32(tt_f32_to_bf16(value)), tt_st_float(brain, i));
	}
	cr_expect_eq(wrong, 0, "%zu of %llu halves differ", wrong, (unsigned long long)from->n_elements);
	cr_expect_eq(wrong_brain, 0, "%zu bfloat16 differ", wrong_brain);
	tt_safetensors_close(file);
}

Test(quant, every_half_and_bfloat16_survives_the_way_to_float_and_back)
{
	for (uint32_t i = 0; i < 65536; i++) {
		uint16_t bits = (uint16_t)i;
		float half = tt_f16_to_f32(bits), brain = tt_bf16_to_f32(bits);
		cr_assert(
			isnan(half) ? isnan(tt_f16_to_f32(tt_f32_to_f16(half))) : tt_f32_to_f16(half) == bits, "%u", i);
		cr_assert(isnan(brain) ? isnan(tt_bf16_to_f32(tt_f32_to_bf16(brain))) : tt_f32_to_bf16(brain) == bits,
			"%u", i);
	}
}

Test(quant, a_nan_whose_payload_rounds_away_stays_one)
{
	const uint32_t bits[] = {0x7f800001, 0xff800001, 0x7fffffff};
	for (int i = 0; i < 3; i++) {
		float value;
		memcpy(&value, &bits[i], sizeof value);
		cr_expect(isnan(tt_bf16_to_f32(tt_f32_to_bf16(value))), "%08x", bits[i]);
		cr_expect(isnan(tt_f16_to_f32(tt_f32_to_f16(value))), "%08x", bits[i]);
	}
}

Test(quant, knows_its_types_and_no_others)
{
	cr_expect(tt_type_known(2) && tt_type_known(14) && tt_type_known(30));
	cr_expect(!tt_type_known(10) && !tt_type_known(11) && !tt_type_known(15) && !tt_type_known(0xffffffff));
	cr_expect(tt_type_known(TT_TYPE_F8_E4M3) && !tt_type_in_gguf(TT_TYPE_F8_E4M3) && tt_type_in_gguf(2));
	cr_expect_str_eq(tt_type_name(TT_TYPE_Q4_1), "Q4_1");
	cr_expect_str_eq(tt_type_name(TT_TYPE_Q6_K), "Q6_K");
	cr_expect_str_eq(tt_type_name(10), "?");
	cr_expect_str_eq(tt_gguf_type_name(TT_TYPE_IQ4_NL), "IQ4_NL");
	cr_expect_str_eq(tt_gguf_type_name(TT_TYPE_F8_E4M3), "?");
	cr_expect_eq(tt_type_row_bytes(TT_TYPE_Q4_1, 576), 576 / 32 * 20);
	cr_expect_eq(tt_type_row_bytes(TT_TYPE_Q6_K, 512), 2 * 210);
	cr_expect_eq(tt_type_row_bytes(TT_TYPE_BF16, 3), 6);
}
