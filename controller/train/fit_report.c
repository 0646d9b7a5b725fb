/* The report of a fit: JSON with every figure that a choice was based on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/train/fit_modes.h"
#include "runtime/engine/numerics.h"
#include "weights/config.h"

static bool has_source(const json_t *list, const struct tt_prompt_file *file)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(tt_json_string_or(json_array_get(list, i), "sha256", ""), file->sha256) == 0)
			return true;
	return false;
}

/* engine: that computed what was fitted. An entry without compute is in f32, one without chat_template under the
 * model's own. */
static void add_source(
	json_t *list, const struct tt_engine *engine, const char *file, const char *sha256, size_t n_rows)
{
	const char *compute = tt_engine_compute(engine), *template = tt_engine_info(engine)->chat_template_sha256;
	json_t *entry = json_pack("{s:s, s:s, s:I}", "file", file, "sha256", sha256, "rows", (json_int_t)n_rows);
	bool whole = !strcmp(compute, "f32") || json_object_set_new(entry, "compute", json_string(compute)) == 0;
	whole &= !template || json_object_set_new(entry, "chat_template", json_string(template)) == 0;
	if (whole)
		json_array_append_new(list, entry);
	else
		json_decref(entry); /* no memory: no entry, rather than one that says something else */
}

static void add_sources(json_t *list, const struct tt_engine *engine, const struct tt_prompts *prompts)
{
	for (size_t i = 0; i < prompts->n_files; i++) {
		const struct tt_prompt_file *file = &prompts->files[i];
		if (has_source(list, file))
			continue;
		add_source(list, engine, tt_prompts_file_name(prompts, i), file->sha256, file->n_rows);
	}
}

/* The files, and last the activations that the gate was trained on. */
static json_t *sources(const struct tt_fit *fit)
{
	json_t *list = fit->options->continued ? tt_fit_continue_sources(&fit->continued) : json_array();
	add_sources(list, fit->engine, &fit->rows.prompts);
	add_sources(list, fit->engine, &fit->style.contrast.prompts);
	if (fit->gate.n_rows)
		add_source(list, fit->engine, "activations", fit->gate.activations, fit->gate.n_rows);
	return list;
}

int tt_fit_sources(const struct tt_fit *fit, char **out, struct tt_error *err)
{
	return tt_json_dump(out, sources(fit), JSON_COMPACT, err);
}

static json_t *activations_report(const struct tt_fit_gate *gate)
{
	if (!gate->n_rows)
		return json_null();
	return json_pack("{s:s, s:I, s:I}", "sha256", gate->activations, "n_from_file",
		(json_int_t)(gate->n_rows - gate->n_run), "n_run", (json_int_t)gate->n_run);
}

static json_t *rows_report(const struct tt_fit *fit)
{
	const struct tt_fit_rows *rows = &fit->rows;
	const struct tt_fit_gate *gate = &fit->gate;
	json_t *object = json_object();
	for (int label = 0; label < TT_N_LABELS; label++)
		json_object_set_new(object, tt_label_name((enum tt_label)label),
			json_pack("{s:I, s:I, s:I}", "train", (json_int_t)rows->train[label].n, "val",
				(json_int_t)rows->val[label].n, "held_out", (json_int_t)gate->n_held[label]));
	json_object_set_new(object, "text", json_pack("{s:I}", "train", (json_int_t)gate->n_texts));
	if (fit->options->contrast)
		json_object_set_new(object, "contrast",
			json_pack("{s:I, s:I}", "train", (json_int_t)fit->style.train.n, "val",
				(json_int_t)fit->style.judged[TT_HARMFUL].n));
	return object;
}

static json_t *maps_report(const struct tt_fit_maps *maps, uint32_t n_layers)
{
	json_t *penalties = json_array(), *errors = json_array();
	for (uint32_t l = 0; l < n_layers; l++) {
		json_array_append_new(penalties, tt_json_number(maps->penalties[l]));
		json_array_append_new(errors, tt_json_number(maps->errors[l]));
	}
	return json_pack("{s:i, s:o, s:o}", "rank", (int)maps->rank, "penalties", penalties, "errors", errors);
}

static json_t *directions_report(const struct tt_fit_directions *directions)
{
	json_t *norms = json_array(), *streams = directions->stream_norms ? json_array() : json_null();
	for (uint32_t l = 0; l < directions->n_layers; l++) {
		json_array_append_new(norms, tt_json_number(directions->norms[l]));
		if (directions->stream_norms)
			json_array_append_new(streams, tt_json_number(directions->stream_norms[l]));
	}
	json_t *report = json_pack("{s:i, s:o, s:o, s:o}", "prompts", (int)directions->n_prompts, "norms", norms,
		"stream_norms", streams, "push_unit", tt_json_number(tt_push_unit(directions)));
	json_t *explained = directions->explained ? json_array() : NULL;
	for (uint32_t l = 0; explained && l < directions->n_layers; l++)
		json_array_append_new(explained, tt_json_number(directions->explained[l]));
	if (explained)
		json_object_set_new(report, "explained", explained);
	if (directions->maps.rank)
		json_object_set_new(report, "maps", maps_report(&directions->maps, directions->n_layers));
	return report;
}

static json_t *unsteered_report(const struct tt_fit_judge *judge)
{
	struct tt_tally tally[TT_N_JUDGE_KINDS] = {{0}};
	for (int kind = 0; kind < TT_N_JUDGE_KINDS; kind++)
		for (uint32_t i = 0; i < judge->n[kind]; i++)
			tt_tally_add(&tally[kind], &judge->unsteered[kind][i]);
	return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:s, s:o}", "n_harmful", (int)judge->n[TT_JUDGE_HARMFUL],
		"n_benign", (int)judge->n[TT_JUDGE_BENIGN], "refused",
		tt_json_number(tt_tally_refused(&tally[TT_JUDGE_HARMFUL])), "false_refusals",
		tt_json_number(tt_tally_refused(&tally[TT_JUDGE_BENIGN])), "repeated_fourgrams",
		tt_json_number(tt_tally_repeated(&tally[TT_JUDGE_HARMFUL])), "nll",
		tt_json_number(judge->unsteered_nll), "nll_of",
		judge->responses[TT_POSITIVE] ? "completions"
		: judge->nll_is_of_refusals   ? "refusals"
					      : "completions of harmful prompts",
		"preference", judge->responses[TT_POSITIVE] ? tt_json_number(judge->preference) : json_null());
}

static json_t *figures_report(const struct tt_figures *f)
{
	return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "n_harmful", (int)f->n_harmful,
		"n_benign", (int)f->n_benign, "refused", tt_json_number(f->refused), "refused_gated",
		tt_json_number(f->refused_gated), "false_refusals_more", tt_json_number(f->false_refusals),
		"repeated_fourgrams_more", tt_json_number(f->repeated), "benign_changed", tt_json_number(f->diverged),
		"nll", tt_json_number(f->nll), "nll_ratio", tt_json_number(f->nll_ratio), "effect",
		tt_json_number(f->effect), "score", tt_json_number(f->score), "out", (int)f->out);
}

static const char *const round_names[TT_N_ROUNDS] = {"sites", "strengths", "all"};

/* The rounds that the candidate took part in; *dropped is the one that it did not survive. */
static json_t *rounds_report(const struct tt_candidate *c, json_t **dropped)
{
	json_t *list = json_array();
	*dropped = NULL;
	for (int round = 0; round < TT_N_ROUNDS; round++) {
		if (!c->took_part[round])
			continue;
		json_t *entry = figures_report(&c->in_round[round]);
		json_object_set_new(entry, "round", json_string(round_names[round]));
		json_array_append_new(list, entry);
		if (!c->kept[round])
			*dropped = json_string(round_names[round]);
	}
	return list;
}

static json_t *weights_report(const struct tt_candidate *c)
{
	json_t *list = json_array();
	for (uint32_t l = c->first; l <= c->last; l++)
		json_array_append_new(list, tt_json_number(c->weights[l]));
	return list;
}

enum { N_EXAMPLES = 3 };

/* What the model writes for the first prompts, without and with the candidate. */
static json_t *examples_report(const struct tt_fit_judge *judge, const struct tt_candidate *c)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < c->n_harmful && i < N_EXAMPLES; i++) {
		const struct tt_prompt *prompt = judge->rows[TT_HARMFUL].rows[i].prompt;
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s, s:s}", "id", prompt->id, "prompt", prompt->text, "unsteered",
				      judge->unsteered[TT_JUDGE_HARMFUL][i].text, "steered", c->harmful[i].text));
	}
	return list;
}

static json_t *candidate_report(const struct tt_fit *fit, const struct tt_candidate *c)
{
	double push_unit = tt_push_unit(&fit->directions);
	json_t *dropped, *rounds = rounds_report(c, &dropped), *figures = figures_report(&c->figures);
	bool is_length = tt_fit_operation_of(c->op)->strength == TT_FIT_LENGTH;
	json_t *report = json_pack("{s:i, s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:s, s:s}", "first_layer", (int)c->first,
		"last_layer", (int)c->last, "weights", weights_report(c), "op", tt_operation_of(c->op)->row.word, "mix",
		tt_json_number(c->mix), "push", tt_json_number(c->push), "push_length",
		tt_json_number(is_length ? c->push * push_unit : NAN), "alpha", tt_json_number(c->alpha), "when",
		tt_when_word(c->when), "observe", c->gate->observe);
	json_object_update(report, figures);
	json_decref(figures);
	char name[TT_CANDIDATE_NAME_BYTES];
	tt_candidate_name(name, (uint32_t)(c - fit->search.candidates));
	json_object_set_new(report, "policy", fit->options->candidates ? json_string(name) : json_null());
	json_object_set_new(report, "rounds", rounds);
	json_object_set_new(report, "dropped_in", dropped ? dropped : json_null());
	if (fit->options->contrast)
		json_object_set_new(report, "examples", examples_report(&fit->judge, c));
	json_object_set_new(report, "chosen", json_boolean(c == fit->search.chosen));
	return report;
}

/* What the search for layer weights found, beside the site that it began at, on the train prompts that it used. */
static json_t *weights_search_report(const struct tt_fit_weights *w)
{
	if (!w->site)
		return json_null();
	return json_pack("{s:i, s:i, s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o}, s:{s:o, s:o}}", "tried", (int)w->n_tried,
		"n_harmful", (int)w->n_prompts, "shape", "centre", tt_json_number(w->shape.centre), "width",
		tt_json_number(w->shape.width), "skew", tt_json_number(w->shape.skew), "mix",
		tt_json_number(w->shape.mix), "found", "figures", figures_report(&w->on_train), "refusal_logprob",
		tt_json_number(w->likelihood), "site", "figures", figures_report(&w->site_on_train), "refusal_logprob",
		tt_json_number(w->site_likelihood));
}

/* What the learning of weights by the prompt saw on train prompts, and the weights that it found beside the site on the
 * validation prompts. */
static json_t *prompt_weights_report(const struct tt_fit_prompt_weights *w)
{
	json_t *shapes = json_array();
	if (!w->site) {
		json_decref(shapes);
		return json_null();
	}
	for (uint32_t k = 0; k < w->shapes.n_candidates; k++) {
		const struct tt_candidate *c = &w->shapes.candidates[k];
		json_array_append_new(shapes,
			json_pack("{s:i, s:i, s:o, s:o, s:i, s:o, s:o}", "first_layer", (int)c->first, "last_layer",
				(int)c->last, "weights", weights_report(c), "refusal_logprob",
				tt_json_number(w->likelihood[k]), "n_likeliest", (int)w->n_likeliest[k], "refused",
				tt_json_number(c->figures.refused), "nll_ratio", tt_json_number(c->figures.nll_ratio)));
	}
	return json_pack("{s:i, s:i, s:o, s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o}, s:{s:o, s:o, s:o, s:o}, s:o, s:o}",
		"n_harmful", (int)w->n_prompts, "n_completed", (int)w->shapes.candidates[0].n_harmful, "shapes", shapes,
		"refusal_logprob", "best", tt_json_number(w->best), "oracle", tt_json_number(w->oracle), "mean",
		tt_json_number(w->mean), "learned", tt_json_number(w->held_out), "refused", "by_any",
		tt_json_number(w->refused_by_any), "by_likeliest", tt_json_number(w->refused_by_likeliest), "push",
		"site", tt_json_number(w->site->push), "least", tt_json_number(w->least_push), "mean",
		tt_json_number(w->mean_push), "most", tt_json_number(w->most_push), "site",
		figures_report(&w->site->figures), "found",
		w->found ? figures_report(&w->found->figures) : json_null());
}

static json_t *bars_report(const struct tt_fit_judge *judge)
{
	const struct tt_fit_bars bars = tt_fit_bars(judge);
	return json_pack("{s:o, s:o, s:o}", "nll_ratio", tt_json_number(bars.nll_ratio), "repeated_fourgrams_more",
		tt_json_number(bars.repeated), "false_refusals_more", tt_json_number(bars.false_refusals));
}

int tt_fit_report(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err)
{
	json_t *candidates = json_array();
	const struct tt_fit_search *search = &fit->search;
	for (uint32_t i = 0; i < search->n_candidates; i++)
		json_array_append_new(candidates, candidate_report(fit, &search->candidates[i]));
	json_t *report = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:s, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, "
				   "s:o, s:o, s:o, s:o, s:o, s:b, s:s, s:o}",
		"name", tt_fit_name(fit->options), "mode", tt_fit_mode_of(fit->options->mode)->word, "model", "name",
		fit->info->name, "fingerprint", fit->info->fingerprint, "weights_digest", fit->info->weights_digest,
		"compute", tt_engine_compute(fit->engine), "fitted_on", sources(fit), "activations",
		activations_report(&fit->gate), "rows", rows_report(fit), "too_long",
		(json_int_t)(fit->rows.n_too_long + fit->gate.n_too_long + fit->style.own.n_too_long), "seed",
		(json_int_t)fit->options->seed, "directions", directions_report(&fit->directions), "selection",
		tt_fit_mean_report(&fit->mean), "gate", fit->gate.report(&fit->gate), "unsteered",
		unsteered_report(&fit->judge), "bars", bars_report(&fit->judge), "candidates", candidates,
		"layer_weights", weights_search_report(&fit->weights), "prompt_weights",
		prompt_weights_report(&fit->prompt_weights), "chosen", candidate_report(fit, search->chosen),
		"within_bars", (int)search->within_bars, "why", search->why, "seconds", tt_json_number(seconds));
	return tt_engine_report(out, report, fit->engine, err);
}

int tt_fit_report_continued(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err)
{
	json_t *report = json_pack("{s:s, s:{s:s, s:s, s:s}, s:s, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o}", "name",
		tt_fit_name(fit->options), "model", "name", fit->info->name, "fingerprint", fit->info->fingerprint,
		"weights_digest", fit->info->weights_digest, "compute", tt_engine_compute(fit->engine), "fitted_on",
		sources(fit), "activations", activations_report(&fit->gate), "rows", rows_report(fit), "too_long",
		(json_int_t)(fit->rows.n_too_long + fit->gate.n_too_long), "seed", (json_int_t)fit->options->seed,
		"continued", tt_fit_continue_report(&fit->continued, &fit->gate), "gate", fit->gate.report(&fit->gate),
		"seconds", tt_json_number(seconds));
	return tt_engine_report(out, report, fit->engine, err);
}
