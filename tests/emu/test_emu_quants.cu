/* Quantised weights on the emulator: what is packed comes back with the bits of the plain dequantisation rounded to
 * bf16, and a product of them has the bits of the product of those bf16 numbers, in every kernel and for every type. */
#include "kernels/cuda/ptx/common.cuh"
#include "tests/emu/clusters.h"
#include "tests/emu/op_case.h"

#include "kernels/cuda/fast.h"
#include "kernels/cuda/quants.h"

static const enum tt_type TYPES[] = {
#define TYPE(name) TT_TYPE_##name,
	TT_QUANT_TYPES(TYPE)
#undef TYPE
};

/* 3 tiles, which fill no block of 2 or 8. */
enum { N_OUT = 48, N_TILES = N_OUT / 16, MOST_IN = 1280, MOST_TOKENS = 66 };

/* A matrix in three forms. */
struct forms {
	struct tt_matrix file, packed, rounded; /* the last two on the device */
	tt_bf16 *rows;                          // host [N_OUT][n_in] the dequantised numbers
};

/* Numbers and scales from 0 and subnormal ones to the largest; the same scale for 128 columns. */
static void random_fp8(uint8_t *data, uint32_t n_in, uint64_t *state)
{
	for (uint32_t row = 0; row < N_OUT; row++)
		for (uint32_t k = 0; k < n_in; k += 32, data += 36) {
			uint32_t bits = random_bits(state), exponent = bits % 16 ? 100 + bits / 16 % 34 : bits / 16 % 4;
			bits = bits % 97 ? exponent << 23 | (bits >> 9 & 0x7fffff) : 0;
			memcpy(data, k % 128 ? data - 36 : (uint8_t *)&bits, sizeof bits);
			for (uint32_t i = 4; i < 36; i++)
				data[i] = (data[i] & 0x7f) == 0x7f ? 0x7e : data[i];
		}
}

/* Bytes of 16 packed rows: those of the file, but of F8_E4M3 one scale for 128 columns. */
static size_t packed_bytes(enum tt_type type, uint32_t n_in)
{
	return 16 * (type == TT_TYPE_F8_E4M3 ? (n_in + 127) / 128 * 132 : tt_type_row_bytes(type, n_in));
}

/* A scale: of any sign, now and then smaller than the smallest normal half, or 0. */
static uint16_t random_half(uint64_t *state)
{
	uint32_t bits = random_bits(state), exponent = bits % 16 ? 8 + bits / 16 % 4 : 0;
	return (uint16_t)(bits % 97 ? (bits >> 31) << 15 | exponent << 10 | (bits >> 16 & 1023) : 0);
}

static uint8_t *random_blocks(enum tt_type type, uint32_t n_in, uint64_t *state)
{
	size_t n_blocks = (size_t)N_OUT * n_in / tt_type_block(type);
	size_t block = tt_type_block_bytes(type), two = 0;
	uint8_t *data = (uint8_t *)calloc(n_blocks, block);
	cr_assert(data);
	for (size_t i = 0; i < n_blocks * block; i++)
		data[i] = (uint8_t)random_bits(state);
	if (type == TT_TYPE_F8_E4M3) {
		random_fp8(data, n_in, state);
		return data;
	}
	two = type == TT_TYPE_Q4_1 || type == TT_TYPE_Q5_1 || type == TT_TYPE_Q4_K || type == TT_TYPE_Q5_K;
	for (size_t i = 0; i < n_blocks; i++)
		for (size_t k = 0; k <= two; k++) {
			uint16_t half = random_half(state);
			memcpy(data + i * block + (type == TT_TYPE_Q6_K ? 208 : 2 * k), &half, sizeof half);
		}
	return data;
}

static struct forms make_forms(enum tt_type type, uint32_t n_in, uint64_t seed)
{
	struct forms f;
	size_t row_bytes = tt_type_row_bytes(type, n_in), tile_row = tt_quant_tile_row(type, n_in);
	uint8_t *data = random_blocks(type, n_in, &seed);
	uint8_t *packed = (uint8_t *)calloc(N_TILES, tile_row);
	tt_bf16 *rounded = (tt_bf16 *)calloc(tt_packed_size(N_OUT, n_in), sizeof *rounded);
	float *row = (float *)calloc(n_in, sizeof *row);
	f.rows = (tt_bf16 *)calloc((size_t)N_OUT * n_in, sizeof *f.rows);
	cr_assert_eq(tile_row, packed_bytes(type, n_in), "%s takes more than in the file", tt_type_name(type));
	for (uint32_t i = 0; i < N_OUT; i++) {
		tt_dequantise(type, data + i * row_bytes, row, n_in);
		for (uint32_t k = 0; k < n_in; k++)
			f.rows[(size_t)i * n_in + k] = tt_f32_to_bf16(row[k]);
		tt_quant_store(type, packed + tt_quant_at(type, i, n_in), i % 16, data + i * row_bytes, n_in);
		tt_packed_store(rounded, i, f.rows + (size_t)i * n_in, n_in);
	}
	f.packed = {op_upload(packed, N_TILES * tile_row), type, N_OUT, n_in, 0};
	f.rounded = {op_upload(rounded, tt_packed_size(N_OUT, n_in)), TT_TYPE_BF16, N_OUT, n_in, 0};
	f.file = {data, type, N_OUT, n_in, 0};
	free(packed);
	free(rounded);
	free(row);
	return f;
}

static void free_forms(struct forms *f)
{
	free((void *)(uintptr_t)f->file.data);
	free(f->rows);
}

/* Zeros have no sign here: that of a zero weight is not kept. */
static bool same_number(tt_bf16 a, tt_bf16 b)
{
	return a == b || ((a | b) & 0x7fff) == 0;
}

static void check_rows(enum tt_type type, uint32_t n_in)
{
	size_t n = (size_t)N_OUT * n_in, distinct = 0;
	op_open(TT_EMU_RANDOM, n_in, 16);
	struct forms f = make_forms(type, n_in, (uint64_t)type + n_in);
	tt_bf16 *rows = op_device<tt_bf16>(n), *got = (tt_bf16 *)calloc(n, sizeof *got);
	OP_OK(tt_cuda_unpack(&op_cuda, rows, &f.packed, &op_error));
	op_download(got, rows, n);
	for (size_t i = 0; i < n; i++) {
		cr_assert(same_number(got[i], f.rows[i]), "%s: row %zu, column %zu: %04x, not %04x", tt_type_name(type),
			i / n_in, i % n_in, got[i], f.rows[i]);
		distinct += got[i] != got[0];
	}
	cr_assert_gt(distinct, n / 2);
	free(got);
	free_forms(&f);
}

Test(emu_quants, rows_are_the_dequantised_ones_rounded_once)
{
	for (enum tt_type type : TYPES) {
		check_rows(type, 256);
		check_rows(type, MOST_IN);
	}
	check_rows(TT_TYPE_F8_E4M3, 160);
}

/* o_proj's outputs. */
struct run {
	float h[MOST_TOKENS * N_OUT], squares[MOST_TOKENS * N_TILES];
	tt_bf16 x[MOST_TOKENS * N_OUT];
};

static void run_o_proj(const struct tt_matrix *w, uint32_t n_tokens, bool clusters, struct run *out)
{
	struct tt_step_plan counts = {}, *step;
	struct tt_config config = {};
	struct tt_layer layer = {};
	uint64_t state = n_tokens;
	float *ones = op_random_floats(N_OUT, 1, 5), *h = op_random_floats((size_t)n_tokens * N_OUT, 0.25f, 6);
	tt_bf16 *attention = (tt_bf16 *)calloc((size_t)n_tokens * w->n_in, sizeof *attention);
	counts.n_tokens = n_tokens;
	step = op_step(counts);
	op_begin(step, n_tokens, 0);
	op_cuda.n_sms = clusters ? 132 : 4;
	op_cuda.clusters = clusters;
	for (size_t i = 0; i < (size_t)n_tokens * w->n_in; i++)
		attention[i] = tt_f32_to_bf16(op_random_float(&state));
	op_cuda.x = op_device<tt_bf16>(n_tokens * N_OUT);
	op_cuda.squares = op_device<float>(n_tokens * N_TILES);
	layer.wo = *w;
	layer.ffn_norm = op_upload(ones, N_OUT);
	const struct tt_o_proj_args args = {&config, step, &layer, op_upload(attention, (size_t)n_tokens * w->n_in),
		op_upload(h, n_tokens * N_OUT)};
	OP_OK(tt_cuda_o_proj(&op_cuda.base, &args, &op_error));
	memset(out, 0, sizeof *out);
	op_download(out->h, args.h, n_tokens * N_OUT);
	op_download(out->x, op_cuda.x, n_tokens * N_OUT);
	op_download(out->squares, op_cuda.squares, n_tokens * N_TILES);
	free(step);
	free(ones);
	free(h);
	free(attention);
}

/* Slices that begin in the middle of a block of 256, where a slice has more chunks than a ring has stages. */
static void check_product(
	enum tt_type type, uint32_t n_in, uint32_t n_tokens, enum tt_emu_order order, bool clusters = false)
{
	static struct run got, want;
	op_open(order, n_in + n_tokens, 16);
	struct forms f = make_forms(type, n_in, (uint64_t)type * 3 + n_tokens);
	run_o_proj(&f.packed, n_tokens, clusters, &got);
	run_o_proj(&f.rounded, n_tokens, false, &want);
	cr_assert_arr_eq(&got, &want, sizeof got, "%s at %u tokens", tt_type_name(type), n_tokens);
	cr_assert_neq(got.h[0], 0);
	free_forms(&f);
}

static void check_products(uint32_t n_in, uint32_t n_tokens, enum tt_emu_order order, bool clusters = false)
{
	for (enum tt_type type : TYPES)
		check_product(type, n_in, n_tokens, order, clusters);
}

/* 5 and 35 chunks, in records of four. */
Test(emu_quants, fp8_products_have_the_bits_where_rows_end_within_a_scale)
{
	static const uint32_t rows[] = {1, 9, 50, MOST_TOKENS};
	for (uint32_t n_tokens : rows) {
		check_product(TT_TYPE_F8_E4M3, 160, n_tokens, TT_EMU_RANDOM);
		check_product(TT_TYPE_F8_E4M3, 1120, n_tokens, TT_EMU_RANDOM, device_has_clusters());
	}
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_at_1_row)
{
	check_products(256, 1, TT_EMU_FORWARD);
	check_products(MOST_IN, 1, TT_EMU_RANDOM);
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_at_9_rows)
{
	check_products(MOST_IN, 9, TT_EMU_BACKWARD);
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_at_64_rows)
{
	check_products(768, 64, TT_EMU_RANDOM);
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_in_the_wide_kernel)
{
	check_products(512, MOST_TOKENS, TT_EMU_RANDOM);
}

static void check_clusters(uint32_t n_in, uint32_t n_tokens, enum tt_emu_order order)
{
	if (!device_has_clusters())
		cr_skip_test("no clusters");
	check_products(n_in, n_tokens, order, true);
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_in_clusters_of_32_rows)
{
	check_clusters(MOST_IN, 9, TT_EMU_BACKWARD);
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_in_clusters_of_64_rows)
{
	check_clusters(768, 50, TT_EMU_RANDOM);
}

Test(emu_quants, products_have_the_bits_of_the_dequantised_matrix_in_clusters_of_128_rows)
{
	check_clusters(512, MOST_TOKENS, TT_EMU_RANDOM);
}
