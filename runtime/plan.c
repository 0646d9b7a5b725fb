#include "runtime/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

int tt_plan_open(struct tt_plan **out, const struct tt_engine *engine, struct tt_error *err)
{
	const struct tt_limits *limits = &engine->state.limits;
	struct tt_plan *plan = NULL;
	TT_TRY(tt_alloc(&plan, 1, sizeof *plan, err));
	*out = plan;
	plan->capacity = limits->plan_bytes;
	TT_TRY(tt_alloc_aligned(&plan->step, plan->capacity, 1, err));
	TT_TRY(tt_alloc(&plan->planned, engine->options.max_batch, sizeof *plan->planned, err));
	return tt_alloc(&plan->owners, limits->max_samples, sizeof *plan->owners, err);
}

void tt_plan_close(struct tt_plan *plan)
{
	if (!plan)
		return;
	free(plan->step);
	free(plan->planned);
	free(plan->owners);
	free(plan);
}

static bool keeps_hidden(const struct tt_request *r, size_t position)
{
	return r->hidden && position >= r->options.keep_from && position < r->options.n_ids;
}

/* Every position of ids is scored or kept; the last position of the sequence samples, if more is to come. */
static bool wants_logits(const struct tt_request *r, size_t position)
{
	bool given = position < r->options.n_ids;
	if (given && r->logits)
		return true;
	if (given && r->scores && position + 1 < r->options.n_ids)
		return true;
	return position + 1 == r->n_tokens && r->options.max_tokens > 0;
}

/* Positions that may run now: up to the end, but not beyond the prompt while its decision is open, since the tokens
 * behind it may be steered by it. */
static size_t runnable_end(const struct tt_request *r)
{
	return r->decided || r->options.n_steering == 0 ? r->n_tokens : r->n_prompt;
}

/* The gates of an undecided request run when its last prompt token does. */
static bool decides_at(const struct tt_request *r, size_t first, size_t end)
{
	if (r->options.n_steering == 0 || r->decided)
		return false;
	return r->observe_last < 0 ? true : first < r->n_prompt && end == r->n_prompt;
}

/* Whether what is decided in this step may steer it: every observed layer lies before every steered one, and all the
 * tokens that the decision steers are in the step. */
static bool same_pass(const struct tt_request *r, size_t first)
{
	if (r->observe_last < 0)
		return true;
	if (r->observe_last >= (int32_t)r->first_steered)
		return false;
	for (uint32_t i = 0; i < r->options.n_steering; i++)
		if (r->when[i] == TT_WHEN_ALL)
			return first == 0;
	return true;
}

/* A prompt that could decide and steer in one pass waits for a step that has room for all of it: a second prefill costs
 * more than the wait. Only when such a step exists beside a full batch of decoding rows, so that it never waits long. */
static bool better_whole(const struct tt_engine *engine, const struct tt_request *r, size_t room)
{
	bool needs_whole = same_pass(r, 0) && !same_pass(r, 1);
	return r->n_fed == 0 && !r->decided && needs_whole && r->n_prompt > room &&
	       r->n_prompt + engine->options.max_batch <= engine->state.limits.max_tokens;
}

/* Adds what request r can run to the plan, within the room that is left. */
static void choose(struct tt_engine *engine, struct tt_request *r)
{
	struct tt_plan *plan = engine->plan;
	struct tt_step *step = plan->step;
	size_t room = engine->state.limits.max_tokens - step->n_tokens, end = runnable_end(r);
	uint32_t sample_room = engine->state.limits.max_samples - step->n_samples;
	if (room == 0 || r->n_fed >= end || better_whole(engine, r, room))
		return;
	struct tt_planned p = {.request = r, .first_token = step->n_tokens};
	size_t position = r->n_fed;
	for (; position < end && p.n_tokens < room; position++) {
		if (wants_logits(r, position) && p.n_samples == sample_room)
			break;
		p.n_samples += wants_logits(r, position);
		p.n_captures += keeps_hidden(r, position);
		p.n_tokens++;
	}
	if (p.n_tokens == 0)
		return;
	p.decides = decides_at(r, r->n_fed, position);
	p.same_pass = p.decides && same_pass(r, r->n_fed);
	p.first_decision = step->n_decisions;
	p.first_capture = step->n_captures;
	if (p.decides && r->observe_last >= 0 && !keeps_hidden(r, r->n_prompt - 1))
		p.n_captures++;
	step->n_tokens += p.n_tokens;
	step->n_samples += p.n_samples;
	step->n_captures += p.n_captures;
	step->n_decisions += p.decides ? r->options.n_steering : 0;
	step->n_seqs++;
	if (r->n_pages > step->max_pages)
		step->max_pages = r->n_pages;
	step->wants |= r->norms ? TT_WANT_NORMS : 0;
	step->wants |= r->hidden ? TT_WANT_CAPTURED : 0;
	step->wants |= r->logits ? TT_WANT_LOGITS : 0;
	plan->planned[plan->n_planned++] = p;
}

static bool decoding(const struct tt_request *r)
{
	return r->n_fed + 1 == r->n_tokens && r->n_tokens > r->options.n_ids;
}

/* The rows that steer the token at a position, in the order of the request's policies. */
static void fill_rows(const struct tt_planned *p, size_t position, uint16_t rows[TT_STACK])
{
	const struct tt_request *r = p->request;
	memset(rows, 0, TT_STACK * sizeof *rows);
	if (!r->decided && !p->same_pass)
		return;
	uint32_t n = 0;
	for (uint32_t i = 0; i < r->options.n_steering; i++) {
		size_t from = r->when[i] == TT_WHEN_ALL    ? 0
			      : r->when[i] == TT_WHEN_LAST ? r->n_prompt - 1
							   : r->n_prompt;
		if (position >= from)
			rows[n++] = r->rows[i];
	}
}

static void fill_sample(
	struct tt_engine *engine, const struct tt_request *r, size_t position, uint32_t token, uint32_t index)
{
	const struct tt_request_options *o = &r->options;
	bool generates = position + 1 == r->n_tokens && o->max_tokens > 0;
	bool scores = r->scores && position + 1 < o->n_ids;
	tt_step_samples(engine->plan->step)[index] = (struct tt_sample_plan){
		.token = token,
		.target = scores ? r->tokens[position + 1] : -1,
		.temperature = generates ? o->temperature : 0,
		.top_p = o->top_p,
		.min_p = o->min_p,
		.top_k = o->top_k,
		.n_top = generates ? o->n_top : 0,
		.seed = o->seed,
		.counter = r->n_tokens - o->n_ids,
	};
	engine->plan->owners[index] = (struct tt_sample_owner){(struct tt_request *)(uintptr_t)r, position, generates};
}

static void fill_decisions(struct tt_engine *engine, const struct tt_planned *p)
{
	const struct tt_request *r = p->request;
	struct tt_decision_plan *plan = tt_step_decisions(engine->plan->step) + p->first_decision;
	for (uint32_t i = 0; i < r->options.n_steering; i++) {
		const struct tt_policy *policy = r->options.steering[i].policy;
		plan[i] = (struct tt_decision_plan){
			.row = r->rows[i],
			.slot = r->slots[i],
			.after_layer = policy->n_observed ? (int32_t)policy->observed[policy->n_observed - 1] : -1,
			.capture = p->decision_capture,
			.scale = r->options.steering[i].scale,
		};
	}
}

static void fill_request(struct tt_engine *engine, uint32_t seq, uint32_t *sample)
{
	struct tt_step *step = engine->plan->step;
	struct tt_planned *p = &engine->plan->planned[seq];
	const struct tt_request *r = p->request;
	int32_t capture = (int32_t)p->first_capture;
	for (uint32_t i = 0; i < p->n_tokens; i++) {
		uint32_t t = p->first_token + i;
		size_t position = r->n_fed + i;
		bool observed = p->decides && r->observe_last >= 0 && position == r->n_prompt - 1;
		bool captured = observed || keeps_hidden(r, position);
		if (observed)
			p->decision_capture = (uint32_t)capture;
		tt_step_tokens(step)[t] = r->tokens[position];
		tt_step_positions(step)[t] = (int32_t)position;
		tt_step_seqs(step)[t] = (int32_t)seq;
		tt_step_captures(step)[t] = captured ? capture++ : -1;
		fill_rows(p, position, tt_step_coef_rows(step) + (size_t)t * TT_STACK);
		if (wants_logits(r, position))
			fill_sample(engine, r, position, t, (*sample)++);
	}
	memcpy(tt_step_pages(step) + (size_t)seq * step->max_pages, r->pages, r->n_pages * sizeof *r->pages);
	if (p->decides)
		fill_decisions(engine, p);
}

int tt_plan_build(struct tt_engine *engine, struct tt_error *err)
{
	struct tt_plan *plan = engine->plan;
	struct tt_step *step = plan->step;
	*step = (struct tt_step){.n_rows = engine->state.limits.n_rows};
	plan->n_planned = 0;
	/* Rows that decode come first: each keeps somebody waiting. Prompts share what is left, in order of admission. */
	for (uint32_t i = 0; i < engine->n_running; i++)
		if (decoding(engine->running[i]))
			choose(engine, engine->running[i]);
	for (uint32_t i = 0; i < engine->n_running; i++)
		if (!decoding(engine->running[i]))
			choose(engine, engine->running[i]);
	TT_TRY(tt_step_layout(step, plan->capacity, err));
	memcpy(tt_step_row_slots(step), engine->row_slots, step->n_rows * sizeof(uint16_t));
	uint32_t sample = 0;
	for (uint32_t i = 0; i < plan->n_planned; i++)
		fill_request(engine, i, &sample);
	return TT_OK;
}
