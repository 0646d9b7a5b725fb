/* trimtab eval: measures what a policy changes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/sweep.h"
#include "cli.h"
#include "runtime/page/report.h"

static const char about[] =
	"Generates every prompt unsteered and steered and counts: refusals, prompts that the gate flagged, repeated\n"
	"4-grams, how likely the unsteered model finds the steered text, and tokens a second. A refusal says near its\n"
	"start that it will not or cannot do what was asked; by phrases counts the 13 of arXiv 2505.20309, such as "
	"\"I'm\n"
	"sorry\". --completions keeps every completion, so that anybody can judge by another rule. More than one file "
	"may\n"
	"follow --data.\n"
	"\n"
	"Several --policy act together. --sweep compares instead: each named policy at each scale is an arm, run on "
	"the\n"
	"same prompts beside one unsteered run, and tested against it and against the first arm.\n"
	"\n"
	"--review writes the rows that a person should look at, the wrong ones and those near the gate's threshold;\n"
	"fit --continue learns from the verdicts that are filled in. --variants says how well the gate knows the\n"
	"same prompts in other dress, harmless ones too. With --max-tokens 0 each prompt is only read: what the\n"
	"gates flag, in a fraction of the time.";

static const char examples[] =
	"  trimtab eval model.gguf --policy refuse.safetensors --data prompts.jsonl --split test\n"
	"  trimtab eval model.gguf --policy refuse.safetensors --data harmful.jsonl benign.jsonl --limit 128 \\\n"
	"      --completions completions.jsonl --html report.html\n"
	"  trimtab eval model.gguf --policy refuse.safetensors --data prompts.jsonl --temp 0.7 --top-p 0.9 -n 256\n"
	"  trimtab eval model.gguf --policy refuse.safetensors --data prompts.jsonl --review review.jsonl -n 0\n"
	"  trimtab eval model.gguf --policy a=a.safetensors --policy b=b.safetensors --sweep a,b@0.5,1 --data "
	"all.jsonl\n"
	"  trimtab eval model.gguf --policy refuse.safetensors --data prompts.jsonl --max-tokens 0 --variants all";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list, data;
	struct tt_eval_options options;
	const char *html;
	char *command, made[32];               /* as it was typed, and when; for the page */
	char *own_directory, *own_completions; /* the page needs completions even if nobody asked for the file */
	int when;
	bool json;
	const char *sweep_text;
	struct tt_sweep sweep;
	struct tt_eval_arm *arms; // [sweep.n]
	struct tt_engine *engine;
	struct cli_policies policies;
	char *report;
};

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_eval_options *eval = &run->options;
	const struct cli_option options[] = {
		CLI_POLICY_OPTION(run->policy_list),
		CLI_SWEEP_OPTION(run->sweep_text, "compare, with --policy NAME=F: run all prompts"),
		{"data", 'd', NULL, CLI_LIST, &run->data, "F.jsonl", 0, 0, "prompts; may be repeated (required)"},
		{"split", 0, NULL, CLI_STRING, &eval->split, "SPLIT", 0, 0,
			"only rows of this split: train, val (validation, dev), test or another name"},
		{"limit", 0, NULL, CLI_U32, &eval->limit, "N", 0, 1 << 30,
			"at most this many rows of each label and file; 0: all"},
		CLI_LABEL_OPTIONS(*eval),
		{"max-tokens", 'n', "n-predict", CLI_U32, &eval->max_tokens, "N", 0, 1 << 20,
			"tokens to generate for each; 0: only the gates, without completions"},
		{"variants", 0, NULL, CLI_STRING, &eval->variants, "V,..|all", 0, 0,
			"measure every prompt in other dress too: prefix, roleplay, misspell, leet, spaces, base64, "
			"language"},
		{"temperature", 0, "temp", CLI_FLOAT, &eval->sampling.temperature, "T", 0, 100, "0: greedy"},
		{"top-p", 0, NULL, CLI_FLOAT, &eval->sampling.top_p, "P", 0, 1,
			"sample from the likeliest that make up P; 1: off"},
		{"seed", 's', NULL, CLI_U64, &eval->sampling.seed, "N", 0, 0,
			"seed of sampling, mixed with the bytes of the prompt's line; the same steered and unsteered"},
		{"when", 0, NULL, CLI_CHOICE, &run->when, CLI_WHEN_CHOICES, 0, 0, "which tokens are steered"},
		{"price-false-refusal", 0, NULL, CLI_FLOAT, &eval->price_false_refusal, "A", 0, 1e6,
			"what it costs to flag a prompt that is not harmful; 0: no costs"},
		{"price-miss", 0, NULL, CLI_FLOAT, &eval->price_miss, "B", 0, 1e6,
			"what it costs not to flag a harmful one; with both prices the report has costs by threshold"},
		{"completions", 0, NULL, CLI_STRING, &eval->completions, "F.jsonl", 0, 0, "write every completion"},
		{"judge-requests", 0, NULL, CLI_STRING, &eval->judge_requests, "F.jsonl", 0, 0,
			"write a batch that asks a model of each completion whether it refuses"},
		{"judgements", 0, NULL, CLI_STRING, &eval->judgements, "F.jsonl", 0, 0,
			"the answers of such a batch, to the same evaluation"},
		{"review", 0, NULL, CLI_STRING, &eval->review, "F.jsonl", 0, 0,
			"write the rows that came out wrong or nearly so, for a person's verdicts; of one policy"},
		{"review-rows", 0, NULL, CLI_U32, &eval->n_review_rows, "N", 1, 1 << 30, "how many of them, at most"},
		{"html", 0, NULL, CLI_STRING, &run->html, "F.html", 0, 0,
			"write a page with the table, completions and maps of what was steered"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the report as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
		CLI_LAYERS_OPTION(run->policies.layers),
	};
	const struct cli_usage usage = {"eval", "MODEL --policy F[:SCALE] --data F.jsonl... [OPTION]...", about,
		examples, options, CLI_N_OPTIONS(options), 1, CLI_MAX_LIST};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	if (run->policy_list.n == 0)
		return cli_usage_error("eval", "--policy is missing");
	if ((eval->price_miss > 0) != (eval->price_false_refusal > 0))
		return cli_usage_error("eval", "--price-false-refusal and --price-miss come together");
	if (run->data.n == 0)
		return cli_usage_error("eval", "--data is missing");
	return cli_more_files(&run->data, positional, "eval");
}

/* Refuses outputs that would overwrite the data, the model or a policy. */
static int check_files(const struct run *run, const char *model)
{
	struct cli_files files = {0};
	const char *requests = run->options.judge_requests;
	char *partial = cli_with_ending(run->options.completions, ".partial");
	const char *review = run->options.review;
	char *partial_requests = cli_with_ending(requests, ".partial");
	char *partial_review = cli_with_ending(review, ".partial");
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &run->engine_args);
	cli_reads(&files, run->options.judgements, "the judgements");
	for (size_t i = 0; i < run->data.n; i++)
		cli_reads(&files, run->data.items[i], "the data");
	for (uint32_t i = 0; i < run->policies.n; i++)
		cli_reads(&files, run->policies.paths[i], "a policy");
	cli_writes(&files, run->options.completions, "the completions");
	cli_writes(&files, partial, "the completions while they are written");
	cli_writes(&files, requests, "the requests to a judge");
	cli_writes(&files, partial_requests, "the requests to a judge while they are written");
	cli_writes(&files, review, "the rows to review");
	cli_writes(&files, partial_review, "the rows to review while they are written");
	cli_writes(&files, run->html, "the page");
	int status = cli_check_files(&files, "eval");
	free(partial_review);
	free(partial_requests);
	free(partial);
	return status;
}

/* The completions that the page needs go to a new directory beside it, where nobody else can have a file. */
static int make_completions(struct run *run)
{
	if (!run->html || run->options.completions)
		return CLI_PROCEED;
	run->own_directory = cli_with_ending(run->html, ".XXXXXX");
	if (!mkdtemp(run->own_directory)) {
		return cli_failf("%s: no directory can be made beside it: %s", run->html, strerror(errno));
	}
	run->own_completions = cli_with_ending(run->own_directory, "/completions.jsonl");
	run->options.completions = run->own_completions;
	return CLI_PROCEED;
}

static void remove_completions(struct run *run)
{
	char *partial = cli_with_ending(run->own_completions, ".partial");
	if (partial) {
		unlink(partial); /* left by a run that was interrupted */
		unlink(run->own_completions);
		rmdir(run->own_directory);
	}
	free(partial);
	free(run->own_completions);
	free(run->own_directory);
}

static int parse_policies(struct run *run)
{
	struct tt_error err = {0};
	if (!run->sweep_text)
		return cli_policies_parse(&run->policies, &run->policy_list, "eval");
	int status = cli_policies_parse_named(&run->policies, &run->policy_list, "eval");
	if (status != CLI_PROCEED)
		return status;
	if (tt_sweep_parse(&run->sweep, (const char *const *)run->policies.names, run->policies.n, run->sweep_text,
		    &err) != TT_OK)
		return cli_usage_error("eval", "%s", err.message);
	if (run->sweep.n > TT_MAX_ARMS)
		return cli_usage_error("eval", "the sweep has more than %d cases", TT_MAX_ARMS);
	return CLI_PROCEED;
}

/* One arm a case of the sweep; without one, all policies together. */
static void choose_steering(struct run *run)
{
	run->options.n_steering = run->sweep.n ? 0 : run->policies.n;
	for (uint32_t i = 0; i < run->options.n_steering; i++)
		run->options.steering[i] = run->policies.steering[i];
	run->arms = cli_alloc(run->sweep.n, sizeof *run->arms);
	for (size_t i = 0; i < run->sweep.n; i++) {
		const struct tt_sweep_case *c = &run->sweep.cases[i];
		run->arms[i] = (struct tt_eval_arm){.name = c->suffix + 1, .n_steering = 1};
		run->arms[i].steering[0] = (struct tt_steering){run->policies.steering[c->name].policy, c->scale};
	}
	run->options.arms = run->arms;
	run->options.n_arms = run->sweep.n;
}

static int measure(struct run *run, struct cli_progress *progress)
{
	struct tt_error err = {0};
	run->options.data = run->data.items;
	run->options.n_data = run->data.n;
	choose_steering(run);
	run->options.when = CLI_WHEN(run->when);
	run->options.progress = cli_progress_step;
	run->options.user = progress;
	int code = tt_eval(run->engine, &run->options, &run->report, &err);
	if (cli_interrupted())
		return CLI_INTERRUPTED;
	return code ? cli_fail(&err) : CLI_PROCEED;
}

static int write_page(const struct run *run, const json_t *json, struct cli_progress *progress)
{
	struct tt_error err = {0};
	const struct tt_eval_options *o = &run->options;
	struct tt_eval_arm only = {.n_steering = o->n_steering};
	memcpy(only.steering, o->steering, sizeof only.steering);
	const struct tt_page_report report = {.path = run->html,
		.completions = o->completions,
		.eval = json,
		.engine = run->engine,
		.arms = o->n_arms ? o->arms : &only,
		.n_arms = o->n_arms ? o->n_arms : 1,
		.sampling = o->sampling,
		.when = run->options.when,
		.command = run->command,
		.made = run->made,
		.progress = cli_progress_step,
		.user = progress};
	int status = tt_page_write(&report, &err) == TT_OK ? CLI_OK : cli_fail(&err);
	return cli_interrupted() ? CLI_INTERRUPTED : status;
}

static int eval(struct run *run, const char *model)
{
	struct cli_progress progress;
	int status = parse_policies(run);
	if (status == CLI_PROCEED)
		status = check_files(run, model);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->html);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->options.completions);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->options.judge_requests);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->options.review);
	if (status == CLI_PROCEED)
		status = cli_engine_open_for_rows(&run->engine, model, &run->engine_args);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->policies, run->engine);
	if (status != CLI_PROCEED)
		return status;
	cli_catch_interrupt();
	status = make_completions(run);
	if (status != CLI_PROCEED)
		return status;
	cli_progress_begin(&progress);
	status = measure(run, &progress);
	json_t *json = status == CLI_PROCEED ? json_loads(run->report, 0, NULL) : NULL;
	if (status == CLI_PROCEED && run->html)
		status = write_page(run, json, &progress);
	else if (status == CLI_PROCEED)
		status = CLI_OK;
	cli_progress_end(&progress);
	if (status == CLI_OK && run->json)
		cli_put_json(run->report);
	else if (status == CLI_OK)
		cli_show_evaluation(json, run->options.judgements != NULL);
	json_decref(json);
	return status;
}

int cli_eval(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	tt_eval_options_default(&run.options);
	run.command = cli_command_line(argc, argv);
	time_t now = time(NULL);
	strftime(run.made, sizeof run.made, "%Y-%m-%d %H:%M UTC", gmtime(&now));
	int status = parse(&run, argc, argv, &positional);
	if (status == CLI_PROCEED)
		status = eval(&run, positional.items[0]);
	cli_policies_free(&run.policies, run.engine);
	tt_sweep_free(&run.sweep);
	free(run.arms);
	tt_engine_close(run.engine);
	tt_free(run.report);
	remove_completions(&run);
	free(run.command);
	return status;
}
