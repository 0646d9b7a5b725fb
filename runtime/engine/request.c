/* Requests: checks what is asked, allocates what is kept of the answer, and hands it out. */
#include "runtime/engine/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/sampling.h"
#include "kernels/steer.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/loop.h"
#include "runtime/engine/policy_slots.h"
#include "runtime/engine/pump.h"
#include "runtime/engine/thread.h"
#include "runtime/schedule/prefix_cache.h"
#include "weights/model.h"

enum { MAX_TIMEOUT = 1000000000 };

static const struct tt_request_options DEFAULTS = {
	.sampling.top_p = 1, .when = TT_WHEN_POLICY, .repetition_penalty = 1};

void tt_request_options_default_sized(struct tt_request_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

static struct tt_penalties penalties_of(const struct tt_request_options *o)
{
	return (struct tt_penalties){o->repetition_penalty, o->presence_penalty, o->frequency_penalty};
}

static int check_sampling(const struct tt_engine *engine, const struct tt_request_options *o, struct tt_error *err)
{
	TT_TRY(tt_sampling_check(&o->sampling, err));
	TT_TRY(tt_penalties_check(o->repetition_penalty, o->presence_penalty, o->frequency_penalty, err));
	if (!engine->rank.backend->has_penalties &&
		(o->repetition_penalty != 1 || o->presence_penalty != 0 || o->frequency_penalty != 0))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"repetition_penalty, presence_penalty and frequency_penalty are not supported on %s",
			engine->info.backend);
	if (o->n_top > TT_MAX_TOP || o->score_top > TT_MAX_TOP)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d alternatives a token", TT_MAX_TOP);
	return TT_OK;
}

static int check_stops(const struct tt_engine *engine, const struct tt_request_options *o, struct tt_error *err)
{
	if (o->n_stop > TT_MAX_STOPS || o->n_stop_ids > TT_MAX_STOPS)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "at most %d stop strings and %d stop ids", TT_MAX_STOPS, TT_MAX_STOPS);
	if (o->n_stop > 0 && !tt_text_has_tokenizer(engine->text))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "stop strings need a tokenizer, which the model does not have");
	TT_TRY(tt_need_list(o->stop, o->n_stop, "stop", err));
	TT_TRY(tt_need_list(o->stop_ids, o->n_stop_ids, "stop_ids", err));
	for (size_t i = 0; i < o->n_stop; i++) {
		if (!o->stop[i])
			return tt_fail(err, TT_ERR_ARGUMENT, "stop[%zu] must not be NULL", i);
		if (!o->stop[i][0] || strlen(o->stop[i]) > TT_MAX_STOP_BYTES)
			return tt_fail(err, TT_ERR_ARGUMENT, "stop string %zu is empty or longer than %d bytes", i,
				TT_MAX_STOP_BYTES);
	}
	for (size_t i = 0; i < o->n_stop_ids; i++)
		if (o->stop_ids[i] < 0 || (uint32_t)o->stop_ids[i] >= engine->model->config.vocab_size)
			return tt_fail(err, TT_ERR_ARGUMENT, "stop id %d is not in the vocabulary of %u",
				o->stop_ids[i], engine->model->config.vocab_size);
	if (!(o->timeout >= 0 && o->timeout <= MAX_TIMEOUT))
		return tt_fail(err, TT_ERR_ARGUMENT, "timeout must be from 0 to %d seconds", MAX_TIMEOUT);
	return TT_OK;
}

static int check_ids(const struct tt_engine *engine, const struct tt_request_options *o, struct tt_error *err)
{
	uint32_t vocab = engine->model->config.vocab_size;
	if (o->n_ids == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "the prompt is empty");
	if (o->n_ids > engine->info.context)
		return tt_fail(err, TT_ERR_LIMIT, "the prompt has %zu tokens, more than the context of %u", o->n_ids,
			engine->info.context);
	if (o->n_prompt > o->n_ids)
		return tt_fail(err, TT_ERR_ARGUMENT, "n_prompt %zu is more than the %zu ids", o->n_prompt, o->n_ids);
	if (o->mean_to > (o->n_prompt ? o->n_prompt : o->n_ids) || o->mean_from > o->mean_to ||
		(o->mean_from == o->mean_to && o->mean_to > 0))
		return tt_fail(err, TT_ERR_ARGUMENT, "mean_from %zu to mean_to %zu are not ids of the prompt",
			o->mean_from, o->mean_to);
	if (o->keep_layers && o->keep_from >= o->n_ids)
		return tt_fail(err, TT_ERR_ARGUMENT, "keep_from %zu is not below the %zu ids", o->keep_from, o->n_ids);
	if (o->score && o->score_from > o->n_ids)
		return tt_fail(err, TT_ERR_ARGUMENT, "score_from %zu is beyond the %zu ids", o->score_from, o->n_ids);
	if (o->keep_logits && o->logits_from >= o->n_ids)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "logits_from %zu is not below the %zu ids", o->logits_from, o->n_ids);
	TT_TRY(tt_need_list(o->ids, o->n_ids, "ids", err));
	for (size_t i = 0; i < o->n_ids; i++)
		if (o->ids[i] < 0 || (uint32_t)o->ids[i] >= vocab)
			return tt_fail(err, TT_ERR_ARGUMENT, "id %d at %zu is not in the vocabulary of %u", o->ids[i],
				i, vocab);
	return TT_OK;
}

int tt_request_check_steering(struct tt_engine *engine, const struct tt_steering *steering, uint32_t n,
	enum tt_policy_when when, struct tt_error *err)
{
	uint16_t slot;
	if (n > TT_MAX_STACK)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d policies on one request", TT_MAX_STACK);
	if (when < TT_WHEN_POLICY || when > TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_ARGUMENT, "when is not one of generation, last and all");
	for (uint32_t i = 0; i < n; i++) {
		if (!isfinite(steering[i].scale))
			return tt_fail(err, TT_ERR_ARGUMENT, "the scale of policy %u is not a finite number", i);
		if (!steering[i].policy)
			return tt_fail(err, TT_ERR_ARGUMENT, "steering[%u].policy must not be NULL", i);
		tt_lock(engine);
		bool added = tt_policy_slot(engine, steering[i].policy, &slot);
		tt_unlock(engine);
		if (!added)
			return tt_fail(err, TT_ERR_ARGUMENT, "policy %u was not added to the engine", i);
	}
	return TT_OK;
}

/* Adds the layers that the policy's gate reads means of to the sequence's list, in ascending order. */
static int add_pooled(struct tt_sequence *q, const struct tt_policy *policy, struct tt_error *err)
{
	for (uint32_t i = 0; i < policy->n_observed; i++) {
		uint32_t layer = policy->observed[i], at = 0;
		while (at < q->n_pooled && q->pooled[at] < layer)
			at++;
		if (at < q->n_pooled && q->pooled[at] == layer)
			continue;
		if (q->n_pooled == TT_MAX_POOLED)
			return tt_fail(err, TT_ERR_LIMIT,
				"the gates of a request read means of more than %d layers together", TT_MAX_POOLED);
		memmove(&q->pooled[at + 1], &q->pooled[at], (q->n_pooled - at) * sizeof *q->pooled);
		q->pooled[at] = layer;
		q->n_pooled++;
	}
	return TT_OK;
}

/* Whether there is what a gate decides by. A prompt of one token, which a text's first window or bos alone is, has a
 * state that says nothing of the text (see tt_mean_span). */
static bool has_text(const struct tt_sequence *q, const struct tt_policy *policy)
{
	return q->n_prompt > 1 || !tt_gate_of(policy->gate)->observes;
}

static int resolve_policy(struct tt_request *r, uint32_t i, struct tt_error *err)
{
	const struct tt_request_options *o = &r->options;
	const struct tt_policy *policy = o->steering[i].policy;
	struct tt_sequence *q = &r->sequence;
	struct tt_sequence_policy *p = &q->policies[i];
	uint32_t first, last;
	tt_policy_slot(r->engine, policy, &p->slot);
	p->identity = r->engine->policies[p->slot].identity;
	p->scale = has_text(q, policy) ? o->steering[i].scale : 0;
	p->whole_rows = tt_steer_whole_row(policy->op, policy->form);
	p->when = o->when == TT_WHEN_POLICY ? policy->when : o->when;
	p->after_layer = policy->n_observed ? (int32_t)policy->observed[policy->n_observed - 1] : -1;
	if (p->after_layer > q->observe_last)
		q->observe_last = p->after_layer;
	if (p->when != TT_WHEN_GENERATION && tt_policy_band(policy, &first, &last) && first < q->first_steered)
		q->first_steered = first;
	memcpy(r->weights + (size_t)i * policy->n_layers, policy->weights, policy->n_layers * sizeof(float));
	q->coef_known_at_start &= !tt_gate_of(policy->gate)->observes;
	return policy->pool == TT_POOL_LAST ? TT_OK : add_pooled(q, policy, err);
}

/* If no gate reads a hidden state, s is 1, so the coefficients are known and pages can be shared before the control
 * operation has run. */
static void fill_known_coefficients(struct tt_request *r)
{
	struct tt_sequence *q = &r->sequence;
	uint32_t n_layers = r->engine->model->config.n_layers;
	for (uint32_t i = 0; q->coef_known_at_start && i < q->n_policies; i++) {
		const struct tt_policy *policy = r->options.steering[i].policy;
		float *coef = q->coef + (size_t)i * n_layers;
		for (uint32_t l = 0; l < n_layers; l++)
			coef[l] = tt_steer_coefficient(q->policies[i].scale, policy->alpha, 1, policy->weights[l]);
		tt_prefix_key_policy(q, i, n_layers);
	}
}

/* A request of which only gates or hidden states are read needs no layer after the last of these. Its pages lack the
 * keys and values of those layers, so they are shared among requests of the same depth alone. */
static uint32_t depth_of(const struct tt_request *r)
{
	const struct tt_sequence *q = &r->sequence;
	uint32_t n_layers = r->engine->model->config.n_layers, depth = (uint32_t)(q->observe_last + 1);
	for (uint32_t l = depth; r->keep_layers && l < n_layers; l++)
		depth = tt_layer_is_kept(r->keep_layers, l) ? l + 1 : depth;
	bool reads_all = q->max_tokens > 0 || q->scores || q->keeps_logits || q->traces || depth == 0;
	return reads_all ? n_layers : depth;
}

/* Fills in the sequence's policies, and the layers by which tt_sequence_same_pass decides. The lock is held. */
static int resolve_steering(struct tt_request *r, struct tt_error *err)
{
	const struct tt_request_options *o = &r->options;
	TT_TRY(tt_request_check_steering(r->engine, o->steering, o->n_steering, o->when, err));
	TT_TRY(tt_alloc(&r->weights, o->n_steering, r->engine->model->config.n_layers * sizeof(float), err));
	r->sequence.coef_known_at_start = true;
	for (uint32_t i = 0; i < o->n_steering; i++)
		TT_TRY(resolve_policy(r, i, err));
	fill_known_coefficients(r);
	r->sequence.depth = depth_of(r);
	return TT_OK;
}

static uint32_t count_kept(const uint64_t *layers, uint32_t n_layers)
{
	uint32_t n = 0;
	for (uint32_t l = 0; l < n_layers; l++)
		n += tt_layer_is_kept(layers, l);
	return n;
}

static int allocate_scores(struct tt_request *r, struct tt_error *err)
{
	const struct tt_request_options *o = &r->options;
	size_t n = o->n_ids - 1 > r->sequence.score_from ? o->n_ids - 1 - r->sequence.score_from : 0;
	if (!o->score)
		return TT_OK;
	TT_TRY(tt_alloc(&r->scores, o->n_ids, sizeof *r->scores, err));
	if (o->score_top == 0)
		return TT_OK;
	TT_TRY(tt_alloc(&r->score_n_top, n, sizeof *r->score_n_top, err));
	TT_TRY(tt_alloc(&r->score_top_ids, n, o->score_top * sizeof *r->score_top_ids, err));
	return tt_alloc(&r->score_top_logprobs, n, o->score_top * sizeof *r->score_top_logprobs, err);
}

static int allocate_reports(struct tt_request *r, struct tt_error *err)
{
	const struct tt_request_options *o = &r->options;
	const struct tt_config *config = &r->engine->model->config;
	size_t n_words = (config->n_layers + 63) / 64, n_positions = r->sequence.last_position;
	TT_TRY(allocate_scores(r, err));
	if (o->trace)
		TT_TRY(tt_alloc(&r->norms, n_positions, 2 * config->n_layers * sizeof *r->norms, err));
	if (o->keep_logits)
		TT_TRY(tt_alloc(&r->logits, o->n_ids - o->logits_from, config->vocab_size * sizeof *r->logits, err));
	if (o->keep_layers) {
		TT_TRY(tt_alloc(&r->keep_layers, n_words, sizeof *r->keep_layers, err));
		memcpy(r->keep_layers, o->keep_layers, n_words * sizeof *r->keep_layers);
		size_t n_kept = count_kept(r->keep_layers, config->n_layers);
		TT_TRY(tt_alloc(
			&r->hidden, (o->n_ids - o->keep_from) * n_kept, config->hidden_size * sizeof(float), err));
	}
	size_t n_generated = n_positions + 1 - o->n_ids;
	TT_TRY(tt_stop_strings_open(&r->reply, n_generated, o->stop, o->n_stop, err));
	TT_TRY(tt_alloc(&r->stop_ids, o->n_stop_ids, sizeof *r->stop_ids, err));
	if (o->n_stop_ids)
		memcpy(r->stop_ids, o->stop_ids, o->n_stop_ids * sizeof *r->stop_ids);
	r->n_stop_ids = o->n_stop_ids;
	TT_TRY(tt_alloc(&r->logprobs, n_generated, sizeof *r->logprobs, err));
	TT_TRY(tt_alloc(&r->n_top, n_generated, sizeof *r->n_top, err));
	TT_TRY(tt_alloc(&r->top_ids, n_generated, o->n_top * sizeof *r->top_ids, err));
	return tt_alloc(&r->top_logprobs, n_generated, o->n_top * sizeof *r->top_logprobs, err);
}

static void fill_sequence(struct tt_request *r)
{
	const struct tt_request_options *o = &r->options;
	struct tt_sequence *q = &r->sequence;
	q->n_prompt = o->n_prompt ? o->n_prompt : o->n_ids;
	const struct tt_positions span = tt_mean_span(o->mean_from, o->mean_to, q->n_prompt);
	q->pool_from = span.from;
	q->pool_to = span.to;
	q->max_tokens = o->max_tokens;
	q->sampling = o->sampling;
	q->n_top = o->n_top;
	q->scores = o->score;
	q->keeps_logits = o->keep_logits;
	q->logits_from = o->logits_from;
	q->traces = o->trace || o->telemetry;
	if (o->keep_layers)
		q->keep_from = q->report_from = o->keep_from;
	q->score_from = o->score_from > 0 ? o->score_from - 1 : 0;
	q->score_top = o->score ? o->score_top : 0;
	if (q->scores && q->score_from < q->report_from)
		q->report_from = q->score_from;
	if (q->keeps_logits && q->logits_from < q->report_from)
		q->report_from = q->logits_from;
	if (q->traces)
		q->report_from = 0;
	q->deadline = o->timeout > 0 ? tt_now() + o->timeout : 0;
}

/* Of a request whose ids fit the context. */
static size_t last_position(const struct tt_engine *engine, const struct tt_request_options *o)
{
	uint32_t context = engine->info.context;
	return o->max_tokens > context - o->n_ids ? context : o->n_ids + o->max_tokens;
}

static int prepare(struct tt_request *r, struct tt_error *err)
{
	struct tt_engine *engine = r->engine;
	struct tt_request_options *o = &r->options;
	const struct tt_penalties penalties = penalties_of(o);
	TT_TRY(tt_sequence_open(&r->sequence, o->ids, o->n_ids, last_position(engine, o), o->n_steering,
		engine->model->config.n_layers, err));
	fill_sequence(r);
	TT_TRY(tt_sequence_penalise(&r->sequence, &penalties, err));
	TT_TRY(allocate_reports(r, err));
	o->ids = o->stop_ids = NULL;
	o->stop = NULL;
	o->keep_layers = NULL;
	return TT_OK;
}

static void destroy(struct tt_request *r)
{
	tt_sequence_close(&r->sequence);
	tt_stop_strings_close(&r->reply);
	free(r->weights);
	free(r->keep_layers);
	free(r->scores);
	free(r->score_n_top);
	free(r->score_top_ids);
	free(r->score_top_logprobs);
	free(r->norms);
	free(r->logits);
	free(r->hidden);
	free(r->logprobs);
	free(r->top_ids);
	free(r->top_logprobs);
	free(r->n_top);
	free(r->stop_ids);
	free(r);
}

int tt_request_check(const struct tt_engine *engine, const struct tt_request_options *o, struct tt_error *err)
{
	TT_TRY(check_sampling(engine, o, err));
	TT_TRY(check_stops(engine, o, err));
	TT_TRY(check_ids(engine, o, err));
	if (o->n_steering > TT_MAX_STACK)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d policies on one request", TT_MAX_STACK);
	if (tt_pages_for(last_position(engine, o)) > engine->rank.kv.pages.n_pages)
		return tt_fail(err, TT_ERR_LIMIT, "%zu tokens need more KV pages than the engine has (%u positions)",
			last_position(engine, o), engine->rank.kv.pages.n_pages * TT_PAGE_TOKENS);
	return TT_OK;
}

/* The request uses the policies that are loaded now; n_users keeps each loaded until the request is finished. */
static int enqueue(struct tt_request *r, struct tt_error *err)
{
	struct tt_engine *engine = r->engine;
	TT_TRY(resolve_steering(r, err));
	for (uint32_t i = 0; i < r->sequence.n_policies; i++) {
		const struct tt_sequence_policy *policy = &r->sequence.policies[i];
		struct tt_loaded_policy *loaded = &engine->policies[policy->slot];
		loaded->n_users++;
		if (loaded->killed && policy->scale != 0)
			r->sequence.ends_steering = true;
	}
	if (!tt_step_due(engine))
		engine->beat = tt_now();
	tt_scheduler_add(&engine->scheduler, &r->sequence);
	pthread_cond_broadcast(&engine->changed);
	return TT_OK;
}

static int submit(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options, bool own,
	struct tt_error *err)
{
	struct tt_request *r = NULL;
	struct tt_request_options o = DEFAULTS;
	TT_TRY(tt_need(out, "out", err));
	*out = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_request_options", err));
	TT_TRY(tt_request_check(engine, &o, err));
	TT_TRY(tt_alloc(&r, 1, sizeof *r, err));
	r->engine = engine;
	r->own = own;
	r->options = o;
	int status = prepare(r, err);
	if (status == TT_OK) {
		tt_lock(engine);
		status = enqueue(r, err);
		tt_unlock(engine);
	}
	if (status != TT_OK) {
		destroy(r);
		return status;
	}
	*out = r;
	return TT_OK;
}

int tt_request_submit(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options,
	struct tt_error *err)
{
	return submit(out, engine, options, false, err);
}

int tt_request_submit_own(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options,
	struct tt_error *err)
{
	return submit(out, engine, options, true, err);
}

void tt_request_cancel(struct tt_request *r)
{
	if (!r)
		return;
	tt_lock(r->engine);
	tt_scheduler_finish(&r->engine->scheduler, &r->sequence, TT_FINISH_CANCELLED);
	tt_unlock(r->engine);
}

void tt_request_unlist(struct tt_request *r)
{
	struct tt_engine *engine = r->engine;
	if (!r->previous && engine->first_finished != r)
		return;
	*(r->previous ? &r->previous->next : &engine->first_finished) = r->next;
	*(r->next ? &r->next->previous : &engine->last_finished) = r->previous;
	r->previous = r->next = NULL;
}

void tt_request_free(struct tt_request *r)
{
	if (!r)
		return;
	struct tt_engine *engine = r->engine;
	tt_lock(engine);
	r->options.notify = NULL;
	tt_scheduler_finish(&engine->scheduler, &r->sequence, TT_FINISH_CANCELLED);
	tt_request_unlist(r);
	destroy(r);
	tt_unlock(engine);
}

bool tt_request_is_eos(const struct tt_engine *engine, int32_t id)
{
	for (uint32_t i = 0; i < engine->n_eos; i++)
		if (engine->eos[i] == id)
			return true;
	return false;
}

enum tt_finish tt_request_finish(const struct tt_request *request)
{
	if (!request)
		return TT_FINISH_FAILED; /* not TT_RUNNING, or the caller might wait for it to change */
	tt_lock(request->engine);
	enum tt_finish finish = request->sequence.place == TT_NOWHERE ? request->sequence.finish : TT_RUNNING;
	tt_unlock(request->engine);
	return finish;
}

double tt_request_started(const struct tt_request *request)
{
	tt_lock(request->engine);
	double started = request->started;
	tt_unlock(request->engine);
	return started;
}

size_t tt_request_n_generated(const struct tt_request *request)
{
	if (!request)
		return 0;
	tt_lock(request->engine);
	size_t n = request->sequence.n_tokens - request->sequence.n_ids;
	tt_unlock(request->engine);
	return n;
}

const int32_t *tt_request_generated(const struct tt_request *request)
{
	return request ? request->sequence.tokens + request->sequence.n_ids : NULL;
}

bool tt_request_next(struct tt_request *r, struct tt_token *token)
{
	if (!r || !token)
		return false;
	size_t n = r->n_taken, n_top = r->options.n_top;
	tt_lock(r->engine);
	bool has = n < r->sequence.n_tokens - r->sequence.n_ids;
	if (has) {
		r->n_taken++;
		*token = (struct tt_token){
			.id = tt_request_generated(r)[n], .logprob = r->logprobs[n], .n_top = r->n_top[n]};
		token->top_ids = r->top_ids + n * n_top;
		token->top_logprobs = r->top_logprobs + n * n_top;
		token->text = tt_stop_strings_give(&r->reply, n, &token->n_text);
	}
	tt_unlock(r->engine);
	return has;
}

bool tt_request_decision(const struct tt_request *r, uint32_t index, struct tt_decision *decision)
{
	static const float none[TT_MAX_LAYERS];
	if (!r || !decision || index >= r->sequence.n_policies)
		return false;
	const struct tt_sequence *q = &r->sequence;
	uint32_t n_layers = r->engine->model->config.n_layers;
	tt_lock(r->engine);
	const struct tt_sequence_policy *p = &q->policies[index];
	bool decided = q->decided;
	if (decided)
		*decision = (struct tt_decision){
			.s = p->after_layer >= 0 && q->n_prompt < 2 ? 0 : p->s,
			.gate = p->gate,
			.coef = tt_sequence_began(q, index) ? q->coef + (size_t)index * n_layers : none,
			.when = p->when,
			.killed = q->reported_killed_from != SIZE_MAX,
			.killed_from = q->reported_killed_from,
			.w = r->weights + (size_t)index * n_layers,
		};
	tt_unlock(r->engine);
	return decided;
}

const float *tt_request_coefficients(const struct tt_request *r, uint32_t index, size_t position)
{
	if (!r || index >= r->sequence.n_policies)
		return NULL;
	const struct tt_sequence *q = &r->sequence;
	tt_lock(r->engine);
	const float *coef = tt_sequence_coefficients(q, index, position, r->engine->model->config.n_layers);
	tt_unlock(r->engine);
	return coef;
}

const float *tt_request_scores(const struct tt_request *request)
{
	return request ? request->scores : NULL;
}

uint32_t tt_request_score_top(const struct tt_request *r, size_t index, const int32_t **ids, const float **logprobs)
{
	if (!r || !r->score_n_top || !ids || !logprobs || index <= r->sequence.score_from || index >= r->options.n_ids)
		return 0;
	size_t at = index - 1 - r->sequence.score_from;
	*ids = r->score_top_ids + at * r->options.score_top;
	*logprobs = r->score_top_logprobs + at * r->options.score_top;
	return r->score_n_top[at];
}

const float *tt_request_norms(const struct tt_request *request, size_t *n_positions)
{
	if (n_positions)
		*n_positions = request ? request->sequence.n_reported : 0;
	return request ? request->norms : NULL;
}

const float *tt_request_logits(const struct tt_request *request)
{
	return request ? request->logits : NULL;
}

const float *tt_request_hidden(const struct tt_request *r, uint32_t layer)
{
	if (!r || !r->hidden || layer >= r->engine->model->config.n_layers || !tt_layer_is_kept(r->keep_layers, layer))
		return NULL;
	return r->hidden + (size_t)count_kept(r->keep_layers, layer) * (r->options.n_ids - r->options.keep_from) *
				   r->engine->model->config.hidden_size;
}
