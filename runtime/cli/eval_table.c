/* The tables of trimtab eval. */
#include "base/json.h"
#include "cli.h"

static void add_cells(struct cli_table *table, const char *const *cells, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cli_table_cell(table, "%s", cells[i]);
}

#define ADD_CELLS(table, ...)                                                                                          \
	add_cells(table, (const char *const[]){__VA_ARGS__}, sizeof(const char *[]){__VA_ARGS__} / sizeof(char *))

/* A 95% interval in percent: [2,7]. */
static void add_interval(struct cli_table *table, const json_t *interval)
{
	if (json_array_size(interval) == 2)
		cli_table_cell(table, "[%.0f,%.0f]", 100 * json_number_value(json_array_get(interval, 0)),
			100 * json_number_value(json_array_get(interval, 1)));
	else
		cli_table_cell(table, "-");
}

/* A number in percent, or a dash where there is none. */
static void add_share(struct cli_table *table, const json_t *share)
{
	if (json_is_number(share))
		cli_table_cell(table, "%.1f%%", 100 * json_number_value(share));
	else
		cli_table_cell(table, "-");
}

/* Unsteered -> steered: 3 cells. */
static void add_shares(struct cli_table *table, const json_t *row, const char *key)
{
	const json_t *shares = json_object_get(row, key);
	add_share(table, json_object_get(shares, "unsteered"));
	cli_table_cell(table, "->");
	add_share(table, json_object_get(shares, "steered"));
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
	add_share(table, json_object_get(refused, "unsteered"));
	add_interval(table, json_object_get(intervals, "unsteered"));
	cli_table_cell(table, "->");
	add_share(table, json_object_get(refused, "steered"));
	add_interval(table, json_object_get(intervals, "steered"));
	add_p(table, json_object_get(json_object_get(row, "paired"), "refused"));
	add_shares(table, row, "refused_by_phrases");
	if (judged)
		add_shares(table, row, "refused_by_judge");
	add_share(table, json_object_get(row, "flagged"));
	add_interval(table, json_object_get(row, "flagged_interval"));
	add_share(table, json_object_get(row, "changed"));
	add_shares(table, row, "repeated_fourgrams");
	cli_table_cell(table, "%.2f", tt_json_number_or(row, "nll", "unsteered", 0));
	cli_table_cell(table, "->");
	cli_table_cell(table, "%.2f", tt_json_number_or(row, "nll", "steered", 0));
	cli_table_cell(table, "%.2f", tt_json_number_or(row, "nll_ratio", NULL, 0));
}

static void show_groups(const json_t *report, bool judged)
{
	const json_t *groups = json_object_get(report, "groups"), *labels = json_object_get(report, "labels");
	struct cli_table table;
	size_t i;
	json_t *row;
	cli_table_begin(&table, judged ? "llrrllrlrrlrrlrrlrrlrrlrr" : "llrrllrlrrlrrlrrlrrlrr");
	ADD_CELLS(&table, "label", "file", "n", "refused", "", "", "", "", "p", "by phrases", "", "");
	if (judged)
		ADD_CELLS(&table, "by judge", "", "");
	ADD_CELLS(&table, "flagged", "", "changed", "repeated", "", "", "loss", "", "", "ratio");
	json_array_foreach(groups, i, row)
	{
		add_row(&table, row, judged);
	}
	/* The sums over files add nothing when every label comes from one file. */
	json_array_foreach(labels, i, row)
	{
		if (json_array_size(groups) > json_array_size(labels))
			add_row(&table, row, judged);
	}
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

/* What the gate tells apart, at all thresholds and at some. */
static void show_gate(const json_t *gate)
{
	const json_t *curves = json_object_get(gate, "curves");
	struct cli_table table;
	size_t i, k;
	json_t *curve, *point;
	if (json_array_size(curves) == 0)
		return;
	putchar('\n');
	cli_table_begin(&table, "llrrlrlrlrl");
	ADD_CELLS(&table, "harmful told from", "file", "n", "AUC", "", "at 5%", "", "at 12%", "", "at 15%", "");
	json_array_foreach(curves, i, curve)
	{
		const json_t *points = json_object_get(curve, "points");
		cli_table_cell(&table, "%s", tt_json_string_or(curve, "against", "?"));
		cli_table_cell(&table, "%s", tt_json_string_or(curve, "file", "all files"));
		cli_table_cell(&table, "%.0f+%.0f", tt_json_number_or(curve, "n_harmful", NULL, 0),
			tt_json_number_or(curve, "n_against", NULL, 0));
		add_area(&table, curve);
		for (k = 0; k < 3; k++) {
			point = json_array_get(points, k);
			add_share(&table, json_object_get(point, "flagged"));
			add_interval(&table, json_object_get(point, "flagged_interval"));
		}
	}
	cli_table_print(&table, stdout);
}

void cli_show_evaluation(const json_t *report, bool judged)
{
	const json_t *speed = json_object_get(report, "speed"), *gate = json_object_get(report, "gate");
	show_groups(report, judged);
	show_gate(gate);
	puts("\nUnsteered -> steered; in brackets 95% intervals. p: of the sign test of the prompts that one side "
	     "refuses and\nthe other does not. Repeated: 4-grams that stood before in the same text. Loss: the "
	     "unsteered model's on the\ntext, in nats a token; ratio: that on the steered text over that on the "
	     "model's own refusals.");
	if (json_is_object(gate))
		puts("AUC: how often the gate puts a harmful prompt above another; at 5%: the harmful prompts that it "
		     "flags where it may\nflag 5% of the others.");
	printf("Generated %.0f -> %.0f tokens a second.\n",
		tt_json_number_or(speed, "unsteered", "generated_tokens_per_second", 0),
		tt_json_number_or(speed, "steered", "generated_tokens_per_second", 0));
}
