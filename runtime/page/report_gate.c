/* The gates of an evaluation: where the figures of each label lie, what they tell apart, what errors cost. */
#include <math.h>

#include "base/json.h"
#include "runtime/page/html.h"
#include "runtime/page/report_figures.h"

/* ---- Histograms */

static double sum_of(const json_t *bins, double *most)
{
	double sum = 0;
	size_t i;
	json_t *bin;
	json_array_foreach(bins, i, bin)
	{
		sum += json_number_value(bin);
		*most = fmax(*most, json_number_value(bin));
	}
	return sum;
}

/* The bins of a label, as high as their share of its prompts; most: the share of a full height. */
static void write_bins(FILE *to, const json_t *bins, double n, double most, double threshold)
{
	size_t i;
	json_t *bin;
	fputs("<div class=bins aria-hidden=true>", to);
	json_array_foreach(bins, i, bin)
	{
		fprintf(to, "<i style=\"height:%.0f%%\"></i>", 100 * json_number_value(bin) / n / most);
	}
	if (threshold >= 0)
		fprintf(to, "<b style=\"left:%.1f%%\"></b>", 100 * threshold);
	fputs("</div>\n", to);
}

static void write_histogram(FILE *to, const json_t *gate)
{
	const char *const *labels = tt_page_labels;
	const json_t *histogram = json_object_get(gate, "histogram"), *threshold = json_object_get(gate, "threshold");
	double from = tt_json_number_or(histogram, "from", NULL, 0),
	       to_end = tt_json_number_or(histogram, "to", NULL, 1);
	double counts[3], most_of[3] = {0}, most = 0;
	if (!json_is_object(histogram))
		return;
	for (int k = 0; k < 3; k++) {
		counts[k] = sum_of(json_object_get(histogram, labels[k]), &most_of[k]);
		most = counts[k] > 0 ? fmax(most, most_of[k] / counts[k]) : most;
	}
	double mark = json_is_number(threshold) ? (json_number_value(threshold) - from) / (to_end - from) : -1;
	for (int k = 0; k < 3; k++) {
		if (counts[k] <= 0)
			continue;
		fprintf(to, "<h3><span class=\"tag %s\">%s</span> %.0f prompts</h3><div class=%s>", labels[k],
			labels[k], counts[k], labels[k]);
		write_bins(to, json_object_get(histogram, labels[k]), counts[k], most, mark);
		fputs("</div>", to);
	}
	fprintf(to,
		"<p class=axis><span>%.3g</span><span>%.3g</span></p>\n<p class=note>The share of each label's "
		"prompts by what the gate gave",
		from, to_end);
	if (json_is_number(threshold))
		fprintf(to, "; the line is the threshold, %.3g, %s which it opens", json_number_value(threshold),
			tt_json_string_or(gate, "opens", "above"));
	fputs(".</p>\n", to);
}

/* ---- Curves */

static void write_curve(FILE *to, const json_t *curve)
{
	const json_t *interval = json_object_get(curve, "auc_interval");
	size_t i;
	json_t *point;
	if (!json_is_number(json_object_get(curve, "auc")))
		return;
	fputs("<tr><td>", to);
	tt_page_html_text(to, tt_json_string_or(curve, "against", ""));
	fputs("</td><td>", to);
	tt_page_html_text(to, tt_json_string_or(curve, "file", "all files"));
	fprintf(to, "</td><td class=n>%.0f + %.0f</td><td class=n><b>%.3f</b><small>%.2f–%.2f</small></td>",
		tt_json_number_or(curve, "n_harmful", NULL, 0), tt_json_number_or(curve, "n_against", NULL, 0),
		tt_json_number_or(curve, "auc", NULL, 0), json_number_value(json_array_get(interval, 0)),
		json_number_value(json_array_get(interval, 1)));
	json_array_foreach(json_object_get(curve, "points"), i, point)
	{
		fprintf(to, "<td class=n>%.1f%%", 100 * tt_json_number_or(point, "flagged", NULL, 0));
		tt_page_interval(to, json_object_get(point, "flagged_interval"));
		fputs("</td>", to);
	}
	fputs("</tr>\n", to);
}

static void write_curves(FILE *to, const json_t *gate)
{
	const json_t *curves = json_object_get(gate, "curves");
	size_t i;
	json_t *curve;
	if (json_array_size(curves) == 0)
		return;
	fputs("<div class=scroll tabindex=0><table class=figures><thead><tr><th>harmful told from</th><th>file</th>"
	      "<th class=n>prompts</th><th class=n>AUC</th><th class=n>at 5%</th><th class=n>at 12%</th>"
	      "<th class=n>at 15%</th></tr></thead><tbody>\n",
		to);
	json_array_foreach(curves, i, curve)
	{
		write_curve(to, curve);
	}
	fputs("</tbody></table></div>\n<p class=note>AUC: how often the gate puts a harmful prompt above another. At "
	      "5%: the harmful prompts that it flags where it may flag 5% of the others. Small, 95% intervals.</p>\n",
		to);
}

/* ---- Costs */

static void write_errors(FILE *to, const json_t *errors)
{
	fprintf(to, "<b>%.3g</b> a prompt (%.0f false refusals, %.0f missed)",
		tt_json_number_or(errors, "cost", NULL, 0), tt_json_number_or(errors, "false_refusals", NULL, 0),
		tt_json_number_or(errors, "missed", NULL, 0));
}

static void write_costs(FILE *to, const json_t *gate)
{
	const json_t *costs = json_object_get(gate, "costs"), *curve = json_object_get(costs, "curve");
	const json_t *cheapest = json_object_get(costs, "cheapest"), *from = json_object_get(cheapest, "from");
	double most = 0;
	size_t i;
	json_t *point;
	if (!json_is_object(costs))
		return;
	json_array_foreach(curve, i, point)
	{
		most = fmax(most, tt_json_number_or(point, "cost", NULL, 0));
	}
	fprintf(to, "<h3>What errors cost, at %g a false refusal and %g a miss</h3><p>As it is: ",
		tt_json_number_or(costs, "price_false_refusal", NULL, 0),
		tt_json_number_or(costs, "price_miss", NULL, 0));
	write_errors(to, json_object_get(costs, "as_it_is"));
	fputs(". Least: ", to);
	write_errors(to, cheapest);
	if (json_is_number(from))
		fprintf(to, ", from a gate of %.4g on", json_number_value(from));
	else
		fputs(", with nothing flagged", to);
	fputs(".</p>\n<div class=\"bins costs\" aria-hidden=true>", to);
	json_array_foreach(curve, i, point)
	{
		double cost = tt_json_number_or(point, "cost", NULL, 0);
		fprintf(to, "<i style=\"height:%.1f%%\"></i>", most > 0 ? 100 * cost / most : 0);
	}
	fputs("</div>\n<p class=axis><span>nothing flagged</span><span>all flagged</span></p>\n<p class=note>The cost "
	      "a "
	      "prompt from the strictest threshold to the loosest, on these prompts and their mix of labels.</p>\n",
		to);
}

/* ---- Gates */

/* Whether an arm before it has the same gate, as at another scale. */
static bool is_known(const json_t *arms, size_t arm)
{
	const json_t *gate = json_object_get(json_array_get(arms, arm), "gate");
	for (size_t i = 0; i < arm; i++)
		if (json_equal(gate, json_object_get(json_array_get(arms, i), "gate")))
			return true;
	return false;
}

static void write_gate(FILE *to, const json_t *gate, const char *arm)
{
	if (!json_is_object(gate))
		return;
	fputs("<section><h2>The gate", to);
	if (arm) {
		fputs(" of ", to);
		tt_page_html_text(to, arm);
	}
	fputs("</h2>\n<div class=policy>", to);
	write_histogram(to, gate);
	write_costs(to, gate);
	fputs("</div>\n", to);
	write_curves(to, gate);
	fputs("</section>\n", to);
}

void tt_page_gates_write(FILE *to, const json_t *eval)
{
	const json_t *arms = json_object_get(eval, "arms");
	if (!json_is_array(arms))
		write_gate(to, json_object_get(eval, "gate"), NULL);
	for (size_t i = 0; i < json_array_size(arms); i++) {
		const json_t *arm = json_array_get(arms, i);
		if (!is_known(arms, i))
			write_gate(to, json_object_get(arm, "gate"), tt_json_string_or(arm, "name", ""));
	}
}
