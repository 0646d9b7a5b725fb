/* trimtab bench --matrix: every way to steer beside not steering. */
#include <stdlib.h>

#include "base/json.h"
#include "bench.h"
#include "bench/harness/matrix.h"

static json_t *way_json(const struct tt_bench_result *r, const char *test, uint32_t n_rows)
{
	json_t *samples = json_array(), *ratio = json_null();
	for (size_t i = 0; i < r->n_samples; i++)
		json_array_append_new(samples, json_integer((json_int_t)(r->samples[i] * 1e9)));
	if (r->ratio.n)
		ratio = json_pack("{s:f, s:f, s:f, s:f}", "median", r->ratio.median, "low", r->ratio.low, "high",
			r->ratio.high, "coverage", r->ratio.coverage);
	return json_pack("{s:s, s:I, s:s, s:o, s:o, s:o, s:s?}", "test", test, "rows", (json_int_t)n_rows, "way",
		r->spec->name, "median_ts", tt_json_number(r->rates[0].median), "ratio", ratio, "samples_ns", samples,
		"error", r->error);
}

static void print_way(struct cli_table *table, const struct tt_bench_result *r)
{
	cli_table_cell(table, "%s", r->spec->name);
	if (r->error || r->n_samples == 0)
		cli_table_cell(table, "failed");
	else
		cli_table_cell(table, "%.2f", r->rates[0].median);
	cli_table_cell(table, r->ratio.n ? "%.4f" : "-", r->ratio.median);
	cli_table_cell(table, r->ratio.n ? "%.4f to %.4f" : "-", r->ratio.low, r->ratio.high);
}

static int print(
	const struct cli_bench_matrix *m, const struct tt_bench *bench, const char *test, uint32_t n_rows, json_t *all)
{
	struct tt_error err = {0};
	struct cli_table table;
	cli_table_begin(&table, "lrrr");
	cli_table_cell(&table, "%s, %u row%s", test, n_rows, n_rows > 1 ? "s" : "");
	cli_table_cell(&table, "t/s");
	cli_table_cell(&table, "ratio of times");
	cli_table_cell(&table, "interval");
	int status = CLI_PROCEED;
	for (size_t i = 0; status == CLI_PROCEED && i < tt_bench_n_cases(bench); i++) {
		struct tt_bench_result r;
		status = tt_bench_result(bench, i, &r, &err) == TT_OK ? CLI_PROCEED : cli_fail(&err);
		if (status != CLI_PROCEED)
			break;
		if (r.error)
			cli_note("%s, %s: %s", test, r.spec->name, r.error);
		print_way(&table, &r);
		json_array_append_new(all, way_json(&r, test, n_rows));
	}
	FILE *to = m->json ? fopen("/dev/null", "w") : stdout;
	cli_table_print(&table, to ? to : stderr);
	if (to && to != stdout)
		fclose(to);
	if (!m->json)
		putchar('\n');
	fflush(stdout);
	return status;
}

static int run_test(const struct cli_bench_matrix *m, struct tt_token_lab *lab, const struct tt_token_test *test,
	json_t *all, size_t *n_failed)
{
	struct tt_error err = {0};
	struct tt_bench_options options;
	struct tt_bench *bench = NULL;
	struct tt_token_cases *cases = NULL;
	char name[TT_TOKEN_TEST_NAME];
	tt_token_test_name(name, test);
	tt_bench_options_default(&options);
	options.program = "trimtab bench --matrix";
	options.n_threads = tt_engine_info(lab->engine)->n_threads;
	options.min_rounds = options.max_rounds = m->n_rounds;
	options.min_seconds = 0;
	options.progress = cli_draws() ? cli_bench_draw : NULL;
	int code = tt_bench_open(&bench, &options, &err);
	if (code == TT_OK)
		code = tt_token_test_add(&cases, bench, lab, name, test, false, &err);
	if (code == TT_OK)
		code = tt_bench_run(bench, &err);
	if (cli_draws())
		fputs("\r\033[K", stderr);
	int status = code == TT_OK ? print(m, bench, name, lab->n_rows, all) : cli_fail(&err);
	*n_failed += code == TT_OK ? tt_bench_n_failed(bench) : 0;
	tt_token_cases_free(cases);
	tt_bench_close(bench);
	return status;
}

/* Prompts are timed one at a time. */
static int run_rows(const struct cli_bench_matrix *m, const char *model, uint32_t n_rows, json_t *all, size_t *n_failed)
{
	struct tt_error err = {0};
	struct tt_engine_options options;
	struct tt_matrix *matrix = NULL;
	const struct tt_token_test prompt = {.n_prompt = m->n_prompt}, gen = {.n_gen = m->n_gen};
	uint32_t longest = (m->n_prompt > m->n_gen ? m->n_prompt : m->n_gen) + 1;
	cli_engine_options(&options, m->engine_args);
	options.context = longest;
	options.max_batch = n_rows;
	options.max_step_tokens = options.max_step_tokens < n_rows ? n_rows : options.max_step_tokens;
	options.kv_tokens = 3 * (longest + 16) * n_rows;
	if (tt_matrix_open(&matrix, model, &options, n_rows, &err) != TT_OK)
		return cli_fail(&err);
	int status = CLI_PROCEED;
	if (m->n_prompt && n_rows == 1)
		status = run_test(m, tt_matrix_lab(matrix), &prompt, all, n_failed);
	if (m->n_gen && status == CLI_PROCEED)
		status = run_test(m, tt_matrix_lab(matrix), &gen, all, n_failed);
	tt_matrix_close(matrix);
	return status;
}

int cli_bench_run_matrix(const struct cli_bench_matrix *m, const char *model)
{
	json_t *all = json_array();
	size_t n_failed = 0;
	int status = CLI_PROCEED;
	for (size_t i = 0; status == CLI_PROCEED && i < m->n_rows; i++)
		status = run_rows(m, model, m->rows[i], all, &n_failed);
	if (status == CLI_PROCEED && m->json)
		status = cli_print_json(json_incref(all), JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == CLI_OK
				 ? CLI_PROCEED
				 : CLI_FAILED;
	json_decref(all);
	if (status != CLI_PROCEED)
		return status;
	return n_failed ? cli_failf("%zu cases failed", n_failed) : CLI_OK;
}
