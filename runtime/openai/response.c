#include "runtime/openai/response.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/string_index.h"
#include "base/utf8.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/pump.h"
#include "runtime/engine/request.h"
#include "runtime/openai/prompt_logprobs.h"

static int no_memory(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MEMORY, "out of memory");
}

/* Choice 0 has the body's own seed, so that it equals the answer of `generate --seed`. */
static uint64_t choice_seed(uint64_t seed, uint32_t index)
{
	return index == 0 ? seed : tt_hash_u64(seed ^ tt_hash_u64(index));
}

/* What is asked of the engine for a choice. */
static struct tt_request_options options_of(const struct tt_api_request *body, uint32_t index)
{
	const struct tt_api_prompt *prompt = tt_api_prompt_of(body, index);
	struct tt_request_options options = body->options;
	options.ids = prompt->ids;
	options.n_ids = prompt->n_ids;
	options.mean_from = prompt->mean_from;
	options.mean_to = prompt->mean_to;
	options.stop = body->stop;
	options.n_stop = body->n_stop;
	options.stop_ids = body->stop_ids;
	options.n_stop_ids = body->n_stop_ids;
	/* Choices of a prompt are those of a body with this prompt alone. */
	options.sampling.seed = choice_seed(options.sampling.seed, index % body->n);
	if (!tt_api_scores(body))
		return options;
	options.score = true;
	options.n_prompt = options.score_from = prompt->score_from;
	options.score_top = body->echo && body->logprobs ? body->options.n_top : 0;
	if (body->prompt_logprobs && body->n_prompt_top > options.score_top)
		options.score_top = body->n_prompt_top;
	return options;
}

int tt_api_request_check(struct tt_engine *engine, const struct tt_api_request *body, struct tt_error *err)
{
	char name[32];
	for (uint32_t i = 0; i < body->n_prompts; i++) {
		const struct tt_request_options options = options_of(body, i * body->n);
		int status = tt_request_check(engine, &options, err);
		snprintf(name, sizeof name, "prompt[%u]", i);
		if (status != TT_OK)
			return body->n_prompts > 1 ? tt_fail_within(err, name) : status;
	}
	return TT_OK;
}

int tt_choice_submit(struct tt_choice *out, struct tt_request **request, struct tt_engine *engine,
	const struct tt_api_request *body, uint32_t index, bool trace, struct tt_error *err)
{
	struct tt_request_options options = options_of(body, index);
	*out = (struct tt_choice){.index = index};
	if (body->logprobs) {
		out->logprobs = body->endpoint == TT_CHAT_COMPLETIONS
					? json_array()
					: json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs",
						  "top_logprobs", "text_offset");
		if (!out->logprobs)
			return no_memory(err);
	}
	options.trace = trace;
	return tt_request_submit_own(request, engine, &options, err);
}

/* ---- Log-probabilities */

json_t *tt_piece_json(const char *piece, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	char text[1024] = "bytes:";
	size_t at = 6;
	json_t *whole = json_stringn(piece, n);
	if (whole)
		return whole;
	for (size_t i = 0; i < n && at + 4 <= sizeof text; i++) {
		const char escape[4] = {'\\', 'x', digits[(unsigned char)piece[i] >> 4], digits[piece[i] & 15]};
		memcpy(text + at, escape, 4);
		at += 4;
	}
	return json_stringn(text, at);
}

static json_t *bytes_json(const char *piece, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer((unsigned char)piece[i]));
	return list;
}

static json_t *chat_entry(const struct tt_text *text, int32_t id, float logprob)
{
	size_t n;
	const char *piece = tt_text_piece(text, id, &n);
	return json_pack("{s:o, s:o, s:o}", "token", tt_piece_json(piece, n), "logprob",
		tt_json_number((double)logprob), "bytes", bytes_json(piece, n));
}

static int add_chat_logprob(
	struct tt_choice *choice, const struct tt_text *text, const struct tt_token *token, struct tt_error *err)
{
	json_t *entry = chat_entry(text, token->id, token->logprob), *top = json_array();
	for (uint32_t i = 0; i < token->n_top; i++)
		if (json_array_append_new(top, chat_entry(text, token->top_ids[i], token->top_logprobs[i])) < 0) {
			json_decref(entry);
			json_decref(top);
			return no_memory(err);
		}
	if (json_object_set_new(entry, "top_logprobs", top) < 0 || json_array_append_new(choice->logprobs, entry) < 0)
		return no_memory(err);
	return TT_OK;
}

static void set_top(json_t *top, const struct tt_text *text, int32_t id, float logprob)
{
	size_t n;
	const char *piece = tt_text_piece(text, id, &n);
	json_t *key = tt_piece_json(piece, n);
	if (key && !json_object_getn(top, json_string_value(key), json_string_length(key)))
		json_object_setn_new(
			top, json_string_value(key), json_string_length(key), tt_json_number((double)logprob));
	json_decref(key);
}

/* The likeliest tokens and the chosen one, with their text as key. */
static json_t *top_json(const struct tt_text *text, const struct tt_token *token)
{
	json_t *top = json_object();
	for (uint32_t i = 0; i < token->n_top; i++)
		set_top(top, text, token->top_ids[i], token->top_logprobs[i]);
	set_top(top, text, token->id, token->logprob);
	return top;
}

int tt_add_completion_logprob(struct tt_choice *choice, const struct tt_text *text, const struct tt_token *token,
	bool told, struct tt_error *err)
{
	size_t n;
	const char *piece = tt_text_piece(text, token->id, &n);
	json_t *lists = choice->logprobs;
	if (json_array_append_new(json_object_get(lists, "tokens"), tt_piece_json(piece, n)) < 0 ||
		json_array_append_new(json_object_get(lists, "token_logprobs"),
			told ? tt_json_number((double)token->logprob) : json_null()) < 0 ||
		json_array_append_new(
			json_object_get(lists, "top_logprobs"), told ? top_json(text, token) : json_null()) < 0 ||
		json_array_append_new(json_object_get(lists, "text_offset"), json_integer((json_int_t)choice->offset)) <
			0)
		return no_memory(err);
	return TT_OK;
}

int tt_choice_begin(
	struct tt_choice *choice, const struct tt_api_request *body, const struct tt_text *text, struct tt_error *err)
{
	return body->echo ? tt_choice_echo(choice, body, text, err) : TT_OK;
}

int tt_choice_add(struct tt_choice *choice, const struct tt_token *token, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err)
{
	if (choice->logprobs && body->endpoint == TT_CHAT_COMPLETIONS)
		TT_TRY(add_chat_logprob(choice, text, token, err));
	else if (choice->logprobs)
		TT_TRY(tt_add_completion_logprob(choice, text, token, true, err));
	TT_TRY(tt_buffer_add(&choice->text, token->text, token->n_text, err));
	choice->offset += tt_utf8_count(token->text, token->n_text);
	return TT_OK;
}

void tt_choice_clear(struct tt_choice *choice)
{
	const char *key;
	json_t *list;
	choice->text.len = 0;
	if (json_is_array(choice->logprobs))
		json_array_clear(choice->logprobs);
	json_object_foreach(choice->logprobs, key, list) json_array_clear(list);
}

int tt_choice_collect(struct tt_choice *choice, struct tt_request *request, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err)
{
	struct tt_token token;
	choice->request = request;
	TT_TRY(tt_choice_begin(choice, body, text, err));
	while (tt_request_next(request, &token))
		TT_TRY(tt_choice_add(choice, &token, body, text, err));
	return TT_OK;
}

void tt_choice_free(struct tt_choice *choice)
{
	tt_request_free(choice->request);
	tt_buffer_free(&choice->text);
	json_decref(choice->logprobs);
	*choice = (struct tt_choice){0};
}

/* ---- The answer */

static json_t *coefficients_json(const struct tt_decision *decision, uint32_t n_layers)
{
	json_t *layers = json_object();
	char key[16];
	for (uint32_t l = 0; l < n_layers; l++) {
		snprintf(key, sizeof key, "%u", l);
		if (decision->coef[l] != 0)
			json_object_set_new(layers, key, tt_json_number((double)decision->coef[l]));
	}
	return layers;
}

/* What a server says beside what a batch does. */
static void add_facts(json_t *entry, const struct tt_named_policy *policy, const struct tt_decision *decision)
{
	struct tt_policy_info info;
	tt_policy_describe(policy->policy, &info);
	json_object_set_new(entry, "version", json_string(policy->sha256));
	if (policy->label)
		json_object_set_new(entry, "label", json_string(policy->label));
	json_object_set_new(
		entry, "threshold", info.has_threshold ? tt_json_number((double)info.threshold) : json_null());
	json_object_set_new(entry, "killed", json_boolean(decision->killed || policy->killed));
}

static json_t *decision_json(
	const struct tt_request *request, const struct tt_api_request *body, uint32_t index, uint32_t n_layers)
{
	struct tt_decision d = {0};
	json_t *entry = json_pack("{s:s, s:o}", "policy", body->policies[index]->name, "scale",
		tt_json_number((double)body->options.steering[index].scale));
	bool decided = entry && tt_request_decision(request, index, &d);
	if (decided) {
		json_object_set_new(entry, "when", json_string(tt_when_word(d.when)));
		json_object_set_new(entry, "s", tt_json_number((double)d.s));
		json_object_set_new(entry, "gate", tt_json_number((double)d.gate));
		json_object_set_new(entry, "coef", coefficients_json(&d, n_layers));
		if (d.killed)
			json_object_set_new(entry, "killed_from", json_integer((json_int_t)d.killed_from));
	}
	if (entry && body->serves)
		add_facts(entry, body->policies[index], &d);
	return entry;
}

static json_t *decisions_json(const struct tt_request *request, const struct tt_api_request *body, uint32_t from,
	uint32_t to, uint32_t n_layers)
{
	if (from == to)
		return json_null();
	json_t *list = json_array();
	for (uint32_t i = from; i < to; i++)
		json_array_append_new(list, decision_json(request, body, i, n_layers));
	return list;
}

json_t *tt_decisions_json(const struct tt_request *request, const struct tt_api_request *body, uint32_t n_layers)
{
	return decisions_json(request, body, 0, body->n_acting, n_layers);
}

json_t *tt_shadows_json(const struct tt_request *request, const struct tt_api_request *body, uint32_t n_layers)
{
	return decisions_json(request, body, body->n_acting, body->options.n_steering, n_layers);
}

const char *tt_finish_word(enum tt_finish finish)
{
	return finish == TT_FINISH_STOP ? "stop" : "length";
}

static const char *finish_reason(const struct tt_request *request)
{
	return tt_finish_word(tt_request_finish(request));
}

static json_t *choice_json(const struct tt_api_request *body, const struct tt_choice *choice, uint32_t index)
{
	const char *text = choice->text.data ? choice->text.data : "";
	json_t *logprobs = choice->logprobs ? json_incref(choice->logprobs) : json_null();
	if (body->endpoint == TT_COMPLETIONS)
		return json_pack("{s:i, s:s%, s:o, s:s}", "index", (int)index, "text", text, choice->text.len,
			"logprobs", logprobs, "finish_reason", finish_reason(choice->request));
	if (choice->logprobs)
		logprobs = json_pack("{s:o, s:n}", "content", logprobs, "refusal");
	return json_pack("{s:i, s:{s:s, s:s%, s:n}, s:o, s:s}", "index", (int)index, "message", "role", "assistant",
		"content", text, choice->text.len, "refusal", "logprobs", logprobs, "finish_reason",
		finish_reason(choice->request));
}

static int add_prompt_logprobs(json_t *object, const struct tt_engine *engine, const struct tt_api_request *body,
	const struct tt_choice *choice, struct tt_error *err)
{
	json_t *list;
	TT_TRY(tt_prompt_logprobs_json(&list, choice, body, tt_engine_text(engine), err));
	return tt_json_set(object, "prompt_logprobs", list, err);
}

/* What is said of a choice beside OpenAI's keys; of a chat, that is for all of them. */
static int add_extras(json_t *object, const struct tt_engine *engine, const struct tt_api_request *body,
	const struct tt_choice *choice, struct tt_error *err)
{
	if (body->prompt_logprobs && body->endpoint == TT_COMPLETIONS)
		TT_TRY(add_prompt_logprobs(object, engine, body, choice, err));
	if (body->n_prompts == 1) /* the answer's own says the same */
		return TT_OK;
	return tt_json_set(
		object, "steering", tt_decisions_json(choice->request, body, tt_engine_info(engine)->n_layers), err);
}

int tt_answer_json(json_t **out, const struct tt_engine *engine, const struct tt_api_request *body,
	const struct tt_choice *choices, const char *id, int64_t created, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	bool chat = body->endpoint == TT_CHAT_COMPLETIONS;
	json_int_t n_prompt = (json_int_t)tt_api_n_prompt_tokens(body), n_generated = 0;
	json_t *list = json_array();
	for (uint32_t i = 0; i < tt_api_n_choices(body); i++) {
		json_t *choice = choice_json(body, &choices[i], i);
		int status = choice ? add_extras(choice, engine, body, &choices[i], err) : no_memory(err);
		n_generated += (json_int_t)tt_request_n_generated(choices[i].request);
		if (status == TT_OK && json_array_append(list, choice) < 0)
			status = no_memory(err);
		json_decref(choice);
		if (status != TT_OK) {
			json_decref(list);
			return status;
		}
	}
	*out = json_pack("{s:s++, s:s, s:I, s:s, s:s#, s:o, s:{s:I, s:I, s:I}, s:s, s:o}", "id",
		chat ? "chatcmpl-" : "cmpl-", id, "", "object", chat ? "chat.completion" : "text_completion", "created",
		(json_int_t)created, "model", info->name, "system_fingerprint", info->weights_digest, 16, "choices",
		list, "usage", "prompt_tokens", n_prompt, "completion_tokens", n_generated, "total_tokens",
		n_prompt + n_generated, "mode", info->mode, "steering",
		tt_decisions_json(choices[0].request, body, info->n_layers));
	if (!*out)
		return no_memory(err);
	int status = TT_OK;
	if (strcmp(tt_engine_compute(engine), "f32") != 0) /* which has never been named */
		status = tt_json_set(*out, "compute", json_string(tt_engine_compute(engine)), err);
	if (status == TT_OK && chat && body->prompt_logprobs)
		status = add_prompt_logprobs(*out, engine, body, choices, err);
	if (status != TT_OK) {
		json_decref(*out);
		*out = NULL;
	}
	return status;
}
