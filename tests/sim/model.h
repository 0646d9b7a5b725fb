/* A made-up model for the scheduler's simulator: what a position holds is a hash of all that it should depend on, so
 * that a page, row or token in the wrong place changes every token after it. It has three layers: gates may read the
 * first or the last, and steering acts in between: `early` is the stream before steering, `late` the stream after
 * it. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include <string.h>

#include "runtime/schedule/scheduler.h"

enum { SIM_LAYERS = 3, SIM_EARLY = 0, SIM_LATE = 2, SIM_VOCAB = 50, SIM_POLICIES = 8, SIM_CONTEXT = 160 };

struct sim_cell {
	uint64_t early, late;
};

/* The alpha of the policy in a slot. Some policies have the same coefficients and steer differently. */
static inline float sim_alpha(uint32_t slot)
{
	return 0.5f + (float)(slot % 2);
}

static inline uint64_t sim_hash(uint64_t value)
{
	value = (value ^ value >> 31) * 0x7fb5d329728ea185u;
	value = (value ^ value >> 27) * 0x81dadef4bc2dd44du;
	return value ^ value >> 33;
}

static inline uint64_t sim_mix(uint64_t a, uint64_t b)
{
	return sim_hash(a * 0x9e3779b97f4a7c15u + sim_hash(b));
}

/* Layer weights: the first is never steered. */
static inline float sim_coef(float scale, uint32_t slot, float s, uint32_t layer)
{
	float c = scale * sim_alpha(slot) * s * (layer == 0 ? 0.0f : (float)(layer + slot / 2 % 2));
	return c == 0 ? 0.0f : c;
}

/* What the gate of the policy in a slot reads, if it reads the stream. */
static inline enum tt_gate_pool sim_pool(uint32_t slot)
{
	return (enum tt_gate_pool)(slot % 3);
}

/* The gate of a policy: open for about half of the prompts. last: the stream at the last prompt token; mean: what
 * sim_mean makes of the span. */
static inline float sim_gate(uint32_t slot, uint64_t last, uint64_t mean)
{
	enum tt_gate_pool pool = sim_pool(slot);
	uint64_t observed = pool == TT_POOL_LAST ? last : pool == TT_POOL_MEAN ? mean : sim_mix(last, mean);
	return sim_mix(observed, 1000 + slot) & 1 ? 1.0f : 0.0f;
}

/* A page's record with one more token, and the mean of which the records of all pages of the span have become a part;
 * 0 is an empty one. Both depend on the order. */
static inline uint64_t sim_record(uint64_t record, uint64_t stream)
{
	return sim_mix(record, stream + 11);
}

static inline uint64_t sim_mean(uint64_t mean, uint64_t record)
{
	return sim_mix(mean + 13, record);
}

/* The stream of a token after one row has acted on it: unchanged where its coefficients are all 0. */
static inline uint64_t sim_steer(uint64_t stream, uint32_t slot, const float coef[SIM_LAYERS])
{
	bool acts = false;
	for (uint32_t l = 0; l < SIM_LAYERS; l++) {
		uint32_t bits;
		memcpy(&bits, &coef[l], sizeof bits);
		acts |= coef[l] != 0;
		if (coef[l] != 0)
			stream = sim_mix(stream, (uint64_t)bits << 8 | slot);
	}
	return acts ? sim_mix(stream, 7) : stream;
}

/* A position's own: from its token, the position before, and another that attention happens to look at. */
static inline struct sim_cell sim_token(int32_t token, size_t position, struct sim_cell before, struct sim_cell other)
{
	uint64_t own = sim_mix((uint64_t)token, position);
	return (struct sim_cell){
		sim_mix(own, sim_mix(before.early, other.early)), sim_mix(own + 1, sim_mix(before.late, other.late))};
}

static inline size_t sim_looks_at(size_t position)
{
	return position == 0 ? 0 : sim_hash(position) % position;
}

static inline int32_t sim_sample(uint64_t late, uint64_t seed, uint64_t counter)
{
	return (int32_t)(sim_mix(late, sim_mix(seed, counter)) % SIM_VOCAB);
}

/* What penalties make of it: a hash of every id that the sequence has, ascending, and how often it was generated. */
static inline uint64_t sim_penalise(uint64_t late, const struct tt_seen *seen, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		late = sim_mix(late, (uint64_t)(uint32_t)seen[i].id << 32 | seen[i].n_generated);
	return late;
}

static inline float sim_score(uint64_t late, int32_t target)
{
	return (float)(sim_mix(late, (uint64_t)target) & 0xffff);
}

/* Ends an answer. */
static inline bool sim_is_stop(int32_t token)
{
	return token == 3;
}

/* ---- The model as a device runs it */

struct sim_device {
	struct sim_cell *cells;          // [n_pages * TT_PAGE_TOKENS]
	uint64_t (*sums)[TT_MAX_POOLED]; // [n_pages] the pages' records
	float (*coef)[SIM_LAYERS];       // [n_rows]
	struct sim_cell captured[256];
	struct tt_sample_result samples[TT_MAX_IN_FLIGHT][256]; /* step n's in n % TT_MAX_IN_FLIGHT */
	struct tt_decision_result decisions[TT_MAX_IN_FLIGHT][256];
	float decided[TT_MAX_IN_FLIGHT][256 * SIM_LAYERS];
	uint64_t acted[TT_MAX_IN_FLIGHT]
		      [256]; /* what the rows of each token added; 0: nothing, as the norms would say */
};

static inline struct sim_cell *sim_cell_at(
	struct sim_device *d, const struct tt_step_plan *step, uint32_t t, size_t position)
{
	const int32_t *pages = tt_step_pages(step) + (size_t)tt_step_seqs(step)[t] * step->max_pages;
	return &d->cells[(size_t)pages[position / TT_PAGE_TOKENS] * TT_PAGE_TOKENS + position % TT_PAGE_TOKENS];
}

/* After a layer: first the records, then the means, since a page may be another sequence's of this step. */
static inline void sim_sum(struct sim_device *d, const struct tt_step_plan *step, uint32_t layer)
{
	for (uint32_t i = 0; i < 2 * step->n_pools; i++) {
		const struct tt_pool_plan *pool = tt_step_pools(step) + i % step->n_pools;
		const int32_t *pages = tt_step_pages(step) + (size_t)pool->seq * step->max_pages;
		uint32_t j;
		if (!tt_pool_reads(pool, layer, &j))
			continue;
		for (uint32_t t = pool->first_token; i < step->n_pools && t < pool->first_token + pool->n_tokens; t++) {
			uint32_t position = (uint32_t)tt_step_positions(step)[t];
			const struct sim_cell *cell = sim_cell_at(d, step, t, position);
			uint64_t *record = &d->sums[pages[position / TT_PAGE_TOKENS]][j];
			bool begins = position % TT_PAGE_TOKENS == 0 || position == pool->from;
			*record = sim_record(begins ? 0 : *record, layer == SIM_EARLY ? cell->early : cell->late);
		}
		if (i < step->n_pools || pool->mean_capture < 0)
			continue;
		struct sim_cell *row = &d->captured[pool->mean_capture];
		uint64_t *mean = layer == SIM_EARLY ? &row->early : &row->late;
		*mean = 0;
		for (uint32_t page = pool->from / TT_PAGE_TOKENS; page * TT_PAGE_TOKENS < pool->to; page++)
			*mean = sim_mean(*mean, d->sums[pages[page]][j]);
	}
}

static inline void sim_control(struct sim_device *d, const struct tt_step_plan *step, int32_t layer, uint64_t number)
{
	const struct tt_decision_plan *plan = tt_step_decisions(step);
	uint32_t ring = number % TT_MAX_IN_FLIGHT;
	for (uint32_t i = 0; layer < 0 && i < step->n_decisions; i++)
		memset(d->coef[plan[i].row], 0, sizeof *d->coef);
	for (uint32_t i = 0; i < step->n_decisions; i++) {
		const struct sim_cell *x = &d->captured[plan[i].capture], *mean = &d->captured[plan[i].mean_capture];
		if (plan[i].after_layer != layer)
			continue;
		float s = layer < 0            ? 1
			  : layer == SIM_EARLY ? sim_gate(plan[i].slot, x->early, mean->early)
					       : sim_gate(plan[i].slot, x->late, mean->late);
		d->decisions[ring][i] = (struct tt_decision_result){s, s};
		for (uint32_t l = 0; l < SIM_LAYERS; l++)
			d->coef[plan[i].row][l] = sim_coef(plan[i].scale, plan[i].slot, s, l);
		memcpy(&d->decided[ring][(size_t)i * SIM_LAYERS], d->coef[plan[i].row], sizeof *d->coef);
	}
}

/* Layer by layer, as the real one: every token's keys are in place before any token looks at them. A step that ends
 * after the first layer leaves no late stream. */
static inline void sim_run(struct sim_device *d, const struct tt_step_plan *step, uint64_t number)
{
	const struct tt_sample_plan *samples = tt_step_samples(step);
	struct tt_sample_result *out = d->samples[number % TT_MAX_IN_FLIGHT];
	const struct tt_sample_result *fed = d->samples[(number + 1) % TT_MAX_IN_FLIGHT];
	sim_control(d, step, -1, number);
	for (uint32_t phase = 0; phase < 2; phase++) {
		for (uint32_t t = 0; t < step->n_tokens; t++) {
			size_t position = (size_t)tt_step_positions(step)[t];
			int32_t id = tt_step_tokens(step)[t], capture = tt_step_captures(step)[t];
			struct sim_cell none = {1, 1}, *cell = sim_cell_at(d, step, t, position);
			struct sim_cell value = sim_token(id < 0 ? fed[-1 - id].token : id, position,
				position ? *sim_cell_at(d, step, t, position - 1) : none,
				position ? *sim_cell_at(d, step, t, sim_looks_at(position)) : none);
			const uint16_t *rows = tt_step_coef_rows(step) + (size_t)t * TT_STACK;
			if (phase == 0) {
				cell->early = value.early;
			} else {
				bool runs = step->n_layers > SIM_EARLY + 1;
				uint64_t *acted = &d->acted[number % TT_MAX_IN_FLIGHT][t];
				cell->late = runs ? value.late : 0;
				*acted = 0;
				for (uint32_t k = 0; runs && k < TT_STACK; k++) {
					uint32_t slot = tt_step_row_slots(step)[rows[k]];
					if (!rows[k])
						continue;
					cell->late = sim_steer(cell->late, slot, d->coef[rows[k]]);
					*acted = sim_steer(*acted, slot, d->coef[rows[k]]);
				}
			}
			if (capture >= 0)
				d->captured[capture] = *cell;
		}
		sim_sum(d, step, phase == 0 ? SIM_EARLY : SIM_LATE);
		sim_control(d, step, phase == 0 ? SIM_EARLY : SIM_LATE, number);
	}
	for (uint32_t i = 0; i < step->n_samples; i++) {
		uint32_t t = samples[i].token;
		uint64_t late = sim_cell_at(d, step, t, (size_t)tt_step_positions(step)[t])->late;
		out[i].token =
			sim_sample(sim_penalise(late, tt_step_seen(step) + samples[i].first_seen, samples[i].n_seen),
				samples[i].sampling.seed, samples[i].counter);
		out[i].target_logprob = samples[i].target < 0 ? 0 : sim_score(late, samples[i].target);
	}
}

static inline struct tt_results sim_results(struct sim_device *d, uint64_t number)
{
	uint32_t ring = number % TT_MAX_IN_FLIGHT;
	return (struct tt_results){
		.samples = d->samples[ring], .decisions = d->decisions[ring], .decided = d->decided[ring]};
}

/* ---- The same, for one sequence alone, without pages, steps or rows */

struct sim_answer {
	int32_t tokens[SIM_CONTEXT + 1];
	size_t n_tokens;
	float scores[SIM_CONTEXT];
	struct sim_cell cells[SIM_CONTEXT + 1];
	enum tt_finish finish;
};

static inline struct sim_cell sim_alone(const struct tt_sequence *q, const int32_t *tokens, struct sim_cell *cells,
	size_t position, const float (*coef)[SIM_LAYERS])
{
	struct sim_cell none = {1, 1};
	struct sim_cell c = sim_token(tokens[position], position, position ? cells[position - 1] : none,
		position ? cells[sim_looks_at(position)] : none);
	for (uint32_t i = 0; coef && i < q->n_policies; i++) {
		enum tt_policy_when when = q->policies[i].when;
		size_t from = when == TT_WHEN_ALL ? 0 : when == TT_WHEN_LAST ? q->n_prompt - 1 : q->n_prompt;
		if (position >= from)
			c.late = sim_steer(c.late, q->policies[i].slot, coef[i]);
	}
	return c;
}

static inline struct sim_cell sim_mean_alone(const struct tt_sequence *q, const struct sim_cell *cells)
{
	struct sim_cell mean = {0, 0}, record = {0, 0};
	for (size_t p = q->pool_from; p < q->pool_to; p++) {
		record.early = sim_record(record.early, cells[p].early);
		record.late = sim_record(record.late, cells[p].late);
		if ((p + 1) % TT_PAGE_TOKENS && p + 1 < q->pool_to)
			continue;
		mean.early = sim_mean(mean.early, record.early);
		mean.late = sim_mean(mean.late, record.late);
		record = (struct sim_cell){0, 0};
	}
	return mean;
}

static inline uint64_t sim_penalise_alone(const struct tt_sequence *q, const struct sim_answer *a, uint64_t late)
{
	for (int32_t id = 0; q->penalises && id < SIM_VOCAB; id++) {
		struct tt_seen seen = {id, 0};
		bool there = false;
		for (size_t i = 0; i < a->n_tokens; i++) {
			there |= a->tokens[i] == id;
			seen.n_generated += a->tokens[i] == id && i >= q->n_prompt;
		}
		late = there ? sim_penalise(late, &seen, 1) : late;
	}
	return late;
}

/* The answer that the sequence must get whatever runs beside it. */
static inline void sim_expect(const struct tt_sequence *q, struct sim_answer *a)
{
	struct sim_cell *cells = a->cells;
	float coef[TT_STACK][SIM_LAYERS];
	memcpy(a->tokens, q->tokens, q->n_ids * sizeof *a->tokens);
	a->n_tokens = q->n_ids;
	a->finish = TT_RUNNING;
	for (size_t p = 0; p < q->n_prompt; p++)
		cells[p] = sim_alone(q, a->tokens, cells, p, NULL);
	struct sim_cell mean = sim_mean_alone(q, cells);
	for (uint32_t i = 0; i < q->n_policies; i++) {
		const struct tt_sequence_policy *policy = &q->policies[i];
		const struct sim_cell *x = &cells[q->n_prompt - 1];
		float s = policy->after_layer < 0            ? 1
			  : policy->after_layer == SIM_EARLY ? sim_gate(policy->slot, x->early, mean.early)
							     : sim_gate(policy->slot, x->late, mean.late);
		for (uint32_t l = 0; l < SIM_LAYERS; l++)
			coef[i][l] = sim_coef(policy->scale, policy->slot, s, l);
	}
	for (size_t p = 0; a->finish == TT_RUNNING; p++) {
		cells[p] = sim_alone(q, a->tokens, cells, p, (const float(*)[SIM_LAYERS])coef);
		if (p + 1 < q->n_ids)
			a->scores[p + 1] = sim_score(cells[p].late, a->tokens[p + 1]);
		if (p + 1 < a->n_tokens)
			continue;
		if (q->max_tokens == 0) {
			a->finish = TT_FINISH_LENGTH;
			return;
		}
		int32_t token =
			sim_sample(sim_penalise_alone(q, a, cells[p].late), q->sampling.seed, a->n_tokens - q->n_ids);
		a->tokens[a->n_tokens++] = token;
		if (sim_is_stop(token))
			a->finish = TT_FINISH_STOP;
		else if (a->n_tokens - q->n_ids == q->max_tokens)
			a->finish = TT_FINISH_LENGTH;
		else if (a->n_tokens > q->last_position)
			a->finish = TT_FINISH_CONTEXT;
	}
}

#endif
