/* Continuous batching: admission in order of arrival, one plan a step, and what the step gave handed to its requests. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/plan.h"
#include "weights/model.h"

void tt_scheduler_add(struct tt_engine *engine, struct tt_request *request)
{
	if (engine->waiting_last)
		engine->waiting_last->next = request;
	else
		engine->waiting = request;
	engine->waiting_last = request;
	request->live = true;
	for (uint32_t i = 0; i < request->options.n_steering; i++)
		engine->policies[request->slots[i]].n_users++;
}

static void take_from_waiting(struct tt_engine *engine, struct tt_request *request)
{
	struct tt_request *before = NULL;
	for (struct tt_request *r = engine->waiting; r; before = r, r = r->next) {
		if (r != request)
			continue;
		if (before)
			before->next = r->next;
		else
			engine->waiting = r->next;
		if (engine->waiting_last == r)
			engine->waiting_last = before;
		r->next = NULL;
		return;
	}
}

/* Gives back pages and coefficient rows. */
static void release(struct tt_engine *engine, struct tt_request *r)
{
	tt_kv_give(&engine->kv, r->pages, r->n_pages);
	r->n_pages = 0;
	for (uint32_t i = 0; i < r->options.n_steering; i++)
		engine->free_rows[engine->n_free_rows++] = r->rows[i];
	r->running = false;
}

void tt_scheduler_drop(struct tt_engine *engine, struct tt_request *request)
{
	if (!request->live)
		return;
	request->live = false;
	for (uint32_t i = 0; i < request->options.n_steering; i++)
		engine->policies[request->slots[i]].n_users--;
	if (!request->running) {
		take_from_waiting(engine, request);
		return;
	}
	uint32_t kept = 0;
	for (uint32_t i = 0; i < engine->n_running; i++)
		if (engine->running[i] != request)
			engine->running[kept++] = engine->running[i];
	engine->n_running = kept;
	release(engine, request);
}

/* Admits waiting requests while there is a place, pages for their whole length, and rows for their policies. Taking all
 * pages at once means that no admitted request can run out of them. */
static void admit(struct tt_engine *engine)
{
	while (engine->waiting && engine->n_running < engine->options.max_batch) {
		struct tt_request *r = engine->waiting;
		uint32_t n_pages = tt_kv_pages_for(r->last_position);
		if (r->options.n_steering > engine->n_free_rows || !tt_kv_take(&engine->kv, r->pages, n_pages))
			return;
		r->n_pages = n_pages;
		for (uint32_t i = 0; i < r->options.n_steering; i++) {
			r->rows[i] = engine->free_rows[--engine->n_free_rows];
			engine->row_slots[r->rows[i]] = r->slots[i];
		}
		take_from_waiting(engine, r);
		r->running = true;
		engine->running[engine->n_running++] = r;
	}
}

/* The captured rows that a request keeps, to its own store. */
static void store_hidden(struct tt_engine *engine, const struct tt_planned *p)
{
	struct tt_request *r = p->request;
	const struct tt_config *config = &engine->model->config;
	const int32_t *captures = tt_step_captures(engine->plan->step) + p->first_token;
	size_t width = config->hidden_size, n_kept = r->options.n_ids - r->options.keep_from;
	for (uint32_t i = 0; r->hidden && i < p->n_tokens; i++) {
		size_t position = r->n_fed + i;
		if (position < r->options.keep_from || position >= r->options.n_ids)
			continue;
		const float *row = engine->results.captured + (size_t)captures[i] * config->n_layers * width;
		float *out = r->hidden + (position - r->options.keep_from) * width;
		for (uint32_t l = 0; l < config->n_layers; l++) {
			if (!(r->keep_layers[l / 64] >> (l % 64) & 1))
				continue;
			memcpy(out, row + l * width, width * sizeof *out);
			out += n_kept * width;
		}
	}
}

static void store_norms(struct tt_engine *engine, const struct tt_planned *p)
{
	struct tt_request *r = p->request;
	size_t row = 2 * (size_t)engine->model->config.n_layers;
	if (r->norms)
		memcpy(r->norms + r->n_fed * row, engine->results.norms + p->first_token * row,
			p->n_tokens * row * sizeof(float));
}

/* What the gates of a request said. Where they flagged it and its prompt was run without them, the prompt, or its last
 * token, runs again: the sample made in this step is not its answer. */
static void settle(struct tt_engine *engine, const struct tt_planned *p)
{
	struct tt_request *r = p->request;
	uint32_t n_layers = engine->model->config.n_layers;
	size_t again = r->n_prompt;
	for (uint32_t i = 0; i < r->options.n_steering; i++) {
		const struct tt_decision_result *result = &engine->results.decisions[p->first_decision + i];
		float *coef = r->coef + (size_t)i * n_layers;
		memcpy(coef, engine->results.decided + (size_t)(p->first_decision + i) * n_layers,
			n_layers * sizeof *coef);
		r->decisions[i] = (struct tt_decision){
			result->s, result->gate, coef, r->when[i], false, r->options.steering[i].policy->weights};
		bool steers = false;
		for (uint32_t l = 0; l < n_layers; l++)
			steers |= coef[l] != 0;
		if (steers && r->when[i] == TT_WHEN_ALL)
			again = 0;
		else if (steers && r->when[i] == TT_WHEN_LAST && again > r->n_prompt - 1)
			again = r->n_prompt - 1;
	}
	r->decided = true;
	if (p->same_pass || again == r->n_prompt)
		return;
	r->n_fed = again;
	engine->stats.n_reruns++;
}

static void store_sample(struct tt_engine *engine, uint32_t index)
{
	const struct tt_sample_owner *owner = &engine->plan->owners[index];
	const struct tt_sample_result *result = &engine->results.samples[index];
	struct tt_request *r = owner->request;
	size_t vocab = engine->model->config.vocab_size;
	if (r->scores && owner->position + 1 < r->options.n_ids)
		r->scores[owner->position + 1] = result->target_logprob;
	if (r->logits && owner->position < r->options.n_ids)
		memcpy(r->logits + owner->position * vocab, engine->results.logits + index * vocab,
			vocab * sizeof(float));
	if (owner->generates)
		tt_request_append(r, result);
}

/* Hands the step's results out. A position that is to run again (it is no longer fed) gives nothing yet. */
static void collect(struct tt_engine *engine)
{
	struct tt_plan *plan = engine->plan;
	uint32_t sample = 0, n_samples = plan->step->n_samples;
	for (uint32_t i = 0; i < plan->n_planned; i++) {
		const struct tt_planned *p = &plan->planned[i];
		struct tt_request *r = p->request;
		bool generated = r->n_fed >= r->options.n_ids;
		*(generated ? &engine->stats.n_decode_tokens : &engine->stats.n_prefill_tokens) += p->n_tokens;
		store_hidden(engine, p);
		store_norms(engine, p);
		r->n_fed += p->n_tokens;
		if (p->decides)
			settle(engine, p);
		for (; sample < n_samples && plan->owners[sample].request == r; sample++)
			if (plan->owners[sample].position < r->n_fed)
				store_sample(engine, sample);
		if (r->finish == TT_RUNNING && r->n_fed == r->n_tokens)
			r->finish = TT_FINISH_LENGTH; /* nothing was to be generated */
		if (r->finish != TT_RUNNING)
			tt_scheduler_drop(engine, r);
	}
}

/* Room for more captured rows than come with the other results is made when a step first has them. */
static int grow_state(struct tt_engine *engine, struct tt_error *err)
{
	struct tt_state *s = &engine->state;
	const struct tt_config *config = &engine->model->config;
	uint32_t n_captures = engine->plan->step->n_captures;
	if (n_captures <= s->limits.riding || n_captures <= s->max_captures)
		return TT_OK;
	s->backend->release(s->backend, s->captured);
	s->captured = NULL;
	s->max_captures = 0;
	TT_TRY(s->backend->allocate(s->backend, &s->captured, (size_t)n_captures * config->n_layers,
		config->hidden_size * sizeof(float), err));
	s->max_captures = n_captures;
	return TT_OK;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int tt_engine_step(struct tt_engine *engine, struct tt_error *err)
{
	double start = now();
	admit(engine);
	TT_TRY(tt_plan_build(engine, err));
	if (engine->plan->step->n_tokens == 0)
		return TT_OK;
	TT_TRY(grow_state(engine, err));
	TT_TRY(tt_forward_submit(&engine->state, &engine->kv.pages, engine->plan->step, err));
	TT_TRY(tt_forward_wait(&engine->state, &engine->results, err));
	collect(engine);
	engine->stats.n_steps++;
	engine->stats.seconds += now() - start;
	return TT_OK;
}

size_t tt_engine_pending(const struct tt_engine *engine)
{
	size_t n = engine->n_running;
	for (const struct tt_request *r = engine->waiting; r; r = r->next)
		n++;
	return n;
}

int tt_request_wait(struct tt_request *request, struct tt_error *err)
{
	while (request->finish == TT_RUNNING) {
		uint64_t steps = request->engine->stats.n_steps;
		TT_TRY(tt_engine_step(request->engine, err));
		if (request->engine->stats.n_steps == steps)
			return tt_fail(err, TT_ERR_LIMIT, "no request can run: the KV pages are all taken");
	}
	return TT_OK;
}
