#include "runtime/engine/plan_check.h"

#include <string.h>

#include "base/fail.h"
#include "runtime/engine/forward.h"

#define CHECK(condition, what)                                                                                         \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return tt_fail(err, TT_ERR_FORMAT, "a step plan's " what " is out of range");                  \
	} while (0)

/* The counts, and that the arrays lie where they would for these. */
static int check_layout(
	const struct tt_step_plan *step, size_t n_bytes, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const struct tt_limits *l = b->limits;
	CHECK(n_bytes >= sizeof *step, "length");
	CHECK(step->n_tokens > 0 && step->n_tokens <= l->max_tokens, "number of tokens");
	CHECK(step->n_seqs > 0 && step->n_seqs <= l->max_seqs, "number of sequences");
	CHECK(step->n_samples <= l->max_samples && step->n_samples <= step->n_tokens, "number of samples");
	CHECK(step->n_decisions < l->n_rows, "number of decisions");
	CHECK(step->n_pools <= l->max_seqs, "number of pools");
	CHECK(step->n_captures <= l->max_tokens + l->max_seqs, "number of captures");
	CHECK(step->n_seen <= l->max_seen, "number of ids seen");
	CHECK(step->n_rows == l->n_rows, "number of rows");
	CHECK(step->max_pages <= (l->context + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS, "number of pages");
	CHECK(step->n_layers > 0 && step->n_layers <= b->config->n_layers, "number of layers");
	struct tt_step_plan same = *step;
	TT_TRY(tt_step_layout(&same, n_bytes, err));
	CHECK(!memcmp(&same, step, sizeof same) && step->n_bytes == n_bytes, "layout");
	return TT_OK;
}

/* Tokens of a sequence lie side by side, at positions that follow each other. */
static int check_tokens(const struct tt_step_plan *step, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const int32_t *tokens = tt_step_tokens(step), *positions = tt_step_positions(step), *seqs = tt_step_seqs(step),
		      *captures = tt_step_captures(step);
	const uint16_t *rows = tt_step_coef_rows(step);
	for (uint32_t t = 0; t < step->n_tokens; t++) {
		int64_t id = tokens[t];
		CHECK(id < b->config->vocab_size && id >= -(int64_t)b->n_sampled, "token");
		CHECK(positions[t] >= 0 && (uint32_t)positions[t] < b->limits->context &&
				(uint32_t)positions[t] < step->max_pages * TT_PAGE_TOKENS,
			"position");
		CHECK(seqs[t] >= 0 && (uint32_t)seqs[t] < step->n_seqs, "sequence");
		CHECK(t == 0 || seqs[t] == seqs[t - 1] || seqs[t] == seqs[t - 1] + 1, "order of sequences");
		CHECK(t == 0 || seqs[t] != seqs[t - 1] || positions[t] == positions[t - 1] + 1, "order of positions");
		CHECK(captures[t] >= -1 && captures[t] < (int64_t)step->n_captures, "capture");
		for (uint32_t i = 0; i < TT_STACK; i++)
			CHECK(rows[t * TT_STACK + i] < step->n_rows, "coefficient row");
	}
	return TT_OK;
}

/* Rows that nothing steers by may have the slot of a policy that is no longer there. */
static int check_rows(const struct tt_step_plan *step, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const uint16_t *slots = tt_step_row_slots(step), *rows = tt_step_coef_rows(step);
	for (size_t i = 0; i < (size_t)step->n_tokens * TT_STACK; i++)
		CHECK(rows[i] == 0 || (slots[rows[i]] < TT_MAX_SLOTS && b->slots[slots[rows[i]]].weights), "slot");
	return TT_OK;
}

/* The pages that a sequence's positions so far lie in. */
static int check_pages(const struct tt_step_plan *step, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const int32_t *pages = tt_step_pages(step), *positions = tt_step_positions(step), *seqs = tt_step_seqs(step);
	for (uint32_t t = 0; t < step->n_tokens; t++) {
		if (t + 1 < step->n_tokens && seqs[t + 1] == seqs[t])
			continue;
		for (uint32_t p = 0; p <= (uint32_t)positions[t] / TT_PAGE_TOKENS; p++) {
			int32_t page = pages[(size_t)seqs[t] * step->max_pages + p];
			CHECK(page >= 0 && (uint32_t)page < b->n_pages, "page");
		}
	}
	return TT_OK;
}

static int check_samples(const struct tt_step_plan *step, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const struct tt_sample_plan *samples = tt_step_samples(step);
	const struct tt_seen *seen = tt_step_seen(step);
	for (uint32_t i = 0; i < step->n_samples; i++) {
		const struct tt_sample_plan *s = &samples[i];
		CHECK(s->token < step->n_tokens, "sampled row");
		CHECK(s->target >= -1 && s->target < (int64_t)b->config->vocab_size, "target");
		CHECK(s->n_top <= TT_MAX_TOP, "number of alternatives");
		CHECK(s->n_seen <= step->n_seen && s->first_seen <= step->n_seen - s->n_seen, "ids seen");
	}
	for (uint32_t i = 0; i < step->n_seen; i++)
		CHECK(seen[i].id >= 0 && (uint32_t)seen[i].id < b->config->vocab_size, "id seen");
	return TT_OK;
}

static int check_decisions(const struct tt_step_plan *step, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const struct tt_decision_plan *decisions = tt_step_decisions(step);
	for (uint32_t i = 0; i < step->n_decisions; i++) {
		const struct tt_decision_plan *d = &decisions[i];
		CHECK(d->row > 0 && d->row < step->n_rows, "decided row");
		CHECK(d->slot < TT_MAX_SLOTS && b->slots[d->slot].weights, "decided slot");
		const struct tt_steer_slot *slot = &b->slots[d->slot];
		uint32_t n = slot->n_observed;
		CHECK(d->after_layer == (n ? (int32_t)slot->last_observed : -1), "layer of a decision");
		CHECK(n == 0 || slot->pool == TT_POOL_MEAN || d->capture < step->n_captures, "decision's capture");
		CHECK(slot->pool == TT_POOL_LAST || d->mean_capture < step->n_captures, "decision's mean");
	}
	return TT_OK;
}

/* A mean reads the records of all pages of its span. */
static int check_span(
	const struct tt_step_plan *step, const struct tt_pool_plan *p, uint32_t n_pages, struct tt_error *err)
{
	const int32_t *pages = tt_step_pages(step) + (size_t)p->seq * step->max_pages;
	uint32_t end = p->mean_capture < 0 ? 0 : (p->to - 1) / TT_PAGE_TOKENS + 1;
	for (uint32_t k = p->from / TT_PAGE_TOKENS; k < end; k++)
		CHECK(pages[k] >= 0 && (uint32_t)pages[k] < n_pages, "pool's page");
	return TT_OK;
}

static int check_pools(const struct tt_step_plan *step, const struct tt_plan_bounds *b, struct tt_error *err)
{
	const struct tt_pool_plan *pools = tt_step_pools(step);
	CHECK(step->n_pools == 0 || b->has_sums, "pool");
	for (uint32_t i = 0; i < step->n_pools; i++) {
		const struct tt_pool_plan *p = &pools[i];
		CHECK(p->seq < step->n_seqs && p->n_layers <= TT_MAX_POOLED, "pool");
		CHECK(p->n_tokens <= step->n_tokens && p->first_token <= step->n_tokens - p->n_tokens, "pool's tokens");
		const int32_t *seqs = tt_step_seqs(step) + p->first_token;
		CHECK(p->n_tokens == 0 || (seqs[0] == (int32_t)p->seq && seqs[p->n_tokens - 1] == (int32_t)p->seq),
			"pool's sequence");
		CHECK(p->from < p->to && p->to <= b->limits->context && p->to <= step->max_pages * TT_PAGE_TOKENS,
			"pool's span");
		CHECK(p->mean_capture >= -1 && p->mean_capture < (int64_t)step->n_captures, "pool's mean");
		for (uint32_t j = 0; j < p->n_layers; j++)
			CHECK(p->layers[j] < b->config->n_layers, "pool's layer");
		TT_TRY(check_span(step, p, b->n_pages, err));
	}
	return TT_OK;
}

int tt_plan_check(
	const struct tt_step_plan *step, size_t n_bytes, const struct tt_plan_bounds *bounds, struct tt_error *err)
{
	TT_TRY(check_layout(step, n_bytes, bounds, err));
	TT_TRY(check_tokens(step, bounds, err));
	TT_TRY(check_rows(step, bounds, err));
	TT_TRY(check_pages(step, bounds, err));
	TT_TRY(check_samples(step, bounds, err));
	TT_TRY(check_decisions(step, bounds, err));
	return check_pools(step, bounds, err);
}
