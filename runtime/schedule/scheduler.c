#include "runtime/schedule/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/schedule/choose.h"
#include "runtime/schedule/fill.h"
#include "runtime/schedule/prefix_cache.h"

int tt_scheduler_open(struct tt_scheduler *s, const struct tt_limits *limits, uint32_t n_pages, uint32_t n_layers,
	bool shares, const struct tt_scheduler_hooks *hooks, struct tt_error *err)
{
	*s = (struct tt_scheduler){.limits = *limits, .n_layers = n_layers, .hooks = *hooks};
	TT_TRY(tt_page_pool_open(&s->pool, n_pages, shares, err));
	TT_TRY(tt_alloc(&s->running, limits->max_seqs, sizeof(struct tt_sequence *), err));
	TT_TRY(tt_alloc(&s->row_slots, limits->n_rows, sizeof *s->row_slots, err));
	TT_TRY(tt_alloc(&s->free_rows, limits->n_rows, sizeof *s->free_rows, err));
	for (uint32_t row = limits->n_rows - 1; row > 0; row--)
		s->free_rows[s->n_free_rows++] = (uint16_t)row;
	for (uint32_t i = 0; i < TT_MAX_IN_FLIGHT; i++)
		TT_TRY(tt_scheduled_step_open(&s->plans[i], limits, err));
	return TT_OK;
}

void tt_scheduler_close(struct tt_scheduler *s)
{
	for (uint32_t i = 0; i < TT_MAX_IN_FLIGHT; i++)
		tt_scheduled_step_close(&s->plans[i]);
	tt_page_pool_close(&s->pool);
	free(s->running);
	free(s->row_slots);
	free(s->free_rows);
}

/* ---- The two lists */

static void append_waiting(struct tt_scheduler *s, struct tt_sequence *q)
{
	if (s->waiting_last)
		s->waiting_last->next = q;
	else
		s->waiting = q;
	s->waiting_last = q;
	q->place = TT_WAITING;
	s->n_waiting++;
}

static void prepend_waiting(struct tt_scheduler *s, struct tt_sequence *q)
{
	q->next = s->waiting;
	s->waiting = q;
	if (!s->waiting_last)
		s->waiting_last = q;
	q->place = TT_WAITING;
	s->n_waiting++;
}

static void remove_waiting(struct tt_scheduler *s, struct tt_sequence *q)
{
	struct tt_sequence *previous = NULL;
	for (struct tt_sequence *i = s->waiting; i != q; i = i->next)
		previous = i;
	if (previous)
		previous->next = q->next;
	else
		s->waiting = q->next;
	if (s->waiting_last == q)
		s->waiting_last = previous;
	q->next = NULL;
	s->n_waiting--;
}

/* Gives back its place, pages and coefficient rows. */
static void stop_running(struct tt_scheduler *s, struct tt_sequence *q)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < s->n_running; i++)
		if (s->running[i] != q)
			s->running[kept++] = s->running[i];
	s->n_running = kept;
	tt_sequence_give_pages(q, &s->pool, 0);
	for (uint32_t i = 0; i < q->n_policies; i++)
		s->free_rows[s->n_free_rows++] = q->policies[i].row;
}

void tt_scheduler_add(struct tt_scheduler *s, struct tt_sequence *q)
{
	q->arrival = s->n_arrivals++;
	append_waiting(s, q);
	if (q->deadline > 0 && (s->next_deadline == 0 || q->deadline < s->next_deadline))
		s->next_deadline = q->deadline;
}

/* Steps in flight may still contain the sequence; their results for it are dropped. Its pages and rows can go to others
 * at once, since others write them in later steps only. */
void tt_scheduler_finish(struct tt_scheduler *s, struct tt_sequence *q, enum tt_finish finish)
{
	if (q->place == TT_NOWHERE)
		return;
	if (q->place == TT_RUNS)
		stop_running(s, q);
	else
		remove_waiting(s, q);
	for (uint64_t step = s->n_collected + 1; step <= s->n_planned; step++) {
		struct tt_scheduled_step *plan = &s->plans[step % TT_MAX_IN_FLIGHT];
		for (uint32_t i = 0; i < plan->n_planned; i++)
			if (plan->planned[i].sequence == q)
				plan->planned[i].sequence = NULL;
	}
	q->place = TT_NOWHERE;
	q->finish = finish;
	q->n_pending = 0;
	s->hooks.finished(s->hooks.user, q);
}

/* ---- Admission and pre-emption */

/* Takes the sequence's pages; it keeps the tokens that it has generated. It goes to the head of the waiting list, and
 * when admitted runs its tokens again, steered by the coefficients on record. If there are none yet, what it has
 * reported may change: the next time the whole prompt may run in one step, which its decision steers. */
static void preempt(struct tt_scheduler *s, struct tt_sequence *q)
{
	stop_running(s, q);
	q->n_fed = 0;
	if (q->n_policies > 0 && !q->decided)
		q->n_reported = 0;
	prepend_waiting(s, q);
	s->preempted = true;
	s->n_preemptions++;
}

/* Gives every running sequence the page for its next position; if the pool is empty, the youngest is pre-empted. */
static void reserve_or_preempt(struct tt_scheduler *s)
{
	s->preempted = false;
	for (uint32_t i = 0; i < s->n_running; i++) {
		struct tt_sequence *q = s->running[i];
		while (q->place == TT_RUNS && q->n_fed < tt_sequence_end(q) &&
			q->n_fed >= (size_t)q->n_pages * TT_PAGE_TOKENS) {
			int32_t page = tt_page_take(&s->pool);
			if (page >= 0)
				q->pages[q->n_pages++] = page;
			else
				preempt(s, s->running[s->n_running - 1]);
		}
	}
}

/* Takes pages for all tokens of a sequence that is to be admitted. A page for each running sequence must remain:
 * admitting one only to pre-empt it soon afterwards costs the others time. */
static bool take_pages(struct tt_scheduler *s, struct tt_sequence *q)
{
	q->n_fed = 0;
	if (s->killed || q->ends_steering)
		tt_sequence_kill(q);
	tt_prefix_acquire(q, &s->pool, tt_choose_one_pass(q, &s->limits));
	uint32_t n_pages = tt_pages_for(q->n_tokens), n_more = n_pages - q->n_pages;
	if (tt_page_pool_available(&s->pool) < (size_t)n_more + s->n_running) {
		tt_sequence_give_pages(q, &s->pool, 0);
		return false;
	}
	s->n_shared += q->n_fed;
	while (q->n_pages < n_pages)
		q->pages[q->n_pages++] = tt_page_take(&s->pool);
	return true;
}

/* Moves the first waiting sequence to the end of the running ones; returns false if it must go on waiting. */
static bool admit(struct tt_scheduler *s, struct tt_scheduled_step *plan)
{
	struct tt_sequence *q = s->waiting;
	if (!q || s->n_running == s->limits.max_seqs || s->preempted || q->n_pending > 0 || q->deciding)
		return false;
	if (q->n_policies > s->n_free_rows || !take_pages(s, q))
		return false;
	for (uint32_t i = 0; i < q->n_policies; i++) {
		struct tt_sequence_policy *policy = &q->policies[i];
		policy->row = s->free_rows[--s->n_free_rows];
		s->row_slots[policy->row] = policy->slot;
		if (q->decided)
			plan->restores[plan->n_restores++] =
				(struct tt_restore){policy->row, q->coef + (size_t)i * s->n_layers};
	}
	remove_waiting(s, q);
	q->place = TT_RUNS;
	s->running[s->n_running++] = q;
	return true;
}

/* ---- Deadlines */

static bool expire(struct tt_scheduler *s, struct tt_sequence *q, double now)
{
	if (q->deadline == 0)
		return false;
	if (q->deadline <= now) {
		tt_scheduler_finish(s, q, TT_FINISH_DEADLINE);
		return true;
	}
	if (s->next_deadline == 0 || q->deadline < s->next_deadline)
		s->next_deadline = q->deadline;
	return false;
}

/* Starts over after each sequence that it ends, since the callback may have ended others. */
void tt_scheduler_expire(struct tt_scheduler *s, double now)
{
	if (s->next_deadline == 0 || now < s->next_deadline)
		return;
	s->next_deadline = 0;
	for (uint32_t i = 0; i < s->n_running;)
		i = expire(s, s->running[i], now) ? 0 : i + 1;
	for (struct tt_sequence *q = s->waiting; q;)
		q = expire(s, q, now) ? s->waiting : q->next;
}

static void choose(struct tt_scheduler *s, struct tt_scheduled_step *plan, struct tt_sequence *q)
{
	struct tt_limits limits = s->limits;
	if (q->penalises &&
		q != s->running[0]) /* the oldest, whose turn comes after decoding ones, has room for its ids */
		limits.max_seen -= limits.context;
	tt_choose(plan, q, &limits, &s->pool, s->killed);
}

/* Sequences that decode come first, since somebody waits for each of their tokens. Prompts share the room that is left,
 * in order of arrival. The pages of each are offered to others before the next is admitted, so several samples of one
 * prompt compute it once. */
static void choose_all(struct tt_scheduler *s, struct tt_scheduled_step *plan)
{
	struct tt_step_plan *step = plan->step;
	*step = (struct tt_step_plan){.n_rows = s->limits.n_rows};
	plan->n_planned = plan->n_restores = 0;
	reserve_or_preempt(s);
	for (uint32_t i = 0; i < s->n_running; i++)
		if (tt_sequence_decodes(s->running[i]))
			choose(s, plan, s->running[i]);
	for (uint32_t i = 0; i < s->n_running; i++)
		if (!tt_sequence_decodes(s->running[i]))
			choose(s, plan, s->running[i]);
	while (step->n_tokens < s->limits.max_tokens && step->n_samples < s->limits.max_samples && admit(s, plan))
		choose(s, plan, s->running[s->n_running - 1]);
}

int tt_scheduler_plan(struct tt_scheduler *s, const struct tt_scheduled_step **out, struct tt_error *err)
{
	struct tt_scheduled_step *plan = &s->plans[(s->n_planned + 1) % TT_MAX_IN_FLIGHT];
	if (s->n_planned - s->n_collected >= TT_MAX_IN_FLIGHT)
		return tt_fail(err, TT_ERR_LIMIT, "%d steps are in flight already", TT_MAX_IN_FLIGHT);
	choose_all(s, plan);
	TT_TRY(tt_fill(plan, &s->limits, s->row_slots, err));
	s->n_planned += plan->step->n_tokens > 0;
	*out = plan;
	return TT_OK;
}

/* ---- Results of a step */

/* The prompt, or its last token, ran without the steering that the gates then decided on, so it runs again from
 * position `from`: on new pages if that is 0, since the old pages may serve others. The sample made in this step is
 * discarded. */
static void run_again(struct tt_scheduler *s, struct tt_sequence *q, struct tt_planned *p, size_t from)
{
	p->valid = from;
	q->n_pending = 0;
	if (q->n_reported > from)
		q->n_reported = from;
	s->n_reruns++;
	if (q->place != TT_RUNS)
		return;
	q->n_fed = from;
	if (from > 0)
		return; /* the page of the last token was not offered to others before its steering was known */
	tt_sequence_give_pages(q, &s->pool, 0);
	tt_prefix_acquire(q, &s->pool, false);
	s->n_shared += q->n_fed;
}

/* Records that positions from `from` on ran unsteered, and that all later ones will. */
static void end_steering(struct tt_sequence *q, size_t from)
{
	q->killed_from = q->killed_from < from ? q->killed_from : from;
	q->reported_killed_from = q->reported_killed_from < from ? q->reported_killed_from : from;
}

static void settle(struct tt_scheduler *s, struct tt_planned *p, const struct tt_results *results)
{
	struct tt_sequence *q = p->sequence;
	size_t again = q->n_prompt;
	for (uint32_t i = 0; i < q->n_policies; i++) {
		struct tt_sequence_policy *policy = &q->policies[i];
		const struct tt_decision_result *result = &results->decisions[p->first_decision + i];
		memcpy(q->coef + (size_t)i * s->n_layers,
			results->decided + (size_t)(p->first_decision + i) * s->n_layers, s->n_layers * sizeof(float));
		policy->s = result->s;
		policy->gate = result->gate;
		if (!q->coef_known_at_start)
			tt_prefix_key_policy(q, i, s->n_layers);
		if (policy->acts && policy->when == TT_WHEN_ALL)
			again = 0;
		else if (policy->acts && policy->when == TT_WHEN_LAST && again > q->n_prompt - 1)
			again = q->n_prompt - 1;
	}
	q->decided = true;
	q->deciding = false;
	if (q->n_keys > again / TT_PAGE_TOKENS)
		q->n_keys = (uint32_t)(again / TT_PAGE_TOKENS); /* the other keys say that nothing steers their pages */
	if (p->same_pass || again == q->n_prompt)
		return;
	if (!s->killed && !q->ends_steering && q->killed_from == SIZE_MAX)
		run_again(s, q, p, again);
	else
		end_steering(q, again); /* it stays as it ran */
}

static void append_token(struct tt_sequence *q, int32_t token)
{
	q->tokens[q->n_tokens++] = token;
	q->n_pending--;
}

static enum tt_finish finish_of(const struct tt_sequence *q, const struct tt_planned *p)
{
	if (q->finish != TT_RUNNING)
		return q->finish;
	if (q->max_tokens == 0)
		return p->valid == q->n_tokens ? TT_FINISH_LENGTH : TT_RUNNING;
	if (q->n_tokens - q->n_ids >= q->max_tokens)
		return TT_FINISH_LENGTH;
	return q->n_tokens > q->last_position ? TT_FINISH_CONTEXT : TT_RUNNING;
}

static void collect_one(
	struct tt_scheduler *s, const struct tt_step_plan *step, struct tt_planned *p, const struct tt_results *results)
{
	struct tt_sequence *q = p->sequence;
	const struct tt_sample_plan *samples = tt_step_samples(step);
	*(p->position < q->n_ids ? &s->n_prefill_tokens : &s->n_decode_tokens) += p->n_tokens;
	p->valid = p->position + p->n_tokens;
	if (p->killed && q->reported_killed_from == SIZE_MAX)
		q->reported_killed_from = p->position > q->n_reported ? p->position : q->n_reported;
	if (p->decides)
		settle(s, p, results);
	s->hooks.ran(s->hooks.user, p, step, results);
	if (q->place == TT_NOWHERE)
		return; /* ended by a callback */
	if (q->n_reported < p->valid)
		q->n_reported = p->valid;
	for (uint32_t i = p->first_sample; i < p->first_sample + p->n_samples; i++) {
		size_t position = p->position + (samples[i].token - p->first_token);
		bool generates = p->generates && position + 1 == p->length;
		if (position >= p->valid)
			break;
		if (generates)
			append_token(q, results->samples[i].token);
		s->hooks.sampled(s->hooks.user, q, position, i, generates, results);
	}
	enum tt_finish finish = finish_of(q, p);
	if (finish != TT_RUNNING)
		tt_scheduler_finish(s, q, finish);
	else if (q->place == TT_RUNS)
		tt_prefix_publish(q, &s->pool);
}

void tt_scheduler_collect(struct tt_scheduler *s, const struct tt_results *results)
{
	struct tt_scheduled_step *plan = &s->plans[(s->n_collected + 1) % TT_MAX_IN_FLIGHT];
	for (uint32_t i = 0; i < plan->n_planned; i++) {
		if (plan->planned[i].sequence)
			collect_one(s, plan->step, &plan->planned[i], results);
		else
			s->n_wasted++;
	}
	/* This must come last: tt_scheduler_finish, which callbacks may call, has to find this step among those in
	 * flight. */
	s->n_collected++;
}

void tt_scheduler_abandon(struct tt_scheduler *s)
{
	while (s->n_running > 0)
		preempt(s, s->running[s->n_running - 1]);
	for (struct tt_sequence *q = s->waiting; q; q = q->next) {
		q->n_pending = 0;
		q->deciding = false;
	}
	s->n_collected = s->n_planned;
	tt_page_pool_forget(&s->pool);
}
