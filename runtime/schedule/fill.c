#include "runtime/schedule/fill.h"

#include <string.h>

#include "base/fail.h"

/* The coefficient rows that steer the token at a position, in the order of the request's policies. The row of a policy
 * that is not decided yet is listed without knowing its coefficients, which the step computes; they may all be 0. */
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

static void fill_sample(struct tt_step_plan *step, const struct tt_planned *p, size_t position, uint32_t index)
{
	const struct tt_sequence *q = p->sequence;
	bool generates = p->generates && position + 1 == p->length, scores = tt_sequence_scores(q, position);
	struct tt_sample_plan *sample = tt_step_samples(step) + index;
	*sample = (struct tt_sample_plan){
		.token = p->first_token + (uint32_t)(position - p->position),
		.target = scores ? q->tokens[position + 1] : -1,
		.n_top = generates ? q->n_top
			 : scores  ? q->score_top
				   : 0,
		.sampling = q->sampling,
		.counter = p->length - q->n_ids,
	};
	if (!generates)
		sample->sampling.temperature = 0;
	if (!generates || p->n_seen == 0)
		return;
	sample->penalties = q->penalties;
	sample->first_seen = p->first_seen;
	sample->n_seen = p->n_seen;
	memcpy(tt_step_seen(step) + p->first_seen, q->seen, p->n_seen * sizeof *q->seen);
}

static void fill_decisions(struct tt_step_plan *step, const struct tt_planned *p)
{
	const struct tt_sequence *q = p->sequence;
	struct tt_decision_plan *plan = tt_step_decisions(step) + p->first_decision;
	for (uint32_t i = 0; i < q->n_policies; i++)
		plan[i] = (struct tt_decision_plan){
			.row = q->policies[i].row,
			.slot = q->policies[i].slot,
			.after_layer = q->policies[i].after_layer,
			.capture = p->decision_capture,
			.mean_capture = p->mean_capture,
			.scale = q->policies[i].scale,
		};
}

static void fill_pool(struct tt_step_plan *step, uint32_t seq, const struct tt_planned *p)
{
	const struct tt_sequence *q = p->sequence;
	size_t end = p->position + p->n_tokens, first = p->position > q->pool_from ? p->position : q->pool_from;
	struct tt_pool_plan *plan = tt_step_pools(step) + p->first_pool;
	end = end < q->pool_to ? end : q->pool_to;
	*plan = (struct tt_pool_plan){
		.seq = seq,
		.from = (uint32_t)q->pool_from,
		.to = (uint32_t)q->pool_to,
		.mean_capture = p->decides ? (int32_t)p->mean_capture : -1,
		.n_layers = q->n_pooled,
	};
	if (first < end) {
		plan->first_token = p->first_token + (uint32_t)(first - p->position);
		plan->n_tokens = (uint32_t)(end - first);
	}
	memcpy(plan->layers, q->pooled, sizeof plan->layers);
}

static void fill_sequence(struct tt_step_plan *step, uint32_t seq, struct tt_planned *p)
{
	const struct tt_sequence *q = p->sequence;
	int32_t capture = (int32_t)p->first_capture;
	uint32_t sample = p->first_sample;
	for (uint32_t i = 0; i < p->n_tokens; i++) {
		uint32_t t = p->first_token + i;
		size_t position = p->position + i;
		bool observed = p->decides && q->observe_last >= 0 && position == q->n_prompt - 1;
		bool captured = observed || tt_sequence_keeps_hidden(q, position);
		if (observed)
			p->decision_capture = (uint32_t)capture;
		tt_step_tokens(step)[t] = position < q->n_tokens ? q->tokens[position] : -1 - (int32_t)p->fed_by;
		tt_step_positions(step)[t] = (int32_t)position;
		tt_step_seqs(step)[t] = (int32_t)seq;
		tt_step_captures(step)[t] = captured ? capture++ : -1;
		fill_rows(p, position, tt_step_coef_rows(step) + (size_t)t * TT_STACK);
		if (tt_sequence_wants_logits(q, position, p->length))
			fill_sample(step, p, position, sample++);
	}
	memcpy(tt_step_pages(step) + (size_t)seq * step->max_pages, q->pages, q->n_pages * sizeof *q->pages);
	if (p->decides && p->pools)
		p->mean_capture = (uint32_t)capture;
	if (p->decides)
		fill_decisions(step, p);
	if (p->pools)
		fill_pool(step, seq, p);
}

int tt_fill(
	struct tt_scheduled_step *plan, const struct tt_limits *limits, const uint16_t *row_slots, struct tt_error *err)
{
	struct tt_step_plan *step = plan->step;
	TT_TRY(tt_step_layout(step, limits->plan_bytes, err));
	memcpy(tt_step_row_slots(step), row_slots, step->n_rows * sizeof *row_slots);
	for (uint32_t i = 0; i < plan->n_planned; i++)
		fill_sequence(step, i, &plan->planned[i]);
	return TT_OK;
}
