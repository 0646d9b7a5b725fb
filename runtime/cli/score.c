/* trimtab score: log-probabilities of given text. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli.h"

static const char about[] =
	"How likely a model finds given text, unsteered and, with --policy, steered beside it.\n"
	"\n"
	"--choices: which of the choices of each question is the likeliest. acc is the share of questions where that "
	"is "
	"the\n"
	"right one, acc_norm the same with each log-probability over the choice's number of characters, as in "
	"EleutherAI's\n"
	"lm-evaluation-harness. A question is \"Question: QUESTION\\nAnswer:\" and its choices \" CHOICE\"; with "
	"--letters "
	"the\n"
	"choices are shown as \"A. CHOICE\" and the letter is scored; with --chat the question is a user's message. A "
	"row "
	"with\n"
	"context instead of question is read as it is.\n"
	"\n"
	"--perplexity: of every token of a text, in windows that slide over it.";

static const char examples[] =
	"  trimtab score model.gguf --choices arc.jsonl --limit 250\n"
	"  trimtab score model.gguf --choices mmlu.jsonl --letters --policy refuse.safetensors --rows rows.jsonl\n"
	"  trimtab score model.gguf --perplexity text.txt --window 2048 --stride 1024 --policy calm.safetensors:0.5";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list;
	struct tt_score_options options;
	int when;
	bool json;
	struct tt_engine *engine;
	struct cli_policies policies;
	char *report;
};

static int check(const struct run *run)
{
	const struct tt_score_options *o = &run->options;
	if (!o->choices == !o->perplexity)
		return cli_usage_error("score", o->choices ? "--choices and --perplexity exclude each other"
							   : "neither --choices nor --perplexity is given");
	if (o->choices && (o->window || o->stride))
		return cli_usage_error("score", "--%s is for --perplexity", o->window ? "window" : "stride");
	if (o->perplexity && (o->letters || o->chat))
		return cli_usage_error("score", "--%s is for --choices", o->letters ? "letters" : "chat");
	return CLI_PROCEED;
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_score_options *o = &run->options;
	const struct cli_option options[] = {
		{"choices", 0, NULL, CLI_STRING, &o->choices, "F.jsonl", 0, 0,
			"questions with choices, of which one is right"},
		{"perplexity", 0, NULL, CLI_STRING, &o->perplexity, "F.txt", 0, 0, "a text"},
		{"letters", 0, NULL, CLI_FLAG, &o->letters, NULL, 0, 0, "show the choices, and score their letters"},
		{"chat", 0, NULL, CLI_FLAG, &o->chat, NULL, 0, 0,
			"a question is a message in the model's chat template"},
		{"limit", 0, NULL, CLI_U32, &o->limit, "N", 0, 1 << 30, "the first N questions or windows; 0: all"},
		{"window", 0, NULL, CLI_U32, &o->window, "N", 0, 1 << 24,
			"tokens that the model sees of a text at a time; 0: the context, at most 2048"},
		{"stride", 0, NULL, CLI_U32, &o->stride, "N", 0, 1 << 24,
			"tokens from one window to the next; 0: half a window"},
		CLI_POLICY_OPTION(run->policy_list),
		{"when", 0, NULL, CLI_CHOICE, &run->when, CLI_WHEN_CHOICES, 0, 0,
			"which tokens are steered; the scored ones are generated ones"},
		{"no-bos", 0, NULL, CLI_FLAG, &o->no_bos, NULL, 0, 0,
			"put nothing in front of a text, even if the tokenizer does that itself"},
		{"no-special", 0, NULL, CLI_FLAG, &o->no_special, NULL, 0, 0,
			"text that spells a special token stays text"},
		{"rows", 0, NULL, CLI_STRING, &o->rows, "F.jsonl", 0, 0,
			"write the log-probabilities of every question or window"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the report as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
		CLI_LAYERS_OPTION(run->policies.layers),
	};
	const struct cli_usage usage = {"score", "MODEL --choices F.jsonl | --perplexity F.txt [OPTION]...", about,
		examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, positional);
	return status == CLI_PROCEED ? check(run) : status;
}

/* ---- The tables */

static const char *const sides[] = {"unsteered", "steered"};

/* A number and its interval; nothing more where the side is not measured. */
static void add_figure(struct cli_table *table, const json_t *report, const char *key, size_t side, int places)
{
	char name[64];
	const json_t *value = json_object_get(json_object_get(report, key), sides[side]);
	snprintf(name, sizeof name, "%s_interval", key);
	const json_t *interval = json_object_get(json_object_get(report, name), sides[side]);
	if (json_is_number(value))
		cli_table_cell(table, "%.*f", places, json_number_value(value));
	else
		cli_table_cell(table, "-");
	if (json_array_size(interval) == 2)
		cli_table_cell(table, "[%.*f, %.*f]", places, json_number_value(json_array_get(interval, 0)), places,
			json_number_value(json_array_get(interval, 1)));
	else
		cli_table_cell(table, "-");
}

static void add_headings(struct cli_table *table, size_t n_sides)
{
	cli_table_cell(table, "%s", "");
	for (size_t side = 0; side < n_sides; side++) {
		cli_table_cell(table, "%s", sides[side]);
		cli_table_cell(table, "95%%");
	}
}

static void print_choices(const json_t *choices, size_t n_sides)
{
	static const char *const keys[] = {"acc", "acc_norm"};
	const json_t *paired = json_object_get(choices, "paired");
	struct cli_table table;
	cli_table_begin(&table, n_sides > 1 ? "lrrrrrrr" : "lrr");
	add_headings(&table, n_sides);
	if (n_sides > 1) {
		cli_table_cell(&table, "gained");
		cli_table_cell(&table, "lost");
		cli_table_cell(&table, "p");
	}
	for (size_t i = 0; i < 2; i++) {
		cli_table_cell(&table, "%s", keys[i]);
		for (size_t side = 0; side < n_sides; side++)
			add_figure(&table, choices, keys[i], side, 4);
		if (n_sides == 1)
			continue;
		cli_table_cell(&table, "%.0f", tt_json_number_or(paired, keys[i], "gained", 0));
		cli_table_cell(&table, "%.0f", tt_json_number_or(paired, keys[i], "lost", 0));
		cli_table_cell(&table, "%.2g", tt_json_number_or(paired, keys[i], "p", 1));
	}
	cli_table_print(&table, stdout);
	printf("%.0f questions, %.0f choices", tt_json_number_or(choices, "n", NULL, 0),
		tt_json_number_or(choices, "n_choices", NULL, 0));
}

static void print_perplexity(const json_t *text, size_t n_sides)
{
	const json_t *paired = json_object_get(text, "paired"), *interval = json_object_get(paired, "ratio_interval");
	struct cli_table table;
	cli_table_begin(&table, n_sides > 1 ? "lrrrr" : "lrr");
	add_headings(&table, n_sides);
	cli_table_cell(&table, "perplexity");
	for (size_t side = 0; side < n_sides; side++)
		add_figure(&table, text, "perplexity", side, 3);
	cli_table_print(&table, stdout);
	if (n_sides > 1) {
		printf("steered over unsteered %.4f", tt_json_number_or(paired, "ratio", NULL, 0));
		if (json_array_size(interval) == 2)
			printf(" [%.4f, %.4f]", json_number_value(json_array_get(interval, 0)),
				json_number_value(json_array_get(interval, 1)));
		putchar('\n');
	}
	printf("%.0f of %.0f tokens, %.0f windows of %.0f, one every %.0f%s",
		tt_json_number_or(text, "n_scored", NULL, 0), tt_json_number_or(text, "n_tokens", NULL, 0),
		tt_json_number_or(text, "n_windows", NULL, 0), tt_json_number_or(text, "window", NULL, 0),
		tt_json_number_or(text, "stride", NULL, 0),
		json_array_size(json_object_get(text, "in_front")) ? ", bos in front of each" : "");
}

static void show(const json_t *report, const void *user)
{
	const json_t *choices = json_object_get(report, "choices"), *tokens = json_object_get(report, "tokens");
	size_t n_sides = json_array_size(json_object_get(report, "policies")) ? 2 : 1;
	(void)user;
	if (choices)
		print_choices(choices, n_sides);
	else
		print_perplexity(json_object_get(report, "perplexity"), n_sides);
	printf("; tokens");
	for (size_t side = 0; side < n_sides; side++)
		printf("%s %.0f run, %.0f shared%s", n_sides > 1 ? (side ? "; steered" : " unsteered") : "",
			tt_json_number_or(tokens, "computed", sides[side], 0),
			tt_json_number_or(tokens, "shared", sides[side], 0), side + 1 == n_sides ? "\n" : "");
}

/* ---- The whole */

static int check_files(const struct run *run, const char *model)
{
	const struct tt_score_options *o = &run->options;
	struct cli_files files = {0};
	char *partial = cli_with_ending(o->rows, ".partial");
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &run->engine_args);
	cli_reads(&files, o->choices, "the choices");
	cli_reads(&files, o->perplexity, "the text");
	for (uint32_t i = 0; i < run->policies.n; i++)
		cli_reads(&files, run->policies.paths[i], "a policy");
	cli_writes(&files, o->rows, "the rows");
	cli_writes(&files, partial, "the rows while they are written");
	int status = cli_check_files(&files, "score");
	free(partial);
	return status == CLI_PROCEED ? cli_check_output(o->rows) : status;
}

static int score(struct run *run, const char *model)
{
	struct tt_error err = {0};
	struct cli_progress progress;
	int status = cli_policies_parse(&run->policies, &run->policy_list, "score");
	if (status == CLI_PROCEED)
		status = check_files(run, model);
	if (status == CLI_PROCEED)
		status = cli_engine_open(&run->engine, model, &run->engine_args, 0);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->policies, run->engine);
	if (status != CLI_PROCEED)
		return status;
	run->options.n_steering = run->policies.n;
	for (uint32_t i = 0; i < run->policies.n; i++)
		run->options.steering[i] = run->policies.steering[i];
	run->options.when = CLI_WHEN(run->when);
	run->options.progress = cli_progress_step;
	run->options.user = &progress;
	cli_catch_interrupt();
	cli_progress_begin(&progress);
	int code = tt_score(run->engine, &run->options, &run->report, &err);
	cli_progress_end(&progress);
	return cli_end_report(code, &err, run->report, run->json, show, NULL);
}

int cli_score(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	tt_score_options_default(&run.options);
	int status = parse(&run, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	status = score(&run, positional.items[0]);
	cli_policies_free(&run.policies, run.engine);
	tt_engine_close(run.engine);
	tt_free(run.report);
	return status;
}
