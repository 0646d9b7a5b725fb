/* Requests: what may be asked, what is kept of the answer, how it is handed out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/engine.h"
#include "weights/model.h"

void tt_request_options_default(struct tt_request_options *options)
{
	*options = (struct tt_request_options){.top_p = 1, .when = TT_WHEN_POLICY};
}

static int check_sampling(const struct tt_request_options *o, struct tt_error *err)
{
	if (!(o->temperature >= 0 && o->temperature <= 100))
		return tt_fail(err, TT_ERR_ARGUMENT, "temperature must be from 0 to 100");
	if (!(o->top_p > 0 && o->top_p <= 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "top_p must be above 0 and at most 1");
	if (!(o->min_p >= 0 && o->min_p < 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "min_p must be at least 0 and below 1");
	if (o->n_top > TT_MAX_TOP)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d alternatives a token", TT_MAX_TOP);
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
	if (o->keep_layers && o->keep_from >= o->n_ids)
		return tt_fail(err, TT_ERR_ARGUMENT, "keep_from %zu is not below the %zu ids", o->keep_from, o->n_ids);
	for (size_t i = 0; i < o->n_ids; i++)
		if (o->ids[i] < 0 || (uint32_t)o->ids[i] >= vocab)
			return tt_fail(err, TT_ERR_ARGUMENT, "id %d at %zu is not in the vocabulary of %u", o->ids[i],
				i, vocab);
	return TT_OK;
}

/* When, slots, and the layers that decide whether one pass is enough. */
static int resolve_steering(struct tt_request *r, struct tt_error *err)
{
	const struct tt_request_options *o = &r->options;
	if (o->n_steering > TT_MAX_STACK)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d policies on one request", TT_MAX_STACK);
	if (o->when < TT_WHEN_POLICY || o->when > TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_ARGUMENT, "when is not one of generation, last and all");
	r->observe_last = -1;
	r->first_steered = r->engine->model->config.n_layers;
	for (uint32_t i = 0; i < o->n_steering; i++) {
		const struct tt_policy *policy = o->steering[i].policy;
		uint32_t first, last;
		if (!isfinite(o->steering[i].scale))
			return tt_fail(err, TT_ERR_ARGUMENT, "the scale of policy %u is not a finite number", i);
		if (!policy || !tt_policy_slot(r->engine, policy, &r->slots[i]))
			return tt_fail(err, TT_ERR_ARGUMENT, "policy %u was not added to the engine", i);
		r->when[i] = o->when == TT_WHEN_POLICY ? policy->when : o->when;
		if (policy->n_observed && (int32_t)policy->observed[policy->n_observed - 1] > r->observe_last)
			r->observe_last = (int32_t)policy->observed[policy->n_observed - 1];
		if (r->when[i] != TT_WHEN_GENERATION && tt_policy_band(policy, &first, &last) &&
			first < r->first_steered)
			r->first_steered = first;
	}
	return TT_OK;
}

static uint32_t count_kept(const uint64_t *layers, uint32_t n_layers)
{
	uint32_t n = 0;
	for (uint32_t l = 0; l < n_layers; l++)
		n += layers[l / 64] >> (l % 64) & 1;
	return n;
}

static int allocate_reports(struct tt_request *r, struct tt_error *err)
{
	const struct tt_request_options *o = &r->options;
	const struct tt_config *config = &r->engine->model->config;
	size_t n_words = (config->n_layers + 63) / 64, n_positions = r->last_position;
	if (o->score)
		TT_TRY(tt_alloc(&r->scores, o->n_ids, sizeof *r->scores, err));
	if (o->trace)
		TT_TRY(tt_alloc(&r->norms, n_positions, 2 * config->n_layers * sizeof *r->norms, err));
	if (o->keep_logits)
		TT_TRY(tt_alloc(&r->logits, o->n_ids, config->vocab_size * sizeof *r->logits, err));
	if (o->keep_layers) {
		TT_TRY(tt_alloc(&r->keep_layers, n_words, sizeof *r->keep_layers, err));
		memcpy(r->keep_layers, o->keep_layers, n_words * sizeof *r->keep_layers);
		size_t n_kept = count_kept(r->keep_layers, config->n_layers);
		TT_TRY(tt_alloc(
			&r->hidden, (o->n_ids - o->keep_from) * n_kept, config->hidden_size * sizeof(float), err));
	}
	size_t n_generated = n_positions + 1 - o->n_ids;
	TT_TRY(tt_alloc(&r->logprobs, n_generated, sizeof *r->logprobs, err));
	TT_TRY(tt_alloc(&r->n_top, n_generated, sizeof *r->n_top, err));
	TT_TRY(tt_alloc(&r->top_ids, n_generated, o->n_top * sizeof *r->top_ids, err));
	return tt_alloc(&r->top_logprobs, n_generated, o->n_top * sizeof *r->top_logprobs, err);
}

static int prepare(struct tt_request *r, struct tt_error *err)
{
	struct tt_engine *engine = r->engine;
	struct tt_request_options *o = &r->options;
	uint32_t context = engine->info.context;
	TT_TRY(check_sampling(o, err));
	TT_TRY(check_ids(engine, o, err));
	TT_TRY(resolve_steering(r, err));
	r->n_prompt = o->n_prompt ? o->n_prompt : o->n_ids;
	r->last_position = o->max_tokens > context - o->n_ids ? context : o->n_ids + o->max_tokens;
	if (tt_kv_pages_for(r->last_position) > engine->kv.pages.n_pages)
		return tt_fail(err, TT_ERR_LIMIT, "%zu tokens need more KV pages than the engine has (%u positions)",
			r->last_position, engine->kv.pages.n_pages * TT_PAGE_TOKENS);
	TT_TRY(tt_alloc(&r->tokens, r->last_position + 1, sizeof *r->tokens, err));
	memcpy(r->tokens, o->ids, o->n_ids * sizeof *r->tokens);
	r->n_tokens = o->n_ids;
	TT_TRY(tt_alloc(&r->pages, tt_kv_pages_for(r->last_position), sizeof *r->pages, err));
	TT_TRY(tt_alloc(&r->coef, o->n_steering, engine->model->config.n_layers * sizeof *r->coef, err));
	TT_TRY(allocate_reports(r, err));
	o->ids = NULL;
	o->keep_layers = NULL;
	return TT_OK;
}

static void destroy(struct tt_request *r)
{
	free(r->tokens);
	free(r->pages);
	free(r->coef);
	free(r->keep_layers);
	free(r->scores);
	free(r->norms);
	free(r->logits);
	free(r->hidden);
	free(r->logprobs);
	free(r->top_ids);
	free(r->top_logprobs);
	free(r->n_top);
	free(r->text);
	free(r);
}

int tt_request_submit(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options,
	struct tt_error *err)
{
	struct tt_request *r = NULL;
	TT_TRY(tt_alloc(&r, 1, sizeof *r, err));
	r->engine = engine;
	r->options = *options;
	int status = prepare(r, err);
	if (status != TT_OK) {
		destroy(r);
		return status;
	}
	tt_scheduler_add(engine, r);
	*out = r;
	return TT_OK;
}

void tt_request_free(struct tt_request *request)
{
	if (!request)
		return;
	tt_scheduler_drop(request->engine, request);
	destroy(request);
}

bool tt_request_is_eos(const struct tt_engine *engine, int32_t id)
{
	for (uint32_t i = 0; i < engine->n_eos; i++)
		if (engine->eos[i] == id)
			return true;
	return false;
}

void tt_request_append(struct tt_request *r, const struct tt_sample_result *sample)
{
	const struct tt_request_options *o = &r->options;
	size_t n = r->n_tokens - o->n_ids;
	r->tokens[r->n_tokens++] = sample->token;
	r->logprobs[n] = sample->logprob;
	r->n_top[n] = sample->n_top < o->n_top ? sample->n_top : o->n_top;
	for (uint32_t i = 0; i < r->n_top[n]; i++) {
		r->top_ids[n * o->n_top + i] = sample->top_tokens[i];
		r->top_logprobs[n * o->n_top + i] = sample->top_logprobs[i];
	}
	if (!o->ignore_eos && tt_request_is_eos(r->engine, sample->token))
		r->finish = TT_FINISH_STOP;
	else if (n + 1 == o->max_tokens)
		r->finish = TT_FINISH_LENGTH;
	else if (r->n_tokens > r->last_position)
		r->finish = TT_FINISH_CONTEXT;
}

enum tt_finish tt_request_finish(const struct tt_request *request)
{
	return request->finish;
}

size_t tt_request_n_generated(const struct tt_request *request)
{
	return request->n_tokens - request->options.n_ids;
}

const int32_t *tt_request_generated(const struct tt_request *request)
{
	return request->tokens + request->options.n_ids;
}

/* The text that a token completes, in the request's own buffer; none when there is no memory for it, since the token
 * itself must not be lost. */
static void detokenise(struct tt_request *r, struct tt_token *token)
{
	const struct tt_tokenizer *tokenizer = tt_text_tokenizer(r->engine->text);
	size_t n = 0;
	const char *piece = "";
	if (tokenizer && !tt_tokenizer_is_special(tokenizer, token->id))
		piece = tt_tokenizer_piece(tokenizer, token->id, &n);
	token->text = "";
	if (tt_grow(&r->text, &r->text_capacity, 3 * n + 32, 1, NULL) != TT_OK)
		return;
	token->n_text = tt_utf8_stream_push(&r->stream, piece, n, r->text);
	if (r->finish != TT_RUNNING && r->n_taken == tt_request_n_generated(r))
		token->n_text += tt_utf8_stream_finish(&r->stream, r->text + token->n_text);
	r->text[token->n_text] = 0;
	token->text = r->text;
}

bool tt_request_next(struct tt_request *r, struct tt_token *token)
{
	size_t n = r->n_taken, n_top = r->options.n_top;
	if (n == tt_request_n_generated(r))
		return false;
	r->n_taken++;
	*token = (struct tt_token){.id = tt_request_generated(r)[n], .logprob = r->logprobs[n], .n_top = r->n_top[n]};
	token->top_ids = r->top_ids + n * n_top;
	token->top_logprobs = r->top_logprobs + n * n_top;
	detokenise(r, token);
	return true;
}

bool tt_request_decision(const struct tt_request *request, uint32_t index, struct tt_decision *decision)
{
	if (!request->decided || index >= request->options.n_steering)
		return false;
	*decision = request->decisions[index];
	return true;
}

const float *tt_request_scores(const struct tt_request *request)
{
	return request->scores;
}

const float *tt_request_norms(const struct tt_request *request, size_t *n_positions)
{
	*n_positions = request->n_fed;
	return request->norms;
}

const float *tt_request_logits(const struct tt_request *request)
{
	return request->logits;
}

const float *tt_request_hidden(const struct tt_request *r, uint32_t layer)
{
	if (!r->hidden || layer >= r->engine->model->config.n_layers ||
		!(r->keep_layers[layer / 64] >> (layer % 64) & 1))
		return NULL;
	return r->hidden + (size_t)count_kept(r->keep_layers, layer) * (r->options.n_ids - r->options.keep_from) *
				   r->engine->model->config.hidden_size;
}
