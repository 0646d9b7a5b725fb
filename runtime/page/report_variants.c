/* The prompts of an evaluation in other dress, as a table. */
#include <string.h>

#include "base/json.h"
#include "runtime/page/html.h"
#include "runtime/page/report_figures.h"

const json_t *tt_page_curve(const json_t *gate, const char *label)
{
	const char *against = strcmp(label, "harmful") == 0 ? "others" : label;
	const json_t *found = NULL;
	size_t i;
	json_t *curve;
	json_array_foreach(json_object_get(gate, "curves"), i, curve)
	{
		if (strcmp(tt_json_string_or(curve, "against", ""), against) == 0)
			found = curve; /* those of all files come last */
	}
	return found;
}

static void write_area(FILE *to, const json_t *curve)
{
	const json_t *interval = json_object_get(curve, "auc_interval");
	if (json_is_number(json_object_get(curve, "auc")))
		fprintf(to, "<td class=n>%.3f<small>%.2f–%.2f</small></td>", tt_json_number_or(curve, "auc", NULL, 0),
			json_number_value(json_array_get(interval, 0)), json_number_value(json_array_get(interval, 1)));
	else
		fputs("<td class=n>–</td>", to);
}

static void write_row(FILE *to, const json_t *variant, const json_t *row, bool completed)
{
	const json_t *refused = json_object_get(row, "refused"), *intervals = json_object_get(row, "refused_interval");
	fputs("<tr><td>", to);
	tt_page_html_text(to, tt_json_string_or(variant, "variant", "plain"));
	fputs("</td><td>", to);
	tt_page_label(to, row);
	fprintf(to, "</td><td class=n>%.0f</td><td class=n><b>", tt_json_number_or(row, "n", NULL, 0));
	tt_page_share(to, json_object_get(row, "flagged"), json_object_get(row, "flagged_interval"));
	fputs("</b></td>", to);
	write_area(to, tt_page_curve(json_object_get(variant, "gate"), tt_json_string_or(row, "label", "")));
	for (int side = 0; completed && side < 2; side++) {
		const char *key = side ? "steered" : "unsteered";
		fputs("<td class=n>", to);
		tt_page_share(to, json_object_get(refused, key), json_object_get(intervals, key));
		fputs("</td>", to);
	}
	fputs("</tr>\n", to);
}

static void write_rows(FILE *to, const json_t *variant, bool completed)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(variant, "labels"), i, row)
	{
		write_row(to, variant, row, completed);
	}
}

void tt_page_variants_write(FILE *to, const json_t *eval)
{
	const json_t *variants = json_object_get(eval, "variants");
	const bool completed = tt_json_number_or(eval, "max_tokens", NULL, 0) > 0;
	size_t i;
	json_t *variant;
	if (completed && !json_is_array(variants))
		return;
	fprintf(to,
		"<section><h2>%s</h2>\n<div class=scroll tabindex=0><table class=figures><thead><tr><th>variant</th>"
		"<th>label</th><th class=n>prompts</th><th class=n>flagged</th><th class=n>AUC</th>%s</tr></thead>"
		"<tbody>\n",
		json_is_array(variants) ? "The same prompts in other dress" : "Flagged",
		completed ? "<th class=n colspan=2>refused, unsteered → steered</th>" : "");
	write_rows(to, eval, completed);
	json_array_foreach(variants, i, variant)
	{
		write_rows(to, variant, completed);
	}
	fputs("</tbody></table></div>\n<p class=note>Small, 95% intervals. AUC: harmful prompts told from all others "
	      "of the same variant; in the line of another label, from these.</p></section>\n",
		to);
}
