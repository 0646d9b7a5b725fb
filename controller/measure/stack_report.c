/* The report of tt_stack: the policies, where and how they meet, and every arm. */
#include <math.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/measure/stack.h"
#include "controller/policy/policy.h"
#include "runtime/engine/numerics.h"

/* What a policy adds to a layer at most: the coefficient that an open gate gives, times the length of the directions.
 * Of an operation that is not add this is a measure of the coefficient, not of how far h moves. */
static double push_of(const struct tt_steering *steering, uint32_t layer)
{
	const struct tt_policy *p = steering->policy;
	return fabs((double)steering->scale * (double)p->alpha * (double)p->weights[layer]) * (double)p->norms[layer];
}

static json_t *policies_report(const struct tt_stack_options *o)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < o->n_steering; i++) {
		const struct tt_policy *p = o->steering[i].policy;
		json_t *layers = json_array(), *pushes = json_array();
		double total = 0;
		for (uint32_t l = 0; l < p->n_layers; l++) {
			if (push_of(&o->steering[i], l) == 0)
				continue;
			json_array_append_new(layers, json_integer((json_int_t)l));
			json_array_append_new(pushes, tt_json_number(push_of(&o->steering[i], l)));
			total += push_of(&o->steering[i], l);
		}
		json_array_append_new(list,
			json_pack("{s:s, s:o, s:s, s:s, s:s, s:o, s:o, s:o}", "name", p->name, "scale",
				tt_json_number((double)o->steering[i].scale), "op", tt_operation_of(p->op)->row.word,
				"when", tt_when_word(p->when), "gate", tt_gate_of(p->gate)->row.word, "layers", layers,
				"push", pushes, "total_push", tt_json_number(total)));
	}
	return list;
}

static double cosine(const float *a, const float *b, uint32_t n)
{
	double dot = 0, aa = 0, bb = 0;
	for (uint32_t i = 0; i < n; i++) {
		dot += (double)a[i] * (double)b[i];
		aa += (double)a[i] * (double)a[i];
		bb += (double)b[i] * (double)b[i];
	}
	return dot / sqrt(aa * bb);
}

/* Two policies in the layers where both act. Directions of several rows have no one cosine. */
static json_t *pair_report(const struct tt_steering *a, const struct tt_steering *b)
{
	const struct tt_policy *p = a->policy, *q = b->policy;
	json_t *layers = json_array(), *cosines = json_array();
	bool rows = p->n_directions == 1 && q->n_directions == 1;
	double sum = 0;
	size_t n = 0;
	for (uint32_t l = 0; l < p->n_layers; l++) {
		if (push_of(a, l) == 0 || push_of(b, l) == 0)
			continue;
		size_t at = (size_t)l * p->hidden_size;
		double c = rows ? cosine(p->directions + at, q->directions + at, p->hidden_size) : NAN;
		json_array_append_new(layers, json_integer((json_int_t)l));
		json_array_append_new(cosines, tt_json_number(c));
		sum += c;
		n++;
	}
	return json_pack("{s:[s, s], s:o, s:o, s:o}", "policies", p->name, q->name, "layers", layers, "cosines",
		cosines, "mean_cosine", n ? tt_json_number(sum / (double)n) : json_null());
}

static json_t *pairs_report(const struct tt_stack_options *o)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < o->n_steering; i++)
		for (uint32_t k = i + 1; k < o->n_steering; k++)
			json_array_append_new(list, pair_report(&o->steering[i], &o->steering[k]));
	return list;
}

static const char *label_of(uint32_t label)
{
	return label < TT_N_LABELS ? tt_label_name((enum tt_label)label) : "contrast";
}

static json_t *arm_report(const struct tt_stack *s, const struct tt_stack_arm *arm)
{
	struct tt_objective objectives[TT_MAX_OBJECTIVES];
	size_t n = tt_stack_objectives(s, arm, objectives);
	json_t *scales = json_array(), *refused = json_object(), *values = json_object(), *report;
	for (uint32_t i = 0; i < s->options->n_steering; i++)
		json_array_append_new(scales, tt_json_number((double)arm->scales[i]));
	for (uint32_t label = 0; label < TT_STACK_LABELS; label++)
		if (arm->labels[label].n)
			json_object_set_new(
				refused, label_of(label), tt_json_number(tt_tally_refused(&arm->labels[label])));
	for (size_t i = 0; i < n; i++)
		json_object_set_new(values, objectives[i].name, tt_json_number(objectives[i].value));
	report = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "scales", scales, "refused", refused, "changed",
		tt_json_number((double)arm->n_changed / (double)s->n_rows), "nll",
		tt_json_number(tt_tally_nll(&arm->all)), "repeated_fourgrams",
		tt_json_number(tt_tally_repeated(&arm->all)), "objectives", values, "optimal", (int)arm->optimal);
	return report;
}

static json_t *objectives_report(const struct tt_stack *s)
{
	struct tt_objective objectives[TT_MAX_OBJECTIVES];
	size_t n = tt_stack_objectives(s, s->arms, objectives);
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", objectives[i].name, "better",
						    objectives[i].less ? "less" : "more"));
	return list;
}

int tt_stack_report(const struct tt_stack *s, char **out, struct tt_error *err)
{
	json_t *arms = json_array(), *n = json_object();
	for (uint32_t label = 0; label < TT_STACK_LABELS; label++)
		if (s->arms->labels[label].n)
			json_object_set_new(n, label_of(label), json_integer((json_int_t)s->arms->labels[label].n));
	for (size_t i = 0; i < s->n_arms; i++)
		json_array_append_new(arms, arm_report(s, &s->arms[i]));
	json_t *report = json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:o, s:o}", "model", tt_engine_info(s->engine)->name,
		"compute", tt_engine_compute(s->engine), "policies", policies_report(s->options), "pairs",
		pairs_report(s->options), "n", n, "n_questions", (json_int_t)s->choices.n, "objectives",
		objectives_report(s), "arms", arms);
	return tt_engine_report(out, report, s->engine, err);
}
