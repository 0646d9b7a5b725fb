/* Products with eight-bit activations: against a plain loop in double over what the definition in kernels/cpu/q8.h
 * says, and their bits over row counts, chunks, threads and bodies. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernels/cpu/q8.h"

#include <sys/mman.h>
#include <unistd.h>

#include "test_kernels.h"

/* K / 32 fused additions one after the other: about sqrt(K / 32) / 2 units of 2^-24 of the Frobenius norm. */
#define TOLERANCE 1e-6

/* Every body of q8 that this machine runs; own NULL: the one that a backend of that choice takes. */
static const struct {
	enum tt_cpu_body_choice choice;
	const struct tt_q8_body *(*own)(void);
} BODIES[] = {{TT_CPU_BODY_PORTABLE, NULL}, {TT_CPU_BODY_AVX512, NULL}, {TT_CPU_BODY_AVX2, NULL},
	{TT_CPU_BODY_AVX2, tt_q8_body_avx2}, {TT_CPU_BODY_NEON, NULL}, {TT_CPU_BODY_NEON, tt_q8_body_neon}};
enum { N_BODIES = sizeof BODIES / sizeof *BODIES };

/* NULL where the machine does not run it. */
static struct tt_backend *open_q8(uint32_t n_threads, int body)
{
	if (!machine_has(BODIES[body].choice))
		return NULL;
	struct tt_backend *backend = open_cpu(n_threads, BODIES[body].choice);
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	cpu->compute = TT_COMPUTE_Q8;
	if (BODIES[body].own)
		cpu->q8 = BODIES[body].own();
	return backend;
}

/* x as the definition sees it: d times whole numbers in every 32. */
static float *rounded_x(const float *x, size_t n)
{
	float *out = must_alloc(n, sizeof *out);
	for (size_t at = 0; at < n; at += 32) {
		float most = 0;
		for (int i = 0; i < 32; i++)
			most = fabsf(x[at + i]) > most ? fabsf(x[at + i]) : most;
		float d = most / 127;
		for (int i = 0; i < 32 && most > 0; i++)
			out[at + i] = d * rintf(x[at + i] * (127 / most)); /* rounded once more: see the tolerance */
	}
	return out;
}

/* Numbers of different sizes, as activations are, and here and there a group of zeros. */
static float *random_x(size_t n, uint64_t seed)
{
	float *x = random_floats(n, 1, seed);
	for (size_t i = 0; i < n; i++)
		x[i] *= i / 32 % 11 == 3 ? 0.0f : i % 37 == 0 ? 9.0f : 1.0f;
	return x;
}

static void check_product(struct tt_backend *backend, enum tt_type type, uint32_t n_out, uint32_t n_in, uint32_t rows)
{
	struct test_matrix m = random_matrix(type, n_out, n_in, n_out * 131 + n_in);
	float *x = random_x((size_t)rows * n_in, 1), *bias = random_floats(n_out, 1, 2);
	float *h = random_floats((size_t)rows * n_out, 1, 3), *near = rounded_x(x, (size_t)rows * n_in);
	double *want = o_proj_in_double(&m, bias, near, rows, h);
	run_o_proj(backend, &m.matrix, bias, x, rows, h);
	ASSERT_CLOSE(
		h, want, (size_t)rows * n_out, TOLERANCE, "%s %ux%u, %u rows", tt_type_name(type), n_out, n_in, rows);
	free_matrix(&m);
	free(x);
	free(near);
	free(bias);
	free(h);
	free(want);
}

Test(kernels_q8, equals_the_reference)
{
	static const uint32_t outs[] = {3, 17, 96}, ins[] = {32, 96, 256, 768}, rows[] = {1, 2, 33};
	for (int body = 0; body < N_BODIES; body++) {
		struct tt_backend *backend = open_q8(2, body);
		for (int t = 0; t < N_TYPES && backend; t++)
			for (size_t o = 0; o < sizeof outs / sizeof *outs; o++)
				for (size_t i = 0; i < sizeof ins / sizeof *ins; i++)
					if (ins[i] % tt_type_block(TYPES[t]) == 0 && tt_q8_kind(TYPES[t]))
						check_product(backend, TYPES[t], outs[o], ins[i], rows[(o + i) % 3]);
		if (backend)
			backend->close(backend);
	}
}

/* A call of run_o_proj for each chunk of rows. */
static void run_chunks(struct tt_backend *backend, const struct tt_matrix *w, const float *bias, const float *x,
	uint32_t n_rows, uint32_t chunk, float *h)
{
	for (uint32_t row = 0; row < n_rows; row += chunk)
		run_o_proj(backend, w, bias, x + (size_t)row * w->n_in, n_rows - row < chunk ? n_rows - row : chunk,
			h + (size_t)row * w->n_out);
}

/* All rows at once in plain C, then in chunks, over threads and bodies: the same bits for each row. */
static void check_bits(enum tt_type type, uint32_t n_out, uint32_t n_in, uint32_t n_rows)
{
	static const uint32_t chunks[] = {1, 2, 3, 5, 13, 64};
	struct test_matrix m = random_matrix(type, n_out, n_in, 7);
	size_t n = (size_t)n_rows * n_out;
	float *x = random_x((size_t)n_rows * n_in, 8), *bias = random_floats(n_out, 1, 9);
	float *start = random_floats(n, 1, 10), *want = must_alloc(n, sizeof *want), *got = must_alloc(n, sizeof *got);
	for (int body = 0; body < N_BODIES; body++)
		for (uint32_t threads = 1; threads <= 2; threads++) {
			struct tt_backend *backend = open_q8(threads, body);
			bool first = body == 0 && threads == 1;
			for (size_t c = first ? 5 : 0; c < 6 && backend; c++) {
				float *out = first ? want : got;
				if (body == 0 && !first && chunks[c] < 13) /* it packs each time, slowly */
					continue;
				memcpy(out, start, n * sizeof *out);
				run_chunks(backend, &m.matrix, bias, x, n_rows, chunks[c], out);
				ASSERT_SAME_BITS(out, want, n, "%s %ux%u, chunks of %u, %u threads, %s",
					tt_type_name(type), n_out, n_in, chunks[c], threads,
					((struct tt_cpu *)backend)->q8->name);
			}
			if (backend)
				backend->close(backend);
		}
	free_matrix(&m);
	free(x);
	free(bias);
	free(start);
	free(want);
	free(got);
}

Test(kernels_q8, bits_do_not_depend_on_rows_threads_or_body)
{
	for (int t = 0; t < N_TYPES; t++) {
		check_bits(TYPES[t], 37, tt_type_block(TYPES[t]) == 256 ? 512 : 288, 33);
		if (tt_type_block(TYPES[t]) == 1)
			check_bits(TYPES[t], 7, 43, 13);
	}
}

/* Wide enough that rows are worked on in two blocks, and that jobs are cut differently for each number of threads. */
Test(kernels_q8, bits_do_not_depend_on_how_rows_and_outputs_are_cut)
{
	check_bits(TT_TYPE_Q5_0, 70, 8192, 64);
	check_bits(TT_TYPE_Q4_1, 515, 96, 64);
}

/* Every integer of a matrix as large as its type has it, of x too: what is added up in 16 bits must not exceed them. */
static void fill_integers(struct test_matrix *m, uint8_t byte)
{
	enum tt_type type = m->matrix.type;
	size_t block = tt_type_block_bytes(type), n = m->matrix.n_out * tt_type_row_bytes(type, m->matrix.n_in);
	bool two = tt_q8_kind(type) == TT_Q8_MINIMUM;                              /* halves before the integers */
	uint8_t *data = m->memory + ((const uint8_t *)m->matrix.data - m->memory); /* it is const there */
	for (size_t at = 0; at < n; at += block)
		memset(data + at + (type == TT_TYPE_Q6_K ? 0 : two ? 4 : 2), byte, block - (two ? 4 : 2));
}

Test(kernels_q8, the_largest_integers_fit)
{
	static const uint8_t bytes[] = {0xff, 0x80, 0x7f, 0};
	enum { N_OUT = 19, N_IN = 512, N_ROWS = 7 };
	float *x = must_alloc((size_t)N_ROWS * N_IN, sizeof *x), want[N_ROWS * N_OUT], got[N_ROWS * N_OUT];
	for (size_t i = 0; i < (size_t)N_ROWS * N_IN; i++)
		x[i] = i / N_IN % 2 ? -1 : 1;
	for (int t = 0; t < N_TYPES; t++)
		for (size_t b = 0; b < sizeof bytes && tt_q8_kind(TYPES[t]); b++) {
			struct test_matrix m = random_matrix(TYPES[t], N_OUT, N_IN, 3);
			fill_integers(&m, bytes[b]);
			for (int body = 0; body < N_BODIES; body++) {
				struct tt_backend *backend = open_q8(1, body);
				float *out = body ? got : want;
				if (!backend)
					continue;
				memset(out, 0, sizeof got);
				run_o_proj(backend, &m.matrix, NULL, x, N_ROWS, out);
				ASSERT_SAME_BITS(out, want, N_ROWS * N_OUT, "%s of %x, all rows, body %d",
					tt_type_name(TYPES[t]), bytes[b], body);
				memset(out, 0, sizeof got);
				run_chunks(backend, &m.matrix, NULL, x, N_ROWS, 1, out);
				ASSERT_SAME_BITS(out, want, N_ROWS * N_OUT, "%s of %x, alone, body %d",
					tt_type_name(TYPES[t]), bytes[b], body);
				backend->close(backend);
			}
			free_matrix(&m);
		}
	free(x);
}

/* A copy of a matrix that ends where memory does, as the last of a mapped file may. */
static uint8_t *at_the_end(const struct test_matrix *m, size_t n_bytes, size_t *mapped)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (n_bytes + page - 1) / page * page;
	uint8_t *memory = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert(memory != MAP_FAILED && mprotect(memory + whole, page, PROT_NONE) == 0);
	memcpy(memory + whole - n_bytes, m->matrix.data, n_bytes);
	*mapped = whole + page;
	return memory;
}

Test(kernels_q8, reads_no_byte_after_a_matrix)
{
	static const uint32_t outs[] = {1, 9, 16, 40};
	for (int t = 0; t < N_TYPES; t++)
		for (size_t o = 0; o < sizeof outs / sizeof *outs; o++) {
			uint32_t n_in = tt_type_block(TYPES[t]) == 256 ? 256 : 96;
			struct test_matrix m = random_matrix(TYPES[t], outs[o], n_in, 5);
			size_t n_bytes = outs[o] * tt_type_row_bytes(TYPES[t], n_in), mapped;
			uint8_t *memory = at_the_end(&m, n_bytes, &mapped);
			struct tt_matrix w = m.matrix;
			w.data = memory + mapped - (size_t)sysconf(_SC_PAGESIZE) - n_bytes;
			float *x = random_x((size_t)3 * n_in, 6), h[3 * 40] = {0};
			for (int body = 0; body < N_BODIES; body++) {
				struct tt_backend *backend = open_q8(1, body);
				if (!backend)
					continue;
				run_o_proj(backend, &w, NULL, x, 1, h);
				run_o_proj(backend, &w, NULL, x, 3, h);
				backend->close(backend);
			}
			cr_expect(isfinite(h[0]));
			munmap(memory, mapped);
			free_matrix(&m);
			free(x);
		}
}

/* The integers of x: halves go to the even one, the largest is 127, zeros stay. Groups that are not finite poison their
 * row, and those that are too small for a precise factor count as zeros. */
Test(kernels_q8, quantises_x_as_the_definition_says)
{
	for (int body = 0; body < N_BODIES; body++) {
		struct tt_backend *backend = open_q8(1, body);
		if (!backend)
			continue;
		const struct tt_q8_body *q8 = ((struct tt_cpu *)backend)->q8;
		float *x = random_x(7 * 32, 11);
		struct tt_q8_rows rows = {must_alloc(tt_q8_stride(7 * 32), 1), tt_q8_stride(7 * 32), 7};
		struct tt_q8_row row = tt_q8_row(&rows, 0);
		for (int i = 0; i < 32; i++) {
			x[i] = i == 5 ? -127.0f : (float)i + 0.5f;
			x[32 + i] = ldexpf(x[32 + i], -110);
			x[64 + i] = i == 31 ? INFINITY : 1;
			x[128 + i] = i == 2 ? NAN : 1;
		}
		q8->quantise(x, &row, 7 * 32);
		for (int i = 0; i < 32; i++) {
			cr_expect_eq(row.q[i], i == 5 ? -127 : i + i % 2, "%s: %d is %d", q8->name, i, row.q[i]);
			cr_expect_eq(row.q[32 + i], 0);
			cr_expect_eq(row.q[96 + i], 0);
			cr_expect_eq(row.q[7 * 32 + i], 0, "what makes the groups even");
		}
		cr_expect_eq(row.factor[0], 1.0f);
		cr_expect_eq(row.factor[1], 0.0f);
		cr_expect(isnan(row.factor[2]) && isnan(row.factor[4]));
		cr_expect_eq(row.factor[3], 0.0f);
		for (int g = 5; g < 7; g++) {
			int sums[2] = {0, 0}, most = 0;
			float *near = rounded_x(x + g * 32, 32);
			for (int i = 0; i < 32; i++) {
				int q = row.q[g * 32 + i];
				sums[i / 16] += q;
				most = abs(q) > most ? abs(q) : most;
				cr_expect_eq(row.factor[g] * (float)q, near[i], "%s: %d of group %d", q8->name, i, g);
			}
			cr_expect_eq(most, 127);
			cr_expect_eq(row.bias[g], -128 * (sums[0] + sums[1]));
			cr_expect_eq(row.halves[2 * g], -128 * sums[0]);
			cr_expect_eq(row.halves[2 * g + 1], -128 * sums[1]);
			cr_expect_eq(row.offset[g], row.factor[g] * (float)(sums[0] + sums[1]));
			free(near);
		}
		free(x);
		free(rows.data);
		backend->close(backend);
	}
}
