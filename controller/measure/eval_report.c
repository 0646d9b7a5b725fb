/* The report of an evaluation. Shares are of the group's n; nll is in nats a token, under the unsteered model. */
#include "controller/measure/eval.h"

#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/policy/policy.h"

static json_t *ratio(double part, double whole)
{
	return whole > 0 ? json_real(part / whole) : json_null();
}

/* null if there is nothing to take the mean of. */
static json_t *nll_or_null(const struct tt_tally *tally)
{
	return tally->n_tokens ? json_real(tt_tally_nll(tally)) : json_null();
}

static json_t *both(json_t *unsteered, json_t *steered)
{
	return json_pack("{s:o, s:o}", "unsteered", unsteered, "steered", steered);
}

static json_t *count(size_t n)
{
	return json_integer((json_int_t)n);
}

/* The measure of fluency: the nll of the steered completions over that of the refusals that the unsteered model writes
 * or, if it writes none, over that of all its completions. */
static json_t *nll_ratio(const struct tt_group *g)
{
	const struct tt_tally *own = g->unsteered.refusals.n ? &g->unsteered.refusals : &g->unsteered.all;
	return ratio(tt_tally_nll(&g->steered.all), tt_tally_nll(own));
}

static json_t *group_report(const struct tt_group *g)
{
	const struct tt_tally *u = &g->unsteered.all, *s = &g->steered.all;
	json_t *object = json_object();
	const char *slash = g->file ? strrchr(g->file, '/') : NULL;
	if (g->file)
		json_object_set_new(object, "file", json_string(slash ? slash + 1 : g->file));
	json_object_set_new(object, "label", json_string(tt_label_name(g->label)));
	json_object_set_new(object, "n", count(u->n));
	json_object_set_new(object, "flagged", ratio((double)s->n_flagged, (double)s->n));
	json_object_set_new(object, "changed", ratio((double)g->n_changed, (double)u->n));
	json_object_set_new(object, "n_refused", both(count(u->n_refused), count(s->n_refused)));
	json_object_set_new(object, "refused", both(json_real(tt_tally_refused(u)), json_real(tt_tally_refused(s))));
	json_object_set_new(
		object, "n_refused_by_phrases", both(count(u->n_refused_by_phrases), count(s->n_refused_by_phrases)));
	json_object_set_new(object, "refused_by_phrases",
		both(json_real(tt_tally_refused_by_phrases(u)), json_real(tt_tally_refused_by_phrases(s))));
	json_object_set_new(object, "n_judged", both(count(u->n_judged), count(s->n_judged)));
	json_object_set_new(object, "refused_by_judge",
		both(ratio((double)u->n_judged_refused, (double)u->n_judged),
			ratio((double)s->n_judged_refused, (double)s->n_judged)));
	json_object_set_new(
		object, "repeated_fourgrams", both(json_real(tt_tally_repeated(u)), json_real(tt_tally_repeated(s))));
	json_object_set_new(object, "mean_tokens",
		both(ratio((double)u->n_tokens, (double)u->n), ratio((double)s->n_tokens, (double)s->n)));
	json_object_set_new(object, "nll", both(nll_or_null(u), nll_or_null(s)));
	json_object_set_new(
		object, "nll_refusals", both(nll_or_null(&g->unsteered.refusals), nll_or_null(&g->steered.refusals)));
	json_object_set_new(object, "nll_ratio", nll_ratio(g));
	json_object_set_new(object, "nll_ratio_to",
		json_string(g->unsteered.refusals.n ? "unsteered refusals" : "unsteered completions"));
	return object;
}

static json_t *speed_report(const struct tt_speed *s)
{
	double tokens = (double)s->n_prefill_tokens + (double)s->n_decode_tokens;
	return json_pack("{s:I, s:I, s:I, s:f, s:o, s:o}", "prefill_tokens", (json_int_t)s->n_prefill_tokens,
		"decode_tokens", (json_int_t)s->n_decode_tokens, "reruns", (json_int_t)s->n_reruns, "seconds",
		s->seconds, "tokens_per_second", ratio(tokens, s->seconds), "generated_tokens_per_second",
		ratio((double)s->n_decode_tokens, s->seconds));
}

static json_t *policies_report(const struct tt_eval_options *o)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < o->n_steering; i++) {
		const struct tt_policy *p = o->steering[i].policy;
		enum tt_policy_when when = o->when == TT_WHEN_POLICY ? p->when : o->when;
		uint32_t first = 0, last = 0;
		tt_policy_band(p, &first, &last);
		json_array_append_new(
			list, json_pack("{s:s, s:f, s:s, s:s, s:s, s:f, s:f, s:i, s:i}", "name", p->name, "scale",
				      (double)o->steering[i].scale, "op", tt_operation_of(p->op)->row.word, "when",
				      tt_when_word(when), "gate", tt_gate_of(p->gate)->row.word, "threshold",
				      (double)p->threshold, "alpha", (double)p->alpha, "first_layer", (int)first,
				      "last_layer", (int)last));
	}
	return list;
}

static json_t *files_report(const struct tt_prompts *prompts)
{
	json_t *list = json_array();
	for (size_t i = 0; i < prompts->n_files; i++) {
		const struct tt_prompt_file *file = &prompts->files[i];
		const char *slash = strrchr(file->path, '/');
		json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "file", slash ? slash + 1 : file->path,
						    "sha256", file->sha256, "rows", (json_int_t)file->n_rows));
	}
	return list;
}

/* A list of the groups that have rows. */
static json_t *groups_report(const struct tt_group *groups, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		if (groups[i].unsteered.all.n)
			json_array_append_new(list, group_report(&groups[i]));
	return list;
}

int tt_eval_report(const struct tt_eval *e, char **out, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(e->engine);
	const struct tt_eval_options *o = e->options;
	size_t n_by_file = e->prompts.n_files * TT_N_LABELS;
	json_t *report = json_pack("{s:s, s:{s:s, s:s, s:s, s:s}, s:o, s:i, s:o, s:I, s:o, s:o, s:o, s:o}", "mode",
		info->mode, "model", "name", info->name, "fingerprint", info->fingerprint, "weights_digest",
		info->weights_digest, "backend", info->backend, "policies", policies_report(o), "max_tokens",
		(int)o->max_tokens, "split", o->split ? json_string(o->split) : json_null(), "rows",
		(json_int_t)e->n_rows, "files", files_report(&e->prompts), "labels",
		groups_report(e->groups + n_by_file, TT_N_LABELS), "groups", groups_report(e->groups, n_by_file),
		"speed", both(speed_report(&e->speed[0]), speed_report(&e->speed[1])));
	return tt_json_dump(out, report, JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
}
