/* The report of a fit: JSON with every figure that a choice was based on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/policy/layer_list.h"
#include "controller/train/fit.h"
#include "weights/config.h"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static json_t *sources(const struct tt_fit *fit)
{
	json_t *list = json_array();
	for (size_t i = 0; i < fit->prompts.n_files; i++) {
		const struct tt_prompt_file *file = &fit->prompts.files[i];
		json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "file", base_name(file->path), "sha256",
						    file->sha256, "rows", (json_int_t)file->n_rows));
	}
	return list;
}

int tt_fit_sources(const struct tt_fit *fit, char **out, struct tt_error *err)
{
	return tt_json_dump(out, sources(fit), JSON_COMPACT, err);
}

static json_t *rows_report(const struct tt_fit *fit)
{
	json_t *object = json_object();
	for (int label = 0; label < TT_N_LABELS; label++)
		json_object_set_new(object, tt_label_name((enum tt_label)label),
			json_pack("{s:I, s:I, s:I}", "train", (json_int_t)fit->train[label].n, "val",
				(json_int_t)fit->val[label].n, "held_out", (json_int_t)fit->n_held[label]));
	return object;
}

static json_t *directions_report(const struct tt_fit *fit)
{
	json_t *norms = json_array(), *streams = json_array();
	for (uint32_t l = 0; l < fit->info->n_layers; l++) {
		const float *d = fit->directions + (size_t)l * fit->info->hidden_size;
		double squares = 0;
		for (uint32_t i = 0; i < fit->info->hidden_size; i++)
			squares += (double)d[i] * d[i];
		json_array_append_new(norms, tt_json_number(sqrt(squares)));
		json_array_append_new(streams, tt_json_number(fit->stream_norms[l]));
	}
	return json_pack("{s:i, s:o, s:o}", "pairs", (int)fit->n_pairs, "norms", norms, "stream_norms", streams);
}

/* The observed layers as text: "15" or "12,16,20". */
static json_t *observed_report(const struct tt_fit *fit, const struct tt_probe *p)
{
	bool member[TT_MAX_LAYERS] = {false};
	struct tt_buffer text = {0};
	for (uint32_t i = 0; i < p->n_observed; i++)
		member[p->observed[i]] = true;
	json_t *value =
		tt_layers_print(&text, member, fit->info->n_layers, NULL) == TT_OK ? json_string(text.data) : NULL;
	tt_buffer_free(&text);
	return value;
}

static json_t *probes_report(const struct tt_fit *fit)
{
	json_t *list = json_array();
	for (uint32_t k = 0; k < fit->n_probes; k++) {
		const struct tt_probe *p = &fit->probes[k];
		json_array_append_new(list,
			json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "observe", observed_report(fit, p),
				"threshold", tt_json_number(p->threshold), "flagged_harmful",
				tt_json_number(p->flagged[TT_HARMFUL]), "flagged_benign",
				tt_json_number(p->flagged[TT_BENIGN]), "flagged_borderline",
				fit->n_held[TT_BORDERLINE] ? tt_json_number(p->flagged[TT_BORDERLINE]) : json_null(),
				"balanced_accuracy", tt_json_number(p->balanced), "log_loss", tt_json_number(p->loss)));
	}
	return list;
}

static json_t *unsteered_report(const struct tt_fit *fit)
{
	struct tt_tally tally[2] = {{0}};
	for (int kind = 0; kind < 2; kind++)
		for (uint32_t i = 0; i < fit->n_judge[kind]; i++)
			tt_tally_add(&tally[kind], &fit->baseline[kind][i]);
	return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:s}", "n_harmful", (int)fit->n_judge[0], "n_benign",
		(int)fit->n_judge[1], "refused", tt_json_number(tt_tally_refused(&tally[0])), "false_refusals",
		tt_json_number(tt_tally_refused(&tally[1])), "repeated_fourgrams",
		tt_json_number(tt_tally_repeated(&tally[0])), "nll", tt_json_number(fit->baseline_nll), "nll_of",
		fit->baseline_is_refusals ? "refusals" : "completions of harmful prompts");
}

static json_t *candidate_report(const struct tt_fit *fit, const struct tt_candidate *c)
{
	return json_pack("{s:i, s:i, s:o, s:o, s:s, s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b}",
		"first_layer", (int)c->first, "last_layer", (int)(c->first + c->width - 1), "push",
		tt_json_number(c->shift), "alpha", tt_json_number(c->shift / (double)c->width), "when",
		tt_when_word(c->when), "observe", observed_report(fit, c->probe), "n_harmful", (int)c->n_harmful,
		"n_benign", (int)c->n_benign, "refused", tt_json_number(c->refused), "refused_gated",
		tt_json_number(c->refused_gated), "false_refusals_more", tt_json_number(c->false_refusals),
		"repeated_fourgrams_more", tt_json_number(c->repeated), "benign_changed", tt_json_number(c->diverged),
		"nll", tt_json_number(c->nll), "nll_ratio", tt_json_number(c->nll_ratio), "score",
		tt_json_number(c->score), "out", (int)c->out, "chosen", (int)(c == fit->chosen));
}

int tt_fit_report(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err)
{
	json_t *candidates = json_array();
	for (uint32_t i = 0; i < fit->n_candidates; i++)
		json_array_append_new(candidates, candidate_report(fit, &fit->candidates[i]));
	json_t *report = json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "name",
		tt_fit_name(fit), "model", "name", fit->info->name, "fingerprint", fit->info->fingerprint,
		"weights_digest", fit->info->weights_digest, "fitted_on", sources(fit), "rows", rows_report(fit),
		"seed", (json_int_t)fit->options->seed, "directions", directions_report(fit), "probes",
		probes_report(fit), "unsteered", unsteered_report(fit), "candidates", candidates, "chosen",
		candidate_report(fit, fit->chosen), "why", fit->why, "seconds", tt_json_number(seconds));
	return tt_json_dump(out, report, JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
}
