#include "kernels/step_plan.h"

#include <string.h>

#include "base/fail.h"

struct layout {
	uint64_t at; /* bytes so far; counts have 32 bits, so 64 bits cannot overflow before the check */
};

static uint32_t place(struct layout *layout, uint64_t count, uint64_t size)
{
	uint64_t at = layout->at;
	uint64_t bytes = count * size;
	layout->at = at + bytes + (8 - bytes % 8) % 8;
	return (uint32_t)at;
}

int tt_step_layout(struct tt_step_plan *step, size_t capacity, struct tt_error *err)
{
	struct layout layout = {sizeof *step};
	step->tokens = place(&layout, step->n_tokens, sizeof(int32_t));
	step->positions = place(&layout, step->n_tokens, sizeof(int32_t));
	step->seqs = place(&layout, step->n_tokens, sizeof(int32_t));
	step->captures = place(&layout, step->n_tokens, sizeof(int32_t));
	step->coef_rows = place(&layout, step->n_tokens, TT_STACK * sizeof(uint16_t));
	step->row_slots = place(&layout, step->n_rows, sizeof(uint16_t));
	step->pages = place(&layout, (uint64_t)step->n_seqs * step->max_pages, sizeof(int32_t));
	step->samples = place(&layout, step->n_samples, sizeof(struct tt_sample_plan));
	step->decisions = place(&layout, step->n_decisions, sizeof(struct tt_decision_plan));
	step->pools = place(&layout, step->n_pools, sizeof(struct tt_pool_plan));
	step->seen = place(&layout, step->n_seen, sizeof(struct tt_seen));
	if (layout.at > capacity || layout.at > UINT32_MAX)
		return tt_fail(err, TT_ERR_LIMIT, "a step of %u tokens needs %llu bytes, more than the %zu it may take",
			step->n_tokens, (unsigned long long)layout.at, capacity);
	step->n_bytes = (uint32_t)layout.at;
	return TT_OK;
}

bool tt_pool_reads(const struct tt_pool_plan *pool, uint32_t layer, uint32_t *record)
{
	for (uint32_t j = 0; j < pool->n_layers; j++) {
		*record = j;
		if (pool->layers[j] == layer)
			return true;
	}
	return false;
}

/* Sets place[t] to token t's index among the tokens that are kept, and kept to those tokens. Returns how many there
 * are. */
static uint32_t choose_tokens(const struct tt_step_plan *step, uint32_t layer, uint32_t *kept, uint32_t *place)
{
	const int32_t *captures = tt_step_captures(step);
	uint32_t n = 0, record;
	for (uint32_t t = 0; t < step->n_tokens; t++)
		place[t] = captures[t] >= 0;
	for (uint32_t i = 0; i < step->n_samples; i++)
		place[tt_step_samples(step)[i].token] = 1;
	for (uint32_t i = 0; i < step->n_pools; i++) {
		const struct tt_pool_plan *pool = &tt_step_pools(step)[i];
		for (uint32_t t = 0; tt_pool_reads(pool, layer, &record) && t < pool->n_tokens; t++)
			place[pool->first_token + t] = 1;
	}
	for (uint32_t t = 0; t < step->n_tokens; t++) {
		if (!place[t])
			continue;
		place[t] = n;
		kept[n++] = t;
	}
	return n;
}

/* Copies the pools of the layer. All tokens of a pool are kept, so they lie side by side again. */
static void narrow_pools(
	const struct tt_step_plan *step, uint32_t layer, struct tt_step_plan *out, const uint32_t *place)
{
	uint32_t n = 0, record;
	for (uint32_t i = 0; i < step->n_pools; i++) {
		struct tt_pool_plan pool = tt_step_pools(step)[i];
		if (!tt_pool_reads(&pool, layer, &record))
			continue;
		pool.first_token = pool.n_tokens ? place[pool.first_token] : 0;
		tt_step_pools(out)[n++] = pool;
	}
	out->n_pools = n;
}

int tt_step_narrow(const struct tt_step_plan *step, uint32_t layer, struct tt_step_plan *out, uint32_t *kept,
	uint32_t *place, struct tt_error *err)
{
	*out = *step;
	out->n_tokens = choose_tokens(step, layer, kept, place);
	out->n_decisions = 0;
	TT_TRY(tt_step_layout(out, step->n_bytes, err));
	for (uint32_t i = 0; i < out->n_tokens; i++) {
		tt_step_tokens(out)[i] = tt_step_tokens(step)[kept[i]];
		tt_step_positions(out)[i] = tt_step_positions(step)[kept[i]];
		tt_step_seqs(out)[i] = tt_step_seqs(step)[kept[i]];
		tt_step_captures(out)[i] = tt_step_captures(step)[kept[i]];
		memcpy(tt_step_coef_rows(out) + (size_t)i * TT_STACK,
			tt_step_coef_rows(step) + (size_t)kept[i] * TT_STACK, TT_STACK * sizeof(uint16_t));
	}
	memcpy(tt_step_row_slots(out), tt_step_row_slots(step), step->n_rows * sizeof(uint16_t));
	memcpy(tt_step_pages(out), tt_step_pages(step), (size_t)step->n_seqs * step->max_pages * sizeof(int32_t));
	memcpy(tt_step_samples(out), tt_step_samples(step), step->n_samples * sizeof(struct tt_sample_plan));
	for (uint32_t i = 0; i < out->n_samples; i++)
		tt_step_samples(out)[i].token = place[tt_step_samples(step)[i].token];
	memcpy(tt_step_seen(out), tt_step_seen(step), step->n_seen * sizeof(struct tt_seen));
	narrow_pools(step, layer, out, place);
	return TT_OK;
}
