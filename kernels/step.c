#include "kernels/step.h"

#include "base/fail.h"

struct layout {
	uint64_t at; /* bytes so far; counts are 32 bits wide, so that 64 bits cannot overflow before the check */
};

static uint32_t place(struct layout *layout, uint64_t count, uint64_t size)
{
	uint64_t at = layout->at;
	uint64_t bytes = count * size;
	layout->at = at + bytes + (8 - bytes % 8) % 8;
	return (uint32_t)at;
}

int tt_step_layout(struct tt_step *step, size_t capacity, struct tt_error *err)
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
	if (layout.at > capacity || layout.at > UINT32_MAX)
		return tt_fail(err, TT_ERR_LIMIT, "a step of %u tokens needs %llu bytes, more than the %zu it may take",
			step->n_tokens, (unsigned long long)layout.at, capacity);
	step->n_bytes = (uint32_t)layout.at;
	return TT_OK;
}
