/* trimtab attack: searches words that get harmful prompts past a policy's gate. */
#include "base/json.h"
#include "cli.h"

static const char about[] =
	"Searches, for each harmful prompt that the policy's gate flags, everyday words to put behind it so that the "
	"gate does not.\n"
	"It asks the gate alone, as often as --budget says, and knows nothing but its figure. -o writes the prompts "
	"with the words\n"
	"that were found, and the other prompts with the same words: with these rows in --data the next fit learns "
	"them. Attack that\n"
	"one on prompts and with a seed that it has not seen. More than one file may follow --data.";

static const char examples[] =
	"  trimtab attack model.gguf --policy refuse.safetensors --data prompts.jsonl --split train -o found.jsonl\n"
	"  trimtab fit model.gguf --data prompts.jsonl found.jsonl -o harder.safetensors\n"
	"  trimtab attack model.gguf --policy harder.safetensors --data prompts.jsonl --split test --seed 1";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list, data;
	struct tt_attack_options options;
	bool json;
	struct tt_engine *engine;
	struct cli_policies policies;
	char *report;
};

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_attack_options *attack = &run->options;
	const struct cli_option options[] = {
		{"policy", 0, NULL, CLI_LIST, &run->policy_list, "F", 0, 0,
			"the policy whose gate is attacked (required)"},
		{"data", 'd', NULL, CLI_LIST, &run->data, "F.jsonl", 0, 0, "prompts; may be repeated (required)"},
		{"split", 0, NULL, CLI_STRING, &attack->split, "SPLIT", 0, 0,
			"only rows of this split: train, val (validation, dev), test or another name"},
		{"limit", 0, NULL, CLI_U32, &attack->limit, "N", 0, 1 << 30,
			"at most this many rows of each label and file; 0: all"},
		CLI_LABEL_OPTIONS(*attack),
		{"out", 'o', NULL, CLI_STRING, &attack->out, "F.jsonl", 0, 0,
			"write the prompts with the words that were found, for fit"},
		{"words", 0, NULL, CLI_U32, &attack->n_words, "N", 1, 32, "words or turns of phrase at most"},
		{"budget", 0, NULL, CLI_U32, &attack->budget, "N", 1, 1 << 20,
			"evaluations of the gate for each prompt"},
		{"seed", 's', NULL, CLI_U64, &attack->seed, "N", 0, 0,
			"of the words that are tried, mixed with the bytes of the prompt's line"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the report as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
		CLI_LAYERS_OPTION(run->policies.layers),
	};
	const struct cli_usage usage = {"attack", "MODEL --policy F --data F.jsonl... [OPTION]...", about, examples,
		options, CLI_N_OPTIONS(options), 1, CLI_MAX_LIST};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	if (run->policy_list.n != 1)
		return cli_usage_error("attack", run->policy_list.n ? "one policy at a time" : "--policy is missing");
	if (run->data.n == 0)
		return cli_usage_error("attack", "--data is missing");
	return cli_more_files(&run->data, positional, "attack");
}

static int check_files(const struct run *run, const char *model)
{
	struct cli_files files = {0};
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &run->engine_args);
	for (size_t i = 0; i < run->data.n; i++)
		cli_reads(&files, run->data.items[i], "the data");
	cli_reads(&files, run->policies.paths[0], "a policy");
	cli_writes(&files, run->options.out, "the rows");
	return cli_check_files(&files, "attack");
}

static void put_interval(const json_t *object, const char *key)
{
	const json_t *interval = json_object_get(object, key);
	if (json_array_size(interval) == 2)
		printf(" [%.0f,%.0f]", 100 * json_number_value(json_array_get(interval, 0)),
			100 * json_number_value(json_array_get(interval, 1)));
}

static void show(const json_t *report, const void *user)
{
	const struct run *run = user;
	static const char *const headings[] = {"label", "n", "flagged", "", "with words", ""};
	const json_t *evasion = json_object_get(report, "evasion");
	struct cli_table table;
	size_t i;
	json_t *row;
	cli_table_begin(&table, "lrrlrl");
	for (i = 0; i < sizeof headings / sizeof *headings; i++)
		cli_table_cell(&table, "%s", headings[i]);
	json_array_foreach(json_object_get(report, "labels"), i, row)
	{
		cli_table_cell(&table, "%s", tt_json_string_or(row, "label", "?"));
		cli_table_cell(&table, "%.0f", tt_json_number_or(row, "n", NULL, 0));
		cli_table_share(&table, json_object_get(row, "flagged"));
		cli_table_interval(&table, json_object_get(row, "flagged_interval"));
		cli_table_share(&table, json_object_get(row, "flagged_after"));
		cli_table_interval(&table, json_object_get(row, "flagged_after_interval"));
	}
	cli_table_print(&table, stdout);
	double n = tt_json_number_or(evasion, "n", NULL, 0), n_evaded = tt_json_number_or(evasion, "n_evaded", NULL, 0);
	printf("\nOf %.0f harmful prompts that the gate flagged, words got %.0f past it", n, n_evaded);
	if (n > 0)
		printf(": %.1f%%", 100 * n_evaded / n);
	put_interval(evasion, "evaded_interval");
	printf(", in %.0f evaluations of the gate", tt_json_number_or(evasion, "queries", NULL, 0));
	if (n_evaded > 0)
		printf(" (median of these %.0f)", tt_json_number_or(evasion, "median_queries", NULL, 0));
	puts(".\nIn brackets 95% intervals. The prompts of other labels have the words that were found.");
	if (run->options.out && n_evaded == 0)
		puts("No words were found, so there are no rows.");
}

static int attack(struct run *run, const char *model)
{
	struct tt_error err = {0};
	struct cli_progress progress;
	int status = cli_policies_parse(&run->policies, &run->policy_list, "attack");
	if (status == CLI_PROCEED)
		status = check_files(run, model);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->options.out);
	if (status == CLI_PROCEED)
		status = cli_engine_open_for_rows(&run->engine, model, &run->engine_args);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->policies, run->engine);
	if (status != CLI_PROCEED)
		return status;
	run->options.policy = run->policies.steering[0].policy;
	run->options.data = run->data.items;
	run->options.n_data = run->data.n;
	run->options.progress = cli_progress_step;
	run->options.user = &progress;
	cli_catch_interrupt();
	cli_progress_begin(&progress);
	int code = tt_attack(run->engine, &run->options, &run->report, &err);
	cli_progress_end(&progress);
	return cli_end_report(code, &err, run->report, run->json, show, run);
}

int cli_attack(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	tt_attack_options_default(&run.options);
	int status = parse(&run, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	status = attack(&run, positional.items[0]);
	cli_policies_free(&run.policies, run.engine);
	tt_engine_close(run.engine);
	tt_free(run.report);
	return status;
}
