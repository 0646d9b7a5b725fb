/* The matrix product against a reference in double, and its bits: over row counts, chunks, threads and bodies. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <sys/mman.h>
#include <unistd.h>

#include "test_kernels.h"

/* 8 lanes of K / 8 fused additions: about sqrt(K / 8) / 2 units of 2^-24 of the Frobenius norm, 1.5e-7 seen. */
#define TOLERANCE 5e-7

static void check_product(struct tt_backend *backend, enum tt_type type, uint32_t n_out, uint32_t n_in, uint32_t rows)
{
	struct test_matrix m = random_matrix(type, n_out, n_in, n_out * 131 + n_in);
	float *x = random_floats((size_t)rows * n_in, 1, 1), *bias = random_floats(n_out, 1, 2);
	float *h = random_floats((size_t)rows * n_out, 1, 3);
	double *want = o_proj_in_double(&m, bias, x, rows, h);
	run_o_proj(backend, &m.matrix, bias, x, rows, h);
	ASSERT_CLOSE(
		h, want, (size_t)rows * n_out, TOLERANCE, "%s %ux%u, %u rows", tt_type_name(type), n_out, n_in, rows);
	free_matrix(&m);
	free(x);
	free(bias);
	free(h);
	free(want);
}

static void check_products(enum tt_cpu_body_choice choice)
{
	static const uint32_t outs[] = {1, 3, 4, 17, 96}, ins[] = {32, 64, 576, 768, 17, 9, 1},
			      rows[] = {1, 2, 4, 7, 8, 9, 33};
	struct tt_backend *backend = open_cpu(2, choice);
	for (int t = 0; t < N_TYPES; t++)
		for (size_t o = 0; o < sizeof outs / sizeof *outs; o++)
			for (size_t i = 0; i < sizeof ins / sizeof *ins; i++)
				for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
					if (ins[i] % tt_type_block(TYPES[t]) == 0)
						check_product(backend, TYPES[t], outs[o], ins[i], rows[r]);
	backend->close(backend);
}

Test(kernels_product, equals_the_reference)
{
	check_products(TT_CPU_BODY_BEST);
}

Test(kernels_product, equals_the_reference_in_plain_c)
{
	check_products(TT_CPU_BODY_PORTABLE);
}

Test(kernels_product, dequantises_to_the_same_bits)
{
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
		for (int t = 0; t < N_TYPES; t++) {
			uint32_t n = 4096 + (tt_type_block(TYPES[t]) == 1 ? 13 : 0);
			struct test_matrix m = random_matrix(TYPES[t], 3, n, 5);
			float *got = must_alloc(n, sizeof *got);
			for (uint32_t row = 0; row < 3; row++) {
				size_t at = row * tt_type_row_bytes(TYPES[t], n);
				((struct tt_cpu *)backend)
					->body->dequantise(TYPES[t], (const uint8_t *)m.matrix.data + at, got, n);
				ASSERT_SAME_BITS(got, m.weights + (size_t)row * n, n, "%s", tt_type_name(TYPES[t]));
			}
			free(got);
			free_matrix(&m);
		}
		backend->close(backend);
	}
}

/* Every half there is, NaN aside: subnormals and infinities too. */
Test(kernels_product, turns_every_half_into_the_same_bits)
{
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
		for (uint32_t bits = 0; bits < 65536; bits += 32) {
			uint16_t halves[32], back[32];
			float got[32], want[32];
			for (uint32_t i = 0; i < 32; i++) {
				halves[i] = (uint16_t)(bits + i);
				if ((halves[i] & 0x7c00) == 0x7c00)
					halves[i] &= 0xfc00;
			}
			((struct tt_cpu *)backend)->body->dequantise(TT_TYPE_F16, halves, got, 32);
			tt_dequantise(TT_TYPE_F16, halves, want, 32);
			ASSERT_SAME_BITS(got, want, 32, "half %x", bits);
			((struct tt_cpu *)backend)->body->to_f16(got, back, 32);
			ASSERT_SAME_BITS(back, halves, 32, "half %x and back", bits);
		}
		backend->close(backend);
	}
}

/* 256 rows at once, then in chunks of every size, over threads and bodies: the same bits for each row. */
static void check_bits(enum tt_type type, uint32_t n_out, uint32_t n_in)
{
	enum { ROWS = 256 };
	static const uint32_t chunks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 64, 256};
	struct test_matrix m = random_matrix(type, n_out, n_in, 7);
	float *x = random_floats((size_t)ROWS * n_in, 1, 8), *bias = random_floats(n_out, 1, 9);
	float *start = random_floats((size_t)ROWS * n_out, 1, 10);
	float *want = must_alloc((size_t)ROWS * n_out, sizeof *want),
	      *got = must_alloc((size_t)ROWS * n_out, sizeof *got);
	memcpy(want, start, (size_t)ROWS * n_out * sizeof *want);
	struct tt_backend *first = open_cpu(1, TT_CPU_BODY_PORTABLE);
	run_o_proj(first, &m.matrix, bias, x, ROWS, want);
	first->close(first);
	for (uint32_t threads = 0; threads <= 3; threads++) {
		if (threads == 0 && !machine_has(TT_CPU_BODY_AVX2))
			continue;
		struct tt_backend *backend =
			threads ? open_cpu(threads, TT_CPU_BODY_BEST) : open_cpu(1, TT_CPU_BODY_AVX2);
		for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
			memcpy(got, start, (size_t)ROWS * n_out * sizeof *got);
			for (uint32_t row = 0; row < ROWS; row += chunks[c]) {
				uint32_t n = ROWS - row < chunks[c] ? ROWS - row : chunks[c];
				run_o_proj(
					backend, &m.matrix, bias, x + (size_t)row * n_in, n, got + (size_t)row * n_out);
			}
			ASSERT_SAME_BITS(got, want, (size_t)ROWS * n_out, "%s %ux%u, chunks of %u, %u threads",
				tt_type_name(type), n_out, n_in, chunks[c], threads);
		}
		backend->close(backend);
	}
	free_matrix(&m);
	free(x);
	free(bias);
	free(start);
	free(want);
	free(got);
}

Test(kernels_product, bits_do_not_depend_on_rows_threads_or_body)
{
	for (int t = 0; t < N_TYPES; t++) {
		check_bits(TYPES[t], 21, tt_type_block(TYPES[t]) == 256 ? 512 : 288);
		if (tt_type_block(TYPES[t]) == 1)
			check_bits(TYPES[t], 7, 43);
	}
	check_bits(TT_TYPE_Q4_1, 37, 1536); /* 256 rows are seven blocks of rows, a job is several tiles */
}

/* A matrix wide enough that its jobs are cut differently for each number of threads. */
Test(kernels_product, bits_do_not_depend_on_how_outputs_are_cut)
{
	check_bits(TT_TYPE_Q8_0, 515, 320);
}

/* As the last matrix of a mapped file may end. */
Test(kernels_product, reads_no_byte_after_a_matrix)
{
	static const uint32_t outs[] = {1, 8, 9};
	size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = 16 * page;
	uint8_t *memory = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert(memory != MAP_FAILED && mprotect(memory + whole, page, PROT_NONE) == 0);
	struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_BEST);
	for (int t = 0; t < N_TYPES; t++)
		for (size_t o = 0; o < sizeof outs / sizeof *outs; o++) {
			uint32_t n_in = tt_type_block(TYPES[t]) == 256 ? 256 : 96;
			struct test_matrix m = random_matrix(TYPES[t], outs[o], n_in, 5);
			size_t n_bytes = outs[o] * tt_type_row_bytes(TYPES[t], n_in);
			float *x = random_floats((size_t)7 * n_in, 1, 6), h[7 * 9] = {0};
			struct tt_matrix w = m.matrix;
			w.data = memcpy(memory + whole - n_bytes, m.matrix.data, n_bytes);
			for (uint32_t rows = 1; rows <= 7; rows++)
				run_o_proj(backend, &w, NULL, x, rows, h);
			cr_expect(isfinite(h[0]));
			free(x);
			free_matrix(&m);
		}
	backend->close(backend);
	munmap(memory, whole + page);
}

Test(kernels_product, nan_fails_the_comparison)
{
	float got[2] = {1, NAN};
	double want[2] = {1, 1};
	cr_assert_not(relative_error(got, want, 2) <= 1e30);
}
