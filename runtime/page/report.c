/* The page of eval: one file that fetches nothing. Its text comes from models, policies and prompts, so all of it is
 * escaped, and the page's own policy forbids scripts and requests. */
#include "runtime/page/report.h"

#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "runtime/page/html.h"
#include "runtime/page/report_completions.h"
#include "runtime/page/report_figures.h"
#include "runtime/page/report_map.h"
#include "runtime/page/report_strength.h"
#include "runtime/page/style.h"

enum { N_MAPS = 2 };

/* ---- Policies */

static void write_layers(FILE *to, const struct tt_policy_info *info)
{
	float most = 0;
	for (uint32_t l = 0; l < info->n_layers; l++)
		most = fmaxf(most, info->weights[l] * (info->change == TT_CHANGE_DIRECTION ? info->norms[l] : 1));
	fputs("<div class=layers aria-hidden=true>", to);
	for (uint32_t l = 0; l < info->n_layers; l++) {
		float push = info->weights[l] * (info->change == TT_CHANGE_DIRECTION ? info->norms[l] : 1);
		bool reads = false;
		for (uint32_t k = 0; k < info->n_observed; k++)
			reads = reads || info->observed[k] == l;
		fprintf(to,
			"<span%s title=\"layer %u: weight %.3g, direction of length %.3g%s\"><i "
			"style=\"height:%.0f%%\">"
			"</i><em>%u</em></span>",
			reads ? " class=reads" : "", l, (double)info->weights[l], (double)info->norms[l],
			reads ? ", the gate reads here" : "", most > 0 ? 100 * (double)(push / most) : 0.0, l);
	}
	fputs("</div>\n<details><summary>as numbers</summary><div class=scroll tabindex=0><table "
	      "class=figures><thead><tr><th class=n>layer</th>"
	      "<th class=n>weight</th><th class=n>length of the direction</th></tr></thead><tbody>\n",
		to);
	for (uint32_t l = 0; l < info->n_layers; l++)
		if (info->weights[l] > 0)
			fprintf(to, "<tr><td class=n>%u</td><td class=n>%.3g</td><td class=n>%.3g</td></tr>\n", l,
				(double)info->weights[l], (double)info->norms[l]);
	fputs("</tbody></table></div></details>\n", to);
}

/* The rule, and where each of its conditions holds. */
static void write_rule(FILE *to, const struct tt_policy_info *info)
{
	fputs("; it steers where ", to);
	tt_page_html_text(to, info->rule);
	for (uint32_t k = 0; k < info->n_conditions; k++) {
		fputs(k ? ", " : ": ", to);
		tt_page_html_text(to, info->conditions[k]);
		fprintf(to, " %s %.3g", info->condition_below[k] ? "below" : "above",
			(double)info->condition_thresholds[k]);
	}
}

/* The scales at which the arms have the policy. */
static void write_scales(FILE *to, const struct tt_page_report *report, const struct tt_policy *policy)
{
	const char *before = "";
	for (size_t arm = 0; arm < report->n_arms; arm++)
		for (uint32_t i = 0; i < report->arms[arm].n_steering; i++) {
			const struct tt_steering *steering = &report->arms[arm].steering[i];
			if (steering->policy != policy)
				continue;
			fprintf(to, "%s%g", before, (double)steering->scale);
			before = ", ";
		}
}

static void write_policy(FILE *to, const struct tt_page_report *report, const struct tt_policy *policy)
{
	static const char *const reach[] = {"generated tokens only",
		"the last token of the prompt and all generated ones", "every token of prompt and generation"};
	static const char *const pools[] = {[TT_POOL_LAST] = "the last prompt token",
		[TT_POOL_MEAN] = "the mean over the last user message",
		[TT_POOL_LAST_MEAN] = "the last prompt token and the mean over the last user message"};
	struct tt_policy_info described, *info = &described;
	tt_policy_describe(policy, info);
	uint32_t first = info->n_layers, last = 0;
	for (uint32_t l = 0; l < info->n_layers; l++) {
		if (info->weights[l] > 0) {
			first = l < first ? l : first;
			last = l;
		}
	}
	fputs("<div class=policy><h3>", to);
	tt_page_html_text(to, info->name ? info->name : "policy");
	fputs("</h3><dl>\n", to);
	if (first <= last && first < info->n_layers)
		fprintf(to, "<dt>What it does</dt><dd>%s%s after layers %u to %u</dd>\n", info->op_sentence,
			info->op_form_sentence, first, last);
	fprintf(to, "<dt>Strength</dt><dd>%.3g × scale ", (double)info->alpha);
	write_scales(to, report, policy);
	enum tt_policy_when when = report->when == TT_WHEN_POLICY ? info->when : report->when;
	fprintf(to, "</dd>\n<dt>Which tokens</dt><dd>%s</dd>\n<dt>Gate</dt><dd>",
		reach[when >= 0 && (int)when < 3 ? (int)when : 0]);
	if (!info->gate_sentence)
		fputs("none: every prompt is steered", to);
	else
		fprintf(to, "%s on %s, layer%s ", info->gate_sentence, pools[info->gate_pool],
			info->n_observed == 1 ? "" : "s");
	for (uint32_t i = 0; i < info->n_observed; i++)
		fprintf(to, "%s%u", i ? ", " : "", info->observed[i]);
	if (info->has_threshold)
		fprintf(to, "; it steers %s %.3g", info->opens_below ? "below" : "above", (double)info->threshold);
	if (info->n_conditions)
		write_rule(to, info);
	if (info->n_units)
		fprintf(to, "; its %u hidden units give %s%s", info->n_units,
			info->has_threshold ? "a part of the probability" : "the strength",
			info->learns_layers ? " and each layer's weight" : "");
	fputs("</dd>\n<dt>Made</dt><dd>", to);
	tt_page_html_text(to, info->created ? info->created : "");
	fputs(" by trimtab ", to);
	tt_page_html_text(to, info->version ? info->version : "");
	fputs("</dd>\n</dl>\n", to);
	write_layers(to, info);
	fputs("<p class=note>Bars: how far each layer is pushed when the gate is open. Underlined: what the gate reads."
	      "</p></div>\n",
		to);
}

/* Whether the policy comes again: it is written where it comes last. */
static bool comes_again(const struct tt_page_report *report, size_t arm, uint32_t index)
{
	const struct tt_policy *policy = report->arms[arm].steering[index].policy;
	for (size_t k = arm; k < report->n_arms; k++)
		for (uint32_t i = k == arm ? index + 1 : 0; i < report->arms[k].n_steering; i++)
			if (report->arms[k].steering[i].policy == policy)
				return true;
	return false;
}

static void write_policies(FILE *to, const struct tt_page_report *report)
{
	fprintf(to, "<section><h2>The polic%s</h2>\n", report->n_arms > 1 ? "ies" : "y");
	for (size_t arm = 0; arm < report->n_arms; arm++)
		for (uint32_t i = 0; i < report->arms[arm].n_steering; i++)
			if (!comes_again(report, arm, i))
				write_policy(to, report, report->arms[arm].steering[i].policy);
	fputs("</section>\n", to);
}

/* ---- Maps */

static int write_maps(FILE *to, const struct tt_page_report *report, const json_t *completions, struct tt_error *err)
{
	struct tt_page_map maps[N_MAPS] = {{0}};
	uint32_t n = 0;
	float most = 0;
	int status = TT_OK;
	for (int k = 0; k < N_MAPS && status == TT_OK; k++) {
		const json_t *row = tt_page_completions_choose(completions, k == 0);
		if (!row || (report->progress && report->progress(report->user, "maps", (uint64_t)k, N_MAPS)))
			continue;
		status = tt_page_map_trace(&maps[n], report, row, err);
		most = fmaxf(most, maps[n++].most);
	}
	if (status == TT_OK && n > 0) {
		fputs("<section><h2>What was steered, layer by token</h2>\n<p>A prompt that the gate flagged, and one "
		      "that "
		      "it let pass. Rows are layers, from the first at the top; columns are tokens, the prompt and "
		      "after "
		      "the line what was generated. Colour is the relative push: the length of what was added to the "
		      "residual stream, over the stream's own length there. The ringed cells are what the gate reads."
		      "</p>\n<p class=legend>0%",
			to);
		for (int c = 1; c <= 9; c++)
			fprintf(to, "<i class=c%d></i>", c);
		fprintf(to, "%.1f%%</p>\n<div class=maps>\n", 100 * (double)most);
		for (uint32_t i = 0; i < n; i++)
			tt_page_map_write(to, &maps[i], report, most);
		fputs("</div></section>\n", to);
	}
	for (uint32_t i = 0; i < n; i++)
		tt_page_map_free(&maps[i]);
	return status;
}

/* When, by which command, build and machine the page was made. */
static void write_origin(FILE *to, const struct tt_page_report *report)
{
	const struct tt_model_info *info = tt_engine_info(report->engine);
	struct tt_error err = {0};
	char *described = NULL;
	json_t *build = tt_describe_build(&described, &err) == TT_OK ? json_loads(described, 0, NULL) : NULL;
	tt_free(described);
	if (report->command) {
		fputs("<p>Made by <code>", to);
		tt_page_html_text(to, report->command);
		fputs("</code></p>\n", to);
	}
	fputs("<p>", to);
	if (report->made) {
		tt_page_html_text(to, report->made);
		fputs(", ", to);
	}
	fputs("trimtab " TT_VERSION ", commit ", to);
	tt_page_html_text(to, tt_json_string_or(build, "commit", "unknown"));
	fprintf(to, ", backend %s, %u threads, processor's code ", info->backend, info->n_threads);
	tt_page_html_text(to, tt_json_string_or(build, "cpu", "unknown"));
	fputs("</p>\n", to);
	json_decref(build);
}

static void write_footer(FILE *to, const struct tt_page_report *report)
{
	const struct tt_model_info *info = tt_engine_info(report->engine);
	const char *compute = tt_json_string_or(report->eval, "compute", "f32");
	size_t i;
	json_t *row;
	fputs("<footer><p>Model ", to);
	tt_page_html_text(to, info->name);
	fprintf(to, ": %u layers of width %u, weights ", info->n_layers, info->hidden_size);
	tt_page_html_text(to, info->weights_digest);
	if (strcmp(compute, "f32") != 0) {
		fputs(", computed in ", to);
		tt_page_html_text(to, compute);
	}
	fputs("</p>\n", to);
	json_array_foreach(json_object_get(report->eval, "files"), i, row)
	{
		fputs("<p>Data ", to);
		tt_page_html_text(to, tt_json_string_or(row, "file", ""));
		fputs(": SHA-256 ", to);
		tt_page_html_text(to, tt_json_string_or(row, "sha256", ""));
		fputs("</p>\n", to);
	}
	write_origin(to, report);
	fputs("</footer>\n", to);
}

/* The arms, or the policies of the only one. */
static void write_names(FILE *to, const struct tt_page_report *report)
{
	const struct tt_eval_arm *arms = report->arms;
	for (size_t i = 0; arms[0].name && i < report->n_arms; i++) {
		fputs(i ? ", <b>" : "<b>", to);
		tt_page_html_text(to, arms[i].name);
		fputs("</b>", to);
	}
	for (uint32_t i = 0; !arms[0].name && i < arms[0].n_steering; i++) {
		struct tt_policy_info info;
		tt_policy_describe(arms[0].steering[i].policy, &info);
		fputs(i ? " + <b>" : "<b>", to);
		tt_page_html_text(to, info.name ? info.name : "policy");
		fputs("</b>", to);
	}
}

/* It loads nothing, and no script may run. */
static void write_head(FILE *to)
{
	fputs("<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
	      "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
	      "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
	      "<title>trimtab: what the policy changes</title>\n<style>\n",
		to);
	fwrite(tt_file_style_css.data, 1, tt_file_style_css.n, to);
	fputs("</style></head><body>\n", to);
}

int tt_page_write(const struct tt_page_report *report, struct tt_error *err)
{
	FILE *to = fopen(report->path, "w");
	if (!to)
		return tt_fail_io(err, report->path, "open");
	json_t *completions = tt_page_completions_read(report->completions, report->arms[0].name);
	write_head(to);
	fputs("<header class=top><h1>What the policy changes</h1><p>", to);
	write_names(to, report);
	fputs(" on <b>", to);
	tt_page_html_text(to, tt_engine_info(report->engine)->name);
	double n_tokens = tt_json_number_or(report->eval, "max_tokens", NULL, 0);
	if (n_tokens > 0)
		fprintf(to, "</b>, up to %.0f tokens a prompt</p></header>\n<main>\n", n_tokens);
	else
		fputs("</b>, its gate alone</p></header>\n<main>\n", to);
	if (n_tokens > 0) {
		tt_page_figures_write(to, report->eval);
		tt_page_strength_write(to, report);
	}
	tt_page_variants_write(to, report->eval);
	tt_page_gates_write(to, report->eval);
	write_policies(to, report);
	int status = TT_OK;
	if (n_tokens > 0) {
		status = write_maps(to, report, completions, err);
		tt_page_completions_write(to, completions);
	}
	write_footer(to, report);
	fputs("</main></body></html>\n", to);
	json_decref(completions);
	bool failed = ferror(to);
	if ((fclose(to) != 0 || failed) && status == TT_OK)
		status = tt_fail(err, TT_ERR_IO, "%s: cannot be written", report->path);
	return status;
}
