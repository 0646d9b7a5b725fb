/* How a request was steered, as JSON and as lines of text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli.h"

json_t *cli_decision_json(const struct tt_request *request, const struct cli_policies *policies, uint32_t n_layers)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < policies->n; i++) {
		struct tt_policy_info info;
		struct tt_decision decision;
		tt_policy_describe(policies->steering[i].policy, &info);
		json_t *entry = json_pack("{s:s*,s:o}", "policy", policies->names[i] ? policies->names[i] : info.name,
			"scale", tt_json_number(policies->steering[i].scale));
		if (tt_request_decision(request, i, &decision)) {
			json_t *coef = json_array();
			for (uint32_t l = 0; l < n_layers; l++)
				json_array_append_new(coef, tt_json_number(decision.coef[l]));
			json_object_set_new(entry, "when", json_string(tt_when_word(decision.when)));
			json_object_set_new(entry, "s", tt_json_number(decision.s));
			json_object_set_new(entry, "gate", tt_json_number(decision.gate));
			json_object_set_new(entry, "coef", coef);
		}
		json_array_append_new(list, entry);
	}
	return list;
}

/* One character per layer, from a dot for nothing to a full block for the strongest push of any layer. */
static void print_strip(FILE *to, const float *push, uint32_t n_layers, float most, bool colour)
{
	static const char *const blocks[] = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const int shades[] = {240, 54, 90, 126, 162, 198, 203, 208, 214};
	const char *no_colour = getenv("NO_COLOR"); /* as no-color.org has it */
	colour = colour && !(no_colour && *no_colour);
	for (uint32_t l = 0; l < n_layers; l++) {
		int level = most > 0 && push[l] > 0 ? (int)ceilf(8 * push[l] / most) : 0;
		level = level < 0 ? 0 : level > 8 ? 8 : level;
		if (colour)
			fprintf(to, "\x1b[38;5;%dm", shades[level]);
		fputs(blocks[level], to);
	}
	if (colour)
		fputs("\x1b[0m", to);
}

/* Which conditions of a rule held. */
static void show_rule(FILE *to, const struct tt_policy_info *info, float gate)
{
	fputs(", ", to);
	cli_write_line(to, info->rule, strlen(info->rule));
	for (uint32_t k = 0; k < info->n_conditions; k++) {
		bool held = gate >= 0 && (uint32_t)gate >> k & 1;
		fputs(k ? ", " : ": ", to);
		cli_write_line(to, info->conditions[k], strlen(info->conditions[k]));
		fputs(held ? " holds" : " does not hold", to);
	}
}

enum { STRIP_WORDS = 64 }; /* columns of what stands around the strip, at most */

/* What the gate said and what follows, in lines of at most width columns. */
static void show_decision(FILE *to, const struct tt_policy_info *info, float scale, const struct tt_decision *decision,
	bool steers, size_t width)
{
	char *text;
	size_t n;
	FILE *line = cli_memory_file(&text, &n);
	fputs("policy ", line);
	cli_write_line(line, info->name ? info->name : "", info->name ? strlen(info->name) : 0);
	fprintf(line, " x%g: s %.3f", (double)scale, (double)decision->s);
	if (info->has_threshold)
		fprintf(line, ", gate %.3f against %.3f", (double)decision->gate, (double)info->threshold);
	else if (info->n_conditions)
		show_rule(line, info, decision->gate);
	else if (info->gate_sentence)
		fprintf(line, ", %s output %.3f", info->gate_word, (double)decision->gate);
	fprintf(line, ", when %s%s", tt_when_word(decision->when), steers ? "" : ", does not steer");
	fclose(line);
	struct cli_lines lines = {0};
	cli_wrap(&lines, text, n, width);
	for (size_t i = 0; i < lines.n; i++)
		fprintf(to, "%s\n", lines.lines[i]);
	cli_lines_free(&lines);
	free(text);
}

static void show(FILE *to, const struct tt_policy_info *info, float scale, const struct tt_decision *decision,
	uint32_t n_layers, bool terminal)
{
	float *push = cli_alloc(n_layers, sizeof *push), most = 0;
	uint32_t strongest = 0;
	for (uint32_t l = 0; l < n_layers; l++) {
		/* An ablation removes what is there: its size does not depend on the direction's length. */
		push[l] = fabsf(decision->coef[l]) * (info->change == TT_CHANGE_DIRECTION ? info->norms[l] : 1);
		if (push[l] > most) {
			most = push[l];
			strongest = l;
		}
	}
	size_t width = terminal ? cli_terminal_width() : SIZE_MAX;
	show_decision(to, info, scale, decision, most > 0, width);
	fputs("layers 0 ", to);
	print_strip(to, push, n_layers, most, terminal);
	fprintf(to, " %u", n_layers - 1);
	if (most > 0)
		fprintf(to, "%sstrongest: layer %u, coefficient %.3g, push %.3g",
			width < n_layers + STRIP_WORDS ? "\n" : "   ", strongest, (double)decision->coef[strongest],
			(double)most);
	fputc('\n', to);
	free(push);
}

void cli_show_steering(FILE *to, const struct tt_request *request, const struct cli_policies *policies,
	uint32_t n_layers, bool terminal)
{
	for (uint32_t i = 0; i < policies->n; i++) {
		struct tt_policy_info info;
		struct tt_decision decision;
		tt_policy_describe(policies->steering[i].policy, &info);
		if (tt_request_decision(request, i, &decision))
			show(to, &info, policies->steering[i].scale, &decision, n_layers, terminal);
		else
			fputs("policy: its gate has not run\n", to);
	}
}
