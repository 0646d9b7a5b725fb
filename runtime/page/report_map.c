/* The map of the steering: how hard each layer was pushed at each token. */
#include "runtime/page/report_map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "runtime/page/html.h"
#include "runtime/page/push.h"
#include "runtime/page/report_completions.h"

enum { MAP_TOKENS = 24, N_SHADES = 9 };

/* Prompts as eval does: the row's messages, or a chat with one user message, or the raw text if the model has no chat
 * template. */
static int encode(int32_t **ids, struct tt_request_options *o, const struct tt_text *text, const json_t *row,
	struct tt_error *err)
{
	char *messages = NULL;
	const char *prompt = tt_page_prompt(row);
	json_t *conversation = json_object_get(row, "messages");
	if (!tt_text_has_template(text))
		return tt_text_encode(text, prompt, strlen(prompt), TT_TEXT_BOS, ids, &o->n_ids, err);
	if (conversation)
		TT_TRY(tt_json_dump(&messages, json_incref(conversation), JSON_COMPACT, err));
	else
		TT_TRY(tt_text_user_message(prompt, strlen(prompt), NULL, &messages, err));
	int status = tt_text_encode_chat_span(text, messages, NULL, ids, &o->n_ids, &o->mean_from, &o->mean_to, err);
	tt_free(messages);
	return status;
}

static int keep(struct tt_page_map *map, const struct tt_page_report *report, const struct tt_request *request,
	const int32_t *ids, size_t n_ids, struct tt_error *err)
{
	size_t n_generated = tt_request_n_generated(request), n_cells;
	map->n_prompt = n_ids;
	/* The last token generated was never fed, so nothing was pushed there. */
	map->n_positions = n_ids + (n_generated ? n_generated - 1 : 0);
	if (!tt_mul_size(map->n_positions, tt_engine_info(report->engine)->n_layers, &n_cells))
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: a map of %zu tokens", map->n_positions);
	TT_TRY(tt_alloc(&map->ids, map->n_positions, sizeof *map->ids, err));
	TT_TRY(tt_alloc(&map->push, n_cells, sizeof *map->push, err));
	memcpy(map->ids, ids, n_ids * sizeof *ids);
	for (size_t i = n_ids; i < map->n_positions; i++)
		map->ids[i] = tt_request_generated(request)[i - n_ids];
	map->most = tt_push_fill(map->push, map->n_positions, request, report->arms[0].steering,
		report->arms[0].n_steering, tt_engine_info(report->engine)->n_layers);
	map->steered = map->most > 0;
	return TT_OK;
}

int tt_page_map_trace(
	struct tt_page_map *out, const struct tt_page_report *report, const json_t *row, struct tt_error *err)
{
	struct tt_request *request = NULL;
	struct tt_request_options options;
	int32_t *ids = NULL;
	*out = (struct tt_page_map){.prompt = tt_page_prompt(row), .label = tt_json_string_or(row, "label", "")};
	tt_request_options_default(&options);
	TT_TRY(encode(&ids, &options, tt_engine_text(report->engine), row, err));
	options.ids = ids;
	options.max_tokens = MAP_TOKENS;
	options.sampling = report->sampling;
	options.sampling.seed = (uint64_t)json_integer_value(json_object_get(row, "seed"));
	options.trace = true;
	options.when = report->when;
	options.n_steering = report->arms[0].n_steering;
	memcpy(options.steering, report->arms[0].steering, sizeof options.steering);
	int status = tt_request_submit(&request, report->engine, &options, err);
	if (status == TT_OK)
		status = tt_request_wait(request, err);
	if (status == TT_OK)
		status = keep(out, report, request, ids, options.n_ids, err);
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
		size_t length = tt_utf8_next(piece + i, n - i, &c);
		if (c == '\n')
			fputs("\xE2\x86\xB5", to);
		else if (c == '\t')
			fputs("\xE2\x86\xA6", to);
		else if (c == ' ')
			fputs(n == 1 ? "\xE2\x90\xA3" : "\xC2\xA0", to);
		else
			tt_page_html(to, piece + i, length);
		i += length;
	}
}

static void write_row(
	FILE *to, const struct tt_page_map *map, const struct tt_page_report *report, uint32_t layer, float scale)
{
	uint32_t n_layers = tt_engine_info(report->engine)->n_layers;
	const struct tt_text *text = tt_engine_text(report->engine);
	bool gate = tt_push_is_read(report->arms[0].steering, report->arms[0].n_steering, layer);
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

/* What the cells' titles say, for those who cannot hover: by layer, over the tokens that were pushed there. */
static void write_numbers(FILE *to, const struct tt_page_map *map, uint32_t n_layers)
{
	fputs("<details><summary>as numbers</summary><div class=scroll tabindex=0><table class=figures><thead><tr><th "
	      "class=n>layer</th>"
	      "<th class=n>tokens pushed</th><th class=n>mean push</th><th class=n>strongest</th></tr></thead>"
	      "<tbody>\n",
		to);
	for (uint32_t l = 0; l < n_layers; l++) {
		size_t n = 0;
		double sum = 0;
		float most = 0;
		for (size_t p = 0; p < map->n_positions; p++) {
			float push = map->push[p * n_layers + l];
			n += push > 0;
			sum += (double)push;
			most = fmaxf(most, push);
		}
		if (n > 0)
			fprintf(to,
				"<tr><td class=n>%u</td><td class=n>%zu of %zu</td><td class=n>%.1f%%</td>"
				"<td class=n>%.1f%%</td></tr>\n",
				l, n, map->n_positions, 100 * sum / (double)n, 100 * (double)most);
	}
	fputs("</tbody></table></div></details>", to);
}

void tt_page_map_write(FILE *to, const struct tt_page_map *map, const struct tt_page_report *report, float scale)
{
	const struct tt_text *text = tt_engine_text(report->engine);
	fputs("<figure><figcaption><span class=\"tag ", to);
	tt_page_html_text(to, map->label);
	fputs("\">", to);
	tt_page_html_text(to, map->label);
	fputs("</span> ", to);
	tt_page_html_text(to, map->prompt);
	if (map->steered)
		fprintf(to, "<small>strongest push here: %.1f%% of the stream's length</small>",
			100 * (double)map->most);
	else
		fputs("<small>the gate stayed shut: nothing was pushed, and the text is the unsteered one</small>", to);
	fputs(map->steered ? "</figcaption>\n" : "</figcaption>\n<details><summary>the empty map</summary>\n", to);
	fputs("<div class=scroll tabindex=0><table class=map><thead><tr><td></td>", to);
	for (size_t p = 0; p < map->n_positions; p++) {
		fprintf(to, "<th scope=col%s><span>", p == map->n_prompt ? " class=first" : "");
		write_piece(to, text, map->ids[p]);
		fputs("</span></th>", to);
	}
	fputs("</tr></thead><tbody>\n", to);
	for (uint32_t l = 0; l < tt_engine_info(report->engine)->n_layers; l++)
		write_row(to, map, report, l, scale);
	fputs("</tbody></table></div>\n", to);
	if (map->steered)
		write_numbers(to, map, tt_engine_info(report->engine)->n_layers);
	fputs(map->steered ? "</figure>\n" : "</details></figure>\n", to);
}

void tt_page_map_free(struct tt_page_map *map)
{
	free(map->ids);
	free(map->push);
	*map = (struct tt_page_map){0};
}
