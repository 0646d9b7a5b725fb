/* trimtab batch: answers a file of requests in a file of answers. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

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
	"output, holds what is needed for that; --threads and --max-batch may change, all else must be the same.";

static const char examples[] =
	"  trimtab batch model.gguf -i requests.jsonl -o answers.jsonl\n"
	"  trimtab batch model.gguf -i prompts.jsonl -o swept.jsonl --policy refuse=refuse.safetensors \\\n"
	"      --sweep refuse@0,0.5,1 -n 64\n"
	"  trimtab batch model.gguf -i requests.jsonl -o answers.jsonl --policy calm=calm.safetensors \\\n"
	"      --telemetry tokens.jsonl";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list;
	struct tt_batch_options options;
	struct cli_policies named; /* not loaded: tt_batch does that */
	struct tt_batch_policy policies[CLI_MAX_LIST];
	bool json;
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
	if ((file && fclose(file) != 0) || status != CLI_PROCEED)
		return cli_failf("%s: standard input cannot be kept there", run->streamed_input);
	return CLI_PROCEED;
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
			"write how every token was steered: s, w, coefficients, gate, norms before and after"},
		{"restart", 0, NULL, CLI_FLAG, &o->restart, NULL, 0, 0,
			"start over: delete what an earlier run wrote there, and nothing else"},
		{"max-tokens", 'n', "n-predict", CLI_U32, &o->max_tokens, "N", 1, 1 << 24,
			"most tokens to generate, for lines that give no number"},
		{"temperature", 0, "temp", CLI_FLOAT, &o->temperature, "T", 0, 100,
			"for lines with id and prompt; 0: greedy. OpenAI's lines have OpenAI's default, 1"},
		{"seed", 's', NULL, CLI_U64, &o->seed, "N", 0, 0,
			"seed of sampling, mixed with the bytes of the line, for lines that give none"},
		{"system", 0, NULL, CLI_STRING, &o->system, "TEXT", 0, 0,
			"system message for lines with id and prompt, instead of the template's own"},
		{"raw", 0, NULL, CLI_FLAG, &o->raw, NULL, 0, 0, "lines with id and prompt: no chat template"},
		{"max-batch", 'b', "max-num-seqs", CLI_U32, &o->max_batch, "N", 1, 4096, "requests in flight at once"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the summary as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
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
	cli_progress_speed(&run->progress, run->engine);
	return cli_progress_step(&run->progress, stage, done, total);
}

static void note(void *user, const char *line)
{
	struct run *run = user;
	cli_progress_end(&run->progress);
	cli_note("%s", line);
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
			"\"seconds\":%.3f}\n",
			(unsigned long long)r->n_rows, (unsigned long long)r->n_errors,
			(unsigned long long)r->n_earlier, (unsigned long long)r->n_prompt_tokens,
			(unsigned long long)r->n_generated_tokens, r->seconds);
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
	cli_writes(&files, run->options.output, "the output");
	cli_writes(&files, journal, "the journal");
	cli_writes(&files, run->options.telemetry, "the telemetry");
	int status = cli_check_files(&files, "batch");
	free(journal);
	return status;
}

static int batch(struct run *run, const char *model)
{
	struct tt_error err = {0};
	struct tt_batch_report report = {0};
	int status = check_model(run, model);
	if (status == CLI_PROCEED)
		status = cli_engine_open(&run->engine, model, &run->engine_args, run->options.max_batch);
	if (status != CLI_PROCEED)
		return status;
	/* A write beyond the file-size limit must be an error like that of a full disk, not the end of the process. */
	signal(SIGXFSZ, SIG_IGN);
	cli_catch_interrupt();
	cli_progress_begin(&run->progress);
	run->options.progress = progress;
	run->options.note = note;
	run->options.user = run;
	int code = tt_batch(run->engine, &run->options, &report, &err);
	cli_progress_end(&run->progress);
	if (code != TT_OK && cli_interrupted()) {
		cli_note("stopped after %llu rows%s", (unsigned long long)report.n_rows,
			run->to_stdout ? "" : "; the same command continues");
		return CLI_INTERRUPTED;
	}
	if (code != TT_OK)
		return cli_fail(&err);
	summarise(run, &report);
	return report.n_errors ? CLI_ROWS_FAILED : CLI_OK;
}

int cli_batch(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	tt_batch_options_default(&run.options);
	int status = parse(&run, argc, argv, &positional);
	if (status == CLI_PROCEED)
		status = batch(&run, positional.items[0]);
	status = end_streams(&run, status);
	tt_engine_close(run.engine);
	cli_policies_free(&run.named, NULL);
	return status;
}
