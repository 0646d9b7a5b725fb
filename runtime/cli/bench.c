/* trimtab bench: llama-bench's tests, each with and without steering in interleaved rounds. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/harness/ceilings.h"
#include "bench/harness/noise.h"

static const char about[] =
	"Times a prompt (pp512: 512 tokens), generation (tg128: 128 tokens, one a pass) and both together (--pg), as "
	"llama-bench\n"
	"defines them, with the same columns: tokens a second, mean and standard deviation over the repetitions. Each "
	"test runs\n"
	"unsteered and steered in turn, in rounds of a random order; ratio is the median of steered over unsteered "
	"time within\n"
	"a round, with the interval in which the true one lies. Without --policy noise is added at every layer.\n"
	"\n"
	"MODEL is a file, a directory, or dummy:NAME for the shapes of a known model with random weights. Lists have "
	"commas, or\n"
	"are FIRST-LAST, FIRST-LAST+STEP or FIRST-LAST*FACTOR. bench/README.md compares each figure with "
	"llama-bench's.\n"
	"\n"
	"With --num-prompts it is a serving run, in which requests arrive over time: times to the first token (ttft), "
	"per "
	"token\n"
	"after it (tpot), between tokens (itl) and to the end (e2el), as vllm bench serve defines them.";

static const char examples[] =
	"  trimtab bench model.gguf\n"
	"  trimtab bench model.gguf -p 0 -n 32 -d 0,512,1024 -r 9 --policy refuse.safetensors\n"
	"  trimtab bench dummy:llama-3.2-1b -p 512 -n 0 -b 128-512*2 --off -o csv\n"
	"  trimtab bench model.gguf --scale rows,context,layers,stack,policies --rows 64 -o json\n"
	"  trimtab bench model.gguf --num-prompts 64 --request-rate 2 -p 128 -n 32 --goodput ttft:500,tpot:60";

enum { MAX_VALUES = 64, MAX_TOKENS = 1 << 20, CEILING_BYTES = 256 << 20, POLICY_SEED = 3, DEFAULT_ROUNDS = 5 };

struct values {
	uint32_t list[MAX_VALUES]; // [n]
	size_t n;
};

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list, prompts, gens, pairs, depths, batches, rows, way_names;
	uint32_t n_rounds;
	int format;
	bool off, limits, no_warmup, matrix;
	const char *scale; /* axes; NULL: none */
	struct cli_bench_timeline timeline;
	struct values n_prompt, n_gen, n_depth, n_batch, n_rows, pair; /* pair: prompt and generation in turn */
	struct cli_policies policies;
	struct tt_policy *synthetic;
	struct tt_token_lab lab;
	struct tt_token_way ways[2]; /* off, steered */
	struct cli_bench_serving serving;
	const char *goodput;
	struct tt_ceilings *ceilings;
	struct cli_bench_report report;
	struct cli_bench_file file;
	size_t n_failed;
};

/* ---- Options */

static bool add_value(struct values *v, double value)
{
	if (v->n == MAX_VALUES || !(value >= 0 && value <= MAX_TOKENS))
		return false;
	v->list[v->n++] = (uint32_t)value;
	return true;
}

static bool read_number(const char **text, double *out)
{
	char *end;
	if (**text < '0' || **text > '9')
		return false;
	*out = (double)strtoul(*text, &end, 10);
	*text = end;
	return true;
}

/* Adds "512", "128-512", "128-512+128" or "128-512*2". */
static bool add_range(struct values *v, const char **text)
{
	double first, last, by = 1;
	char how = '+';
	if (!read_number(text, &first))
		return false;
	if (**text != '-')
		return add_value(v, first);
	++*text;
	if (!read_number(text, &last) || last < first)
		return false;
	if (**text == '+' || **text == '*') {
		how = *(*text)++;
		if (!read_number(text, &by) || by < 1 || (how == '*' && (by < 2 || first < 1)))
			return false;
	}
	for (; first <= last; first = how == '*' ? first * by : first + by)
		if (!add_value(v, first))
			return false;
	return true;
}

/* Reads all that an option was given, with commas between or repeated; absent: the default. */
static int read_values(struct values *v, const struct cli_list *list, const char *option, const char *absent)
{
	for (size_t i = 0; i < (list->n ? list->n : 1); i++) {
		const char *text = list->n ? list->items[i] : absent;
		if (!text)
			return CLI_PROCEED;
		do {
			if (!add_range(v, &text) || (*text && *text != ','))
				return cli_usage_error("bench",
					"--%s takes numbers up to %d, at most %d of them, not '%s'", option, MAX_TOKENS,
					MAX_VALUES, list->n ? list->items[i] : absent);
		} while (*text++ == ',');
	}
	return CLI_PROCEED;
}

static int read_lists(struct run *run)
{
	int status = read_values(&run->n_prompt, &run->prompts, "n-prompt", "512");
	if (status == CLI_PROCEED)
		status = read_values(&run->n_gen, &run->gens, "n-gen", run->scale ? "16" : "128");
	if (status == CLI_PROCEED)
		status = read_values(&run->n_depth, &run->depths, "n-depth", "0");
	if (status == CLI_PROCEED)
		status = read_values(&run->n_batch, &run->batches, "batch-size", "512");
	if (status == CLI_PROCEED)
		status = read_values(&run->n_rows, &run->rows, "rows", "1,32");
	for (size_t i = 0; status == CLI_PROCEED && i < run->pairs.n; i++) {
		const struct cli_list one = {{run->pairs.items[i]}, 1};
		size_t before = run->pair.n;
		status = read_values(&run->pair, &one, "pg", NULL);
		if (status == CLI_PROCEED &&
			(run->pair.n != before + 2 || !run->pair.list[before] || !run->pair.list[before + 1]))
			status = cli_usage_error("bench", "--pg takes PROMPT,GEN, not '%s'", run->pairs.items[i]);
	}
	return status;
}

static int check_matrix(const struct run *run)
{
	const char *name = run->scale ? "--scale" : "--matrix";
	if (run->scale && (run->matrix || run->prompts.n || run->way_names.n))
		return cli_usage_error("bench", "--scale is of generation alone, and no --matrix; --way is for that");
	if (run->serving.n_requests || run->policies.n || run->off || run->pairs.n || run->depths.n || run->limits ||
		run->batches.n || run->no_warmup)
		return cli_usage_error("bench", "%s takes --rows,%s -n, -r, -o, --report and what an engine takes",
			name, run->scale ? "" : " -p,");
	if (run->n_prompt.n != 1 || run->n_gen.n != 1 || (run->scale && !run->n_gen.list[0]))
		return cli_usage_error("bench", "%s takes one --n-prompt and --n-gen", name);
	for (size_t i = 0; i < run->n_rows.n; i++)
		if (run->n_rows.list[i] < 1 || run->n_rows.list[i] > TT_MAX_TOKEN_ROWS)
			return cli_usage_error("bench", "--rows must be from 1 to %d", TT_MAX_TOKEN_ROWS);
	if (run->format != CLI_BENCH_MD && run->format != CLI_BENCH_JSON)
		return cli_usage_error("bench", "%s is printed as md or json", name);
	return CLI_PROCEED;
}

static int check_timeline(struct run *run)
{
	if (run->matrix || run->scale || run->serving.n_requests || run->pairs.n || run->depths.n || run->limits ||
		run->file.path || run->rows.n || run->no_warmup || run->n_rounds != DEFAULT_ROUNDS ||
		run->format != CLI_BENCH_MD)
		return cli_usage_error(
			"bench", "--timeline takes -p, -n, -b, --policy, --off and what an engine takes");
	if (run->n_prompt.n != 1 || run->n_gen.n != 1 || run->n_batch.n != 1 || !run->n_prompt.list[0])
		return cli_usage_error("bench", "--timeline takes one --n-prompt, --n-gen and --batch-size");
	run->timeline.n_prompt = run->n_prompt.list[0];
	run->timeline.n_gen = run->n_gen.list[0];
	return CLI_PROCEED;
}

/* A serving run has one length of prompts and of answers. */
static int check_serving(struct run *run)
{
	struct cli_bench_serving *s = &run->serving;
	if (run->timeline.path)
		return check_timeline(run);
	s->format = (enum cli_bench_format)run->format;
	s->n_prompt = run->n_prompt.list[0];
	s->n_gen = run->n_gen.list[0];
	if (s->n_requests == 0 && (s->rate > 0 || s->concurrency || run->goodput))
		return cli_usage_error("bench", "--request-rate, --max-concurrency and --goodput need --num-prompts");
	if (run->matrix || run->scale)
		return check_matrix(run);
	if (run->rows.n || run->way_names.n)
		return cli_usage_error("bench", "--rows is for --matrix and --scale, --way for --matrix");
	if (s->n_requests == 0)
		return CLI_PROCEED;
	if (run->n_prompt.n != 1 || run->n_gen.n != 1 || run->n_batch.n != 1 || !s->n_prompt || !s->n_gen)
		return cli_usage_error("bench", "a serving run takes one --n-prompt, --n-gen and --batch-size");
	if (run->pairs.n || run->depths.n || run->limits || run->file.path)
		return cli_usage_error("bench", "--pg, --n-depth, --limits and --report are not for a serving run");
	if (s->format != CLI_BENCH_MD && s->format != CLI_BENCH_JSON)
		return cli_usage_error("bench", "a serving run is printed as md or json");
	return cli_bench_goodput(s->limits, run->goodput);
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	const struct cli_option options[] = {
		{"n-prompt", 'p', NULL, CLI_LIST, &run->prompts, "N,..", 0, 0,
			"tokens of a prompt; 0: none (default 512)"},
		{"n-gen", 'n', NULL, CLI_LIST, &run->gens, "N,..", 0, 0, "tokens to generate; 0: none (default 128)"},
		{"pg", 0, NULL, CLI_LIST, &run->pairs, "N,M", 0, 0, "a prompt, then generation; also -pg"},
		{"n-depth", 'd', NULL, CLI_LIST, &run->depths, "N,..", 0, 0,
			"tokens that are there before the test, in multiples of 16 (default 0)"},
		{"batch-size", 'b', NULL, CLI_LIST, &run->batches, "N,..", 0, 0,
			"most tokens of a prompt in one pass (default 512)"},
		{"repetitions", 'r', NULL, CLI_U32, &run->n_rounds, "N", 1, 10000, "rounds"},
		{"output", 'o', NULL, CLI_CHOICE, &run->format, "md|csv|json|jsonl", 0, 0, "format on standard output"},
		{"report", 0, NULL, CLI_STRING, &run->file.path, "F.json", 0, 0,
			"write machine, build, commit and all samples there, as bench/schema.json describes it"},
		CLI_POLICY_OPTION(run->policy_list),
		{"off", 0, NULL, CLI_FLAG, &run->off, NULL, 0, 0, "only unsteered"},
		{"limits", 0, NULL, CLI_FLAG, &run->limits, NULL, 0, 0,
			"the shares of the machine's rates of multiply-adds and of reading, measured in the same "
			"rounds"},
		{"matrix", 0, NULL, CLI_FLAG, &run->matrix, NULL, 0, 0,
			"instead: every operation, gate and manner of steering beside none"},
		{"scale", 0, NULL, CLI_STRING, &run->scale, "AXIS,..", 0, 0,
			"instead: how a step's time, and what steering adds, grow with rows, context, steered layers, "
			"a stack of policies or policies among the rows"},
		{"timeline", 0, NULL, CLI_STRING, &run->timeline.path, "F.json", 0, 0,
			"instead: each op's time, and share of the machine's limits, in one prompt and its generation, "
			"with a trace for Perfetto (a CPU's)"},
		{"rows", 0, NULL, CLI_LIST, &run->rows, "N,..", 0, 0,
			"of the matrix and the scales: sequences that generate together, at most 256 (default 1,32)"},
		{"way", 0, NULL, CLI_LIST, &run->way_names, "NAME", 0, 0,
			"of the matrix: this way beside off, and others that are named so, not all"},
		{"num-prompts", 0, NULL, CLI_U32, &run->serving.n_requests, "N", 0, 1 << 20,
			"instead: a serving run of N requests of -p and -n tokens, as vllm bench serve"},
		{"request-rate", 0, NULL, CLI_FLOAT, &run->serving.rate, "R", 0, 1e6,
			"of a serving run: requests a second, as a Poisson process; 0: all at once"},
		{"max-concurrency", 0, NULL, CLI_U32, &run->serving.concurrency, "N", 0, 4096,
			"of a serving run: requests in flight at most, a closed loop; 0: no limit"},
		{"goodput", 0, NULL, CLI_STRING, &run->goodput, "ttft:MS,..", 0, 0,
			"of a serving run: what a good request's ttft, tpot and e2el stay within"},
		{"seed", 0, NULL, CLI_U64, &run->serving.seed, "N", 0, 0, "of a serving run: of arrivals and tokens"},
		{"no-warmup", 0, NULL, CLI_FLAG, &run->no_warmup, NULL, 0, 0, "no uncounted round first"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
	};
	const struct cli_usage usage = {
		"bench", "MODEL [OPTION]...", about, examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status == CLI_PROCEED)
		status = cli_policies_parse(&run->policies, &run->policy_list, "bench");
	if (status == CLI_PROCEED && run->off && run->policies.n)
		return cli_usage_error("bench", "--off and --policy exclude each other");
	if (status == CLI_PROCEED)
		status = read_lists(run);
	return status == CLI_PROCEED ? check_serving(run) : status;
}

/* ---- Tests */

/* The next test in llama-bench's order: each depth's prompts, generations and pairs. False after the last. */
static bool next_test(const struct run *run, size_t *at, struct tt_token_test *out)
{
	size_t n_pairs = run->pair.n / 2, n = run->n_prompt.n + run->n_gen.n + n_pairs;
	for (; *at < n * run->n_depth.n; ++*at) {
		size_t i = *at % n;
		*out = (struct tt_token_test){.n_depth = run->n_depth.list[*at / n]};
		if (i < run->n_prompt.n)
			out->n_prompt = run->n_prompt.list[i];
		else if ((i -= run->n_prompt.n) < run->n_gen.n)
			out->n_gen = run->n_gen.list[i];
		else {
			i -= run->n_gen.n;
			out->n_prompt = run->pair.list[2 * i];
			out->n_gen = run->pair.list[2 * i + 1];
		}
		if (out->n_prompt + out->n_gen) {
			++*at;
			return true;
		}
	}
	return false;
}

static int check_tests(const struct run *run)
{
	struct tt_token_test test;
	size_t at = 0;
	if (!next_test(run, &at, &test))
		return cli_usage_error("bench", "there is nothing to time");
	for (size_t i = 0; i < run->n_batch.n; i++)
		if (run->n_batch.list[i] == 0)
			return cli_usage_error("bench", "--batch-size must be above 0");
	for (size_t i = 0; i < run->n_depth.n; i++)
		if (run->n_depth.list[i] % 16)
			return cli_usage_error(
				"bench", "--n-depth must be a multiple of 16, not %u", run->n_depth.list[i]);
	return CLI_PROCEED;
}

void cli_bench_draw(void *user, const char *group, uint32_t round, uint32_t min_rounds)
{
	(void)user;
	fprintf(stderr, "\r\033[K%s: round %u of %u", group, round + 1, min_rounds);
	fflush(stderr);
}

static int open_bench(struct tt_bench **out, const struct run *run, struct tt_error *err)
{
	struct tt_bench_options options;
	tt_bench_options_default(&options);
	cli_bench_file_command(&run->file, &options);
	options.n_threads = tt_engine_info(run->lab.engine)->n_threads;
	options.n_warmup = !run->no_warmup;
	options.min_rounds = options.max_rounds = run->n_rounds;
	options.min_seconds = 0;
	options.progress = cli_draws() ? cli_bench_draw : NULL;
	return tt_bench_open(out, &options, err);
}

static int time_test(struct run *run, const struct tt_token_test *test, uint32_t n_batch, struct tt_bench *bench,
	struct tt_token_cases **cases, struct tt_error *err)
{
	char name[TT_TOKEN_TEST_NAME + 32];
	tt_token_test_name(name, test);
	if (run->report.several_batches)
		snprintf(name + strlen(name), 32, ", batch size %u", n_batch);
	int status = tt_token_test_add(cases, bench, &run->lab, name, test, run->limits, err);
	if (status == TT_OK && run->limits)
		status = tt_ceilings_add(run->ceilings, bench, name, TT_CEILING_FMA | TT_CEILING_READ, err);
	if (status == TT_OK)
		status = tt_bench_run(bench, err);
	if (cli_draws())
		fputs("\r\033[K", stderr);
	return status;
}

/* A test that fails is said and counted; the others go on. */
static int run_test(struct run *run, const struct tt_token_test *test, uint32_t n_batch)
{
	struct tt_error err = {0};
	struct tt_bench *bench = NULL;
	struct tt_token_cases *cases = NULL;
	char date[TT_DATE_BYTES];
	int status = CLI_OK;
	tt_date_now(date);
	if (open_bench(&bench, run, &err) != TT_OK || time_test(run, test, n_batch, bench, &cases, &err) != TT_OK) {
		run->n_failed++;
		cli_fail(&err);
	} else {
		const struct cli_bench_row row = {run->lab.engine, *test, n_batch, date, bench};
		run->n_failed += tt_bench_n_failed(bench) > 0;
		status = cli_bench_print(&run->report, &row);
		if (status == CLI_OK && cli_bench_file_add(&run->file, bench, run->lab.engine) != CLI_PROCEED)
			status = CLI_FAILED;
	}
	tt_token_cases_free(cases);
	tt_bench_close(bench);
	return status;
}

/* ---- The engine of a batch size */

static int open_engine(struct run *run, const char *model, uint32_t n_batch)
{
	struct tt_engine_options options, defaults;
	struct tt_token_test test;
	uint64_t longest = run->serving.n_requests ? run->serving.n_prompt + run->serving.n_gen : 0;
	if (run->timeline.path)
		longest = (uint64_t)run->timeline.n_prompt + run->timeline.n_gen + 1;
	for (size_t at = 0; next_test(run, &at, &test);)
		longest = tt_token_test_positions(&test) > longest ? tt_token_test_positions(&test) : longest;
	cli_engine_options(&options, &run->engine_args);
	if (!options.context)
		options.context = (uint32_t)longest;
	options.max_batch = 1;
	options.max_step_tokens = n_batch;
	/* The context's pages of both sides stay while a test runs. */
	options.kv_tokens = (uint32_t)(3 * longest + 64);
	if (run->serving.n_requests) {
		tt_engine_options_default(&defaults);
		options.max_batch = defaults.max_batch;
		options.kv_tokens = defaults.max_batch * (uint32_t)(run->serving.n_prompt + run->serving.n_gen + 16);
		options.max_step_tokens = n_batch > options.max_batch ? n_batch : options.max_batch;
	}
	return cli_engine_open_as(&run->lab.engine, model, &options);
}

static int add_steering(struct run *run)
{
	struct tt_error err = {0};
	const struct tt_model_info *info = tt_engine_info(run->lab.engine);
	struct tt_token_way *steered = &run->ways[1];
	run->ways[0] = (struct tt_token_way){.name = "off"};
	*steered = (struct tt_token_way){.name = "steered"};
	run->lab.ways = run->ways;
	run->lab.n_ways = 1;
	if (run->off)
		return CLI_PROCEED;
	run->lab.n_ways = 2;
	steered->n_steering = 1;
	if (run->policies.n) {
		int status = cli_policies_load(&run->policies, run->lab.engine);
		memcpy(steered->steering, run->policies.steering, sizeof steered->steering);
		steered->n_steering = run->policies.n;
		for (uint32_t i = 0; status == CLI_PROCEED && i < run->policies.n; i++) {
			struct tt_policy_info policy;
			tt_policy_describe(run->policies.steering[i].policy, &policy);
			steered->has_gate |= policy.gate != TT_GATE_ALWAYS;
		}
		return status;
	}
	if (tt_bench_synthetic_policy(&run->synthetic, info, TT_BENCH_ALL_LAYERS, POLICY_SEED, &err) != TT_OK ||
		tt_engine_add_policy(run->lab.engine, run->synthetic, NULL, &err) != TT_OK)
		return cli_fail(&err);
	steered->steering[0] = (struct tt_steering){run->synthetic, 1};
	return CLI_PROCEED;
}

static void close_engine(struct run *run)
{
	for (uint32_t i = 0; run->lab.engine && i < run->policies.n; i++) {
		tt_engine_remove_policy(run->lab.engine, run->policies.steering[i].policy, NULL);
		tt_policy_free(run->policies.steering[i].policy);
		run->policies.steering[i].policy = NULL;
	}
	tt_engine_close(run->lab.engine);
	tt_policy_free(run->synthetic);
	run->lab.engine = NULL;
	run->synthetic = NULL;
}

static int run_batch_size(struct run *run, const char *model, uint32_t n_batch)
{
	struct tt_error err = {0};
	struct tt_token_test test;
	int status = open_engine(run, model, n_batch);
	if (status == CLI_PROCEED)
		status = add_steering(run);
	if (status == CLI_PROCEED && (run->serving.n_requests || run->timeline.path)) {
		status = run->timeline.path ? cli_bench_run_timeline(&run->lab, &run->timeline)
					    : cli_bench_serve(&run->lab, &run->serving);
		close_engine(run);
		return status == CLI_OK ? CLI_PROCEED : status;
	}
	if (status == CLI_PROCEED && run->limits && !run->ceilings &&
		tt_ceilings_open(&run->ceilings, tt_engine_info(run->lab.engine)->n_threads, CEILING_BYTES, &err))
		status = cli_fail(&err);
	for (size_t at = 0; status == CLI_PROCEED && next_test(run, &at, &test);)
		status = run_test(run, &test, n_batch) == CLI_OK ? CLI_PROCEED : CLI_FAILED;
	close_engine(run);
	return status;
}

static int bench(struct run *run, const char *model)
{
	static const char *const kv_words[] = {"f32", "f16", "q8_0", "f8_e4m3"}; /* as ggml calls them */
	int status = check_tests(run);
	const struct cli_bench_matrix matrix = {&run->file, &run->engine_args, run->n_rows.list, run->n_rows.n,
		run->way_names.items, run->way_names.n, run->n_prompt.list[0], run->n_gen.list[0], run->n_rounds,
		run->format == CLI_BENCH_JSON};
	run->file.kv = kv_words[run->engine_args.kv];
	run->file.compute = run->engine_args.compute ? "q8" : "f32";
	if (status == CLI_PROCEED && run->matrix)
		return cli_bench_run_matrix(&matrix, model);
	if (status == CLI_PROCEED && run->scale)
		return cli_bench_run_scale(&matrix, run->scale, model);
	run->report = (struct cli_bench_report){.format = (enum cli_bench_format)run->format,
		.steered = !run->off,
		.limits = run->limits,
		.several_batches = run->batches.n > 0,
		.kv = run->file.kv,
		.compute = run->file.compute,
		.policy = run->policies.n ? run->policies.paths[0] : "synthetic"};
	for (size_t i = 0; status == CLI_PROCEED && i < run->n_batch.n; i++)
		status = run_batch_size(run, model, run->n_batch.list[i]);
	if (run->serving.n_requests || run->timeline.path)
		return status == CLI_PROCEED ? CLI_OK : status;
	if (status == CLI_PROCEED || run->report.n_rows > 0)
		cli_bench_print_end(&run->report);
	if (status != CLI_PROCEED)
		return status;
	return run->n_failed ? cli_failf("%zu tests failed", run->n_failed) : CLI_OK;
}

/* llama-bench's -pg, which getopt would take for -p g. */
static void spell_pg(int argc, char **argv)
{
	static char pg[] = "--pg";
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "-pg") == 0)
			argv[i] = pg;
}

int cli_bench(int argc, char **argv)
{
	struct run run = {.n_rounds = DEFAULT_ROUNDS, .file = {.arguments = argv, .n_arguments = argc}};
	struct cli_list positional = {0};
	spell_pg(argc, argv);
	int status = parse(&run, argc, argv, &positional);
	if (status == CLI_PROCEED) {
		status = bench(&run, positional.items[0]);
		if (cli_bench_file_write(&run.file) != CLI_PROCEED)
			status = CLI_FAILED;
	}
	tt_ceilings_close(run.ceilings);
	cli_policies_free(&run.policies, NULL);
	return status;
}
