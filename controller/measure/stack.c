/* tt_stack: every arm, that is every combination of scales, completes the same prompts and scores the same responses
 * and choices. */
#include "controller/measure/stack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/options.h"
#include "runtime/engine/engine.h"

enum { MAX_ARMS = 256, DEFAULT_TOKENS = 32 };

static const float default_scales[] = {0, 1};

/* ---- What is measured on */

static uint32_t max_tokens(const struct tt_stack_options *o)
{
	return o->max_tokens ? o->max_tokens : DEFAULT_TOKENS;
}

/* Tokens that must fit after a prompt. */
static size_t room_of(const struct tt_stack_options *o)
{
	return max_tokens(o) > TT_MAX_RESPONSE ? max_tokens(o) : TT_MAX_RESPONSE;
}

static int add_row(struct tt_stack *s, const struct tt_prompt *prompt, uint32_t label, struct tt_error *err)
{
	int32_t *ids = NULL;
	TT_TRY(tt_grow(&s->rows, &s->capacity, s->n_rows + 1, sizeof *s->rows, err));
	struct tt_stack_row *row = &s->rows[s->n_rows];
	*row = (struct tt_stack_row){.label = label};
	tt_request_options_default(&row->options);
	TT_TRY(tt_encode_row(s->engine, prompt, NULL, room_of(s->options), &ids, &row->options, err));
	s->n_rows++;
	return TT_OK;
}

static int read_data(struct tt_stack *s, struct tt_error *err)
{
	const struct tt_stack_options *o = s->options;
	const struct tt_prompt **rows;
	size_t n;
	if (o->n_data == 0)
		return TT_OK;
	TT_TRY(tt_prompts_read(&s->prompts, o->data, o->n_data, o->positive_label, o->negative_label, err));
	TT_TRY(tt_prompts_choose(&s->prompts, o->split, o->limit, &rows, &n, err));
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < n; i++)
		status = add_row(s, rows[i], rows[i]->label, err);
	free(rows);
	return status;
}

/* Whether a prompt of a contrast file is measured on: those that judge, or if no row says so all but test rows. */
static bool is_held_out(bool any_val, const struct tt_prompt *row)
{
	return any_val ? row->split == TT_VAL : row->split != TT_TEST;
}

static int add_contrast_prompt(
	struct tt_stack *s, struct tt_stack_contrast *c, const struct tt_prompt *prompt, struct tt_error *err)
{
	struct tt_completion pair[TT_N_SIDES] = {{0}};
	int32_t *ids = NULL;
	size_t i = c->n;
	tt_request_options_default(&c->prompts[i]);
	TT_TRY(tt_encode_row(s->engine, prompt, NULL, room_of(s->options), &ids, &c->prompts[i], err));
	c->n++;
	int status = tt_contrast_encode(pair, &c->file, tt_engine_text(s->engine), prompt, i, err);
	for (int side = 0; side < TT_N_SIDES; side++)
		c->responses[side][i] = pair[side];
	return status;
}

/* Reads a contrast file, with its own prompts or, where it has none, those of data. */
static int read_contrast(struct tt_stack *s, size_t index, struct tt_error *err)
{
	struct tt_stack_contrast *c = &s->contrasts[index];
	uint32_t limit = s->options->limit;
	c->name = tt_file_name(s->options->contrast[index]);
	TT_TRY(tt_contrast_read(&c->file, s->options->contrast[index], err));
	const struct tt_prompts *from = c->file.prompts.n_rows ? &c->file.prompts : &s->prompts;
	TT_TRY(tt_alloc(&c->prompts, from->n_rows, sizeof *c->prompts, err));
	for (int side = 0; side < TT_N_SIDES; side++)
		TT_TRY(tt_alloc(&c->responses[side], from->n_rows, sizeof *c->responses[side], err));
	bool any_val = false;
	for (size_t i = 0; i < from->n_rows && !any_val; i++)
		any_val = from->rows[i].split == TT_VAL;
	for (size_t i = 0; i < from->n_rows && (!limit || c->n < limit); i++)
		if (is_held_out(any_val, &from->rows[i]))
			TT_TRY(add_contrast_prompt(s, c, &from->rows[i], err));
	if (c->n == 0)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "%s: there is no prompt, here or in data", s->options->contrast[index]);
	/* Without data the prompts of the first file are those that are completed. */
	for (size_t i = 0; index == 0 && s->options->n_data == 0 && i < from->n_rows; i++)
		if (is_held_out(any_val, &from->rows[i]) && (!limit || s->n_rows < limit))
			TT_TRY(add_row(s, &from->rows[i], TT_N_LABELS, err));
	return TT_OK;
}

/* ---- The arms */

/* Every combination of scales, the last policy's first; before them the unsteered model, which is none of them. */
static int make_arms(struct tt_stack *s, struct tt_error *err)
{
	const struct tt_stack_options *o = s->options;
	const float *scales = o->n_scales ? o->scales : default_scales;
	size_t n_scales = o->n_scales ? o->n_scales : sizeof default_scales / sizeof *default_scales, n = 1;
	for (uint32_t i = 0; i < o->n_steering; i++)
		if (!tt_mul_size(n, n_scales, &n) || n > MAX_ARMS)
			return tt_fail(err, TT_ERR_ARGUMENT, "more than %d combinations of scales", MAX_ARMS);
	TT_TRY(tt_alloc(&s->arms, n + 1, sizeof *s->arms, err));
	s->n_arms = 1;
	for (size_t k = 0; k < n; k++) {
		struct tt_stack_arm *arm = &s->arms[s->n_arms];
		size_t rest = k;
		bool steers = false;
		for (uint32_t i = o->n_steering; i-- > 0; rest /= n_scales) {
			arm->scales[i] = scales[rest % n_scales];
			steers = steers || arm->scales[i] != 0;
		}
		s->n_arms += steers;
	}
	return TT_OK;
}

/* The steering of an arm, as a request has it. */
static struct tt_request_options steering_of(const struct tt_stack *s, const struct tt_stack_arm *arm)
{
	struct tt_request_options out;
	tt_request_options_default(&out);
	for (uint32_t i = 0; i < s->options->n_steering; i++) {
		const struct tt_steering *from = &s->options->steering[i];
		if (arm->scales[i] != 0)
			out.steering[out.n_steering++] =
				(struct tt_steering){.policy = from->policy, .scale = arm->scales[i] * from->scale};
	}
	return out;
}

/* Copies of requests [n] with the steering of how. */
static int steer(struct tt_request_options **out, const struct tt_request_options *requests, size_t n, size_t stride,
	const struct tt_request_options *how, struct tt_error *err)
{
	TT_TRY(tt_alloc(out, n, sizeof **out, err));
	for (size_t i = 0; i < n; i++) {
		const void *from = (const char *)requests + i * stride;
		struct tt_request_options *o = &(*out)[i];
		*o = *(const struct tt_request_options *)from;
		o->n_steering = how->n_steering;
		memcpy(o->steering, how->steering, sizeof how->steering);
	}
	return TT_OK;
}

static void count(struct tt_stack *s, struct tt_stack_arm *arm, const struct tt_completion *completions)
{
	for (size_t i = 0; i < s->n_rows; i++) {
		tt_tally_add(&arm->all, &completions[i]);
		tt_tally_add(&arm->labels[s->rows[i].label], &completions[i]);
		arm->n_changed += !tt_completions_equal(&completions[i], &s->unsteered[i]);
	}
}

/* The first arm's completions stay, to compare those of others with. */
static int complete(
	struct tt_stack *s, struct tt_stack_arm *arm, const struct tt_request_options *how, struct tt_error *err)
{
	struct tt_request_options *options = NULL;
	struct tt_completion *completions = NULL;
	bool first = arm == s->arms;
	int status = steer(&options, &s->rows->options, s->n_rows, sizeof *s->rows, how, err);
	for (size_t i = 0; status == TT_OK && i < s->n_rows; i++)
		options[i].max_tokens = max_tokens(s->options);
	if (status == TT_OK)
		status = tt_alloc(&completions, s->n_rows, sizeof *completions, err);
	if (status == TT_OK)
		status = tt_completions_run(s->engine, options, s->n_rows, completions, &s->progress, err);
	if (status == TT_OK && !first)
		status = tt_completions_score(s->engine, options, s->n_rows, completions, &s->progress, err);
	if (first)
		s->unsteered = completions;
	if (status == TT_OK)
		count(s, arm, completions);
	for (size_t i = 0; completions && !first && i < s->n_rows; i++)
		tt_completion_free(&completions[i]);
	if (!first)
		free(completions);
	free(options);
	return status;
}

/* The preference for a contrast file's positive responses, over that of the unsteered model. */
static int measure_effect(struct tt_stack *s, size_t index, struct tt_stack_arm *arm,
	const struct tt_request_options *how, struct tt_error *err)
{
	const struct tt_stack_contrast *c = &s->contrasts[index];
	const struct tt_completion *const responses[] = {c->responses[TT_POSITIVE], c->responses[TT_NEGATIVE]};
	struct tt_request_options *options = NULL;
	int status = steer(&options, c->prompts, c->n, sizeof *c->prompts, how, err);
	if (status == TT_OK)
		status = tt_contrast_preference(
			s->engine, options, c->n, responses, &arm->effects[index], &s->progress, err);
	free(options);
	return status;
}

static int run_arm(struct tt_stack *s, size_t index, struct tt_error *err)
{
	struct tt_stack_arm *arm = &s->arms[index];
	const struct tt_request_options how = steering_of(s, arm);
	size_t n = s->n_rows * (index ? 2 : 1) + (s->options->choices ? s->choices.n_choices : 0);
	for (size_t i = 0; i < s->options->n_contrast; i++)
		n += TT_N_SIDES * s->contrasts[i].n;
	snprintf(s->stage, sizeof s->stage, "arm %zu of %zu", index + 1, s->n_arms);
	TT_TRY(tt_progress_begin(&s->progress, s->stage, n, err));
	TT_TRY(complete(s, arm, &how, err));
	for (size_t i = 0; i < s->options->n_contrast; i++)
		TT_TRY(measure_effect(s, i, arm, &how, err));
	arm->accuracy = NAN;
	if (s->options->choices)
		return tt_choices_accuracy(s->engine, &s->choices, &how, &arm->accuracy, &s->progress, err);
	return TT_OK;
}

/* ---- What is best */

size_t tt_stack_objectives(
	const struct tt_stack *s, const struct tt_stack_arm *arm, struct tt_objective out[TT_MAX_OBJECTIVES])
{
	size_t n = 0;
	struct tt_tally answer = arm->labels[TT_BENIGN];
	double unsteered = tt_tally_nll(&s->arms->all);
	answer.n += arm->labels[TT_BORDERLINE].n + arm->labels[TT_N_LABELS].n;
	answer.n_refused += arm->labels[TT_BORDERLINE].n_refused + arm->labels[TT_N_LABELS].n_refused;
	if (arm->labels[TT_HARMFUL].n)
		out[n++] = (struct tt_objective){"refused_harmful", false, tt_tally_refused(&arm->labels[TT_HARMFUL])};
	if (answer.n)
		out[n++] = (struct tt_objective){"refused_others", true, tt_tally_refused(&answer)};
	out[n++] = (struct tt_objective){"nll_ratio", true, unsteered > 0 ? tt_tally_nll(&arm->all) / unsteered : NAN};
	for (size_t i = 0; i < s->options->n_contrast; i++)
		out[n++] = (struct tt_objective){s->contrasts[i].name, false, arm->effects[i] - s->arms->effects[i]};
	if (s->options->choices)
		out[n++] = (struct tt_objective){"accuracy", false, arm->accuracy};
	return n;
}

/* Whether a is at least as good as b; NAN is as good as NAN and worse than a number. */
static bool as_good(double a, double b, bool less)
{
	return isnan(b) || (less ? a <= b : a >= b);
}

void tt_pareto(const double *values, const bool *less, size_t n, size_t n_values, bool *optimal)
{
	for (size_t i = 0; i < n; i++) {
		optimal[i] = true;
		for (size_t k = 0; k < n && optimal[i]; k++) {
			bool no_worse = true, better = false;
			for (size_t v = 0; v < n_values; v++) {
				double mine = values[i * n_values + v], its = values[k * n_values + v];
				no_worse = no_worse && as_good(its, mine, less[v]);
				better = better || !as_good(mine, its, less[v]);
			}
			optimal[i] = !(no_worse && better);
		}
	}
}

static int find_optimal(struct tt_stack *s, struct tt_error *err)
{
	struct tt_objective of[TT_MAX_OBJECTIVES];
	size_t n = tt_stack_objectives(s, s->arms, of);
	double *values = NULL;
	bool less[TT_MAX_OBJECTIVES], *optimal = NULL;
	TT_TRY(tt_alloc(&values, s->n_arms * n, sizeof *values, err));
	int status = tt_alloc(&optimal, s->n_arms, sizeof *optimal, err);
	for (size_t i = 0; status == TT_OK && i < s->n_arms; i++) {
		tt_stack_objectives(s, &s->arms[i], of);
		for (size_t v = 0; v < n; v++) {
			values[i * n + v] = of[v].value;
			less[v] = of[v].less;
		}
	}
	if (status == TT_OK)
		tt_pareto(values, less, s->n_arms, n, optimal);
	for (size_t i = 0; status == TT_OK && i < s->n_arms; i++)
		s->arms[i].optimal = optimal[i];
	free(values);
	free(optimal);
	return status;
}

/* ---- The whole */

static int check_options(struct tt_engine *engine, const struct tt_stack_options *o, struct tt_error *err)
{
	if (o->n_steering < 2 || o->n_steering > TT_MAX_STACK)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "two to %d policies are needed, not %u", TT_MAX_STACK, o->n_steering);
	if (o->n_contrast > TT_MAX_STACK)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d contrast files, not %zu", TT_MAX_STACK, o->n_contrast);
	if (o->n_data == 0 && o->n_contrast == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "neither data nor a contrast file is given");
	TT_TRY(tt_need_list(o->scales, o->n_scales, "scales", err));
	for (size_t i = 0; i < o->n_scales; i++)
		if (!isfinite(o->scales[i]))
			return tt_fail(err, TT_ERR_ARGUMENT, "scales[%zu] is not finite", i);
	for (size_t i = 0; i < o->n_contrast; i++) {
		TT_TRY(tt_need(o->contrast[i], "contrast", err));
		/* The report calls them by their names. */
		for (size_t k = 0; k < i; k++)
			if (strcmp(tt_file_name(o->contrast[i]), tt_file_name(o->contrast[k])) == 0)
				return tt_fail(err, TT_ERR_ARGUMENT, "two contrast files are called %.80s",
					tt_file_name(o->contrast[i]));
	}
	return tt_request_check_steering(engine, o->steering, o->n_steering, TT_WHEN_POLICY, err);
}

static int run(struct tt_stack *s, char **report, struct tt_error *err)
{
	const struct tt_stack_options *o = s->options;
	TT_TRY(check_options(s->engine, o, err));
	TT_TRY(make_arms(s, err));
	TT_TRY(read_data(s, err));
	for (size_t i = 0; i < o->n_contrast; i++)
		TT_TRY(read_contrast(s, i, err));
	if (o->choices)
		TT_TRY(tt_choices_read(
			&s->choices, s->engine, o->choices, &(struct tt_choices_form){.chat = true}, o->limit, err));
	for (size_t i = 0; i < s->n_arms; i++)
		TT_TRY(run_arm(s, i, err));
	TT_TRY(find_optimal(s, err));
	return tt_stack_report(s, report, err);
}

static void free_contrast(struct tt_stack_contrast *c)
{
	for (size_t i = 0; i < c->n; i++)
		tt_free((void *)(uintptr_t)c->prompts[i].ids);
	for (int side = 0; side < TT_N_SIDES; side++) {
		for (size_t i = 0; i < c->n; i++)
			tt_completion_free(&c->responses[side][i]);
		free(c->responses[side]);
	}
	free(c->prompts);
	tt_contrast_free(&c->file);
}

int tt_stack(struct tt_engine *engine, const struct tt_stack_options *options, char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	struct tt_stack_options o = {0};
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_stack_options", err));
	struct tt_stack s = {.engine = engine, .options = &o, .progress = {.fn = o.progress, .user = o.user}};
	int status = run(&s, report, err);
	for (size_t i = 0; i < s.n_rows; i++) {
		tt_free((void *)(uintptr_t)s.rows[i].options.ids);
		if (s.unsteered)
			tt_completion_free(&s.unsteered[i]);
	}
	for (size_t i = 0; i < TT_MAX_STACK; i++)
		free_contrast(&s.contrasts[i]);
	tt_choices_free(&s.choices);
	tt_prompts_free(&s.prompts);
	free(s.unsteered);
	free(s.rows);
	free(s.arms);
	return status;
}
