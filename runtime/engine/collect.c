/* Hands a step's results to the requests that were in it: tokens, hidden states, norms, scores, logits, telemetry. */
#include "runtime/engine/collect.h"

#include <string.h>

#include "runtime/engine/engine.h"
#include "runtime/engine/request.h"
#include "runtime/text/text.h"
#include "weights/model.h"

/* Copies the captured rows that the request keeps. */
static void store_hidden(
	struct tt_request *r, const struct tt_planned *p, const struct tt_step_plan *step, const float *captured)
{
	const struct tt_config *config = &r->engine->model->config;
	const int32_t *captures = tt_step_captures(step) + p->first_token;
	size_t width = config->hidden_size, n_kept = r->options.n_ids - r->options.keep_from;
	for (uint32_t i = 0; r->hidden && i < p->n_tokens; i++) {
		size_t position = p->position + i;
		if (position < r->options.keep_from || position >= r->options.n_ids || captures[i] < 0)
			continue;
		const float *row = captured + (size_t)captures[i] * config->n_layers * width;
		float *out = r->hidden + (position - r->options.keep_from) * width;
		for (uint32_t l = 0; l < config->n_layers; l++) {
			if (!tt_layer_is_kept(r->keep_layers, l))
				continue;
			memcpy(out, row + l * width, width * sizeof *out);
			out += n_kept * width;
		}
	}
}

/* Whether the prompt may still run again, steered; until then telemetry says nothing about it. */
static bool may_run_again(const struct tt_sequence *q)
{
	for (uint32_t i = 0; !q->decided && i < q->n_policies; i++)
		if (q->policies[i].when != TT_WHEN_GENERATION)
			return true;
	return false;
}

static bool acted_on(const struct tt_sequence *q, size_t position, uint32_t n_layers)
{
	for (uint32_t i = 0; i < q->n_policies; i++)
		if (tt_sequence_coefficients(q, i, position, n_layers))
			return true;
	return false;
}

/* The norms at a position: those of the step, or 0 if nothing acted there. The check is needed because a step that
 * decides and steers measures all tokens that the policies may act on, even if they then do not act; had the prompt run
 * in chunks, these tokens would not be measured, and reports must not depend on that. */
static const float *norms_at(
	const struct tt_request *r, const struct tt_planned *p, const float *norms, size_t position)
{
	static const float none[2 * TT_MAX_LAYERS];
	uint32_t n_layers = r->engine->model->config.n_layers;
	if (position < p->position || !acted_on(&r->sequence, position, n_layers))
		return none;
	return norms + (position - p->position) * 2 * n_layers;
}

/* A position may run again after a pre-emption; what was reported for it stays. */
static void store_norms(struct tt_request *r, const struct tt_planned *p, const float *norms)
{
	size_t row = 2 * (size_t)r->engine->model->config.n_layers, reported = r->sequence.n_reported;
	for (size_t position = p->position > reported ? p->position : reported; position < p->valid; position++)
		memcpy(r->norms + position * row, norms_at(r, p, norms, position), row * sizeof(float));
}

/* Calls the telemetry callback once for each position, in order. Positions that ran before the decision are reported
 * after it; they ran unsteered, so their norms are 0. */
static void report_telemetry(struct tt_request *r, const struct tt_planned *p, const float *norms)
{
	const struct tt_sequence *q = &r->sequence;
	uint32_t n_layers = r->engine->model->config.n_layers;
	struct tt_decision decisions[TT_MAX_STACK] = {0};
	float coef[TT_MAX_STACK * TT_MAX_LAYERS];
	struct tt_telemetry t = {.n_steering = q->n_policies, .decisions = decisions, .coef = coef};
	for (uint32_t i = 0; i < q->n_policies; i++)
		tt_request_decision(r, i, &decisions[i]);
	while (r->n_telemetry < p->valid && q->place != TT_NOWHERE) {
		t.position = r->n_telemetry++;
		t.token = q->tokens[t.position];
		t.norms = norms_at(r, p, norms, t.position);
		for (uint32_t i = 0; i < q->n_policies; i++) {
			float *out = coef + (size_t)i * n_layers;
			const float *acted = tt_sequence_coefficients(q, i, t.position, n_layers);
			memset(out, 0, n_layers * sizeof *out);
			if (acted)
				memcpy(out, acted, n_layers * sizeof *out);
		}
		r->options.telemetry(r->options.user, r, &t);
	}
}

static void ran(
	void *user, const struct tt_planned *p, const struct tt_step_plan *step, const struct tt_results *results)
{
	struct tt_request *r = (struct tt_request *)p->sequence;
	size_t row = 2 * (size_t)r->engine->model->config.n_layers;
	const float *norms = results->norms ? results->norms + (size_t)p->first_token * row : NULL;
	(void)user;
	store_hidden(r, p, step, results->captured);
	if (r->norms)
		store_norms(r, p, norms);
	if (r->options.telemetry && !may_run_again(p->sequence))
		report_telemetry(r, p, norms);
}

static bool stops_at(const struct tt_request *r, int32_t token)
{
	if (!r->options.ignore_eos && tt_request_is_eos(r->engine, token))
		return true;
	for (size_t i = 0; i < r->n_stop_ids; i++)
		if (r->stop_ids[i] == token)
			return true;
	return false;
}

static void append(struct tt_request *r, const struct tt_sample_result *sample)
{
	const struct tt_tokenizer *tokenizer = tt_text_tokenizer(r->engine->text);
	uint32_t n_top = r->options.n_top;
	size_t n = r->sequence.n_tokens - r->sequence.n_ids - 1, n_piece = 0;
	const char *piece = "";
	r->logprobs[n] = sample->logprob;
	r->n_top[n] = sample->n_top < n_top ? sample->n_top : n_top;
	for (uint32_t i = 0; i < r->n_top[n]; i++) {
		r->top_ids[n * n_top + i] = sample->top_tokens[i];
		r->top_logprobs[n * n_top + i] = sample->top_logprobs[i];
	}
	bool stops = stops_at(r, sample->token);
	if (!stops && tokenizer && !tt_tokenizer_is_special(tokenizer, sample->token))
		piece = tt_tokenizer_piece(tokenizer, sample->token, &n_piece);
	if (tt_stop_strings_add(&r->reply, piece, n_piece) || stops)
		r->sequence.finish = TT_FINISH_STOP;
}

/* A position that runs again after a pre-emption gives the same bits. */
static void store_score(struct tt_request *r, size_t position, const struct tt_sample_result *sample)
{
	size_t at = position - r->sequence.score_from, n = r->options.score_top;
	r->scores[position + 1] = sample->target_logprob;
	if (n == 0)
		return;
	r->score_n_top[at] = sample->n_top < n ? sample->n_top : (uint32_t)n;
	memcpy(r->score_top_ids + at * n, sample->top_tokens, r->score_n_top[at] * sizeof *sample->top_tokens);
	memcpy(r->score_top_logprobs + at * n, sample->top_logprobs, r->score_n_top[at] * sizeof *sample->top_logprobs);
}

static void sampled(void *user, struct tt_sequence *q, size_t position, uint32_t index, bool generates,
	const struct tt_results *results)
{
	struct tt_request *r = (struct tt_request *)q;
	const struct tt_sample_result *sample = &results->samples[index];
	size_t vocab = r->engine->model->config.vocab_size, from = q->logits_from;
	(void)user;
	if (tt_sequence_scores(q, position))
		store_score(r, position, sample);
	if (r->logits && position >= from && position < q->n_ids && results->logits)
		memcpy(r->logits + (position - from) * vocab, results->logits + index * vocab, vocab * sizeof(float));
	if (!generates)
		return;
	append(r, sample);
	if (r->options.notify)
		r->options.notify(r->options.user, r);
}

/* Appends the request to the list from which tt_engine_next takes. */
static void list_finished(struct tt_engine *engine, struct tt_request *r)
{
	r->previous = engine->last_finished;
	*(r->previous ? &r->previous->next : &engine->first_finished) = r;
	engine->last_finished = r;
}

static void finished(void *user, struct tt_sequence *q)
{
	struct tt_engine *engine = user;
	struct tt_request *r = (struct tt_request *)q;
	for (uint32_t i = 0; i < q->n_policies; i++) {
		struct tt_loaded_policy *policy = &engine->policies[q->policies[i].slot];
		policy->n_users--;
		policy->last_step = engine->scheduler.n_planned;
	}
	tt_stop_strings_finish(&r->reply);
	if (!r->own)
		list_finished(engine, r);
	pthread_cond_broadcast(&engine->changed);
	if (r->options.notify)
		r->options.notify(r->options.user, r);
}

struct tt_scheduler_hooks tt_collect_hooks(struct tt_engine *engine)
{
	return (struct tt_scheduler_hooks){engine, ran, sampled, finished};
}
