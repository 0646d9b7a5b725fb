/* trimtab bench --timeline: when each op of a prompt and of generation ran, and how near it came to the machine's
 * limits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "bench.h"
#include "bench/harness/ceilings.h"
#include "bench/harness/engine_cases.h"
#include "runtime/engine/timeline.h"

enum {
	N_RATES = 5 /* columns of a row that computes */,
	MAX_OPS = 16,
	N_ROUNDS = 9,
	CEILING_BYTES = 256 << 20,
	WARM_SEED = 40,
	SEED = 41
};

/* All calls of one op in one phase. */
struct sum {
	const char *op;
	double n, seconds, flops, bytes;
};

struct phase {
	const char *name;
	struct sum sums[MAX_OPS]; // [n]
	size_t n;
	double steps, seconds; /* of whole steps */
};

struct limits {
	double fma, read; /* flops and bytes a second */
};

static int run_request(const struct tt_token_lab *lab, const struct cli_bench_timeline *o, uint64_t seed)
{
	struct tt_error err = {0};
	struct tt_request *request = NULL;
	struct tt_request_options options;
	const struct tt_token_way *way = &lab->ways[lab->n_ways - 1];
	int32_t *ids = NULL;
	tt_request_options_default(&options);
	int code = tt_alloc(&ids, o->n_prompt, sizeof *ids, &err);
	if (code == TT_OK) {
		tt_lab_tokens(ids, o->n_prompt, tt_engine_info(lab->engine)->vocab_size, seed);
		options.ids = ids;
		options.n_ids = o->n_prompt;
		options.max_tokens = o->n_gen + 1;
		options.ignore_eos = true;
		options.n_steering = way->n_steering;
		memcpy(options.steering, way->steering, sizeof options.steering);
		code = tt_request_submit(&request, lab->engine, &options, &err);
	}
	if (code == TT_OK)
		code = tt_request_wait(request, &err);
	tt_request_free(request);
	tt_free(ids);
	return code == TT_OK ? CLI_PROCEED : cli_fail(&err);
}

static int measure_limits(struct limits *out, uint32_t n_threads)
{
	struct tt_error err = {0};
	struct tt_bench_options options;
	struct tt_bench *bench = NULL;
	struct tt_ceilings *ceilings = NULL;
	struct tt_bench_result fma, read;
	tt_bench_options_default(&options);
	options.program = "trimtab bench";
	options.min_rounds = options.max_rounds = N_ROUNDS;
	options.min_seconds = 0;
	int code = tt_bench_open(&bench, &options, &err);
	if (code == TT_OK)
		code = tt_ceilings_open(&ceilings, n_threads, CEILING_BYTES, &err);
	if (code == TT_OK)
		code = tt_ceilings_add(ceilings, bench, "limits", TT_CEILING_FMA | TT_CEILING_READ, &err);
	if (code == TT_OK)
		code = tt_bench_run(bench, &err);
	if (code == TT_OK)
		code = tt_bench_result(bench, 0, &fma, &err);
	if (code == TT_OK)
		code = tt_bench_result(bench, 1, &read, &err);
	if (code == TT_OK)
		*out = (struct limits){fma.rates[0].median, read.rates[0].median};
	tt_bench_close(bench);
	tt_ceilings_close(ceilings);
	return code == TT_OK ? CLI_PROCEED : cli_fail(&err);
}

static struct sum *sum_of(struct phase *phase, const char *op)
{
	for (size_t i = 0; i < phase->n; i++)
		if (strcmp(phase->sums[i].op, op) == 0)
			return &phase->sums[i];
	struct sum *sum = &phase->sums[phase->n < MAX_OPS ? phase->n++ : MAX_OPS - 1];
	*sum = (struct sum){.op = op};
	return sum;
}

static bool is_step(const struct tt_timeline_event *event)
{
	return strcmp(event->op, "step") == 0;
}

/* Events come in the order of their ends, so a step's ops stand before it. The last n_gen steps are generation. */
static void add_up(struct phase phases[2], const struct tt_timeline_event *events, size_t n, uint32_t n_gen)
{
	size_t n_steps = 0, step = 0;
	for (size_t i = 0; i < n; i++)
		n_steps += is_step(&events[i]);
	for (size_t i = 0, first = 0; i < n; i++) {
		if (!is_step(&events[i]))
			continue;
		struct phase *phase = &phases[step++ + n_gen >= n_steps];
		for (; first < i; first++) {
			struct sum *sum = sum_of(phase, events[first].op);
			sum->n++;
			sum->seconds += events[first].to - events[first].from;
			sum->flops += events[first].flops;
			sum->bytes += events[first].bytes;
		}
		first = i + 1;
		phase->steps++;
		phase->seconds += events[i].to - events[i].from;
	}
}

static void print_row(
	struct cli_table *table, const struct phase *phase, const struct sum *sum, const struct limits *limits)
{
	double flops = sum->flops / sum->seconds, bytes = sum->bytes / sum->seconds;
	double fma = flops / limits->fma, read = bytes / limits->read;
	cli_table_cell(table, "%s", sum->op);
	cli_table_cell(table, "%.0f", sum->n);
	cli_table_cell(table, "%.3f", sum->seconds * 1e3);
	cli_table_cell(table, "%.1f%%", 100 * sum->seconds / phase->seconds);
	for (int i = 0; sum->flops <= 0 && i < N_RATES; i++)
		cli_table_cell(table, "%s", "");
	if (sum->flops <= 0)
		return;
	cli_table_cell(table, "%.1f", flops / 1e9);
	cli_table_cell(table, "%.1f%%", 100 * fma);
	cli_table_cell(table, "%.2f", bytes / 1e9);
	cli_table_cell(table, "%.1f%%", 100 * read);
	cli_table_cell(table, "%s", fma > read ? "fma" : "read");
}

static void print_phase(const struct phase *phase, const struct limits *limits)
{
	struct cli_table table;
	struct sum rest = {.op = "between ops", .n = phase->steps, .seconds = phase->seconds};
	if (phase->steps == 0)
		return;
	cli_table_begin(&table, "lrrrrrrrl");
	cli_table_cell(&table, "%s, %.0f step%s", phase->name, phase->steps, phase->steps > 1 ? "s" : "");
	for (size_t i = 0; i < 8; i++)
		cli_table_cell(&table, "%s",
			(const char *const[]){
				"calls", "ms", "time", "GFLOP/s", "of fma", "GB/s", "of read", "bound"}[i]);
	for (size_t i = 0; i < phase->n; i++) {
		print_row(&table, phase, &phase->sums[i], limits);
		rest.seconds -= phase->sums[i].seconds;
	}
	print_row(&table, phase, &rest, limits);
	cli_bench_print_table(&table, false);
}

static int write_trace(const struct tt_timeline *timeline, const char *path, struct tt_error *err)
{
	json_t *trace = NULL;
	char *text = NULL;
	TT_TRY(tt_timeline_trace(timeline, &trace, err));
	TT_TRY(tt_json_dump(&text, trace, JSON_REAL_PRECISION(9), err));
	int status = tt_file_write(path, text, strlen(text), err);
	free(text);
	return status;
}

static int report(struct tt_timeline *timeline, const struct cli_bench_timeline *o, const struct limits *limits)
{
	struct tt_error err = {0};
	const struct tt_timeline_event *events;
	size_t n;
	struct phase phases[2] = {{.name = "prompt"}, {.name = "generation"}};
	int code = tt_timeline_events(timeline, &events, &n, &err);
	if (code == TT_OK)
		code = write_trace(timeline, o->path, &err);
	if (code != TT_OK)
		return cli_fail(&err);
	add_up(phases, events, n, o->n_gen);
	print_phase(&phases[0], limits);
	print_phase(&phases[1], limits);
	printf("fma is %.1f GFLOP/s, read %.1f GB/s: what this machine reached in the same minute.\n%s: open it in "
	       "chrome://tracing or Perfetto.\n",
		limits->fma / 1e9, limits->read / 1e9, o->path);
	return CLI_OK;
}

int cli_bench_run_timeline(const struct tt_token_lab *lab, const struct cli_bench_timeline *o)
{
	struct tt_error err = {0};
	struct tt_timeline *timeline = NULL;
	struct limits limits;
	int status = cli_check_output(o->path);
	if (status == CLI_PROCEED)
		status = run_request(lab, o, WARM_SEED);
	if (status == CLI_PROCEED)
		status = measure_limits(&limits, tt_engine_info(lab->engine)->n_threads);
	if (status == CLI_PROCEED && tt_timeline_open(&timeline, lab->engine, &err) != TT_OK)
		status = cli_fail(&err);
	if (status == CLI_PROCEED)
		status = run_request(lab, o, SEED);
	if (status == CLI_PROCEED)
		status = report(timeline, o, &limits);
	tt_timeline_close(timeline);
	return status;
}
