#include "runtime/schedule/choose.h"

#include "runtime/schedule/prefix_cache.h"

/* Whether the gates of the sequence run in a step that covers positions [first, end): gates that read hidden states run
 * with the last prompt token, gates that read nothing run at once. */
static bool decides_at(const struct tt_sequence *q, size_t first, size_t end)
{
	if (q->n_policies == 0 || q->decided)
		return false;
	return q->observe_last < 0 ? true : first < q->n_prompt && end == q->n_prompt;
}

bool tt_choose_one_pass(const struct tt_sequence *q, const struct tt_limits *limits)
{
	return q->n_policies > 0 && !q->decided && tt_sequence_same_pass(q, 0) && !tt_sequence_same_pass(q, 1) &&
	       q->n_prompt + limits->max_seqs <= limits->max_tokens;
}

/* Takes the pages that its positions below end need, or as many as the pool has. */
static void grow_pages(struct tt_page_pool *pool, struct tt_sequence *q, size_t end)
{
	while (q->n_pages < tt_pages_for(end)) {
		int32_t page = tt_page_take(pool);
		if (page < 0)
			return;
		q->pages[q->n_pages++] = page;
	}
}

static uint32_t wants_of(const struct tt_sequence *q, size_t position)
{
	/* Of what nothing steers the norms are 0, and the last block then runs for the tokens that give a sample alone:
	 * 3% of a prompt on 24 blocks. */
	bool norms = q->traces && q->n_policies > 0;
	return (norms ? TT_WANT_NORMS : 0u) | (tt_sequence_keeps_hidden(q, position) ? TT_WANT_CAPTURED : 0u) |
	       (tt_sequence_keeps_logits(q, position) ? TT_WANT_LOGITS : 0u);
}

/* Adds p to the plan and moves the sequence's progress on at the same time: code that looks at the sequence after this
 * sees it as the step will leave it. */
static void add_and_advance(struct tt_scheduled_step *plan, struct tt_sequence *q, struct tt_planned p)
{
	struct tt_step_plan *step = plan->step;
	size_t end = p.position + p.n_tokens;
	p.decides = decides_at(q, p.position, end);
	p.same_pass = p.decides && tt_sequence_same_pass(q, p.position);
	p.generates = end == p.length && q->max_tokens > 0;
	p.killed = p.position >= q->killed_from;
	if (p.decides && q->observe_last >= 0 && !tt_sequence_keeps_hidden(q, q->n_prompt - 1))
		p.n_captures++;
	p.pools = tt_sequence_pools(q, p.position, end) || (p.decides && q->n_pooled > 0);
	p.n_captures += p.decides && p.pools; /* the means are a row too */
	step->n_tokens += p.n_tokens;
	step->n_samples += p.n_samples;
	step->n_captures += p.n_captures;
	step->n_decisions += p.decides ? q->n_policies : 0;
	step->n_pools += p.pools;
	step->n_seen += p.n_seen;
	step->n_seqs++;
	for (uint32_t i = 0; i < q->n_policies; i++)
		step->row_steering |= q->policies[i].whole_rows;
	if (q->depth > step->n_layers)
		step->n_layers = q->depth;
	if (q->n_pages > step->max_pages)
		step->max_pages = q->n_pages;
	plan->planned[plan->n_planned++] = p;

	q->n_fed = end;
	if (!q->decided)
		q->pooled_until = end;
	q->deciding = p.decides;
	q->same_pass = p.same_pass;
	if (p.generates) {
		q->n_pending++;
		q->pending_sample = step->n_samples - 1;
	}
}

/* Lists the ids that the penalties of the token to generate apply to; false if the step has no room for them. */
static bool count_seen(struct tt_planned *p, const struct tt_step_plan *step, const struct tt_limits *limits)
{
	struct tt_sequence *q = p->sequence;
	if (!q->penalises || q->max_tokens == 0 || p->position + p->n_tokens < p->length)
		return true;
	tt_sequence_count_seen(q);
	p->first_seen = step->n_seen;
	p->n_seen = q->n_seen;
	return step->n_seen + p->n_seen <= limits->max_seen;
}

void tt_choose(struct tt_scheduled_step *plan, struct tt_sequence *q, const struct tt_limits *limits,
	struct tt_page_pool *pool, bool killed)
{
	struct tt_step_plan *step = plan->step;
	size_t room = limits->max_tokens - step->n_tokens, end = tt_sequence_end(q);
	uint32_t sample_room = limits->max_samples - step->n_samples, wants = 0;
	if (room == 0 || q->n_fed >= end)
		return;
	if (q->penalises && q->n_pending > 0) /* the host counts the tokens, and does not know this one yet */
		return;
	if (q->n_fed == 0 && q->n_prompt > room && tt_choose_one_pass(q, limits))
		return;
	end = end < q->n_fed + room ? end : q->n_fed + room;
	grow_pages(pool, q, end);
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
		.first_pool = step->n_pools,
		.fed_by = q->pending_sample,
	};
	for (size_t position = q->n_fed; position < end; position++) {
		bool samples = tt_sequence_wants_logits(q, position, p.length);
		if (samples && p.n_samples == sample_room)
			break;
		p.n_samples += samples;
		p.n_captures += tt_sequence_keeps_hidden(q, position);
		p.n_tokens++;
		wants |= wants_of(q, position);
	}
	if (p.n_tokens == 0 || !count_seen(&p, step, limits))
		return;
	step->wants |= wants;
	if (killed || q->ends_steering)
		tt_sequence_kill(q);
	add_and_advance(plan, q, p);
	/* This must come last: a page is offered under the key of what the step writes, which add_and_advance
	 * settles. */
	tt_prefix_publish(q, pool);
}
