/* The tables of trimtab eval. */
#include <string.h>

#include "base/json.h"
#include "cli.h"
#include "runtime/page/report_figures.h"

static void add_cells(struct cli_table *table, const char *const *cells, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cli_table_cell(table, "%s", cells[i]);
}

#define ADD_CELLS(table, ...)                                                                                          \
	add_cells(table, (const char *const[]){__VA_ARGS__}, sizeof(const char *[]){__VA_ARGS__} / sizeof(char *))

/* Unsteered -> steered: 3 cells. */
static void add_shares(struct cli_table *table, const json_t *row, const char *key)
{
	const json_t *shares = json_object_get(row, key);
	cli_table_share(table, json_object_get(shares, "unsteered"));
	cli_table_cell(table, "->");
	cli_table_share(table, json_object_get(shares, "steered"));
}

/* How likely a difference as large as that of the pairs is, if there is none. */
static void add_p(struct cli_table *table, const json_t *pairs)
{
	const json_t *value = json_object_get(pairs, "p");
	double p = json_number_value(value);
	if (!json_is_number(value))
		cli_table_cell(table, "-");
	else if (p < 1e-4)
		cli_table_cell(table, "<.0001");
	else
		cli_table_cell(table, "%.2g", p);
}

static void add_row(struct cli_table *table, const json_t *row, bool judged)
{
	const json_t *refused = json_object_get(row, "refused"), *intervals = json_object_get(row, "refused_interval");
	cli_table_cell(table, "%s", tt_json_string_or(row, "label", "?"));
	cli_table_cell(table, "%s", tt_json_string_or(row, "file", "all files"));
	cli_table_cell(table, "%.0f", tt_json_number_or(row, "n", NULL, 0));
	cli_table_share(table, json_object_get(refused, "unsteered"));
	cli_table_interval(table, json_object_get(intervals, "unsteered"));
	cli_table_cell(table, "->");
	cli_table_share(table, json_object_get(refused, "steered"));
	cli_table_interval(table, json_object_get(intervals, "steered"));
	add_p(table, json_object_get(json_object_get(row, "paired"), "refused"));
	add_shares(table, row, "refused_by_phrases");
	if (judged)
		add_shares(table, row, "refused_by_judge");
	cli_table_share(table, json_object_get(row, "flagged"));
	cli_table_interval(table, json_object_get(row, "flagged_interval"));
	cli_table_share(table, json_object_get(row, "changed"));
	add_shares(table, row, "repeated_fourgrams");
	cli_table_cell(table, "%.2f", tt_json_number_or(row, "nll", "unsteered", 0));
	cli_table_cell(table, "->");
	cli_table_cell(table, "%.2f", tt_json_number_or(row, "nll", "steered", 0));
	cli_table_cell(table, "%.2f", tt_json_number_or(row, "nll_ratio", NULL, 0));
}

/* Arm i of a report that has several, or the only one, which is the report. */
static const json_t *arm_of(const json_t *report, size_t i)
{
	const json_t *arms = json_object_get(report, "arms");
	return json_is_array(arms) ? json_array_get(arms, i) : i ? NULL : report;
}

/* A report without completions: what the gates flagged is all there is. */
static bool is_of_gates(const json_t *report)
{
	return tt_json_number_or(report, "max_tokens", NULL, 0) == 0;
}

/* The arm's name, where the report has several. */
static void add_name(struct cli_table *table, const json_t *report, const json_t *arm)
{
	if (arm != report)
		cli_table_cell(table, "%s", tt_json_string_or(arm, "name", "?"));
}

/* The rows of a suite, one for each arm. */
static void add_suite(struct cli_table *table, const json_t *report, const char *list, size_t index, bool judged)
{
	const json_t *arm;
	for (size_t i = 0; (arm = arm_of(report, i)); i++) {
		const json_t *row = json_array_get(json_object_get(arm, list), index);
		add_name(table, report, arm);
		add_row(table, row, judged);
		if (arm != report)
			add_p(table, json_object_get(json_object_get(row, "paired_with_first"), "refused"));
	}
}

/* What the gates flagged, by label and file, and by label. */
static void show_flags(const json_t *report)
{
	static const char *const lists[] = {"groups", "labels"};
	const size_t n_groups = json_array_size(json_object_get(report, "groups"));
	const bool several = json_is_array(json_object_get(report, "arms"));
	const json_t *arm;
	struct cli_table table;
	cli_table_begin(&table, several ? "lllrrl" : "llrrl");
	if (several)
		ADD_CELLS(&table, "arm");
	ADD_CELLS(&table, "label", "file", "n", "flagged", "");
	for (size_t list = 0; list < 2; list++) {
		size_t n = json_array_size(json_object_get(report, lists[list]));
		for (size_t i = 0; i < n && (list == 0 || n_groups > n); i++)
			for (size_t k = 0; (arm = arm_of(report, k)); k++) {
				const json_t *row = json_array_get(json_object_get(arm, lists[list]), i);
				add_name(&table, report, arm);
				ADD_CELLS(&table, tt_json_string_or(row, "label", "?"),
					tt_json_string_or(row, "file", "all files"));
				cli_table_cell(&table, "%.0f", tt_json_number_or(row, "n", NULL, 0));
				cli_table_share(&table, json_object_get(row, "flagged"));
				cli_table_interval(&table, json_object_get(row, "flagged_interval"));
			}
	}
	cli_table_print(&table, stdout);
	puts("\nIn brackets 95% intervals.\n");
}

static void show_groups(const json_t *report, bool judged)
{
	size_t n_groups = json_array_size(json_object_get(report, "groups"));
	size_t n_labels = json_array_size(json_object_get(report, "labels"));
	bool several = json_is_array(json_object_get(report, "arms"));
	char align[40];
	struct cli_table table;
	snprintf(align, sizeof align, "%sllrrllrlrrlr%srlrrlrrlrr%s", several ? "l" : "", judged ? "rlr" : "",
		several ? "r" : "");
	cli_table_begin(&table, align);
	if (several)
		ADD_CELLS(&table, "arm");
	ADD_CELLS(&table, "label", "file", "n", "refused", "", "", "", "", "p", "by phrases", "", "");
	if (judged)
		ADD_CELLS(&table, "by judge", "", "");
	ADD_CELLS(&table, "flagged", "", "changed", "repeated", "", "", "loss", "", "", "ratio");
	if (several)
		ADD_CELLS(&table, "p, to first");
	for (size_t i = 0; i < n_groups; i++)
		add_suite(&table, report, "groups", i, judged);
	/* The sums over files add nothing when every label comes from one file. */
	for (size_t i = 0; n_groups > n_labels && i < n_labels; i++)
		add_suite(&table, report, "labels", i, judged);
	cli_table_print(&table, stdout);
}

/* 0.912 [0.82,0.96] */
static void add_area(struct cli_table *table, const json_t *curve)
{
	const json_t *interval = json_object_get(curve, "auc_interval");
	if (!json_is_number(json_object_get(curve, "auc"))) {
		ADD_CELLS(table, "-", "");
		return;
	}
	cli_table_cell(table, "%.3f", tt_json_number_or(curve, "auc", NULL, 0));
	cli_table_cell(table, "[%.2f,%.2f]", json_number_value(json_array_get(interval, 0)),
		json_number_value(json_array_get(interval, 1)));
}

static void add_curve(struct cli_table *table, const json_t *curve)
{
	const json_t *points = json_object_get(curve, "points");
	cli_table_cell(table, "%s", tt_json_string_or(curve, "against", "?"));
	cli_table_cell(table, "%s", tt_json_string_or(curve, "file", "all files"));
	cli_table_cell(table, "%.0f+%.0f", tt_json_number_or(curve, "n_harmful", NULL, 0),
		tt_json_number_or(curve, "n_against", NULL, 0));
	add_area(table, curve);
	for (size_t k = 0; k < 3; k++) {
		const json_t *point = json_array_get(points, k);
		cli_table_share(table, json_object_get(point, "flagged"));
		cli_table_interval(table, json_object_get(point, "flagged_interval"));
	}
}

/* The curves of an arm's gate; NULL where an earlier arm has the same gate, as at another scale. */
static const json_t *curves_of(const json_t *report, size_t arm)
{
	const json_t *gate = json_object_get(arm_of(report, arm), "gate");
	for (size_t i = 0; i < arm; i++)
		if (json_equal(gate, json_object_get(arm_of(report, i), "gate")))
			return NULL;
	return json_object_get(gate, "curves");
}

/* What the gates tell apart, at all thresholds and at some. */
static void show_gates(const json_t *report)
{
	bool several = json_is_array(json_object_get(report, "arms"));
	const json_t *arm;
	struct cli_table table;
	size_t k;
	json_t *curve;
	cli_table_begin(&table, several ? "lllrrlrlrlrl" : "llrrlrlrlrl");
	if (several)
		ADD_CELLS(&table, "arm");
	ADD_CELLS(&table, "harmful told from", "file", "n", "AUC", "", "at 5%", "", "at 12%", "", "at 15%", "");
	for (size_t i = 0; (arm = arm_of(report, i)); i++)
		json_array_foreach(curves_of(report, i), k, curve)
		{
			add_name(&table, report, arm);
			add_curve(&table, curve);
		}
	cli_table_print(&table, stdout);
	puts("\nAUC: how often the gate puts a harmful prompt above another; at 5%: the harmful prompts that it flags "
	     "where it may\nflag 5% of the others.");
}

/* The labels of an arm, or of a variant of its rows. */
static void add_variant(struct cli_table *table, const json_t *report, const json_t *arm, const json_t *variant)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(variant, "labels"), i, row)
	{
		const char *label = tt_json_string_or(row, "label", "?");
		add_name(table, report, arm);
		ADD_CELLS(table, tt_json_string_or(variant, "variant", "plain"), label);
		cli_table_cell(table, "%.0f", tt_json_number_or(row, "n", NULL, 0));
		cli_table_share(table, json_object_get(row, "flagged"));
		cli_table_interval(table, json_object_get(row, "flagged_interval"));
		add_area(table, tt_page_curve(json_object_get(variant, "gate"), label));
		if (!is_of_gates(report)) {
			add_shares(table, row, "refused");
			cli_table_interval(table, json_object_get(json_object_get(row, "refused_interval"), "steered"));
		}
	}
}

static void show_variants(const json_t *report)
{
	const bool several = json_is_array(json_object_get(report, "arms"));
	const json_t *arm;
	struct cli_table table;
	size_t k;
	json_t *variant;
	char align[40];
	if (!json_is_array(json_object_get(report, "variants")))
		return;
	snprintf(align, sizeof align, "%sllrrlrl%s", several ? "l" : "", is_of_gates(report) ? "" : "rlrl");
	cli_table_begin(&table, align);
	if (several)
		ADD_CELLS(&table, "arm");
	ADD_CELLS(&table, "variant", "label", "n", "flagged", "", "AUC", "");
	if (!is_of_gates(report))
		ADD_CELLS(&table, "refused", "", "", "");
	for (size_t i = 0; (arm = arm_of(report, i)); i++) {
		add_variant(&table, report, arm, arm);
		json_array_foreach(json_object_get(arm, "variants"), k, variant)
		{
			add_variant(&table, report, arm, variant);
		}
	}
	putchar('\n');
	cli_table_print(&table, stdout);
	puts("\nThe same prompts in other dress. AUC, within a variant: harmful prompts told from all others; in the "
	     "line of\nanother label, from these.");
}

/* What the gate's errors cost, as it is and at the cheapest threshold. */
static void show_costs(const json_t *report)
{
	const json_t *arm;
	for (size_t i = 0; (arm = arm_of(report, i)); i++) {
		const json_t *costs = json_object_get(json_object_get(arm, "gate"), "costs");
		const json_t *present = json_object_get(costs, "as_it_is"), *best = json_object_get(costs, "cheapest");
		const json_t *from = json_object_get(best, "from");
		if (!json_is_object(costs) || !curves_of(report, i))
			continue;
		printf("\nErrors at %g a false refusal and %g a miss, ",
			tt_json_number_or(costs, "price_false_refusal", NULL, 0),
			tt_json_number_or(costs, "price_miss", NULL, 0));
		if (arm != report) {
			const char *name = tt_json_string_or(arm, "name", "?");
			cli_write_line(stdout, name, strlen(name));
			fputs(", ", stdout);
		}
		printf("cost %.3g a prompt (%.0f false, %.0f missed); the least is ",
			tt_json_number_or(present, "cost", NULL, 0),
			tt_json_number_or(present, "false_refusals", NULL, 0),
			tt_json_number_or(present, "missed", NULL, 0));
		printf("%.3g (%.0f, %.0f), ", tt_json_number_or(best, "cost", NULL, 0),
			tt_json_number_or(best, "false_refusals", NULL, 0), tt_json_number_or(best, "missed", NULL, 0));
		if (json_is_number(from))
			printf("from a gate of %.4g on.\n", json_number_value(from));
		else
			puts("with nothing flagged.");
	}
}

static bool has_curves(const json_t *report)
{
	size_t n = 0;
	for (size_t i = 0; arm_of(report, i); i++)
		n += json_array_size(curves_of(report, i));
	return n;
}

static void show_speed(const json_t *report)
{
	static const char key[] = "generated_tokens_per_second";
	const json_t *arm;
	printf("\nGenerated %.0f", tt_json_number_or(json_object_get(report, "speed"), "unsteered", key, 0));
	for (size_t i = 0; (arm = arm_of(report, i)); i++)
		printf("%s%.0f", i ? ", " : " -> ",
			tt_json_number_or(json_object_get(arm, "speed"), "steered", key, 0));
	/* A machine that is busy for one of them only would be taken for the cost of steering. */
	puts(" tokens a second, one after the other; trimtab bench measures what steering costs.");
}

static void show_review(const json_t *report)
{
	const json_t *review = json_object_get(report, "review");
	if (json_is_object(review))
		printf("\nTo review: %.0f missed, %.0f flagged that are not harmful, %.0f of another outcome, %.0f "
		       "near the threshold.\n",
			tt_json_number_or(review, "miss", NULL, 0), tt_json_number_or(review, "false", NULL, 0),
			tt_json_number_or(review, "outcome", NULL, 0), tt_json_number_or(review, "near", NULL, 0));
}

void cli_show_evaluation(const json_t *report, bool judged)
{
	if (is_of_gates(report)) {
		show_flags(report);
	} else {
		show_groups(report, judged);
		puts("\nUnsteered -> steered; in brackets 95% intervals. p: of the sign test of the prompts that one "
		     "side refuses and\nthe other does not. Repeated: 4-grams that stood before in the same text. "
		     "Loss: "
		     "the unsteered model's on the\ntext, in nats a token; ratio: that on the steered text over that "
		     "on the model's own refusals.\n");
	}
	if (has_curves(report))
		show_gates(report);
	show_variants(report);
	show_costs(report);
	show_review(report);
	if (!is_of_gates(report))
		show_speed(report);
}
