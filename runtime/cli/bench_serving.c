/* trimtab bench --num-prompts: requests that arrive over time, unsteered and then steered. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bench.h"
#include "bench/harness/serving.h"

static const struct {
	const char *suffix, *heading;
} statistics[] = {{"mean", "mean"}, {"median", "median"}, {"std", "std"}, {"p90", "p90"}, {"p99", "p99"}};
enum { N_STATISTICS = sizeof statistics / sizeof *statistics };

static double statistic(const struct tt_serving_summary *s, size_t which)
{
	const double values[N_STATISTICS] = {s->mean, s->median, s->std, s->p90, s->p99};
	return values[which] * 1000;
}

/* "ttft:200,tpot:50,e2el:5000", in ms. */
int cli_bench_goodput(double limits[TT_N_SERVING_METRICS], const char *text)
{
	for (int i = 0; i < TT_N_SERVING_METRICS; i++)
		limits[i] = INFINITY;
	while (text && *text) {
		int i = 0;
		size_t n = strcspn(text, ":");
		char *end = NULL;
		while (i < TT_N_SERVING_METRICS && (i == TT_ITL || strlen(tt_serving_metric_names[i]) != n ||
							   strncmp(tt_serving_metric_names[i], text, n) != 0))
			i++;
		double ms = text[n] ? strtod(text + n + 1, &end) : 0;
		if (i == TT_N_SERVING_METRICS || !(ms > 0) || (*end && *end != ','))
			return cli_usage_error("bench", "--goodput takes ttft:MS,tpot:MS,e2el:MS, not '%s'", text);
		limits[i] = ms / 1000;
		text = end + (*end == ',');
	}
	return CLI_PROCEED;
}

/* ---- Output */

static json_t *requests_json(const struct tt_serving *serving)
{
	json_t *list = json_array();
	for (size_t i = 0; i < serving->n; i++) {
		json_t *times = json_array();
		for (size_t k = 0; k < serving->requests[i].n_times; k++)
			json_array_append_new(times, json_real(serving->requests[i].times[k]));
		json_array_append_new(
			list, json_pack("{s:f, s:o}", "start", serving->requests[i].start, "times", times));
	}
	return list;
}

/* vLLM's names. */
static json_t *side_json(const char *side, const struct tt_serving *serving, const struct tt_serving_report *report)
{
	double seconds = serving->seconds, n_in = (double)serving->n * (double)serving->n_prompt;
	json_t *out = json_pack("{s:s, s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "side", side, "duration", seconds,
		"completed", (json_int_t)serving->n, "total_input_tokens", (json_int_t)n_in, "total_output_tokens",
		(json_int_t)report->n_tokens, "request_throughput", (double)serving->n / seconds, "request_goodput",
		(double)report->n_good / seconds, "output_throughput", (double)report->n_tokens / seconds,
		"total_token_throughput", (n_in + (double)report->n_tokens) / seconds);
	for (int i = 0; i < TT_N_SERVING_METRICS; i++)
		for (size_t k = 0; k < N_STATISTICS; k++) {
			char key[32];
			snprintf(key, sizeof key, "%s_%s_ms", statistics[k].suffix, tt_serving_metric_names[i]);
			json_object_set_new(out, key, tt_json_number(statistic(&report->metrics[i], k)));
		}
	json_object_set_new(out, "requests", requests_json(serving));
	return out;
}

static void print_side(const char *side, const struct tt_serving *serving, const struct tt_serving_report *report)
{
	struct cli_table table;
	cli_table_begin(&table, "lrrrrr");
	cli_table_cell(&table, "%s, ms", side);
	for (size_t k = 0; k < N_STATISTICS; k++)
		cli_table_cell(&table, "%s", statistics[k].heading);
	for (int i = 0; i < TT_N_SERVING_METRICS; i++) {
		cli_table_cell(&table, "%s", tt_serving_metric_names[i]);
		for (size_t k = 0; k < N_STATISTICS; k++)
			cli_table_cell(&table, "%.2f", statistic(&report->metrics[i], k));
	}
	cli_table_print(&table, stdout);
	printf("%zu requests in %.2f s: %.2f requests/s, %.2f good; %.1f output tokens/s, %.1f with prompts\n\n",
		serving->n, serving->seconds, (double)serving->n / serving->seconds,
		(double)report->n_good / serving->seconds, (double)report->n_tokens / serving->seconds,
		((double)serving->n * (double)serving->n_prompt + (double)report->n_tokens) / serving->seconds);
}

/* ---- The run */

static int run_side(const struct tt_token_lab *lab, const struct cli_bench_serving *s, bool steered, json_t *all)
{
	const char *side = steered ? "steered" : "off";
	struct tt_serving_options options = {
		.n_requests = s->n_requests,
		.n_prompt = s->n_prompt,
		.n_gen = s->n_gen,
		.rate = s->rate > 0 ? (double)s->rate : INFINITY,
		.concurrency = s->concurrency,
		.seed = s->seed,
		.n_steering = lab->ways[steered].n_steering,
	};
	struct tt_serving serving;
	struct tt_serving_report report;
	struct tt_error err = {0};
	memcpy(options.steering, lab->ways[steered].steering, sizeof options.steering);
	int code = tt_serving_run(&serving, lab->engine, &options, &err);
	if (code == TT_OK)
		code = tt_serving_measure(&report, &serving, s->limits, &err);
	int status = code == TT_OK ? CLI_OK : cli_fail(&err);
	if (code == TT_OK && s->format == CLI_BENCH_MD)
		print_side(side, &serving, &report);
	else if (code == TT_OK)
		json_array_append_new(all, side_json(side, &serving, &report));
	fflush(stdout);
	tt_serving_free(&serving);
	return status;
}

int cli_bench_serve(const struct tt_token_lab *lab, const struct cli_bench_serving *s)
{
	json_t *all = json_array();
	int status = run_side(lab, s, false, all);
	if (status == CLI_OK && lab->n_ways > 1)
		status = run_side(lab, s, true, all);
	if (status == CLI_OK && s->format != CLI_BENCH_MD)
		status = cli_print_json(json_incref(all), JSON_INDENT(1) | JSON_REAL_PRECISION(17));
	json_decref(all);
	return status;
}
