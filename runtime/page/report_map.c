/* The layer-by-token map of what was steered. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/cli.h"

enum { MAP_TOKENS = 24, N_SHADES = 9 };

/* |h' - h|: exact for add, whose change is the coefficient times the direction. An ablation takes out a part at a right
 * angle to the rest, which the norms give; for others the difference of the norms is the least it can be. */
static double change(const struct tt_policy_info *info, float coef, uint32_t layer, double before, double after)
{
	if (coef == 0)
		return 0;
	if (info->change == TT_CHANGE_DIRECTION)
		return fabs((double)coef) * (double)info->norms[layer];
	if (info->change == TT_CHANGE_PART && before > after)
		return sqrt(before * before - after * after);
	return fabs(after - before);
}

static void fill(struct cli_map *map, const struct cli_report *report, const struct tt_request *request)
{
	uint32_t n_layers = tt_engine_info(report->engine)->n_layers;
	size_t n_traced;
	const float *norms = tt_request_norms(request, &n_traced);
	if (!norms)
		n_traced = 0;
	for (uint32_t i = 0; i < report->policies->n; i++) {
		struct tt_policy_info info;
		tt_policy_describe(report->policies->steering[i].policy, &info);
		for (size_t p = 0; p < map->n_positions && p < n_traced; p++) {
			const float *coef = tt_request_coefficients(request, i, p);
			for (uint32_t l = 0; coef && l < n_layers; l++) {
				const float *pair = norms + (p * n_layers + l) * 2;
				double before = (double)pair[0];
				if (before > 0)
					map->push[p * n_layers + l] +=
						(float)(change(&info, coef[l], l, before, (double)pair[1]) / before);
			}
		}
	}
	for (size_t i = 0; i < map->n_positions * n_layers; i++)
		map->most = fmaxf(map->most, map->push[i]);
	map->steered = map->most > 0;
}

int cli_map_trace(struct cli_map *out, const struct cli_report *report, const char *prompt, const char *label)
{
	struct tt_error err = {0};
	struct tt_request *request = NULL;
	struct tt_request_options options;
	const struct cli_prompt_args chat = {0};
	int32_t *ids = NULL;
	size_t n_ids = 0;
	const struct tt_text *text = tt_engine_text(report->engine);
	*out = (struct cli_map){.prompt = prompt, .label = label};
	const struct cli_prompt_args raw = {.raw = true, .no_special = true};
	int status = cli_prompt_encode(
		&ids, &n_ids, text, prompt, strlen(prompt), tt_text_has_template(text) ? &chat : &raw);
	if (status != CLI_PROCEED)
		return status;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n_ids;
	options.max_tokens = MAP_TOKENS;
	options.trace = true;
	options.when = report->when;
	options.n_steering = report->policies->n;
	memcpy(options.steering, report->policies->steering, sizeof options.steering);
	if (tt_request_submit(&request, report->engine, &options, &err) != TT_OK ||
		tt_request_wait(request, &err) != TT_OK) {
		status = cli_fail(&err);
	} else {
		size_t n_generated = tt_request_n_generated(request);
		out->n_prompt = n_ids;
		/* The last token generated was never fed, so nothing was pushed there. */
		out->n_positions = n_ids + (n_generated ? n_generated - 1 : 0);
		out->ids = cli_alloc(out->n_positions, sizeof *out->ids);
		memcpy(out->ids, ids, n_ids * sizeof *ids);
		for (size_t i = n_ids; i < out->n_positions; i++)
			out->ids[i] = tt_request_generated(request)[i - n_ids];
		out->push = cli_alloc(out->n_positions * tt_engine_info(report->engine)->n_layers, sizeof *out->push);
		fill(out, report, request);
	}
	tt_request_free(request);
	tt_free(ids);
	return status;
}

/* A token as a heading: newlines and spaces made visible. */
static void write_piece(FILE *to, const struct tt_text *text, int32_t id)
{
	size_t n;
	const char *piece = tt_text_piece(text, id, &n);
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = cli_utf8_next(piece + i, n - i, &c);
		if (c == '\n')
			fputs("\xE2\x86\xB5", to);
		else if (c == '\t')
			fputs("\xE2\x86\xA6", to);
		else if (c == ' ')
			fputs(n == 1 ? "\xE2\x90\xA3" : "\xC2\xA0", to);
		else
			cli_write_html(to, piece + i, length);
		i += length;
	}
}

static bool observed(const struct cli_report *report, uint32_t layer)
{
	for (uint32_t i = 0; i < report->policies->n; i++) {
		struct tt_policy_info info;
		tt_policy_describe(report->policies->steering[i].policy, &info);
		for (uint32_t k = 0; k < info.n_observed; k++) {
			if (info.observed[k] == layer)
				return true;
		}
	}
	return false;
}

static void write_row(FILE *to, const struct cli_map *map, const struct cli_report *report, uint32_t layer, float scale)
{
	uint32_t n_layers = tt_engine_info(report->engine)->n_layers;
	const struct tt_text *text = tt_engine_text(report->engine);
	bool gate = observed(report, layer);
	fprintf(to, "<tr><th scope=row>%u</th>", layer);
	for (size_t p = 0; p < map->n_positions; p++) {
		float push = map->push[p * n_layers + layer];
		int shade = push > 0 && scale > 0 ? (int)ceilf(N_SHADES * push / scale) : 0;
		shade = shade > N_SHADES ? N_SHADES : shade;
		bool read = gate && p + 1 == map->n_prompt;
		fprintf(to, "<td class=\"c%d%s%s\"", shade, read ? " read" : "", p == map->n_prompt ? " first" : "");
		if (shade || read) {
			fputs(" title=\"", to);
			write_piece(to, text, map->ids[p]);
			fprintf(to, " · layer %u · pushed by %.1f%%%s\"", layer, 100 * (double)push,
				read ? " · the gate reads here" : "");
		}
		fputs("></td>", to);
	}
	fputs("</tr>\n", to);
}

void cli_map_write(FILE *to, const struct cli_map *map, const struct cli_report *report, float scale)
{
	const struct tt_text *text = tt_engine_text(report->engine);
	fputs("<figure><figcaption><span class=\"tag ", to);
	cli_write_html(to, map->label, strlen(map->label));
	fputs("\">", to);
	cli_write_html(to, map->label, strlen(map->label));
	fputs("</span> ", to);
	cli_write_html(to, map->prompt, strlen(map->prompt));
	if (map->steered)
		fprintf(to, "<small>strongest push here: %.1f%% of the stream's length</small>",
			100 * (double)map->most);
	else
		fputs("<small>the gate stayed shut: nothing was pushed, and the text is the unsteered one</small>", to);
	fputs(map->steered ? "</figcaption>\n" : "</figcaption>\n<details><summary>the empty map</summary>\n", to);
	fputs("<div class=scroll><table class=map><thead><tr><th></th>", to);
	for (size_t p = 0; p < map->n_positions; p++) {
		fprintf(to, "<th scope=col%s><span>", p == map->n_prompt ? " class=first" : "");
		write_piece(to, text, map->ids[p]);
		fputs("</span></th>", to);
	}
	fputs("</tr></thead><tbody>\n", to);
	for (uint32_t l = 0; l < tt_engine_info(report->engine)->n_layers; l++)
		write_row(to, map, report, l, scale);
	fputs(map->steered ? "</tbody></table></div></figure>\n" : "</tbody></table></div></details></figure>\n", to);
}

void cli_map_free(struct cli_map *map)
{
	free(map->ids);
	free(map->push);
	*map = (struct cli_map){0};
}
