/* trimtab bench --scale: how the time of a step, and what steering adds to it, grow. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "bench.h"

enum { FIRST_CONTEXT = 128, MAX_POINTS = 64 };

struct axis {
	const char *word;
	enum tt_matrix_ways ways;
	const char *each; /* what x counts */
};

static const struct axis axes[] = {
	{"rows", TT_WAYS_ADD, "row"},
	{"context", TT_WAYS_ADD, "token of context"},
	{"layers", TT_WAYS_LAYERS, "steered layer"},
	{"stack", TT_WAYS_STACK, "policy on each row"},
	{"policies", TT_WAYS_POLICIES, "policy among the rows"},
};
enum { N_AXES = sizeof axes / sizeof *axes };

struct point {
	double x, off, extra; /* seconds of a step without steering, and what steering adds */
	struct tt_bench_summary ratio;
	double resident; /* bytes of the process */
};

struct run {
	const struct cli_bench_matrix *options;
	const char *model;
	const struct axis *axis;
	uint32_t n_rows;
	const struct tt_token_lab *lab; /* that is timed */
	double x;                       /* of a test with a single way; 0: the ways' own sizes */
	struct point points[MAX_POINTS];
	size_t n;
	json_t *all;
	size_t n_failed;
};

/* Of this process; both engines map the same weights. */
static double resident_bytes(void)
{
	unsigned long size = 0, pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file)
		return NAN;
	int n = fscanf(file, "%lu %lu", &size, &pages);
	fclose(file);
	return n == 2 ? (double)pages * (double)sysconf(_SC_PAGESIZE) : NAN;
}

static int take(void *user, const char *test, const struct tt_bench *bench)
{
	struct run *run = user;
	struct tt_error err = {0};
	struct tt_bench_result off, r;
	run->n_failed += tt_bench_n_failed(bench);
	if (tt_bench_result(bench, 0, &off, &err) != TT_OK)
		return cli_fail(&err);
	for (size_t i = 0; i < tt_bench_n_cases(bench); i++) {
		if (tt_bench_result(bench, i, &r, &err) != TT_OK)
			return cli_fail(&err);
		if (r.error)
			cli_note("%s, %s: %s", test, r.spec->name, r.error);
		if (r.ratio.n == 0 || run->n == MAX_POINTS)
			continue;
		double step = off.seconds.median / run->options->n_gen;
		run->points[run->n++] = (struct point){.x = run->x > 0 ? run->x : run->lab->ways[i].size,
			.off = step,
			.extra = step * (r.ratio.median - 1),
			.ratio = r.ratio,
			.resident = resident_bytes()};
	}
	return CLI_PROCEED;
}

/* ---- What is printed */

static struct tt_bench_line growth(const struct run *run, bool of_steering)
{
	double x[MAX_POINTS], y[MAX_POINTS];
	for (size_t i = 0; i < run->n; i++) {
		x[i] = run->points[i].x;
		y[i] = of_steering ? run->points[i].extra : run->points[i].off;
	}
	return tt_bench_fit_line(x, y, run->n);
}

/* Axes along which the unsteered side stays the same tell its time once. */
static bool off_grows(const struct run *run)
{
	return run->axis->ways == TT_WAYS_ADD;
}

static json_t *line_json(struct tt_bench_line line)
{
	return json_pack("{s:o, s:o, s:o}", "at_0_ns", tt_json_number(line.at_0 * 1e9), "slope_ns",
		tt_json_number(line.slope * 1e9), "r2", tt_json_number(line.r2));
}

static json_t *axis_json(const struct run *run)
{
	json_t *points = json_array();
	for (size_t i = 0; i < run->n; i++) {
		const struct point *p = &run->points[i];
		json_array_append_new(points,
			json_pack("{s:o, s:o, s:o, s:{s:f, s:f, s:f, s:f}, s:o}", "x", tt_json_number(p->x), "off_ns",
				tt_json_number(p->off * 1e9), "extra_ns", tt_json_number(p->extra * 1e9), "ratio",
				"median", p->ratio.median, "low", p->ratio.low, "high", p->ratio.high, "coverage",
				p->ratio.coverage, "resident_bytes", tt_json_number(p->resident)));
	}
	return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o}", "axis", run->axis->word, "each", run->axis->each, "rows",
		(json_int_t)run->n_rows, "points", points, "off",
		off_grows(run) ? line_json(growth(run, false)) : json_null(), "extra", line_json(growth(run, true)));
}

static void print_line(const char *what, const char *each, struct tt_bench_line line)
{
	printf("%s %.1f us %c %.3f us for each %s (r2 %.2f)", what, line.at_0 * 1e6, line.slope < 0 ? '-' : '+',
		fabs(line.slope) * 1e6, each, line.r2);
}

static void print_growth(const struct run *run)
{
	if (run->n < 2)
		return;
	if (off_grows(run)) {
		print_line("A step takes", run->axis->each, growth(run, false));
		fputs("; ", stdout);
	}
	print_line(off_grows(run) ? "steering adds" : "Steering adds", run->axis->each, growth(run, true));
	puts(".\n");
}

static void print_axis(const struct run *run)
{
	struct cli_table table;
	cli_table_begin(&table, "rrrrrr");
	cli_table_cell(&table, "%s", run->axis->word);
	cli_table_cell(&table, "a step, ms");
	cli_table_cell(&table, "ratio of times");
	cli_table_cell(&table, "interval");
	cli_table_cell(&table, "steering adds, us");
	cli_table_cell(&table, "resident, MiB");
	for (size_t i = 0; i < run->n; i++) {
		const struct point *p = &run->points[i];
		cli_table_cell(&table, "%.0f", p->x);
		cli_table_cell(&table, "%.3f", p->off * 1e3);
		cli_table_cell(&table, "%.4f", p->ratio.median);
		cli_table_cell(&table, "%.4f to %.4f", p->ratio.low, p->ratio.high);
		cli_table_cell(&table, "%.1f", p->extra * 1e6);
		cli_table_cell(&table, "%.0f", p->resident / (1 << 20));
	}
	cli_bench_print_table(&table, run->options->json);
	if (!run->options->json)
		print_growth(run);
}

/* ---- What is run */

/* Generation behind a context of that many tokens. */
static int run_test(struct run *run, struct tt_matrix *matrix, uint32_t depth, double x)
{
	const struct tt_token_test test = {.n_gen = run->options->n_gen, .n_depth = depth};
	char group[2 * TT_TOKEN_TEST_NAME], name[TT_TOKEN_TEST_NAME];
	tt_token_test_name(name, &test);
	snprintf(group, sizeof group, "%s: %s, %u row%s", run->axis->word, name, run->n_rows,
		run->n_rows > 1 ? "s" : "");
	run->lab = tt_matrix_lab(matrix);
	run->x = x;
	return cli_bench_time(matrix, run->options, group, &test, take, run);
}

static int run_at(struct run *run, uint32_t n_rows, double x)
{
	struct tt_matrix *matrix = NULL;
	run->n_rows = n_rows;
	int status = cli_bench_open_matrix(
		&matrix, run->options, run->model, run->axis->ways, n_rows, run->options->n_gen + 1);
	if (status == CLI_PROCEED)
		status = run_test(run, matrix, 0, x);
	tt_matrix_close(matrix);
	return status;
}

static int run_rows(struct run *run, uint32_t most)
{
	int status = CLI_PROCEED;
	for (uint32_t n = 1; status == CLI_PROCEED && n > 0; n = tt_matrix_next_size(n, most))
		status = run_at(run, n, n);
	return status;
}

/* Up to the context that was asked for, or the model's own. */
static int run_contexts(struct run *run)
{
	struct tt_matrix *matrix = NULL;
	run->n_rows = 1;
	int status = cli_bench_open_matrix(
		&matrix, run->options, run->model, run->axis->ways, 1, run->options->engine_args->context);
	uint32_t context = matrix ? tt_engine_info(tt_matrix_lab(matrix)->engine)->context : 0;
	for (uint32_t n = FIRST_CONTEXT; status == CLI_PROCEED && n + run->options->n_gen < context; n *= 2)
		status = run_test(run, matrix, n, n);
	tt_matrix_close(matrix);
	return status;
}

static int run_axis(struct run *run, const struct axis *axis, uint32_t n_rows)
{
	int status;
	run->axis = axis;
	run->n = 0;
	if (strcmp(axis->word, "rows") == 0)
		status = run_rows(run, n_rows);
	else
		status = strcmp(axis->word, "context") == 0 ? run_contexts(run) : run_at(run, n_rows, 0);
	if (status != CLI_PROCEED)
		return status;
	if (run->n == 0)
		return cli_failf("--scale %s: there is nothing to time in such a context", axis->word);
	print_axis(run);
	json_array_append_new(run->all, axis_json(run));
	return CLI_PROCEED;
}

static const struct axis *axis_of(const char *word)
{
	size_t length = strcspn(word, ",");
	for (size_t i = 0; i < N_AXES; i++)
		if (strlen(axes[i].word) == length && memcmp(axes[i].word, word, length) == 0)
			return &axes[i];
	return NULL;
}

static const char *next_word(const char *word)
{
	const char *comma = strchr(word, ',');
	return comma ? comma + 1 : NULL;
}

int cli_bench_run_scale(const struct cli_bench_matrix *m, const char *words, const char *model)
{
	for (const char *word = words; word; word = next_word(word))
		if (!axis_of(word))
			return cli_usage_error(
				"bench", "--scale takes rows, context, layers, stack and policies, not '%s'", words);
	struct run run = {.options = m, .model = model, .all = json_array()};
	int status = CLI_PROCEED;
	for (const char *word = words; status == CLI_PROCEED && word; word = next_word(word))
		status = run_axis(&run, axis_of(word), m->rows[m->n_rows - 1]);
	return cli_bench_end(status, run.all, m->json, run.n_failed);
}
