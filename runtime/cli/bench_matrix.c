/* trimtab bench --matrix: every way to steer beside not steering. */
#include <stdlib.h>

#include "base/json.h"
#include "bench.h"
#include "bench/harness/matrix.h"
#include "bench/harness/way_bytes.h"

/* Whether the interval of the ratio lies at or below what the way may take, above it, or on both sides. */
static const char *within(const struct tt_bench_summary *ratio, double at_most)
{
	return ratio->high <= at_most ? "yes" : ratio->low > at_most ? "over" : "open";
}

static json_t *way_json(const struct tt_bench_result *r, const char *test, uint32_t n_rows, double at_most)
{
	json_t *samples = json_array(), *ratio = json_null();
	for (size_t i = 0; i < r->n_samples; i++)
		json_array_append_new(samples, json_integer((json_int_t)(r->samples[i] * 1e9)));
	if (r->ratio.n)
		ratio = json_pack("{s:f, s:f, s:f, s:f, s:f, s:s}", "median", r->ratio.median, "low", r->ratio.low,
			"high", r->ratio.high, "coverage", r->ratio.coverage, "at_most", at_most, "within",
			within(&r->ratio, at_most));
	return json_pack("{s:s, s:I, s:s, s:o, s:o, s:o, s:s?}", "test", test, "rows", (json_int_t)n_rows, "way",
		r->spec->name, "median_ts", tt_json_number(r->rates[0].median), "ratio", ratio, "samples_ns", samples,
		"error", r->error);
}

static void print_way(struct cli_table *table, const struct tt_bench_result *r, double at_most)
{
	cli_table_cell(table, "%s", r->spec->name);
	if (r->error || r->n_samples == 0)
		cli_table_cell(table, "failed");
	else
		cli_table_cell(table, "%.2f", r->rates[0].median);
	cli_table_cell(table, r->ratio.n ? "%.4f" : "-", r->ratio.median);
	cli_table_cell(table, r->ratio.n ? "%.4f to %.4f" : "-", r->ratio.low, r->ratio.high);
	cli_table_cell(table, r->ratio.n ? "%.4f" : "-", at_most);
	cli_table_cell(table, "%s", r->ratio.n ? within(&r->ratio, at_most) : "-");
}

struct run {
	const struct cli_bench_matrix *options;
	const struct tt_token_lab *lab;
	struct tt_token_test test;
	uint32_t n_rows;
	json_t *all;
	size_t n_failed;
};

static int take(void *user, const char *test, const struct tt_bench *bench)
{
	struct run *run = user;
	struct tt_error err = {0};
	struct cli_table table;
	cli_table_begin(&table, "lrrrrl");
	cli_table_cell(&table, "%s, %u row%s", test, run->n_rows, run->n_rows > 1 ? "s" : "");
	cli_table_cell(&table, "t/s");
	cli_table_cell(&table, "ratio of times");
	cli_table_cell(&table, "interval");
	cli_table_cell(&table, "at most");
	cli_table_cell(&table, "within");
	int status = CLI_PROCEED;
	for (size_t i = 0; status == CLI_PROCEED && i < tt_bench_n_cases(bench); i++) {
		struct tt_bench_result r;
		status = tt_bench_result(bench, i, &r, &err) == TT_OK ? CLI_PROCEED : cli_fail(&err);
		if (status != CLI_PROCEED)
			break;
		if (r.error)
			cli_note("%s, %s: %s", test, r.spec->name, r.error);
		double at_most = 1 + TT_WAY_MARGIN + tt_token_way_extra(run->lab, &run->lab->ways[i], &run->test);
		print_way(&table, &r, at_most);
		json_array_append_new(run->all, way_json(&r, test, run->n_rows, at_most));
	}
	run->n_failed += tt_bench_n_failed(bench);
	cli_bench_print_table(&table, run->options->json);
	return status;
}

void cli_bench_print_table(struct cli_table *table, bool json)
{
	FILE *to = json ? fopen("/dev/null", "w") : stdout;
	cli_table_print(table, to ? to : stderr);
	if (to && to != stdout)
		fclose(to);
	if (!json)
		putchar('\n');
	fflush(stdout);
}

int cli_bench_time(struct tt_matrix *matrix, const struct cli_bench_matrix *m, const char *group,
	const struct tt_token_test *test, cli_bench_taker taker, void *user)
{
	struct tt_error err = {0};
	struct tt_bench_options options;
	struct tt_bench *bench = NULL;
	struct tt_token_cases *cases = NULL;
	struct tt_token_lab *lab = tt_matrix_lab(matrix);
	char name[TT_TOKEN_TEST_NAME];
	tt_token_test_name(name, test);
	tt_bench_options_default(&options);
	cli_bench_file_command(m->file, &options);
	options.n_threads = tt_engine_info(lab->engine)->n_threads;
	options.min_rounds = options.max_rounds = m->n_rounds;
	options.min_seconds = 0;
	options.progress = cli_draws() ? cli_bench_draw : NULL;
	int code = tt_bench_open(&bench, &options, &err);
	if (code == TT_OK)
		code = tt_token_test_add(&cases, bench, lab, group, test, false, &err);
	if (code == TT_OK)
		code = tt_bench_run(bench, &err);
	if (cli_draws())
		fputs("\r\033[K", stderr);
	int status = code == TT_OK ? taker(user, name, bench) : cli_fail(&err);
	if (status == CLI_PROCEED)
		status = cli_bench_file_add(m->file, bench, lab->engine);
	tt_token_cases_free(cases);
	tt_bench_close(bench);
	return status;
}

int cli_bench_open_matrix(struct tt_matrix **out, const struct cli_bench_matrix *m, const char *model,
	enum tt_matrix_ways ways, uint32_t n_rows, uint32_t longest)
{
	struct tt_error err = {0};
	struct tt_engine_options options;
	cli_engine_options(&options, m->engine_args);
	options.context = longest;
	options.max_batch = n_rows;
	options.kv_tokens = longest ? 3 * (longest + 16) * n_rows : 0;
	return tt_matrix_open(out, model, &options, ways, n_rows, &err) == TT_OK ? CLI_PROCEED : cli_fail(&err);
}

static int time_test(struct run *run, struct tt_matrix *matrix, struct tt_token_test test)
{
	char group[2 * TT_TOKEN_TEST_NAME], name[TT_TOKEN_TEST_NAME];
	tt_token_test_name(name, &test);
	snprintf(group, sizeof group, "%s, %u row%s", name, run->n_rows, run->n_rows > 1 ? "s" : "");
	run->lab = tt_matrix_lab(matrix);
	run->test = test;
	return cli_bench_time(matrix, run->options, group, &test, take, run);
}

/* Tokens of the prompt before a generation: the fewest for which a gate opens. */
enum { GIVEN = 2 };

/* Prompts are timed one at a time. */
static int run_rows(struct run *run, const char *model, uint32_t n_rows)
{
	const struct cli_bench_matrix *m = run->options;
	struct tt_matrix *matrix = NULL;
	uint32_t longest = (m->n_prompt > m->n_gen + GIVEN ? m->n_prompt : m->n_gen + GIVEN) + 1;
	run->n_rows = n_rows;
	struct tt_error err = {0};
	int status = cli_bench_open_matrix(&matrix, m, model, TT_WAYS_ALL, n_rows, longest);
	if (status == CLI_PROCEED && m->n_ways && tt_matrix_keep(matrix, m->ways, m->n_ways, &err) != TT_OK)
		status = cli_fail(&err);
	if (m->n_prompt && n_rows == 1 && status == CLI_PROCEED)
		status = time_test(run, matrix, (struct tt_token_test){.n_prompt = m->n_prompt});
	if (m->n_gen && status == CLI_PROCEED)
		status = time_test(run, matrix, (struct tt_token_test){.n_gen = m->n_gen, .n_given = GIVEN});
	tt_matrix_close(matrix);
	return status;
}

int cli_bench_end(int status, json_t *all, bool json, size_t n_failed)
{
	if (status == CLI_PROCEED && json)
		status = cli_print_json(json_incref(all), JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == CLI_OK
				 ? CLI_PROCEED
				 : CLI_FAILED;
	json_decref(all);
	if (status != CLI_PROCEED)
		return status;
	return n_failed ? cli_failf("%zu cases failed", n_failed) : CLI_OK;
}

int cli_bench_run_matrix(const struct cli_bench_matrix *m, const char *model)
{
	struct run run = {.options = m, .all = json_array()};
	int status = CLI_PROCEED;
	for (size_t i = 0; status == CLI_PROCEED && i < m->n_rows; i++)
		status = run_rows(&run, model, m->rows[i]);
	return cli_bench_end(status, run.all, m->json, run.n_failed);
}
