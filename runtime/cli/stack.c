/* trimtab stack: policies on one request, alone and together. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli.h"

static const char about[] =
	"Measures policies that are on the same request, alone and together, and at every combination of --scales: "
	"whether their\n"
	"directions conflict (cosines, layer by layer), and of each combination what it refuses, changes and repeats, "
	"the "
	"loss, how\n"
	"much likelier it makes the positive responses of each contrast file, and how many questions it still answers "
	"rightly. What\n"
	"no other combination beats in everything is marked. More than one file may follow --data.";

static const char examples[] =
	"  trimtab stack model.gguf --policy joyful.safetensors --policy brief.safetensors \\\n"
	"      --contrast joyful.jsonl --contrast brief.jsonl\n"
	"  trimtab stack model.gguf --policy refuse.safetensors --policy brief.safetensors --data prompts.jsonl \\\n"
	"      --split val --limit 16 --scales 0,0.5,1 --choices arc.jsonl";

enum { MAX_SCALES = 16 };

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list, data, contrast;
	struct tt_stack_options options;
	const char *scale_text;
	float scales[MAX_SCALES];
	bool json;
	struct tt_engine *engine;
	struct cli_policies policies;
	char *report;
};

static int parse_scales(struct run *run)
{
	for (const char *at = run->scale_text; *at;) {
		char *end;
		if (run->options.n_scales == MAX_SCALES)
			return cli_usage_error("stack", "more than %d scales", MAX_SCALES);
		run->scales[run->options.n_scales++] = strtof(at, &end);
		if (end == at || (*end && (*end != ',' || !end[1])))
			return cli_usage_error(
				"stack", "--scales takes numbers with commas between them, not '%s'", run->scale_text);
		at = *end ? end + 1 : end;
	}
	run->options.scales = run->scales;
	return CLI_PROCEED;
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_stack_options *stack = &run->options;
	stack->size = sizeof *stack;
	const struct cli_option options[] = {
		CLI_POLICY_OPTION(run->policy_list),
		{"scales", 0, NULL, CLI_STRING, &run->scale_text, "A,B,..", 0, 0,
			"multiples of each policy's scale, in every combination"},
		{"data", 'd', NULL, CLI_LIST, &run->data, "F.jsonl", 0, 0,
			"prompts to complete; without them those of the first contrast file"},
		{"split", 0, NULL, CLI_STRING, &stack->split, "SPLIT", 0, 0,
			"only rows of this split: train, val (validation, dev), test or another name"},
		{"limit", 0, NULL, CLI_U32, &stack->limit, "N", 0, 1 << 30,
			"at most this many rows of each label and file, and of each other file; 0: all"},
		CLI_LABEL_OPTIONS(*stack),
		{"contrast", 0, NULL, CLI_LIST, &run->contrast, "F.jsonl", 0, 0,
			"contrast file whose positive responses are measured; up to 4 times"},
		{"choices", 0, NULL, CLI_STRING, &stack->choices, "F.jsonl", 0, 0,
			"questions with choices, of which one is right"},
		{"max-tokens", 'n', "n-predict", CLI_U32, &stack->max_tokens, "N", 1, 1 << 20,
			"tokens to generate for each"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the report as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
		CLI_LAYERS_OPTION(run->policies.layers),
	};
	const struct cli_usage usage = {"stack",
		"MODEL --policy F[:SCALE] --policy F[:SCALE] {--data|--contrast} F.jsonl [OPTION]...", about, examples,
		options, CLI_N_OPTIONS(options), 1, CLI_MAX_LIST};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	if (run->policy_list.n < 2)
		return cli_usage_error("stack", "two policies or more are needed");
	if (run->contrast.n > TT_MAX_STACK)
		return cli_usage_error("stack", "more than %d contrast files", TT_MAX_STACK);
	status = cli_more_files(&run->data, positional, "stack");
	if (status == CLI_PROCEED && run->data.n == 0 && run->contrast.n == 0)
		return cli_usage_error("stack", "neither --data nor --contrast is given");
	return status == CLI_PROCEED ? parse_scales(run) : status;
}

static void cell_number(struct cli_table *table, const json_t *value)
{
	if (json_is_number(value))
		cli_table_cell(table, "%.2f", json_number_value(value));
	else
		cli_table_cell(table, "-");
}

static void print_pairs(const json_t *report)
{
	size_t i;
	json_t *pair, *policy;
	struct cli_table table;
	cli_table_begin(&table, "lllr");
	cli_table_cell(&table, "policy");
	cli_table_cell(&table, "gate");
	cli_table_cell(&table, "layers");
	cli_table_cell(&table, "whole push");
	json_array_foreach(json_object_get(report, "policies"), i, policy)
	{
		const json_t *layers = json_object_get(policy, "layers");
		size_t n = json_array_size(layers);
		cli_table_cell(&table, "%s", tt_json_string_or(policy, "name", "?"));
		cli_table_cell(&table, "%s", tt_json_string_or(policy, "gate", "?"));
		cli_table_cell(&table, "%zu, from %.0f to %.0f", n, json_number_value(json_array_get(layers, 0)),
			json_number_value(json_array_get(layers, n - 1)));
		cell_number(&table, json_object_get(policy, "total_push"));
	}
	cli_table_print(&table, stdout);
	json_array_foreach(json_object_get(report, "pairs"), i, pair)
	{
		const json_t *names = json_object_get(pair, "policies"), *layers = json_object_get(pair, "layers");
		const json_t *cosines = json_object_get(pair, "cosines");
		putchar('\n');
		for (size_t k = 0; k < 2; k++) {
			const char *name = json_string_value(json_array_get(names, k));
			cli_write_line(stdout, name, strlen(name));
			fputs(k == 0 ? " and " : ": ", stdout);
		}
		if (json_array_size(layers) == 0)
			fputs("no layer in common", stdout);
		for (size_t k = 0; k < json_array_size(layers); k++)
			printf("%scosine %+.2f in layer %.0f", k ? ", " : "",
				json_number_value(json_array_get(cosines, k)),
				json_number_value(json_array_get(layers, k)));
		putchar('\n');
	}
}

static void print_arms(const json_t *report)
{
	const json_t *policies = json_object_get(report, "policies"),
		     *objectives = json_object_get(report, "objectives");
	const json_t *arms = json_object_get(report, "arms");
	size_t n_policies = json_array_size(policies), n_objectives = json_array_size(objectives), i, k;
	char align[TT_MAX_STACK + 32] = "l";
	json_t *arm, *item;
	struct cli_table table;
	memset(align + 1, 'r', n_policies + n_objectives + 2);
	cli_table_begin(&table, align);
	cli_table_cell(&table, "%s", "");
	json_array_foreach(policies, i, item) cli_table_cell(&table, "%s", tt_json_string_or(item, "name", "?"));
	json_array_foreach(objectives, i, item) cli_table_cell(&table, "%s", tt_json_string_or(item, "name", "?"));
	cli_table_cell(&table, "changed");
	cli_table_cell(&table, "repeated");
	json_array_foreach(arms, i, arm)
	{
		cli_table_cell(&table, "%s", json_is_true(json_object_get(arm, "optimal")) ? "*" : "");
		json_array_foreach(json_object_get(arm, "scales"), k, item) cell_number(&table, item);
		json_array_foreach(objectives, k, item) cell_number(&table,
			json_object_get(json_object_get(arm, "objectives"), tt_json_string_or(item, "name", "")));
		cell_number(&table, json_object_get(arm, "changed"));
		cell_number(&table, json_object_get(arm, "repeated_fourgrams"));
	}
	putchar('\n');
	cli_table_print(&table, stdout);
	puts("*: no other line is as good in all of the objectives and better in one. Scales; shares of the prompts "
	     "that "
	     "are refused;\nnll_ratio: the unsteered model's loss on the text, over that on its own; under the name of "
	     "a "
	     "contrast file, how much\nlikelier a token of its positive responses becomes beside one of the negative "
	     "ones, "
	     "in nats; accuracy on the questions;\nshares of completions that change and of 4-grams that are "
	     "repeated.");
}

static void show(const json_t *report, const void *user)
{
	(void)user;
	print_pairs(report);
	print_arms(report);
}

static int stack(struct run *run, const char *model)
{
	struct tt_error err = {0};
	struct cli_progress progress;
	int status = cli_policies_parse(&run->policies, &run->policy_list, "stack");
	if (status == CLI_PROCEED)
		status = cli_engine_open_for_rows(&run->engine, model, &run->engine_args);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->policies, run->engine);
	if (status != CLI_PROCEED)
		return status;
	run->options.n_steering = run->policies.n;
	for (uint32_t i = 0; i < run->policies.n; i++)
		run->options.steering[i] = run->policies.steering[i];
	run->options.data = run->data.items;
	run->options.n_data = run->data.n;
	run->options.n_contrast = run->contrast.n;
	for (size_t i = 0; i < run->contrast.n; i++)
		run->options.contrast[i] = run->contrast.items[i];
	run->options.progress = cli_progress_step;
	run->options.user = &progress;
	cli_catch_interrupt();
	cli_progress_begin(&progress);
	int code = tt_stack(run->engine, &run->options, &run->report, &err);
	cli_progress_end(&progress);
	return cli_end_report(code, &err, run->report, run->json, show, NULL);
}

int cli_stack(int argc, char **argv)
{
	struct run run = {.scale_text = "0,1", .options.max_tokens = 32};
	struct cli_list positional = {0};
	int status = parse(&run, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	status = stack(&run, positional.items[0]);
	cli_policies_free(&run.policies, run.engine);
	tt_engine_close(run.engine);
	tt_free(run.report);
	return status;
}
