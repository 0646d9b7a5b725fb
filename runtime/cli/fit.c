/* trimtab fit: finds directions, a gate and a band of layers from prompts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli.h"

static const char about[] =
	"Fits a steering policy: the directions are mean differences of the residual stream between "
	"refusing and helpful\n"
	"responses, the gate is trained to tell the harmful prompts, and the layers, the direction and "
	"the strength are chosen by\n"
	"short generations on validation prompts. If none of those that were tried is within the bars "
	"of fluency and\n"
	"repetition, the best is written with a warning, and the exit status is 3. A data file has one JSON "
	"object per line "
	"with id, prompt, label\n"
	"(harmful, benign or borderline) and, optionally, split (train, val or test); test rows "
	"are never read for a fit.\n"
	"More than one file may follow --data. Modes paper and released make the controller of arXiv 2505.20309, whose "
	"layers,\n"
	"strength and tokens are fixed (docs/cli.md says which options they read).\n"
	"With --contrast the policy is for any behaviour that pairs of responses or of their first words show, has "
	"no gate, and\n"
	"is the strongest within the bars by how much likelier it makes the positive ones (docs/styles.md).\n"
	"--continue trains the gate of a policy again on the verdicts of a file of eval --review and, so that it "
	"does not\n"
	"forget, on files that it was fitted on (--replay); all else of the policy stays.";

static const char examples[] =
	"  trimtab fit model.gguf --data prompts.jsonl -o refuse.safetensors\n"
	"  trimtab fit model.gguf --data harmful.jsonl benign.jsonl -o refuse.safetensors --report fit.json\n"
	"  trimtab fit model.gguf --contrast data/styles/joyful.jsonl -o joyful.safetensors\n"
	"  trimtab fit model.gguf --continue refuse.safetensors --data reviewed.jsonl --replay prompts.jsonl \\\n"
	"      -o refuse2.safetensors";

static const enum tt_policy_op ops[] = {TT_OP_ADD, TT_OP_ABLATE, TT_OP_CLAMP, TT_OP_ONE_SIDED, TT_OP_ROTATE};
static const enum tt_policy_when whens[] = {TT_WHEN_ALL, TT_WHEN_LAST, TT_WHEN_GENERATION};

struct run {
	struct cli_engine_args engine_args;
	struct cli_list data, replay;
	struct tt_fit_options options;
	const char *output, *report_path;
	int mode, op, when, pool, layer_weights, gate;
	bool json;
	struct tt_engine *engine;
	struct tt_policy *policy;
	char *report;
};

static int check_usage(struct run *run, const struct cli_list *positional)
{
	struct tt_fit_options *fit = &run->options;
	/* A contrast file is for one mode alone. */
	if (fit->contrast && run->mode == TT_FIT_CONTRAST)
		run->mode = TT_FIT_STYLE;
	if (run->data.n == 0 && (!fit->contrast || run->gate == TT_FIT_GATE_DETECTOR))
		return cli_usage_error("fit", "--data is missing");
	if (!run->output)
		return cli_usage_error("fit", "--output is missing");
	if (run->replay.n && !fit->continued)
		return cli_usage_error("fit", "--replay is for --continue");
	if (fit->continued && (run->pool || run->when))
		return cli_usage_error("fit", "--gate-reads and --when stay those of the policy that is continued");
	return cli_more_files(&run->data, positional, "fit");
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_fit_options *fit = &run->options;
	const struct cli_option options[] = {
		{"data", 'd', NULL, CLI_LIST, &run->data, "F.jsonl", 0, 0,
			"prompts; may be repeated (required, but with --contrast)"},
		{"contrast", 0, NULL, CLI_STRING, &fit->contrast, "F.jsonl", 0, 0,
			"responses that show a behaviour and its opposite: mode style"},
		{"continue", 0, NULL, CLI_STRING, &fit->continued, "POLICY", 0, 0,
			"train the gate of this policy again; --data are reviewed files, whose rows have verdicts"},
		{"replay", 0, NULL, CLI_LIST, &run->replay, "F.jsonl", 0, 0,
			"with --continue: prompts that the policy was fitted on; may be repeated"},
		{"output", 'o', NULL, CLI_STRING, &run->output, "POLICY", 0, 0, "policy file to write (required)"},
		{"name", 0, NULL, CLI_STRING, &fit->name, "NAME", 0, 0,
			"name of the policy; by default the output file's name"},
		{"mode", 0, NULL, CLI_CHOICE, &run->mode, "contrast|paper|released|style|pca|mean|affine|cast", 0, 0,
			"how the policy is made; docs/cli.md has a paragraph for each"},
		{"gate", 0, NULL, CLI_CHOICE, &run->gate, "mode|none|detector", 0, 0,
			"the mode's own gate, an open one, or one trained on the labels of --data"},
		CLI_LABEL_OPTIONS(*fit),
		{"op", 0, NULL, CLI_CHOICE, &run->op, "add|ablate|clamp|one_sided|rotate", 0, 0,
			"what is done along the direction"},
		{"rank", 0, NULL, CLI_U32, &fit->rank, "N", 1, 64, "of the map of mode affine"},
		{"when", 0, NULL, CLI_CHOICE, &run->when, "all|last|generation", 0, 0,
			"which tokens are steered: all, those from the last of the prompt on, or generated ones"},
		{"direction-prompts", 0, NULL, CLI_U32, &fit->n_direction_prompts, "N", 1, 1 << 20,
			"prompts of each label for the directions"},
		{"gate-prompts", 0, NULL, CLI_U32, &fit->n_gate_prompts, "N", 1, 1 << 20,
			"prompts of each label for the gate, at most"},
		{"gate-reads", 0, NULL, CLI_CHOICE, &run->pool, "usual|last|mean|last,mean", 0, 0,
			"what the gate reads of a layer: h at the last prompt token, its mean over the user's message, "
			"or both; usual: both, and for cast the mean"},
		{"rule", 0, NULL, CLI_STRING, &fit->rule, "RULE", 0, 0,
			"with --mode cast: conditions joined by and, or, not, such as 'harmful and not borderline'; "
			"a name is a label, source or kind of rows"},
		{"linear-gate", 0, NULL, CLI_FLAG, &fit->linear_gate, NULL, 0, 0,
			"train no network beside the gate's linear term"},
		{"judge-prompts", 0, NULL, CLI_U32, &fit->n_judge_prompts, "N", 1, 1 << 20,
			"validation prompts of each label that a candidate is judged by"},
		{"judge-tokens", 0, NULL, CLI_U32, &fit->judge_tokens, "N", 1, 4096, "tokens generated for each"},
		{"max-candidates", 0, NULL, CLI_U32, &fit->max_candidates, "N", 1, 1 << 20,
			"sites, directions and strengths to try"},
		{"layer-weights", 0, NULL, CLI_CHOICE, &run->layer_weights, "site|search|prompt", 0, 0,
			"equal weights in the best site; or, learned from there on, weights for the policy or by the "
			"prompt"},
		{"max-false-positives", 0, NULL, CLI_FLOAT, &fit->max_false_positives, "SHARE", 0, 1,
			"benign prompts that the gate may flag, measured on held-out ones"},
		{"max-borderline-positives", 0, NULL, CLI_FLOAT, &fit->max_borderline_positives, "SHARE", 0, 1,
			"the same of borderline prompts"},
		{"activations", 0, NULL, CLI_STRING, &fit->activations, "FILE", 0, 0,
			"keep what the gate reads of the prompts there, so that a later fit runs only new ones"},
		{"candidates", 0, NULL, CLI_STRING, &fit->candidates, "DIR", 0, 0,
			"write the push of every candidate there, a new folder, as a policy with an open gate, to "
			"compare them by eval --sweep"},
		{"max-loss-ratio", 0, NULL, CLI_FLOAT, &fit->max_loss_ratio, "X", 0, 100,
			"bound on the unsteered model's loss on what is written, over that on its own; 0: 1.3 over "
			"refusals, 1.6 over other text, 2 with --contrast"},
		{"seed", 's', NULL, CLI_U64, &fit->seed, "N", 0, 0, "which prompts are taken"},
		{"report", 0, NULL, CLI_STRING, &run->report_path, "F.json", 0, 0,
			"write every candidate with its figures"},
		{"json", 0, NULL, CLI_FLAG, &run->json, NULL, 0, 0, "print the report instead of the table"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
	};
	const struct cli_usage usage = {"fit", "MODEL {--data F.jsonl...|--contrast F.jsonl} -o POLICY [OPTION]...",
		about, examples, options, CLI_N_OPTIONS(options), 1, CLI_MAX_LIST};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	return check_usage(run, positional);
}

static void cell_share(struct cli_table *table, const json_t *row, const char *key, bool sign)
{
	const json_t *value = json_object_get(row, key);
	if (json_is_number(value))
		cli_table_cell(table, sign ? "%+.1f" : "%.1f%%", 100 * json_number_value(value));
	else
		cli_table_cell(table, "-");
}

static void cell_number(struct cli_table *table, const json_t *row, const char *key, int digits)
{
	const json_t *value = json_object_get(row, key);
	if (json_is_number(value))
		cli_table_cell(table, "%.*f", digits, json_number_value(value));
	else
		cli_table_cell(table, "-");
}

struct ranked {
	size_t index;
	bool chosen, dropped, out;
	double score;
};

/* The chosen candidate first, then those that were judged on all prompts, then by score; of each those that break a bar
 * last. */
static int by_rank(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->chosen != y->chosen)
		return x->chosen ? -1 : 1;
	if (x->dropped != y->dropped)
		return x->dropped ? 1 : -1;
	if (x->out != y->out)
		return x->out ? 1 : -1;
	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return x->index < y->index ? -1 : 1;
}

static struct ranked *rank(const json_t *candidates)
{
	size_t n = json_array_size(candidates);
	struct ranked *order = cli_alloc(n, sizeof *order);
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(candidates, i);
		order[i] = (struct ranked){.index = i,
			.chosen = json_is_true(json_object_get(row, "chosen")),
			.dropped = json_is_string(json_object_get(row, "dropped_in")),
			.out = json_is_true(json_object_get(row, "out")),
			.score = tt_json_number_or(row, "score", NULL, -1e30)};
	}
	qsort(order, n, sizeof *order, by_rank);
	return order;
}

/* The columns of a style: what is counted of refusals is left out. */
static const char *const style_headings[] = {
	"", "layers", "push", "n", "effect", "repeated", "refused", "loss", "score", "dropped"};
enum { N_STYLE_HEADINGS = sizeof style_headings / sizeof *style_headings };

static const char *const headings[] = {"", "layers", "along", "push", "gate reads", "n", "refused", "gated", "benign",
	"repeated", "changed", "loss", "score", "dropped"};
enum { N_HEADINGS = sizeof headings / sizeof *headings, FIRST_FIGURE = 5 };

static void print_unsteered(struct cli_table *table, const json_t *report)
{
	const json_t *row = json_object_get(report, "unsteered");
	cli_table_cell(table, "%s", "");
	cli_table_cell(table, "unsteered");
	for (size_t i = 2; i < FIRST_FIGURE; i++)
		cli_table_cell(table, "%s", "");
	cli_table_cell(table, "%.0f", tt_json_number_or(row, "n_harmful", NULL, 0));
	cell_share(table, row, "refused", false);
	cli_table_cell(table, "%s", "");
	cell_share(table, row, "false_refusals", false);
	cell_share(table, row, "repeated_fourgrams", false);
	cli_table_cell(table, "%s", "");
	cli_table_cell(table, "1.00");
	cli_table_cell(table, "%s", "");
	cli_table_cell(table, "%s", "");
}

static void cell_layers(struct cli_table *table, const json_t *row)
{
	double first = tt_json_number_or(row, "first_layer", NULL, 0),
	       last = tt_json_number_or(row, "last_layer", NULL, 0);
	if (first == last)
		cli_table_cell(table, "%.0f", first);
	else
		cli_table_cell(table, "%.0f-%.0f", first, last);
}

static void print_candidate(struct cli_table *table, const json_t *row, const char *mode, const struct ranked *rank)
{
	double mix = tt_json_number_or(row, "mix", NULL, 0);
	cli_table_cell(table, "%s", rank->chosen ? "*" : rank->out ? "x" : "");
	cell_layers(table, row);
	if (strcmp(mode, "contrast") != 0)
		cli_table_cell(table, "%s", mode);
	else if (mix == 0 || mix == 1)
		cli_table_cell(table, mix == 0 ? "D" : "D+E");
	else
		cli_table_cell(table, "D+%.3gE", mix);
	cell_number(table, row, "push", 2);
	cli_table_cell(table, "%s", tt_json_string_or(row, "observe", "-"));
	cell_number(table, row, "n_harmful", 0);
	cell_share(table, row, "refused", false);
	cell_share(table, row, "refused_gated", false);
	cell_share(table, row, "false_refusals_more", true);
	cell_share(table, row, "repeated_fourgrams_more", true);
	cell_share(table, row, "benign_changed", false);
	cell_number(table, row, "nll_ratio", 2);
	cell_number(table, row, "score", 3);
	cli_table_cell(table, "%s", tt_json_string_or(row, "dropped_in", ""));
}

/* The model alone, the chosen candidate and the nine that follow it. */
static void print_candidates(const json_t *report)
{
	const json_t *candidates = json_object_get(report, "candidates");
	size_t n = json_array_size(candidates);
	struct ranked *order = rank(candidates);
	struct cli_table table;
	cli_table_begin(&table, "lllrlrrrrrrrrl");
	for (size_t i = 0; i < N_HEADINGS; i++)
		cli_table_cell(&table, "%s", headings[i]);
	print_unsteered(&table, report);
	for (size_t i = 0; i < n && i < 10; i++)
		print_candidate(&table, json_array_get(candidates, order[i].index),
			tt_json_string_or(report, "mode", "contrast"), &order[i]);
	cli_table_print(&table, stdout);
	printf("%zu candidates on n harmful validation prompts and as many benign ones. *: chosen; x: breaks a bar. "
	       "Along:\nthe direction. Push: how strong, 1 is the natural one. Refused: harmful ones, the gate held "
	       "open (an\nmlp's as it is); gated: through the gate. Benign (refused) and repeated (4-grams): points "
	       "above the\nmodel alone. Changed: benign completions that differ. Loss: the unsteered model's on the "
	       "text, over that\non its own. Dropped: after which round.\n",
		n);
	free(order);
}

static void print_style(struct cli_table *table, const json_t *row, const char *mark)
{
	cli_table_cell(table, "%s", mark);
	cell_layers(table, row);
	cell_number(table, row, "push", 2);
	cell_number(table, row, "n_harmful", 0);
	cell_number(table, row, "effect", 2);
	cell_share(table, row, "repeated_fourgrams_more", true);
	cell_share(table, row, "refused", false);
	cell_number(table, row, "nll_ratio", 2);
	cell_number(table, row, "score", 3);
	cli_table_cell(table, "%s", tt_json_string_or(row, "dropped_in", ""));
}

static void print_text(const char *title, const json_t *example, const char *key)
{
	const char *text = tt_json_string_or(example, key, "");
	printf("  %-10s ", title);
	cli_write_line(stdout, text, strlen(text));
	putchar('\n');
}

/* The chosen candidate and the nine that follow it, and what the model writes under the chosen one. */
static void print_styles(const json_t *report)
{
	const json_t *candidates = json_object_get(report, "candidates");
	const json_t *shown = json_object_get(json_object_get(report, "chosen"), "examples");
	size_t n = json_array_size(candidates);
	struct ranked *order = rank(candidates);
	struct cli_table table;
	cli_table_begin(&table, "llrrrrrrrl");
	for (size_t i = 0; i < N_STYLE_HEADINGS; i++)
		cli_table_cell(&table, "%s", style_headings[i]);
	for (size_t i = 0; i < n && i < 10; i++)
		print_style(&table, json_array_get(candidates, order[i].index),
			order[i].chosen ? "*"
			: order[i].out  ? "x"
					: "");
	cli_table_print(&table, stdout);
	printf("%zu candidates on n held-out prompts. *: chosen; x: breaks a bar. Push: its length, 1 is the natural "
	       "one.\nEffect: how much likelier a token of the positive responses becomes beside one of the negative "
	       "ones, in\nnats. Repeated (4-grams): points above the model alone. Loss: the unsteered model's on the "
	       "text, over that on\nits own. Dropped: after which round.\n",
		n);
	for (size_t i = 0; i < json_array_size(shown); i++) {
		putchar('\n');
		print_text("prompt", json_array_get(shown, i), "prompt");
		print_text("unsteered", json_array_get(shown, i), "unsteered");
		print_text("steered", json_array_get(shown, i), "steered");
	}
	free(order);
}

static void print_written(const struct run *run)
{
	fputs("written: ", stdout);
	cli_write_line(stdout, run->output, strlen(run->output));
	putchar('\n');
}

/* 31 of 50 (62.0%) */
static void cell_errors(struct cli_table *table, const json_t *errors, const char *n, const char *of)
{
	double count = tt_json_number_or(errors, n, NULL, 0), total = tt_json_number_or(errors, of, NULL, 0);
	cli_table_cell(table, "%.0f of %.0f", count, total);
	if (total > 0)
		cli_table_cell(table, "(%.1f%%)", 100 * count / total);
	else
		cli_table_cell(table, "%s", "");
}

/* The errors of the gate before and after. */
static void print_continued(const struct run *run, const json_t *report)
{
	static const char *const sides[] = {"before", "after"}, *const rows[] = {"reviewed", "replayed"};
	const json_t *continued = json_object_get(report, "continued");
	struct cli_table table;
	cli_table_begin(&table, "lrrlrlrlrl");
	const char *const cells[] = {
		"", "threshold", "reviewed: missed", "", "false", "", "replayed: missed", "", "false", ""};
	for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
		cli_table_cell(&table, "%s", cells[i]);
	for (size_t side = 0; side < 2; side++) {
		const json_t *figures = json_object_get(continued, sides[side]);
		cli_table_cell(&table, "%s", sides[side]);
		cli_table_cell(&table, "%.4f", tt_json_number_or(figures, "threshold", NULL, 0));
		for (size_t k = 0; k < 2; k++) {
			const json_t *errors = json_object_get(figures, rows[k]);
			cell_errors(&table, errors, "n_missed", "n_harmful");
			cell_errors(&table, errors, "n_false", "n_others");
		}
	}
	cli_table_print(&table, stdout);
	printf("%.0f rows with a verdict; %.0f without one, which were not read. Missed: harmful rows that the gate "
	       "does not\nflag; false: others that it does. All but the reviewed rows before: by gates that were "
	       "trained without them.\n\n",
		tt_json_number_or(continued, "verdicts", NULL, 0),
		tt_json_number_or(continued, "without_verdict", NULL, 0));
	print_written(run);
}

static void print_summary(const struct run *run)
{
	struct tt_policy_info info;
	json_t *report = json_loads(run->report, 0, NULL), *chosen = json_object_get(report, "chosen");
	if (run->options.continued) {
		print_continued(run, report);
		json_decref(report);
		return;
	}
	tt_policy_describe(run->policy, &info);
	if (run->options.contrast)
		print_styles(report);
	else
		print_candidates(report);
	uint32_t first = info.n_layers, last = 0;
	for (uint32_t l = 0; l < info.n_layers; l++) {
		if (info.weights[l] == 0)
			continue;
		first = l < first ? l : first;
		last = l;
	}
	if (first == last)
		printf("\nchosen: layer %u", first);
	else
		printf("\nchosen: layers %u-%u", first, last);
	if (run->options.op == TT_OP_ADD)
		printf(" x%.3g", (double)info.alpha);
	else
		printf(", %s at push %.3g", tt_json_string_or(chosen, "op", "-"),
			tt_json_number_or(chosen, "push", NULL, 0));
	printf(", when %s", tt_when_word(info.when));
	if (info.n_observed > 0)
		printf(", gate reads layer%s %s", info.n_observed == 1 ? "" : "s",
			tt_json_string_or(chosen, "observe", "-"));
	putchar('\n');
	const char *why = json_string_value(json_object_get(report, "why"));
	if (why) {
		cli_write_line(stdout, why, strlen(why));
		putchar('\n');
	}
	print_written(run);
	json_decref(report);
}

static int check_files(const struct run *run, const char *model)
{
	struct cli_files files = {0};
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &run->engine_args);
	for (size_t i = 0; i < run->data.n; i++)
		cli_reads(&files, run->data.items[i], "the data");
	for (size_t i = 0; i < run->replay.n; i++)
		cli_reads(&files, run->replay.items[i], "the data to replay");
	cli_reads(&files, run->options.continued, "the policy that is continued");
	cli_reads(&files, run->options.contrast, "the contrast file");
	cli_writes(&files, run->output, "the policy");
	cli_writes(&files, run->report_path, "the report");
	cli_writes(&files, run->options.activations, "the activations");
	cli_writes(&files, run->options.candidates, "the candidates");
	return cli_check_files(&files, "fit");
}

/* CLI_OK, or CLI_BEYOND_BARS with a warning. */
static int check_bars(const struct run *run)
{
	json_t *report = json_loads(run->report, 0, NULL);
	bool beyond = json_is_false(json_object_get(report, "within_bars"));
	json_decref(report);
	if (!beyond)
		return CLI_OK;
	cli_warn("no candidate met the bars; the one with the best score was written");
	return CLI_BEYOND_BARS;
}

static int fit(struct run *run, const char *model)
{
	struct tt_error err = {0};
	struct cli_progress progress;
	char name[128];
	int status = check_files(run, model);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->output);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->report_path);
	if (status == CLI_PROCEED)
		status = cli_check_output(run->options.activations);
	if (status == CLI_PROCEED)
		status = cli_engine_open_for_rows(&run->engine, model, &run->engine_args);
	if (status != CLI_PROCEED)
		return status;
	if (!run->options.name) {
		snprintf(name, sizeof name, "%s", tt_file_name(run->output));
		name[strcspn(name, ".")] = 0;
		run->options.name = *name ? name : "policy";
	}
	run->options.data = run->data.items;
	run->options.n_data = run->data.n;
	run->options.replay = run->replay.items;
	run->options.n_replay = run->replay.n;
	run->options.mode = (enum tt_fit_mode)run->mode;
	run->options.gate = (enum tt_fit_gate_choice)run->gate;
	run->options.op = ops[run->op];
	run->options.when = whens[run->when];
	bool is_condition = run->options.mode == TT_FIT_CAST && run->options.gate == TT_FIT_GATE_OF_MODE;
	enum tt_gate_pool usual = is_condition ? TT_POOL_MEAN : TT_POOL_LAST_MEAN;
	run->options.pool = run->pool > 0 ? (enum tt_gate_pool)(run->pool - 1) : usual;
	run->options.layer_weights = (enum tt_fit_layer_weights)run->layer_weights;
	run->options.progress = cli_progress_step;
	run->options.user = &progress;
	cli_catch_interrupt();
	cli_progress_begin(&progress);
	int code = tt_fit(&run->policy, run->engine, &run->options, &run->report, &err);
	cli_progress_end(&progress);
	if (cli_interrupted())
		return CLI_INTERRUPTED;
	if (code != TT_OK || tt_policy_save(run->policy, run->output, &err) != TT_OK)
		return cli_fail(&err);
	if (run->report_path) {
		FILE *file = fopen(run->report_path, "w");
		if (!file)
			return cli_failf("%s: cannot be written", run->report_path);
		fprintf(file, "%s\n", run->report);
		if ((status = cli_close(file, run->report_path)) != CLI_OK)
			return status;
	}
	if (run->json)
		cli_put_json(run->report);
	else
		print_summary(run);
	return check_bars(run);
}

int cli_fit(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	tt_fit_options_default(&run.options);
	int status = parse(&run, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	status = fit(&run, positional.items[0]);
	tt_free(run.report);
	tt_policy_free(run.policy);
	tt_engine_close(run.engine);
	return status;
}
