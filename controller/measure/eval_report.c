/* The report of an evaluation. Shares are of the group's n; nll is in nats a token, under the unsteered model. */
#include "controller/measure/eval.h"

#include "base/fail.h"
#include "base/json.h"
#include "controller/measure/curves.h"
#include "controller/measure/metrics.h"
#include "controller/policy/policy.h"
#include "runtime/engine/numerics.h"

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
static json_t *nll_ratio(const struct tt_side *unsteered, const struct tt_side *steered)
{
	const struct tt_tally *own = unsteered->refusals.n ? &unsteered->refusals : &unsteered->all;
	return ratio(tt_tally_nll(&steered->all), tt_tally_nll(own));
}

/* How many completions of a side a judge calls refusals, and of how many it knows. */
static size_t n_refused(const struct tt_tally *t, enum tt_judge judge, size_t *n)
{
	const size_t refused[] = {[TT_IN_SUBSTANCE] = t->n_refused,
		[TT_BY_PHRASES] = t->n_refused_by_phrases,
		[TT_BY_JUDGE] = t->n_judged_refused};
	*n = judge == TT_BY_JUDGE ? t->n_judged : t->n;
	return refused[judge];
}

static const struct judge_keys {
	const char *share, *interval, *count; /* count: NULL where only that of its verdicts is told */
} judge_keys[] = {
	[TT_IN_SUBSTANCE] = {"refused", "refused_interval", "n_refused"},
	[TT_BY_PHRASES] = {"refused_by_phrases", "refused_by_phrases_interval", "n_refused_by_phrases"},
	[TT_BY_JUDGE] = {"refused_by_judge", "refused_by_judge_interval", NULL},
};

static void put_refusals(json_t *object, const struct tt_tally *u, const struct tt_tally *s, enum tt_judge judge)
{
	const struct judge_keys *keys = &judge_keys[judge];
	size_t n[2], refused[] = {n_refused(u, judge, &n[0]), n_refused(s, judge, &n[1])};
	if (keys->count)
		json_object_set_new(object, keys->count, both(count(refused[0]), count(refused[1])));
	else
		json_object_set_new(object, "n_judged", both(count(n[0]), count(n[1])));
	json_object_set_new(object, keys->share,
		both(ratio((double)refused[0], (double)n[0]), ratio((double)refused[1], (double)n[1])));
	json_object_set_new(object, keys->interval,
		both(tt_interval_report(refused[0], n[0]), tt_interval_report(refused[1], n[1])));
}

/* Refusals that the second side has and the first has not, and the other way round, by each judge. */
static json_t *pairs_report(const struct tt_eval *e, const struct tt_group *g, size_t first, size_t second)
{
	json_t *object = json_object();
	for (int judge = 0; judge < TT_N_JUDGES; judge++) {
		struct tt_pairs pairs = tt_eval_pairs(e, g, (enum tt_judge)judge, first, second);
		json_object_set_new(object, judge_keys[judge].share,
			pairs.n ? json_pack("{s:I, s:I, s:I, s:f}", "n", (json_int_t)pairs.n, "gained",
					  (json_int_t)pairs.gained, "lost", (json_int_t)pairs.lost, "p",
					  tt_sign_test(pairs.gained, pairs.lost))
				: json_null());
	}
	return object;
}

/* Figures of completions, of which an evaluation of gates has none. */
static void put_completions(json_t *object, const struct tt_eval *e, size_t arm, const struct tt_group *g)
{
	const struct tt_side *unsteered = &g->sides[0], *steered = &g->sides[1 + arm];
	const struct tt_tally *u = &unsteered->all, *s = &steered->all;
	tt_put_share(object, "changed", steered->n_changed, u->n);
	for (int judge = 0; judge < TT_N_JUDGES; judge++)
		put_refusals(object, u, s, (enum tt_judge)judge);
	json_object_set_new(object, "paired", pairs_report(e, g, 0, 1 + arm));
	json_object_set_new(object, "paired_with_first", arm ? pairs_report(e, g, 1, 1 + arm) : json_null());
	json_object_set_new(object, "n_fourgrams", both(count(u->n_fourgrams), count(s->n_fourgrams)));
	json_object_set_new(
		object, "repeated_fourgrams", both(json_real(tt_tally_repeated(u)), json_real(tt_tally_repeated(s))));
	json_object_set_new(object, "mean_tokens",
		both(ratio((double)u->n_tokens, (double)u->n), ratio((double)s->n_tokens, (double)s->n)));
	json_object_set_new(object, "nll", both(nll_or_null(u), nll_or_null(s)));
	json_object_set_new(
		object, "nll_refusals", both(nll_or_null(&unsteered->refusals), nll_or_null(&steered->refusals)));
	json_object_set_new(object, "nll_ratio", nll_ratio(unsteered, steered));
	json_object_set_new(object, "nll_ratio_to",
		json_string(unsteered->refusals.n ? "unsteered refusals" : "unsteered completions"));
}

static json_t *group_report(const struct tt_eval *e, size_t arm, const struct tt_group *g)
{
	const struct tt_tally *s = &g->sides[1 + arm].all;
	json_t *object = json_object();
	if (g->file != TT_ALL_FILES)
		json_object_set_new(object, "file", json_string(tt_prompts_file_name(&e->prompts, g->file)));
	json_object_set_new(object, "label", json_string(tt_label_name(g->label)));
	json_object_set_new(object, "n", count(s->n));
	tt_put_share(object, "flagged", s->n_flagged, s->n);
	if (!tt_eval_is_of_gates(e))
		put_completions(object, e, arm, g);
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

json_t *tt_eval_policies_report(const struct tt_steering *steering, uint32_t n, enum tt_policy_when asked)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < n; i++) {
		const struct tt_policy *p = steering[i].policy;
		enum tt_policy_when when = asked == TT_WHEN_POLICY ? p->when : asked;
		uint32_t first = 0, last = 0;
		tt_policy_band(p, &first, &last);
		json_array_append_new(
			list, json_pack("{s:s, s:f, s:s, s:s, s:s, s:f, s:f, s:i, s:i}", "name", p->name, "scale",
				      (double)steering[i].scale, "op", tt_operation_of(p->op)->row.word, "when",
				      tt_when_word(when), "gate", tt_gate_of(p->gate)->row.word, "threshold",
				      (double)p->threshold, "alpha", (double)p->alpha, "first_layer", (int)first,
				      "last_layer", (int)last));
	}
	return list;
}

static json_t *files_report(const struct tt_eval *e)
{
	json_t *list = json_array();
	for (size_t i = 0; i < e->prompts.n_files; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:I}", "file", tt_prompts_file_name(&e->prompts, i), "sha256",
				      e->prompts.files[i].sha256, "rows", (json_int_t)e->prompts.files[i].n_rows));
	return list;
}

/* A list of the groups that have rows. */
static json_t *groups_report(const struct tt_eval *e, size_t arm, const struct tt_group *groups, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		if (groups[i].sides[0].all.n)
			json_array_append_new(list, group_report(e, arm, &groups[i]));
	return list;
}

/* What the arm does to each variant of the rows; null without variants. */
static int variants_report(const struct tt_eval *e, size_t arm, json_t **out, struct tt_error *err)
{
	*out = e->n_variants ? json_array() : json_null();
	for (size_t i = 0; i < e->n_variants; i++) {
		const struct tt_eval *variant = &e->variants[i];
		size_t n_by_file = variant->prompts.n_files * TT_N_LABELS;
		json_t *gate;
		int status = tt_eval_gate_report(variant, arm, &gate, err);
		json_array_append_new(
			*out, json_pack("{s:s, s:o, s:o, s:o}", "variant", variant->variant, "labels",
				      groups_report(variant, arm, variant->groups + n_by_file, TT_N_LABELS), "groups",
				      groups_report(variant, arm, variant->groups, n_by_file), "gate", gate));
		TT_TRY(status);
	}
	return TT_OK;
}

/* What there is to say of an arm beside its name. */
static int arm_report(const struct tt_eval *e, size_t arm, json_t **out, struct tt_error *err)
{
	size_t n_by_file = e->prompts.n_files * TT_N_LABELS;
	json_t *gate, *variants = json_null();
	int status = tt_eval_gate_report(e, arm, &gate, err);
	if (status == TT_OK)
		status = variants_report(e, arm, &variants, err);
	*out = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "policies",
		tt_eval_policies_report(e->arms[arm].steering, e->arms[arm].n_steering, e->options->when), "labels",
		groups_report(e, arm, e->groups + n_by_file, TT_N_LABELS), "groups",
		groups_report(e, arm, e->groups, n_by_file), "gate", gate, "variants", variants, "speed",
		both(speed_report(&e->speeds[0]), speed_report(&e->speeds[1 + arm])));
	return status;
}

/* The arms by name; null where the evaluation has only one, without a name. */
static int arms_report(const struct tt_eval *e, json_t **out, struct tt_error *err)
{
	*out = e->options->n_arms ? json_array() : json_null();
	for (size_t arm = 0; arm < e->options->n_arms; arm++) {
		json_t *figures, *entry = json_pack("{s:s}", "name", e->arms[arm].name);
		int status = arm_report(e, arm, &figures, err);
		json_object_update(entry, figures);
		json_decref(figures);
		json_array_append_new(*out, entry);
		TT_TRY(status);
	}
	return TT_OK;
}

static json_t *sampling_report(const struct tt_sampling *s)
{
	return json_pack("{s:f, s:f, s:f, s:i, s:I}", "temperature", (double)s->temperature, "top_p", (double)s->top_p,
		"min_p", (double)s->min_p, "top_k", (int)s->top_k, "seed", (json_int_t)s->seed);
}

int tt_eval_report(const struct tt_eval *e, char **out, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(e->engine);
	const struct tt_eval_options *o = e->options;
	json_t *report = json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s}, s:i, s:o, s:o, s:I, s:o}", "mode", info->mode,
		"compute", tt_engine_compute(e->engine), "model", "name", info->name, "fingerprint", info->fingerprint,
		"weights_digest", info->weights_digest, "backend", info->backend, "max_tokens", (int)o->max_tokens,
		"sampling", sampling_report(&o->sampling), "split", o->split ? json_string(o->split) : json_null(),
		"rows", (json_int_t)e->n_rows, "files", files_report(e));
	json_t *first, *arms = NULL;
	int status = arm_report(e, 0, &first, err);
	if (status == TT_OK)
		status = arms_report(e, &arms, err);
	/* The first arm's figures are the report's own. */
	json_object_update(report, first);
	json_object_set_new(report, "arms", arms);
	json_object_set_new(report, "review", tt_eval_review_report(e));
	json_decref(first);
	if (status != TT_OK) {
		json_decref(report);
		return status;
	}
	return tt_engine_report(out, report, e->engine, err);
}
