#include "runtime/schedule/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/schedule/scheduler.h"

int tt_plan_open(struct tt_plan *plan, const struct tt_limits *limits, struct tt_error *err)
{
	TT_TRY(tt_alloc_aligned(&plan->step, limits->plan_bytes, 1, err));
	TT_TRY(tt_alloc(&plan->planned, limits->max_seqs, sizeof *plan->planned, err));
	return tt_alloc(&plan->restores, limits->n_rows, sizeof *plan->restores, err);
}

void tt_plan_close(struct tt_plan *plan)
{
	free(plan->step);
	free(plan->planned);
	free(plan->restores);
}

/* ---- What runs */

static bool keeps_hidden(const struct tt_sequence *q, size_t position)
{
	return position >= q->keep_from && position >= q->n_reported && position < q->n_ids;
}

static bool keeps_logits(const struct tt_sequence *q, size_t position)
{
	return q->keeps_logits && position >= q->n_reported && position < q->n_ids;
}

/* Every position of ids is scored or kept; the last position of the sequence samples, if more is to come. */
static bool wants_logits(const struct tt_sequence *q, size_t position, size_t length)
{
	if (keeps_logits(q, position))
		return true;
	if (q->scores && position >= q->n_reported && position + 1 < q->n_ids)
		return true;
	return position + 1 == length && q->max_tokens > 0;
}

/* The gates of an undecided sequence run when its last prompt token does, or at once if they read nothing. */
static bool decides_at(const struct tt_sequence *q, size_t first, size_t end)
{
	if (q->n_policies == 0 || q->decided)
		return false;
	return q->observe_last < 0 ? true : first < q->n_prompt && end == q->n_prompt;
}

bool tt_plan_one_pass(const struct tt_sequence *q, const struct tt_limits *limits)
{
	return q->n_policies > 0 && !q->decided && tt_sequence_same_pass(q, 0) && !tt_sequence_same_pass(q, 1) &&
	       q->n_prompt + limits->max_seqs <= limits->max_tokens;
}

/* As many pages as its next positions need and the pool has. */
static void grow_pages(struct tt_scheduler *s, struct tt_sequence *q, size_t end)
{
	while (q->n_pages < tt_pages_for(end)) {
		int32_t page = tt_page_take(&s->pool);
		if (page < 0)
			return;
		q->pages[q->n_pages++] = page;
	}
}

static uint32_t wants_of(const struct tt_sequence *q, size_t position)
{
	return (q->traces ? TT_WANT_NORMS : 0u) | (keeps_hidden(q, position) ? TT_WANT_CAPTURED : 0u) |
	       (keeps_logits(q, position) ? TT_WANT_LOGITS : 0u);
}

static void add(struct tt_plan *plan, struct tt_sequence *q, struct tt_planned p)
{
	struct tt_step *step = plan->step;
	size_t end = p.position + p.n_tokens;
	p.decides = decides_at(q, p.position, end);
	p.same_pass = p.decides && tt_sequence_same_pass(q, p.position);
	p.generates = end == p.length && q->max_tokens > 0;
	p.killed = p.position >= q->killed_from;
	if (p.decides && q->observe_last >= 0 && !keeps_hidden(q, q->n_prompt - 1))
		p.n_captures++;
	step->n_tokens += p.n_tokens;
	step->n_samples += p.n_samples;
	step->n_captures += p.n_captures;
	step->n_decisions += p.decides ? q->n_policies : 0;
	step->n_seqs++;
	for (uint32_t i = 0; i < q->n_policies; i++)
		step->row_steering |= q->policies[i].whole_rows;
	if (q->n_pages > step->max_pages)
		step->max_pages = q->n_pages;
	plan->planned[plan->n_planned++] = p;

	q->n_fed = end;
	q->deciding = p.decides;
	q->same_pass = p.same_pass;
	if (p.generates) {
		q->n_pending++;
		q->pending_sample = step->n_samples - 1;
	}
}

/* Adds what the sequence can run to the plan, within the room that is left. A prompt that could decide and steer in one
 * pass waits for a step that has room for all of it: a second prefill costs more than the wait. */
static void choose(struct tt_plan *plan, struct tt_scheduler *s, struct tt_sequence *q)
{
	struct tt_step *step = plan->step;
	size_t room = s->limits.max_tokens - step->n_tokens, end = tt_sequence_end(q);
	uint32_t sample_room = s->limits.max_samples - step->n_samples;
	if (room == 0 || q->n_fed >= end)
		return;
	if (q->n_fed == 0 && q->n_prompt > room && tt_plan_one_pass(q, &s->limits))
		return;
	end = end < q->n_fed + room ? end : q->n_fed + room;
	grow_pages(s, q, end);
	if (end > (size_t)q->n_pages * TT_PAGE_TOKENS)
		end = (size_t)q->n_pages * TT_PAGE_TOKENS;
	struct tt_planned p = {
		.sequence = q,
		.position = q->n_fed,
		.length = tt_sequence_length(q),
		.first_token = step->n_tokens,
		.first_sample = step->n_samples,
		.first_capture = step->n_captures,
		.first_decision = step->n_decisions,
		.fed_by = q->pending_sample,
	};
	for (size_t position = q->n_fed; position < end; position++) {
		bool samples = wants_logits(q, position, p.length);
		if (samples && p.n_samples == sample_room)
			break;
		p.n_samples += samples;
		p.n_captures += keeps_hidden(q, position);
		p.n_tokens++;
		step->wants |= wants_of(q, position);
	}
	if (p.n_tokens == 0)
		return;
	if (s->killed)
		tt_sequence_kill(q);
	add(plan, q, p);
	tt_prefix_publish(q, &s->pool);
}

static bool decoding(const struct tt_sequence *q)
{
	size_t length = tt_sequence_length(q);
	return q->n_fed + 1 == length && length > q->n_ids;
}

/* ---- Filling the arrays */

/* The rows that steer the token at a position, in the order of the request's policies. What an undecided policy's row will
 * hold is known when the step is over: its coefficients may all be 0. */
static void fill_rows(const struct tt_planned *p, size_t position, uint16_t rows[TT_STACK])
{
	const struct tt_sequence *q = p->sequence;
	memset(rows, 0, TT_STACK * sizeof *rows);
	if (!q->decided && !p->same_pass)
		return;
	uint32_t n = 0;
	for (uint32_t i = 0; i < q->n_policies; i++)
		if (tt_sequence_steers(q, i, position) && (!q->decided || q->policies[i].acts))
			rows[n++] = q->policies[i].row;
}

static void fill_sample(struct tt_step *step, const struct tt_planned *p, size_t position, uint32_t index)
{
	const struct tt_sequence *q = p->sequence;
	bool generates = p->generates && position + 1 == p->length, scores = q->scores && position + 1 < q->n_ids;
	struct tt_sample_plan *sample = tt_step_samples(step) + index;
	*sample = (struct tt_sample_plan){
		.token = p->first_token + (uint32_t)(position - p->position),
		.target = scores ? q->tokens[position + 1] : -1,
		.n_top = generates ? q->n_top : 0,
		.sampling = q->sampling,
		.counter = p->length - q->n_ids,
	};
	if (!generates)
		sample->sampling.temperature = 0;
}

static void fill_decisions(struct tt_step *step, const struct tt_planned *p)
{
	const struct tt_sequence *q = p->sequence;
	struct tt_decision_plan *plan = tt_step_decisions(step) + p->first_decision;
	for (uint32_t i = 0; i < q->n_policies; i++)
		plan[i] = (struct tt_decision_plan){
			.row = q->policies[i].row,
			.slot = q->policies[i].slot,
			.after_layer = q->policies[i].after_layer,
			.capture = p->decision_capture,
			.scale = q->policies[i].scale,
		};
}

static void fill_sequence(struct tt_step *step, uint32_t seq, struct tt_planned *p)
{
	const struct tt_sequence *q = p->sequence;
	int32_t capture = (int32_t)p->first_capture;
	uint32_t sample = p->first_sample;
	for (uint32_t i = 0; i < p->n_tokens; i++) {
		uint32_t t = p->first_token + i;
		size_t position = p->position + i;
		bool observed = p->decides && q->observe_last >= 0 && position == q->n_prompt - 1;
		bool captured = observed || keeps_hidden(q, position);
		if (observed)
			p->decision_capture = (uint32_t)capture;
		tt_step_tokens(step)[t] = position < q->n_tokens ? q->tokens[position] : -1 - (int32_t)p->fed_by;
		tt_step_positions(step)[t] = (int32_t)position;
		tt_step_seqs(step)[t] = (int32_t)seq;
		tt_step_captures(step)[t] = captured ? capture++ : -1;
		fill_rows(p, position, tt_step_coef_rows(step) + (size_t)t * TT_STACK);
		if (wants_logits(q, position, p->length))
			fill_sample(step, p, position, sample++);
	}
	memcpy(tt_step_pages(step) + (size_t)seq * step->max_pages, q->pages, q->n_pages * sizeof *q->pages);
	if (p->decides)
		fill_decisions(step, p);
}

int tt_plan_build(struct tt_plan *plan, struct tt_scheduler *s, struct tt_error *err)
{
	struct tt_step *step = plan->step;
	*step = (struct tt_step){.n_rows = s->limits.n_rows};
	plan->n_planned = plan->n_restores = 0;
	tt_scheduler_reserve(s);
	/* Rows that decode come first: each keeps somebody waiting. Prompts share what is left, in order of arrival; each is
	 * offered to others before the next is admitted, so that samples of one prompt compute it once. */
	for (uint32_t i = 0; i < s->n_running; i++)
		if (decoding(s->running[i]))
			choose(plan, s, s->running[i]);
	for (uint32_t i = 0; i < s->n_running; i++)
		if (!decoding(s->running[i]))
			choose(plan, s, s->running[i]);
	while (step->n_tokens < s->limits.max_tokens && step->n_samples < s->limits.max_samples &&
		tt_scheduler_admit(s, plan))
		choose(plan, s, s->running[s->n_running - 1]);
	TT_TRY(tt_step_layout(step, s->limits.plan_bytes, err));
	memcpy(tt_step_row_slots(step), s->row_slots, step->n_rows * sizeof(uint16_t));
	for (uint32_t i = 0; i < plan->n_planned; i++)
		fill_sequence(step, i, &plan->planned[i]);
	return TT_OK;
}
