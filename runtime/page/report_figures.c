/* The figures of an evaluation: cards, the table of suites, and the table of arms by suite. */
#include "runtime/page/report_figures.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "runtime/page/html.h"

const char *const tt_page_labels[TT_PAGE_LABELS] = {"harmful", "benign", "borderline"};

void tt_page_label(FILE *to, const json_t *row)
{
	const char *label = tt_json_string_or(row, "label", "");
	fputs("<span class=\"tag ", to);
	tt_page_html_text(to, label);
	fputs("\">", to);
	tt_page_html_text(to, label);
	fputs("</span>", to);
}

void tt_page_interval(FILE *to, const json_t *interval)
{
	if (json_array_size(interval) == 2)
		fprintf(to, "<small>%.0f–%.0f</small>", 100 * json_number_value(json_array_get(interval, 0)),
			100 * json_number_value(json_array_get(interval, 1)));
}

void tt_page_share(FILE *to, const json_t *share, const json_t *interval)
{
	if (json_is_number(share))
		fprintf(to, "%.1f%%", 100 * json_number_value(share));
	else
		fputs("–", to);
	tt_page_interval(to, interval);
}

static void write_label_card(FILE *to, const json_t *row)
{
	const json_t *interval = json_object_get(json_object_get(row, "refused_interval"), "steered");
	fputs("<div class=card><h3>", to);
	tt_page_html_text(to, tt_json_string_or(row, "label", ""));
	fprintf(to, " prompts refused</h3><p class=big>%.1f%% <span class=arrow>→</span> <b>%.1f%%</b>",
		100 * tt_json_number_or(row, "refused", "unsteered", 0),
		100 * tt_json_number_or(row, "refused", "steered", 0));
	tt_page_interval(to, interval);
	fprintf(to, "</p><p>%.0f prompts, %.0f%% flagged by the gate</p></div>\n", tt_json_number_or(row, "n", NULL, 0),
		100 * tt_json_number_or(row, "flagged", NULL, 0));
}

static void write_cards(FILE *to, const json_t *eval)
{
	size_t i;
	json_t *row;
	fputs("<section><h2>At a glance</h2><div class=cards>\n", to);
	json_array_foreach(json_object_get(eval, "labels"), i, row)
	{
		write_label_card(to, row);
	}
	json_array_foreach(json_object_get(eval, "labels"), i, row)
	{
		double ratio = tt_json_number_or(row, "nll_ratio", NULL, -1);
		if (ratio < 0 || strcmp(tt_json_string_or(row, "label", ""), "harmful") != 0)
			continue;
		fprintf(to,
			"<div class=card><h3>Loss of steered text</h3><p class=big><b>%.2f</b>×</p><p>the unsteered "
			"model's on harmful prompts, over that on ",
			ratio);
		tt_page_html_text(to, tt_json_string_or(row, "nll_ratio_to", "its own"));
		fputs("</p></div>\n", to);
	}
	fputs("</div></section>\n", to);
}

static void write_bar(FILE *to, double before, double after)
{
	fprintf(to, "<td><div class=bar><i style=\"width:%.1f%%\"></i><b style=\"width:%.1f%%\"></b></div></td>",
		100 * fmin(fmax(before, 0), 1), 100 * fmin(fmax(after, 0), 1));
}

/* Two cells, with intervals where there are such. */
static void write_shares(FILE *to, const json_t *row, const char *key, const char *interval_key)
{
	const json_t *shares = json_object_get(row, key), *intervals = json_object_get(row, interval_key);
	fputs("<td class=n>", to);
	tt_page_share(to, json_object_get(shares, "unsteered"), json_object_get(intervals, "unsteered"));
	fputs("</td><td class=n><b>", to);
	tt_page_share(to, json_object_get(shares, "steered"), json_object_get(intervals, "steered"));
	fputs("</b></td>", to);
}

/* The p of a paired test; nothing where there is none. */
static void write_p(FILE *to, const json_t *pairs)
{
	const json_t *p = json_object_get(json_object_get(pairs, "refused"), "p");
	if (json_is_number(p) && json_number_value(p) < 1e-4)
		fputs("&lt;.0001", to);
	else if (json_is_number(p))
		fprintf(to, "%.2g", json_number_value(p));
}

static bool has_judgements(const json_t *eval)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(eval, "groups"), i, row)
	{
		if (tt_json_number_or(row, "n_judged", "unsteered", 0) +
				tt_json_number_or(row, "n_judged", "steered", 0) >
			0)
			return true;
	}
	return false;
}

/* What columns the table of suites has besides the ones of every table. */
struct columns {
	bool file, judge;
};

static void write_row(FILE *to, const json_t *row, struct columns columns)
{
	fputs("<tr><td>", to);
	tt_page_label(to, row);
	if (columns.file) {
		fputs("</td><td>", to);
		tt_page_html_text(to, tt_json_string_or(row, "file", ""));
	}
	fprintf(to, "</td><td class=n>%.0f</td>", tt_json_number_or(row, "n", NULL, 0));
	write_bar(
		to, tt_json_number_or(row, "refused", "unsteered", 0), tt_json_number_or(row, "refused", "steered", 0));
	write_shares(to, row, "refused", "refused_interval");
	fputs("<td class=n>", to);
	write_p(to, json_object_get(row, "paired"));
	fputs("</td>", to);
	write_shares(to, row, "refused_by_phrases", "");
	if (columns.judge)
		write_shares(to, row, "refused_by_judge", "refused_by_judge_interval");
	fputs("<td class=n>", to);
	tt_page_share(to, json_object_get(row, "flagged"), json_object_get(row, "flagged_interval"));
	fputs("</td><td class=n>", to);
	tt_page_share(to, json_object_get(row, "changed"), NULL);
	fputs("</td>", to);
	write_shares(to, row, "repeated_fourgrams", "");
	fprintf(to, "<td class=n>%.2f</td><td class=n><b>%.2f</b></td></tr>\n",
		tt_json_number_or(row, "nll", "unsteered", 0), tt_json_number_or(row, "nll", "steered", 0));
}

static void write_decoding(FILE *to, const json_t *sampling)
{
	double temperature = tt_json_number_or(sampling, "temperature", NULL, 0);
	if (temperature > 0)
		fprintf(to, "Sampled at temperature %g, top-p %g, with the same seeds.", temperature,
			tt_json_number_or(sampling, "top_p", NULL, 1));
	else
		fputs("Greedy decoding.", to);
}

static void write_table(FILE *to, const json_t *eval)
{
	const struct columns columns = {
		.file = json_array_size(json_object_get(eval, "files")) != 1, .judge = has_judgements(eval)};
	size_t i;
	json_t *row;
	fprintf(to,
		"<section><h2>Measured</h2>\n<div class=scroll tabindex=0><table "
		"class=figures><thead><tr><th>label</th>%s"
		"<th class=n>prompts</th><th colspan=3>refused, unsteered → steered</th><th class=n>p</th>"
		"<th class=n colspan=2>by phrases</th>",
		columns.file ? "<th>file</th>" : "");
	if (columns.judge)
		fputs("<th class=n colspan=2>by judge</th>", to);
	fputs("<th class=n>flagged</th><th class=n>changed</th>"
	      "<th class=n colspan=2>repeated 4-grams</th><th class=n colspan=2>loss, nats a token</th></tr></thead>"
	      "<tbody>\n",
		to);
	json_array_foreach(json_object_get(eval, "groups"), i, row)
	{
		write_row(to, row, columns);
	}
	fputs("</tbody></table></div>\n<p class=note>The first of each pair is the model alone, the second the model "
	      "steered; small, 95% intervals. p: of the sign test of the prompts that one refuses and the other does "
	      "not. ",
		to);
	write_decoding(to, json_object_get(eval, "sampling"));
	fputs(" A refusal says near its start that it will not or cannot do what was asked; "
	      "by phrases: it holds one of the 13 of arXiv 2505.20309. Flagged: the gate let the policy act. Changed: "
	      "the text is not the unsteered one. Loss: how surprised the unsteered model is by the "
	      "completion.</p></section>\n",
		to);
}

/* ---- Arms by suite */

/* What an arm refuses of each suite; with name NULL what the model alone does. */
static void write_arm(FILE *to, const json_t *arm, const char *name)
{
	const char *side = name ? "steered" : "unsteered";
	size_t i;
	json_t *row;
	fputs("<tr><td>", to);
	tt_page_html_text(to, name ? name : "unsteered");
	fputs("</td>", to);
	json_array_foreach(json_object_get(arm, "groups"), i, row)
	{
		fputs("<td class=n>", to);
		tt_page_share(to, json_object_get(json_object_get(row, "refused"), side),
			json_object_get(json_object_get(row, "refused_interval"), side));
		fputs("</td><td class=n>", to);
		if (name)
			write_p(to, json_object_get(row, "paired_with_first"));
		fputs("</td>", to);
	}
	fputs("</tr>\n", to);
}

static void write_arms(FILE *to, const json_t *eval)
{
	const json_t *arms = json_object_get(eval, "arms");
	size_t i;
	json_t *row, *arm;
	if (!json_is_array(arms))
		return;
	fputs("<section><h2>Arms</h2>\n<div class=scroll tabindex=0><table class=figures><thead><tr><th>refused</th>",
		to);
	json_array_foreach(json_object_get(eval, "groups"), i, row)
	{
		fputs("<th class=n colspan=2>", to);
		tt_page_label(to, row);
		tt_page_html_text(to, tt_json_string_or(row, "file", ""));
		fputs("</th>", to);
	}
	fputs("</tr></thead><tbody>\n", to);
	write_arm(to, eval, NULL);
	json_array_foreach(arms, i, arm)
	{
		write_arm(to, arm, tt_json_string_or(arm, "name", ""));
	}
	fputs("</tbody></table></div>\n<p class=note>Small, 95% intervals; beside them p of the sign test against the "
	      "first arm. All other figures of this page are the first arm's, but for those of the gates.</p>"
	      "</section>\n",
		to);
}

void tt_page_figures_write(FILE *to, const json_t *eval)
{
	write_cards(to, eval);
	write_arms(to, eval);
	write_table(to, eval);
}
