/* trimtab-bench: how much an engine does in a second on this machine, what steering costs, and how far both are from
 * what the machine could do. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "bench/harness/ceilings.h"
#include "bench/harness/engine_cases.h"
#include "bench/harness/noise.h"

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	N_BATCHES = 3,
	MAX_BATCH = 32,
	CEILING_BYTES = 256 << 20,
	POLICY_SEED = 3
};

static const uint32_t batches[N_BATCHES] = {1, 8, MAX_BATCH};

struct arguments {
	const char *model, *policy, *json, *compute;
	uint32_t n_threads, n_rounds;
	bool quick, distinct;
};

struct run {
	struct arguments arguments;
	struct tt_engine_options engine_options;
	struct tt_lab lab;
	struct tt_bench *bench;
	struct tt_ceilings *ceilings;
	struct tt_engine *loaded; /* set by the load case */
	struct tt_prefill_case *prefill;
	struct tt_decode_case *decodes[N_BATCHES];
	uint32_t n_decodes;
	struct tt_policy *policies[TT_LAB_MAX_BATCH]; /* with --distinct */
};

static const char usage[] =
	"usage: trimtab-bench --model MODEL [options]\n"
	"\n"
	"Times loading, prefill of 512 tokens, and decoding at batch 1, 8 and 32 of a model (a GGUF file or a Hugging\n"
	"Face directory), each unsteered and steered in turn, beside the most that this machine can multiply and "
	"read.\n"
	"\n"
	"  --model F     the model\n"
	"  --policy F    steer by this policy (default: noise added at every layer, another scale in each row)\n"
	"  --threads N   threads (default: one a core)\n"
	"  --compute C   f32 (default), or q8: products with eight-bit inputs, on a CPU\n"
	"  --rounds N    at least N rounds (default: 15, and at least 10 seconds a group)\n"
	"  --json F      write the report there too, as bench/schema.json describes it\n"
	"  --distinct    only decoding at batch 64, where each row has a policy of its own\n"
	"  --quick       5 rounds, 128 tokens of prefill: for a first look, too few for an interval\n"
	"  --help        this text\n";

/* ---- Options ---- */

static bool parse_count(const char *text, uint32_t max, uint32_t *out)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < 1 || value > max)
		return false;
	*out = (uint32_t)value;
	return true;
}

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "trimtab-bench: %s%s; see trimtab-bench --help\n", what, value);
	return EXIT_USAGE;
}

/* With EXIT_OK and a.model NULL, the usage was asked for. */
static int parse(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
		{"policy", required_argument, NULL, 'p'}, {"threads", required_argument, NULL, 't'},
		{"compute", required_argument, NULL, 'c'}, {"rounds", required_argument, NULL, 'r'},
		{"json", required_argument, NULL, 'j'}, {"quick", no_argument, NULL, 'q'},
		{"distinct", no_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int c;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'm')
			a->model = optarg;
		else if (c == 'p')
			a->policy = optarg;
		else if (c == 'j')
			a->json = optarg;
		else if (c == 'q')
			a->quick = true;
		else if (c == 'd')
			a->distinct = true;
		else if (c == 'c' && strcmp(optarg, "f32") != 0 && strcmp(optarg, "q8") != 0)
			return usage_error("--compute must be f32 or q8, not ", optarg);
		else if (c == 'c')
			a->compute = optarg;
		else if (c == 't' && !parse_count(optarg, 1024, &a->n_threads))
			return usage_error("--threads must be a number from 1 to 1024, not ", optarg);
		else if (c == 'r' && !parse_count(optarg, 10000, &a->n_rounds))
			return usage_error("--rounds must be a number from 1 to 10000, not ", optarg);
		else if (c == 'h') {
			a->model = NULL;
			return EXIT_OK;
		} else if (c == '?')
			return EXIT_USAGE; /* getopt has reported why */
	}
	if (optind < argc)
		return usage_error("unexpected argument ", argv[optind]);
	return a->model ? EXIT_OK : usage_error("--model is missing", "");
}

/* ---- Cases ---- */

static int load_run(void *context, struct tt_error *err)
{
	struct run *run = context;
	return tt_engine_open(&run->loaded, run->arguments.model, &run->engine_options, err);
}

static int load_after(void *context, struct tt_error *err)
{
	struct run *run = context;
	(void)err;
	tt_engine_close(run->loaded);
	run->loaded = NULL;
	return TT_OK;
}

static int add_load(struct run *run, struct tt_error *err)
{
	struct tt_bench_case load = {
		.group = "load",
		.name = "load",
		.note = "the file is in the page cache",
		.run = load_run,
		.after = load_after,
		.context = run,
	};
	return tt_bench_add(run->bench, &load, err);
}

static int add_decode(struct run *run, const char *group, uint32_t batch, struct tt_error *err)
{
	uint32_t n_steps = run->arguments.quick ? 4 : 8;
	TT_TRY(tt_decode_add(&run->decodes[run->n_decodes++], run->bench, &run->lab, group, batch, n_steps, err));
	return tt_ceilings_add(
		run->ceilings, run->bench, group, TT_CEILING_FMA | TT_CEILING_COPY | TT_CEILING_READ, err);
}

static int add_cases(struct run *run, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(run->lab.engines[0]);
	uint32_t n_prefill = run->arguments.quick ? 128 : 512;
	char group[64];
	if (n_prefill > info->context)
		n_prefill = info->context;
	TT_TRY(tt_ceilings_open(&run->ceilings, info->n_threads, CEILING_BYTES, err));
	if (run->arguments.distinct)
		return add_decode(run, "decode batch 64, 64 policies", TT_LAB_MAX_BATCH, err);
	TT_TRY(add_load(run, err));
	snprintf(group, sizeof group, "prefill %u", n_prefill);
	TT_TRY(tt_prefill_add(&run->prefill, run->bench, &run->lab, group, n_prefill, err));
	TT_TRY(tt_ceilings_add(run->ceilings, run->bench, group, TT_CEILING_FMA, err));
	for (size_t i = 0; i < N_BATCHES; i++) {
		snprintf(group, sizeof group, "decode batch %u", batches[i]);
		TT_TRY(add_decode(run, group, batches[i], err));
	}
	return TT_OK;
}

/* ---- The run ---- */

/* Loads a policy of its own for each row. */
static int open_policies(struct run *run, struct tt_error *err)
{
	struct tt_lab *lab = &run->lab;
	for (uint64_t row = 0; row < TT_LAB_MAX_BATCH; row++) {
		TT_TRY(tt_bench_synthetic_policy(&run->policies[row], tt_engine_info(lab->engines[0]),
			TT_BENCH_ALL_LAYERS, POLICY_SEED + 1 + row, err));
		for (int i = 0; i < 2; i++)
			TT_TRY(tt_engine_add_policy(lab->engines[i], run->policies[row], NULL, err));
	}
	lab->by_row = run->policies;
	return TT_OK;
}

static int open_lab(struct run *run, struct tt_error *err)
{
	const struct arguments *a = &run->arguments;
	struct tt_lab *lab = &run->lab;
	uint32_t max_batch = a->distinct ? TT_LAB_MAX_BATCH : MAX_BATCH;
	tt_engine_options_default(&run->engine_options);
	run->engine_options.n_threads = a->n_threads;
	run->engine_options.max_batch = max_batch;
	run->engine_options.compute = strcmp(a->compute, "q8") ? TT_COMPUTE_F32 : TT_COMPUTE_Q8;
	run->engine_options.no_prefix_sharing = true; /* the same prompts are used again and again */
	/* Room for a batch whose first rows have decoded a little more, and for the longest prompt. */
	run->engine_options.kv_tokens = max_batch * (TT_LAB_PROMPT + TT_LAB_DECODED + 64);
	for (int i = 0; i < 2; i++)
		TT_TRY(tt_engine_open(&lab->engines[i], a->model, &run->engine_options, err));
	lab->synthetic = !a->policy;
	if (a->policy)
		TT_TRY(tt_policy_load(&lab->policy, a->policy, err));
	else
		TT_TRY(tt_bench_synthetic_policy(
			&lab->policy, tt_engine_info(lab->engines[0]), TT_BENCH_ALL_LAYERS, POLICY_SEED, err));
	for (int i = 0; i < 2; i++) {
		const char *warning = NULL;
		TT_TRY(tt_engine_add_policy(lab->engines[i], lab->policy, &warning, err));
		if (warning && i == 0)
			fprintf(stderr, "trimtab-bench: %s\n", warning);
	}
	return a->distinct ? open_policies(run, err) : TT_OK;
}

static void show_progress(void *user, const char *group, uint32_t round, uint32_t min_rounds)
{
	(void)user;
	fprintf(stderr, "\r\033[K%s: round %u of at least %u", group, round + 1, min_rounds);
	fflush(stderr);
}

static int open_bench(struct run *run, int argc, char **argv, struct tt_error *err)
{
	const struct arguments *a = &run->arguments;
	struct tt_bench_options options;
	tt_bench_options_default(&options);
	options.program = "trimtab-bench";
	options.arguments = (const char *const *)argv;
	options.n_arguments = (size_t)argc;
	options.n_threads = tt_engine_info(run->lab.engines[0])->n_threads;
	options.min_seconds = a->quick || a->n_rounds ? 0 : 10;
	options.min_rounds = a->n_rounds ? a->n_rounds : a->quick ? 5 : 15;
	options.min_sample_seconds = 0.02; /* as for the ceilings: several ticks of the scheduler */
	if (options.max_rounds < options.min_rounds)
		options.max_rounds = options.min_rounds;
	options.progress = isatty(STDERR_FILENO) ? show_progress : NULL;
	return tt_bench_open(&run->bench, &options, err);
}

static int describe_subject(struct run *run, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(run->lab.engines[0]);
	struct tt_policy_info policy;
	tt_policy_describe(run->lab.policy, &policy);
	json_t *model = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:f, s:f}", "name", info->name, "architecture",
		info->architecture, "backend", info->backend, "fingerprint", info->fingerprint, "weights_digest",
		info->weights_digest, "n_parameters", (json_int_t)info->n_parameters, "n_weight_bytes",
		(json_int_t)info->n_weight_bytes, "block_macs_per_token", tt_lab_block_macs(info),
		"output_macs_per_token", tt_lab_output_macs(info));
	TT_TRY(tt_bench_subject(run->bench, "model", model, err));
	TT_TRY(tt_bench_subject(run->bench, "policy", json_string(policy.name), err));
	TT_TRY(tt_bench_subject(run->bench, "kv", json_string("f32"), err));
	TT_TRY(tt_bench_subject(run->bench, "compute", json_string(run->arguments.compute), err));
	TT_TRY(tt_bench_subject(
		run->bench, "decode_context", json_pack("[i, i]", TT_LAB_PROMPT, TT_LAB_PROMPT + TT_LAB_DECODED), err));
	TT_TRY(tt_bench_subject(
		run->bench, "decode_steps_per_call", json_integer(tt_decode_n_steps(run->decodes[0])), err));
	json_t *steered = json_array();
	for (uint32_t i = 0; i < run->n_decodes; i++)
		json_array_append_new(steered, json_integer(tt_decode_n_steered(run->decodes[i])));
	return tt_bench_subject(run->bench, "rows_steered", steered, err);
}

static int measure(struct run *run, int argc, char **argv, struct tt_error *err)
{
	TT_TRY(open_lab(run, err));
	TT_TRY(open_bench(run, argc, argv, err));
	TT_TRY(add_cases(run, err));
	TT_TRY(tt_bench_run(run->bench, err));
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	TT_TRY(describe_subject(run, err));
	TT_TRY(tt_bench_print(run->bench, stdout, err));
	if (run->arguments.json)
		TT_TRY(tt_bench_write_json(run->bench, run->arguments.json, err));
	size_t n_failed = tt_bench_n_failed(run->bench);
	return n_failed ? tt_fail(err, TT_ERR_LIMIT, "%zu cases failed", n_failed) : TT_OK;
}

static void close_run(struct run *run)
{
	tt_prefill_free(run->prefill);
	for (uint32_t i = 0; i < run->n_decodes; i++)
		tt_decode_free(run->decodes[i]);
	tt_bench_close(run->bench);
	tt_ceilings_close(run->ceilings);
	tt_engine_close(run->loaded);
	for (int i = 0; i < 2; i++)
		tt_engine_close(run->lab.engines[i]);
	tt_policy_free(run->lab.policy);
	for (uint32_t i = 0; i < TT_LAB_MAX_BATCH; i++)
		tt_policy_free(run->policies[i]);
}

int main(int argc, char **argv)
{
	struct run run = {.arguments.compute = "f32"};
	struct tt_error err = {0};
	int status = parse(&run.arguments, argc, argv);
	if (status != EXIT_OK)
		return status;
	if (!run.arguments.model) {
		fputs(usage, stdout);
		return EXIT_OK;
	}
	if (measure(&run, argc, argv, &err) != TT_OK) {
		fflush(stdout);
		fprintf(stderr, "trimtab-bench: %s\n", err.message);
		status = EXIT_FAILED;
	}
	close_run(&run);
	return status;
}
