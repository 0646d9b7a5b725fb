#include "runtime/schedule/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

int tt_sequence_open(struct tt_sequence *q, const int32_t *ids, size_t n_ids, size_t last_position, uint32_t n_policies,
	uint32_t n_layers, struct tt_error *err)
{
	uint32_t n_pages = tt_pages_for(last_position);
	*q = (struct tt_sequence){.n_ids = n_ids, .n_prompt = n_ids, .last_position = last_position};
	q->n_policies = n_policies;
	q->observe_last = -1;
	q->first_steered = q->depth = n_layers;
	q->killed_from = q->reported_killed_from = q->keep_from = q->report_from = SIZE_MAX;
	q->n_tokens = n_ids;
	TT_TRY(tt_alloc(&q->tokens, last_position + 1, sizeof *q->tokens, err));
	memcpy(q->tokens, ids, n_ids * sizeof *ids);
	TT_TRY(tt_alloc(&q->pages, n_pages, sizeof *q->pages, err));
	TT_TRY(tt_alloc(&q->keys, n_pages, sizeof *q->keys, err));
	return tt_alloc(&q->coef, n_policies, n_layers * sizeof *q->coef, err);
}

void tt_sequence_close(struct tt_sequence *q)
{
	free(q->tokens);
	free(q->seen);
	free(q->pages);
	free(q->keys);
	free(q->coef);
}

int tt_sequence_penalise(struct tt_sequence *q, const struct tt_penalties *penalties, struct tt_error *err)
{
	q->penalties = *penalties;
	q->penalises = penalties->repetition != 1 || penalties->presence != 0 || penalties->frequency != 0;
	return q->penalises ? tt_alloc(&q->seen, q->last_position + 1, sizeof *q->seen, err) : TT_OK;
}

static int compare_seen(const void *left, const void *right)
{
	int32_t a = ((const struct tt_seen *)left)->id, b = ((const struct tt_seen *)right)->id;
	return (a > b) - (a < b);
}

/* The given ids, of which there may be very many, at once. */
static void count_given(struct tt_sequence *q)
{
	size_t n = 0;
	for (size_t i = 0; i < q->n_ids; i++)
		q->seen[i] = (struct tt_seen){q->tokens[i], i >= q->n_prompt};
	qsort(q->seen, q->n_ids, sizeof *q->seen, compare_seen);
	for (size_t i = 0; i < q->n_ids; i++) {
		if (n > 0 && q->seen[n - 1].id == q->seen[i].id)
			q->seen[n - 1].n_generated += q->seen[i].n_generated;
		else
			q->seen[n++] = q->seen[i];
	}
	q->n_seen = (uint32_t)n;
	q->n_counted = q->n_ids;
}

static void count_one(struct tt_sequence *q, int32_t id)
{
	uint32_t low = 0, high = q->n_seen;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (q->seen[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == q->n_seen || q->seen[low].id != id) {
		memmove(&q->seen[low + 1], &q->seen[low], (q->n_seen - low) * sizeof *q->seen);
		q->seen[low] = (struct tt_seen){id, 0};
		q->n_seen++;
	}
	q->seen[low].n_generated++;
}

void tt_sequence_count_seen(struct tt_sequence *q)
{
	if (q->n_counted == 0)
		count_given(q);
	for (; q->n_counted < q->n_tokens; q->n_counted++)
		count_one(q, q->tokens[q->n_counted]);
}

/* All positions, but none after the prompt until the gates have decided, since the decision may steer them. The last
 * token that may be generated is never fed. */
size_t tt_sequence_end(const struct tt_sequence *q)
{
	size_t length = tt_sequence_length(q);
	if (q->n_policies > 0 && !q->decided)
		return q->deciding ? 0 : q->n_prompt;
	bool all_sampled = q->max_tokens > 0 && length - q->n_ids >= q->max_tokens;
	return all_sampled || length > q->last_position ? length - 1 : length;
}

static size_t steers_from(const struct tt_sequence *q, uint32_t policy)
{
	switch (q->policies[policy].when) {
	case TT_WHEN_ALL:
		return 0;
	case TT_WHEN_LAST:
		return q->n_prompt - 1;
	default:
		return q->n_prompt;
	}
}

bool tt_sequence_steers(const struct tt_sequence *q, uint32_t policy, size_t position)
{
	return position >= steers_from(q, policy) && position < q->killed_from;
}

const float *tt_sequence_coefficients(const struct tt_sequence *q, uint32_t policy, size_t position, uint32_t n_layers)
{
	bool acted = q->decided && q->policies[policy].acts && position >= steers_from(q, policy) &&
		     position < q->reported_killed_from;
	return acted ? q->coef + (size_t)policy * n_layers : NULL;
}

bool tt_sequence_began(const struct tt_sequence *q, uint32_t policy)
{
	return steers_from(q, policy) < q->reported_killed_from;
}

void tt_sequence_kill(struct tt_sequence *q)
{
	uint32_t page = (uint32_t)(q->n_fed / TT_PAGE_TOKENS);
	if (q->n_policies == 0 || q->killed_from <= q->n_fed)
		return;
	q->killed_from = q->n_fed;
	if (q->n_keys > page) /* the keys from there on say that their pages are steered */
		q->n_keys = page;
}

bool tt_sequence_same_pass(const struct tt_sequence *q, size_t first)
{
	if (q->observe_last < 0)
		return true;
	if (q->observe_last >= (int32_t)q->first_steered)
		return false;
	for (uint32_t i = 0; i < q->n_policies; i++)
		if (q->policies[i].when == TT_WHEN_ALL)
			return first == 0;
	return true;
}

bool tt_sequence_pools(const struct tt_sequence *q, size_t first, size_t end)
{
	return q->n_pooled > 0 && !q->decided && first < q->pool_to && end > q->pool_from;
}

bool tt_sequence_keeps_hidden(const struct tt_sequence *q, size_t position)
{
	return position >= q->keep_from && position >= q->n_reported && position < q->n_ids;
}

bool tt_sequence_keeps_logits(const struct tt_sequence *q, size_t position)
{
	return q->keeps_logits && position >= q->logits_from && position >= q->n_reported && position < q->n_ids;
}

bool tt_sequence_scores(const struct tt_sequence *q, size_t position)
{
	return q->scores && position >= q->score_from && position + 1 < q->n_ids;
}

bool tt_sequence_wants_logits(const struct tt_sequence *q, size_t position, size_t length)
{
	if (tt_sequence_keeps_logits(q, position))
		return true;
	if (tt_sequence_scores(q, position) && position >= q->n_reported)
		return true;
	return position + 1 == length && q->max_tokens > 0;
}

bool tt_sequence_decodes(const struct tt_sequence *q)
{
	size_t length = tt_sequence_length(q);
	return q->n_fed + 1 == length && length > q->n_ids;
}

/* The last page goes first: the pool evicts idle pages in the order in which they became idle, and the beginning of a
 * prompt, which later pages need, should be evicted last. */
void tt_sequence_give_pages(struct tt_sequence *q, struct tt_page_pool *pool, uint32_t keep)
{
	while (q->n_pages > keep)
		tt_page_drop(pool, q->pages[--q->n_pages]);
	if (q->n_published > keep)
		q->n_published = keep;
}
