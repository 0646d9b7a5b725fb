/* Time of the CPU's matrix products by type of weights and number of rows, in f32 and, where the type has it, in q8:
 * in nanoseconds for 32 weights and a row, on one thread. Weights are random, and quantised ones stay in the
 * second-level cache, so it is the arithmetic that is timed, not memory. Both modes take turns, and the fastest of the
 * rounds counts.
 *
 *     trimtab-bench-products [-b avx512|avx2|neon|portable] [-i 1024] [-o 512] [-r 200] [-n 1,2,..] [TYPE]... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/jobs.h"

enum { MAX_LENGTHS = 16, MAX_ROWS = 1024, MAX_WIDTH = 1 << 15 };

static const char USAGE[] = "usage: trimtab-bench-products [-b BODY] [-i N_IN] [-o N_OUT] [-r ROUNDS] [-n ROWS,..] "
			    "[TYPE]...\n  -b avx512|avx2|neon|portable (this machine's best), -i 1024 (a multiple of "
			    "256), -o 512,\n  -r 200, -n 1,2,4,8,32,256; types as in a GGUF (all)\n";

struct lab {
	enum tt_cpu_body_choice choice;
	uint32_t n_in, n_out, n_rounds, rows[MAX_LENGTHS], n_lengths;
	struct tt_cpu *cpu;
	float *x, *out;
	uint8_t *weights;
};

/* Random bytes of at most 0x3c: wherever a block has its scales, in whatever order of bytes, they are finite halves of
 * about 1 or less, so that no product is infinite. */
static void fill_weights(uint8_t *data, size_t n)
{
	uint32_t state = 1;
	for (size_t i = 0; i < n; i++) {
		state = state * 1664525u + 1013904223u;
		data[i] = (uint8_t)((state >> 24) % 0x3d);
	}
}

static double one_run(
	const struct lab *lab, const struct tt_cpu_product *p, const struct tt_q8_rows *q8, float *scratch)
{
	const struct tt_cpu_next next = {NULL, 0};
	double start = tt_now();
	if (q8)
		tt_cpu_q8_product(lab->cpu->q8, lab->cpu->body, p, q8, 0, lab->n_out, &next, scratch);
	else
		lab->cpu->body->product(p, NULL, 0, lab->n_out, &next, scratch);
	return tt_now() - start;
}

/* Nanoseconds for 32 weights and a row in f32, and in q8 or 0. */
static int time_product(
	struct lab *lab, const struct tt_matrix *matrix, uint32_t n_rows, double nanoseconds[2], struct tt_error *err)
{
	struct tt_cpu_product p = {.matrix = matrix,
		.x = lab->x,
		.x_stride = lab->n_in,
		.n_rows = n_rows,
		.out = lab->out,
		.out_stride = lab->n_out};
	struct tt_q8_rows rows;
	bool has_q8 = tt_q8_kind(matrix->type) != TT_Q8_NONE;
	size_t n_scratch = tt_cpu_product_scratch(lab->n_in, n_rows, lab->n_out);
	float *scratch;
	if (has_q8) {
		TT_TRY(tt_cpu_quantise(lab->cpu, &p, &rows, err));
		size_t n = tt_cpu_q8_scratch(lab->cpu->q8, &rows, n_rows, lab->n_out);
		n_scratch = n > n_scratch ? n : n_scratch;
	}
	TT_TRY(tt_cpu_scratch(lab->cpu, TT_CPU_SCRATCH_THREADS, n_scratch, sizeof *scratch, &scratch, err));
	double best[2] = {0};
	for (uint32_t round = 0; round < lab->n_rounds; round++)
		for (int q8 = 0; q8 <= has_q8; q8++) {
			double seconds = one_run(lab, &p, q8 ? &rows : NULL, scratch);
			if (round == 0 || seconds < best[q8])
				best[q8] = seconds;
		}
	double units = (double)lab->n_in * lab->n_out / 32 * n_rows;
	for (int q8 = 0; q8 < 2; q8++)
		nanoseconds[q8] = 1e9 * best[q8] / units;
	return TT_OK;
}

static int time_type(struct lab *lab, enum tt_type type, struct tt_error *err)
{
	struct tt_matrix matrix = {.data = lab->weights, .type = type, .n_out = lab->n_out, .n_in = lab->n_in};
	printf("%-8s", tt_type_name(type));
	for (uint32_t i = 0; i < lab->n_lengths; i++) {
		double nanoseconds[2];
		TT_TRY(time_product(lab, &matrix, lab->rows[i], nanoseconds, err));
		printf("  %6.3f", nanoseconds[0]);
		if (nanoseconds[1] > 0)
			printf(" / %5.3f", nanoseconds[1]);
		else
			printf("        ");
		fflush(stdout);
	}
	printf("\n");
	return TT_OK;
}

static int run(struct lab *lab, char **types, struct tt_error *err)
{
	static const enum tt_type all[] = {
#define TYPE_OF(name, block, bytes) TT_TYPE_##name,
		TT_TYPES(TYPE_OF)};
	struct tt_backend *backend;
	size_t n_weights = (size_t)lab->n_out * lab->n_in * sizeof(float);
	TT_TRY(tt_alloc_aligned(&lab->weights, n_weights, 1, err));
	TT_TRY(tt_alloc_aligned(&lab->x, (size_t)MAX_ROWS * lab->n_in, sizeof *lab->x, err));
	TT_TRY(tt_alloc_aligned(&lab->out, (size_t)MAX_ROWS * lab->n_out, sizeof *lab->out, err));
	fill_weights(lab->weights, n_weights);
	for (size_t i = 0; i < (size_t)MAX_ROWS * lab->n_in; i++)
		lab->x[i] = (float)(i * 2654435761u % 2001) / 1000 - 1;
	TT_TRY(tt_cpu_open_body(&backend, 1, lab->choice, err));
	lab->cpu = (struct tt_cpu *)backend;
	printf("%s, q8 %s; %u by %u, ns for 32 weights and a row, f32 / q8\nrows    ", lab->cpu->body->name,
		lab->cpu->q8->name, lab->n_in, lab->n_out);
	for (uint32_t i = 0; i < lab->n_lengths; i++)
		printf("  %6u        ", lab->rows[i]);
	printf("\n");
	int status = TT_OK;
	for (size_t i = 0; i < sizeof all / sizeof *all && status == TT_OK; i++) {
		bool wanted = !*types;
		for (char **name = types; *name; name++)
			wanted = wanted || strcmp(*name, tt_type_name(all[i])) == 0;
		if (wanted)
			status = time_type(lab, all[i], err);
	}
	backend->close(backend);
	return status;
}

static bool is_type(const char *name)
{
#define IS_NAMED(type, block, bytes) || strcmp(name, tt_type_name(TT_TYPE_##type)) == 0
	return false TT_TYPES(IS_NAMED);
}

static bool take_rows(struct lab *lab, char *list)
{
	lab->n_lengths = 0;
	for (char *end = list; *list && lab->n_lengths < MAX_LENGTHS; list = end + (*end == ',')) {
		unsigned long n = strtoul(list, &end, 10);
		if (end == list || n < 1 || n > MAX_ROWS)
			return false;
		lab->rows[lab->n_lengths++] = (uint32_t)n;
	}
	return lab->n_lengths > 0;
}

static bool take_number(uint32_t *out, const char *text, uint32_t most, uint32_t multiple)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	*out = (uint32_t)n;
	return end != text && !*end && n >= 1 && n <= most && n % multiple == 0;
}

static bool take_body(enum tt_cpu_body_choice *out, const char *name)
{
	static const struct {
		const char *name;
		enum tt_cpu_body_choice choice;
	} bodies[] = {{"avx512", TT_CPU_BODY_AVX512}, {"avx2", TT_CPU_BODY_AVX2}, {"neon", TT_CPU_BODY_NEON},
		{"portable", TT_CPU_BODY_PORTABLE}};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
		if (strcmp(name, bodies[i].name) == 0) {
			*out = bodies[i].choice;
			return true;
		}
	return false;
}

int main(int argc, char **argv)
{
	struct lab lab = {.choice = TT_CPU_BODY_BEST,
		.n_in = 1024,
		.n_out = 512,
		.n_rounds = 200,
		.rows = {1, 2, 4, 8, 32, 256},
		.n_lengths = 6};
	struct tt_error error = {0};
	bool good = true;
	for (int option; good && (option = getopt(argc, argv, "b:i:o:r:n:")) != -1;)
		good = option == 'b'   ? take_body(&lab.choice, optarg)
		       : option == 'i' ? take_number(&lab.n_in, optarg, MAX_WIDTH, 256)
		       : option == 'o' ? take_number(&lab.n_out, optarg, MAX_WIDTH, 1)
		       : option == 'r' ? take_number(&lab.n_rounds, optarg, 1000000, 1)
		       : option == 'n' ? take_rows(&lab, optarg)
				       : false;
	for (char **type = argv + optind; good && *type; type++)
		good = is_type(*type);
	if (!good) {
		fputs(USAGE, stderr);
		return 2;
	}
	int status = run(&lab, argv + optind, &error);
	if (status != TT_OK)
		fprintf(stderr, "trimtab-bench-products: %s\n", error.message);
	free(lab.weights);
	free(lab.x);
	free(lab.out);
	return status == TT_OK ? 0 : 1;
}
