/* The arms of an evaluation, the ways of steering that it compares, and what they did to the same rows. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "controller/measure/eval.h"
#include "runtime/engine/request.h"

static const char unsteered[] = "unsteered", steered[] = "steered";

const char *tt_eval_side_name(const struct tt_eval *e, size_t side)
{
	return side ? e->arms[side - 1].name : unsteered;
}

/* Names are in the custom_ids of a judge's requests. */
static int check_names(const struct tt_eval_arm *arms, size_t n, struct tt_error *err)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = arms[i].name;
		TT_TRY(tt_need(name, "the name of an arm", err));
		if (!*name || strlen(name) > TT_MAX_ARM_NAME || !tt_utf8_is_valid(name) || !strcmp(name, unsteered))
			return tt_fail(err, TT_ERR_ARGUMENT,
				"'%.60s' is no name for an arm: 1 to %d bytes of UTF-8, not \"%s\"", name,
				TT_MAX_ARM_NAME, unsteered);
		for (size_t k = 0; k < i; k++)
			if (!strcmp(name, arms[k].name))
				return tt_fail(err, TT_ERR_ARGUMENT, "two arms are called %.60s", name);
	}
	return TT_OK;
}

int tt_eval_choose_arms(struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	if (o->n_arms > TT_MAX_ARMS)
		return tt_fail(err, TT_ERR_ARGUMENT, "more than %d arms", TT_MAX_ARMS);
	if (o->n_arms && o->n_steering)
		return tt_fail(err, TT_ERR_ARGUMENT, "steering and arms exclude each other");
	TT_TRY(tt_need_list(o->arms, o->n_arms, "arms", err));
	TT_TRY(tt_request_check_steering(e->engine, o->steering, o->n_steering, o->when, err));
	TT_TRY(check_names(o->arms, o->n_arms, err));
	for (size_t i = 0; i < o->n_arms; i++) {
		int status =
			tt_request_check_steering(e->engine, o->arms[i].steering, o->arms[i].n_steering, o->when, err);
		if (status != TT_OK)
			return tt_fail_within(err, o->arms[i].name);
	}
	e->only = (struct tt_eval_arm){.name = steered, .n_steering = o->n_steering};
	memcpy(e->only.steering, o->steering, sizeof o->steering);
	e->arms = o->n_arms ? o->arms : &e->only;
	e->n_arms = o->n_arms ? o->n_arms : 1;
	e->n_sides = 1 + e->n_arms;
	return TT_OK;
}

static bool has_row(const struct tt_group *group, const struct tt_prompt *row)
{
	return row->label == group->label && (group->file == TT_ALL_FILES || group->file == row->file);
}

/* The gate's figure, turned so that it opens upwards; NAN where the gate did not run. */
static double score_of(const struct tt_eval_arm *arm, const struct tt_completion *c)
{
	struct tt_policy_info info;
	if (!c->decided || !arm->n_steering)
		return (double)NAN;
	tt_policy_describe(arm->steering[0].policy, &info);
	return (double)(info.opens_below ? -c->gate : c->gate);
}

static void add_to_group(struct tt_group *group, size_t side, const struct tt_completion *const *sides)
{
	struct tt_side *s = &group->sides[side];
	tt_tally_add(&s->all, sides[side]);
	if (sides[side]->refused)
		tt_tally_add(&s->refusals, sides[side]);
	s->n_changed += !tt_completions_equal(sides[0], sides[side]);
}

void tt_eval_record(struct tt_eval *e, size_t row, const struct tt_completion *const *sides)
{
	const struct tt_prompt *prompt = e->rows[row];
	for (size_t side = 0; side < e->n_sides; side++) {
		const struct tt_completion *c = sides[side];
		e->outcomes[side * e->n_rows + row] = (struct tt_outcome){
			.verdicts = {[TT_IN_SUBSTANCE] = c->refused ? TT_REFUSED : TT_FULFILLED,
				[TT_BY_PHRASES] = c->refused_by_phrases ? TT_REFUSED : TT_FULFILLED,
				[TT_BY_JUDGE] = c->verdict},
			.flagged = c->flagged,
		};
		if (side)
			e->scores[(side - 1) * e->n_rows + row] = score_of(&e->arms[side - 1], c);
		add_to_group(&e->groups[prompt->file * TT_N_LABELS + prompt->label], side, sides);
		add_to_group(&e->groups[e->prompts.n_files * TT_N_LABELS + prompt->label], side, sides);
	}
}

struct tt_pairs tt_eval_pairs(
	const struct tt_eval *e, const struct tt_group *group, enum tt_judge judge, size_t first, size_t second)
{
	const struct tt_outcome *a = e->outcomes + first * e->n_rows, *b = e->outcomes + second * e->n_rows;
	struct tt_pairs pairs = {0};
	for (size_t i = 0; i < e->n_rows; i++) {
		enum tt_verdict before = a[i].verdicts[judge], after = b[i].verdicts[judge];
		if (!has_row(group, e->rows[i]) || before == TT_NO_VERDICT || after == TT_NO_VERDICT)
			continue;
		pairs.n++;
		pairs.gained += before == TT_FULFILLED && after == TT_REFUSED;
		pairs.lost += before == TT_REFUSED && after == TT_FULFILLED;
	}
	return pairs;
}
