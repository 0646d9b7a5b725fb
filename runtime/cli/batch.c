/* trimtab batch: answers a file of requests in a file of answers. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "answer_options.h"
#include "cli.h"
#include "runtime/batch/distribute_mpi.h"

static const char about[] =
	"Answers every line of a file: requests in OpenAI's batch format (custom_id, method, url, body; the urls\n"
	"/v1/chat/completions and /v1/completions), or plain prompts (id, prompt). The answers come in the same "
	"order,\n"
	"each with a record of its steering; a line that cannot be answered gets a line that says why.\n"
	"\n"
	"A body may hold \"steering\": {\"policies\": [{\"name\": \"refuse\", \"scale\": 0.5}], \"when\": \"all\"}, "
	"with names\n"
	"bound by --policy NAME=F. --sweep runs every line under each policy at each scale instead, and puts\n"
	"#NAME@SCALE after its custom_id.\n"
	"\n"
	"A run that was killed, or met a full disk, continues where it stopped when the same command is given again,\n"
	"and the files become the same bytes as those of a run that was never stopped. OUT.jsonl.journal, beside the\n"
	"output, holds what is needed for that; --threads and --max-batch may change, all else must be the same.\n"
	"\n"
	"Several processes may share a file: each answers --shard I/N of it into OUT.jsonl.parts, on any machine that\n"
	"sees the files, and --merge makes the output of that: the same bytes as one process writes. A shard that was\n"
	"killed goes on when it is called again, also with another N (docs/cluster.md).";

static const char examples[] =
	"  trimtab batch model.gguf -i requests.jsonl -o answers.jsonl\n"
	"  trimtab batch model.gguf -i prompts.jsonl -o swept.jsonl --policy refuse=refuse.safetensors \\\n"
	"      --sweep refuse@0,0.5,1 -n 64\n"
	"  trimtab batch model.gguf -i requests.jsonl -o answers.jsonl --policy calm=calm.safetensors \\\n"
	"      --telemetry tokens.jsonl\n"
	"  trimtab batch model.gguf -i requests.jsonl -o answers.jsonl --shard 0/4   # and 1/4, 2/4, 3/4; then --merge";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list;
	struct tt_batch_options options;
	struct cli_policies named; /* not loaded: tt_batch does that */
	struct tt_batch_policy policies[CLI_MAX_LIST];
	bool json, merge, missing;
	const char *shard, *stage;
	struct tt_mpi mpi;           /* one of one, but for trimtab-mpi */
	struct tt_mpi_report *ranks; // [mpi.n_ranks] rank 0's; NULL in trimtab
	uint64_t n_missing;
	struct tt_engine *engine;
	struct cli_progress progress;
	char *folder, *streamed_input, *streamed_output; /* NULL: neither is - */
	bool to_stdout;
};

static int parse_policies(struct run *run)
{
	int status = cli_policies_parse_named(&run->named, &run->policy_list, "batch");
	for (uint32_t i = 0; i < run->named.n; i++)
		run->policies[i] = (struct tt_batch_policy){run->named.names[i], run->named.paths[i]};
	run->options.policies = run->policies;
	run->options.n_policies = run->named.n;
	return status;
}

/* Standard input and output: a run reads its input twice and goes on from its output, so both are files in a folder
 * of their own meanwhile. */

static int copy_stream(FILE *from, FILE *to)
{
	char chunk[1 << 14];
	size_t n;
	while ((n = fread(chunk, 1, sizeof chunk, from)) > 0)
		if (fwrite(chunk, 1, n, to) != n)
			return CLI_FAILED;
	return ferror(from) ? CLI_FAILED : CLI_PROCEED;
}

static int begin_streams(struct run *run)
{
	struct tt_batch_options *o = &run->options;
	bool input = !strcmp(o->input, "-"), output = !strcmp(o->output, "-");
	if (!input && !output)
		return CLI_PROCEED;
	const char *parent = getenv("TMPDIR");
	run->folder = cli_with_ending(parent && *parent ? parent : "/tmp", "/trimtab-XXXXXX");
	if (!mkdtemp(run->folder)) {
		int status = cli_failf("%s: cannot be made", run->folder);
		free(run->folder);
		run->folder = NULL;
		return status;
	}
	run->streamed_input = cli_with_ending(run->folder, "/in.jsonl");
	run->streamed_output = cli_with_ending(run->folder, "/out.jsonl");
	run->to_stdout = output;
	if (output)
		o->output = run->streamed_output;
	if (!input)
		return CLI_PROCEED;
	o->input = run->streamed_input;
	FILE *file = fopen(run->streamed_input, "wb");
	int status = file ? copy_stream(stdin, file) : CLI_FAILED;
	bool empty = status == CLI_PROCEED && ftell(file) == 0;
	if ((file && fclose(file) != 0) || status != CLI_PROCEED)
		return cli_failf("%s: standard input cannot be kept there", run->streamed_input);
	return empty ? cli_failf("standard input is empty") : CLI_PROCEED;
}

/* Writes what there is, also of a run that was stopped, and takes the folder away. */
static int end_streams(struct run *run, int status)
{
	if (!run->folder)
		return status;
	FILE *file = run->to_stdout ? fopen(run->streamed_output, "rb") : NULL;
	if (file && copy_stream(file, stdout) != CLI_PROCEED)
		status = cli_failf("standard output: cannot be written");
	if (file)
		fclose(file);
	char *journal = cli_with_ending(run->streamed_output, ".journal");
	unlink(journal);
	unlink(run->streamed_output);
	unlink(run->streamed_input);
	rmdir(run->folder);
	free(journal);
	free(run->streamed_output);
	free(run->streamed_input);
	free(run->folder);
	return status;
}

/* Shards. */

/* A number of at most 32 bits that begins at *text, which is moved behind it. */
static bool take_number(const char **text, uint32_t *out)
{
	uint64_t value = 0;
	const char *at = *text;
	for (; *at >= '0' && *at <= '9' && value <= UINT32_MAX; at++)
		value = 10 * value + (uint64_t)(*at - '0');
	bool good = at > *text && value <= UINT32_MAX;
	*text = at;
	*out = (uint32_t)value;
	return good;
}

/* A number that the environment gives, alone. */
static bool take_variable(const char *name, uint32_t *out)
{
	const char *text = getenv(name);
	return text && take_number(&text, out) && !*text;
}

/* The number of this task in a Slurm array or an indexed Kubernetes job, and for Slurm how many there are. */
static int shard_of_environment(struct tt_batch_options *o)
{
	uint32_t first, last, count;
	if (take_variable("SLURM_ARRAY_TASK_ID", &o->shard)) {
		bool range = take_variable("SLURM_ARRAY_TASK_MIN", &first) &&
			     take_variable("SLURM_ARRAY_TASK_MAX", &last) &&
			     take_variable("SLURM_ARRAY_TASK_COUNT", &count) && first <= o->shard && o->shard <= last &&
			     last - first == count - 1;
		if (range && !o->n_shards) {
			o->shard -= first;
			o->n_shards = count;
		}
	} else if (!take_variable("JOB_COMPLETION_INDEX", &o->shard)) {
		return cli_usage_error(
			"batch", "--shard env: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is a number");
	}
	return o->n_shards ? CLI_PROCEED
			   : cli_usage_error("batch", "--shard env: the environment does not say how many shards "
						      "there are: give env/N");
}

static int parse_shard(struct run *run)
{
	struct tt_batch_options *o = &run->options;
	const char *text = run->shard;
	if (!text)
		return CLI_PROCEED;
	bool environment = !strncmp(text, "env", 3), good = true;
	if (environment)
		text += 3;
	else
		good = take_number(&text, &o->shard) && *text == '/';
	if (good && *text == '/') {
		text++;
		good = take_number(&text, &o->n_shards) && o->n_shards;
	}
	if (!good || *text)
		return cli_usage_error("batch", "--shard: '%s' is not I/N, env or env/N", run->shard);
	return environment ? shard_of_environment(o) : CLI_PROCEED;
}

static int check_sharing(const struct run *run)
{
	const struct tt_batch_options *o = &run->options;
	bool streams = !strcmp(o->input, "-") || !strcmp(o->output, "-");
	if (streams && (run->shard || run->merge))
		return cli_usage_error("batch", "what processes share has names: no - for input or output");
	if (run->missing && !run->merge)
		return cli_usage_error("batch", "--missing is for --merge");
	if (tt_mpi_is_built() && (streams || run->shard || o->restart))
		return cli_usage_error("batch", "trimtab-mpi takes no %s",
			streams      ? "- for input or output"
			: run->shard ? "--shard"
				     : "--restart");
	if (run->stage && !tt_mpi_is_built())
		return cli_usage_error("batch", "--stage is for trimtab-mpi");
	if (run->merge && (run->shard || o->restart))
		return cli_usage_error("batch", "--merge takes no --%s", run->shard ? "shard" : "restart");
	return CLI_PROCEED;
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_batch_options *o = &run->options;
	const struct cli_option options[] = {
		{"input", 'i', NULL, CLI_STRING, &o->input, "IN.jsonl", 0, 0,
			"one request per line (required); - for standard input"},
		{"output", 'o', NULL, CLI_STRING, &o->output, "OUT.jsonl", 0, 0,
			"one answer per line (required); - for standard output"},
		{"policy", 0, NULL, CLI_LIST, &run->policy_list, "[NAME=]F", 0, 0,
			"steering policy or control vector and the name that lines call it by, if not its file's; may "
			"be "
			"repeated"},
		CLI_SWEEP_OPTION(o->sweep, "run every line"),
		{"telemetry", 0, NULL, CLI_STRING, &o->telemetry, "F.jsonl", 0, 0,
			"write how every token was steered: s, gate, and of the layers that were steered coefficients "
			"and norms before and after"},
		{"telemetry-dense", 0, NULL, CLI_FLAG, &o->telemetry_dense, NULL, 0, 0,
			"telemetry lists all layers, also where nothing acts, and the policies' weights"},
		{"restart", 0, NULL, CLI_FLAG, &o->restart, NULL, 0, 0,
			"start over: delete what an earlier run wrote there, and nothing else"},
		{"max-tokens", 'n', "n-predict", CLI_TOKENS, &o->max_tokens, "N", 1, 1 << 24,
			"most tokens to generate, for lines that give no number; -1: until the context is full"},
		{"temperature", 0, "temp", CLI_FLOAT, &o->temperature, "T", 0, 100,
			"for lines with id and prompt; 0: greedy. OpenAI's lines have OpenAI's default, 1"},
		{"seed", 's', NULL, CLI_U64, &o->seed, "N", 0, 0,
			"seed of sampling, mixed with the bytes of the line, for lines that give none"},
		{"system", 0, NULL, CLI_STRING, &o->system, "TEXT", 0, 0,
			"system message for lines with id and prompt, instead of the template's own"},
		{"raw", 0, NULL, CLI_FLAG, &o->raw, NULL, 0, 0, "lines with id and prompt: no chat template"},
		CLI_BATCH_OPTIONS(o->max_batch, run->engine_args, "requests in flight at once"),
		{"shard", 0, NULL, CLI_STRING, &run->shard, "I/N", 0, 0,
			"answer every N-th 256 lines, from the I-th (0 to N-1) on, into OUT.jsonl.parts; env or env/N: "
			"I from "
			"Slurm (SLURM_ARRAY_TASK_ID) or Kubernetes (JOB_COMPLETION_INDEX)"},
		{"merge", 0, NULL, CLI_FLAG, &run->merge, NULL, 0, 0,
			"make the output of what all shards have written; no model is loaded"},
		{"missing", 0, NULL, CLI_FLAG, &run->missing, NULL, 0, 0,
			"with --merge: say which rows are missing, and do nothing"},
		{"stage", 0, NULL, CLI_STRING, &run->stage, "DIR", 0, 0,
			"trimtab-mpi: copy the model to this folder of every machine first, from where rank 0 reads "
			"it"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the summary as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
		CLI_LAYERS_OPTION(o->layers),
	};
	const struct cli_usage usage = {"batch", "MODEL -i IN.jsonl -o OUT.jsonl [OPTION]...", about, examples, options,
		CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	if (!o->input || !o->output)
		return cli_usage_error("batch", "--%s is missing", o->input ? "output" : "input");
	status = parse_policies(run);
	if (status == CLI_PROCEED)
		status = parse_shard(run);
	if (status == CLI_PROCEED)
		status = check_sharing(run);
	if (status == CLI_PROCEED)
		status = begin_streams(run);
	if (status != CLI_PROCEED)
		return status;
	struct tt_error err = {0};
	if (tt_batch_check(o, &err) != TT_OK)
		return cli_usage_error("batch", "%s", err.message);
	return CLI_PROCEED;
}

/* The number of tokens per second is shown after the bar. */
static int progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
	struct run *run = user;
	if (run->mpi.rank > 0)
		return cli_interrupted(); /* rank 0 has the bar */
	if (run->engine)
		cli_progress_speed(&run->progress, run->engine);
	return cli_progress_step(&run->progress, stage, done, total);
}

static void note(void *user, const char *line)
{
	struct run *run = user;
	if (run->mpi.rank > 0)
		return;
	cli_progress_end(&run->progress);
	cli_note("%s", line);
}

/* So that a slow device is seen. */
static void summarise_ranks(const struct run *run, FILE *to)
{
	for (int i = 0; run->ranks && i < run->mpi.n_ranks; i++) {
		const struct tt_mpi_report *rank = &run->ranks[i];
		double tokens = (double)(rank->n_prompt_tokens + rank->n_generated_tokens);
		fprintf(to, "%s{\"rank\":%d,\"rows\":%llu,\"tokens_per_second\":%.1f,\"seconds\":%.3f}%s",
			i ? "," : ",\"ranks\":[", i, (unsigned long long)rank->n_rows,
			rank->seconds > 0 ? tokens / rank->seconds : 0, rank->seconds,
			i + 1 == run->mpi.n_ranks ? "]" : "");
	}
}

/* On standard output, where the answers are not there. */
static void summarise(const struct run *run, const struct tt_batch_report *r)
{
	FILE *to = run->to_stdout ? stderr : stdout;
	if (run->to_stdout && cli_is_quiet())
		return;
	if (run->json) {
		fprintf(to,
			"{\"rows\":%llu,\"errors\":%llu,\"earlier\":%llu,\"prompt_tokens\":%llu,\"generated_tokens\":%"
			"llu,"
			"\"seconds\":%.3f",
			(unsigned long long)r->n_rows, (unsigned long long)r->n_errors,
			(unsigned long long)r->n_earlier, (unsigned long long)r->n_prompt_tokens,
			(unsigned long long)r->n_generated_tokens, r->seconds);
		summarise_ranks(run, to);
		fputs("}\n", to);
		return;
	}
	fprintf(to, "%llu rows, %llu of them errors", (unsigned long long)r->n_rows, (unsigned long long)r->n_errors);
	if (r->n_earlier)
		fprintf(to, "; %llu were there already", (unsigned long long)r->n_earlier);
	if (r->n_rows > r->n_earlier && r->seconds > 0)
		fprintf(to, "; %llu prompt and %llu generated tokens in %.1f s, %.1f generated a second",
			(unsigned long long)r->n_prompt_tokens, (unsigned long long)r->n_generated_tokens, r->seconds,
			(double)r->n_generated_tokens / r->seconds);
	fputc('\n', to);
}

/* tt_batch makes the same check, but only after the model was loaded. */
static int check_model(const struct run *run, const char *model)
{
	struct cli_files files = {0};
	char *journal = cli_with_ending(run->options.output, ".journal");
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &run->engine_args);
	cli_writes(&files, run->options.output, "the output");
	cli_writes(&files, journal, "the journal");
	cli_writes(&files, run->options.telemetry, "the telemetry");
	int status = cli_check_files(&files, "batch");
	free(journal);
	return status;
}

/* ---- Merging */

static int show_missing(void *user, uint64_t unit, uint64_t first_row, uint64_t n_rows)
{
	struct run *run = user;
	unsigned long long u = unit, first = first_row, n = n_rows;
	run->n_missing += n_rows;
	if (run->json)
		printf("{\"unit\":%llu,\"first_row\":%llu,\"rows\":%llu}\n", u, first, n);
	else
		printf("unit %llu: rows %llu to %llu\n", u, first + 1, first + n);
	return ferror(stdout);
}

static int merge(struct run *run)
{
	struct tt_error err = {0};
	struct tt_batch_report report = {0};
	tt_file_allow_all(); /* every part is open at once, of which a large job has thousands */
	signal(SIGXFSZ, SIG_IGN);
	if (run->missing) {
		if (tt_batch_missing(&run->options, show_missing, run, &err) != TT_OK)
			return cli_fail(&err);
		return run->n_missing ? CLI_FAILED : CLI_OK;
	}
	cli_catch_interrupt();
	cli_progress_begin(&run->progress);
	run->options.progress = progress;
	run->options.user = run;
	int code = tt_batch_merge(&run->options, &report, &err);
	cli_progress_end(&run->progress);
	if (code != TT_OK)
		return cli_interrupted() ? CLI_INTERRUPTED : cli_fail(&err);
	summarise(run, &report);
	return report.n_errors ? CLI_ROWS_FAILED : CLI_OK;
}

/* ---- Answering */

/* An error of a rank, which on others than 0 says whose it is. */
static int fail(const struct run *run, const struct tt_error *err)
{
	return run->mpi.rank ? cli_failf("rank %d: %s", run->mpi.rank, err->message) : cli_fail(err);
}

static int answer(struct run *run, struct tt_batch_report *report)
{
	struct tt_error err = {0};
	/* A write beyond the file-size limit must be an error like that of a full disk, not the end of the process. */
	signal(SIGXFSZ, SIG_IGN);
	cli_catch_interrupt();
	cli_progress_begin(&run->progress);
	run->options.progress = progress;
	run->options.note = note;
	run->options.user = run;
	int code = run->ranks ? tt_mpi_batch(&run->mpi, run->engine, &run->options, report, run->ranks, &err)
			      : tt_batch(run->engine, &run->options, report, &err);
	cli_progress_end(&run->progress);
	if (code != TT_OK && cli_interrupted()) {
		if (run->mpi.rank == 0)
			cli_note("stopped after %llu rows%s", (unsigned long long)report->n_rows,
				run->to_stdout ? "" : "; the same command continues");
		return CLI_INTERRUPTED;
	}
	return code == TT_OK ? CLI_PROCEED : fail(run, &err);
}

static int batch(struct run *run, const char *model)
{
	struct tt_batch_report report = {0};
	int status = check_model(run, model);
	if (status == CLI_PROCEED)
		status = cli_engine_open(&run->engine, model, &run->engine_args, run->options.max_batch);
	if (status == CLI_PROCEED)
		status = answer(run, &report);
	if (status != CLI_PROCEED || run->mpi.rank > 0)
		return status == CLI_PROCEED ? CLI_OK : status;
	summarise(run, &report);
	return report.n_errors ? CLI_ROWS_FAILED : CLI_OK;
}

/* As one of the ranks that mpirun started. */
static int batch_on_ranks(struct run *run, const char *model)
{
	struct tt_error err = {0};
	char *staged = NULL, device[32];
	int status = tt_mpi_open(&run->mpi, &err) == TT_OK ? CLI_PROCEED : fail(run, &err);
	if (status == CLI_PROCEED)
		run->ranks = cli_alloc((size_t)run->mpi.n_ranks, sizeof *run->ranks);
	if (status == CLI_PROCEED && run->stage && tt_mpi_stage(&run->mpi, model, run->stage, &staged, &err) != TT_OK)
		status = fail(run, &err);
	/* Each rank of a machine has a GPU of its own. */
	if (run->engine_args.device && !strcmp(run->engine_args.device, "cuda")) {
		snprintf(device, sizeof device, "cuda:%d", run->mpi.local_rank);
		run->engine_args.device = device;
	}
	if (status == CLI_PROCEED)
		status = batch(run, staged ? staged : model);
	free(staged);
	free(run->ranks);
	fflush(stdout);
	if (status != CLI_OK && status != CLI_ROWS_FAILED)
		tt_mpi_abort(status); /* the others would wait for this rank */
	tt_mpi_close();
	return status;
}

int cli_batch(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	tt_batch_options_default(&run.options);
	int status = parse(&run, argc, argv, &positional);
	if (status == CLI_PROCEED)
		status = run.merge           ? merge(&run)
			 : tt_mpi_is_built() ? batch_on_ranks(&run, positional.items[0])
					     : batch(&run, positional.items[0]);
	status = end_streams(&run, status);
	tt_engine_close(run.engine);
	cli_policies_free(&run.named, NULL);
	return status;
}
