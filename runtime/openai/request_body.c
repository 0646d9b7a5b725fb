#include "runtime/openai/request_body.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/sampling.h"
#include "runtime/openai/api_steering.h"

/* How a known key is treated. */
enum treatment {
	HONOURED,
	LABEL,  /* does not affect the answer: accepted and ignored */
	OFF,    /* accepted only if it asks for nothing: null, false, 0, "", an empty list or object */
	ONE,    /* accepted only as null or 1, which asks for nothing */
	TRUE,   /* accepted only as null or true: what is done anyway */
	SERVED, /* a server's: honoured there, elsewhere as OFF */
};

struct key {
	const char *name;
	enum treatment treatment;
};

static const struct key common_keys[] = {
	{"model", LABEL}, /* a batch is for one model, which the command names; every answer says which */
	{"max_tokens", HONOURED},
	{"temperature", HONOURED},
	{"top_p", HONOURED},
	{"top_k", HONOURED},
	{"min_p", HONOURED},
	{"seed", HONOURED},
	{"stop", HONOURED},
	{"stop_token_ids", HONOURED},
	{"n", HONOURED},
	{"ignore_eos", HONOURED},
	{"logprobs", HONOURED},
	{"prompt_logprobs", HONOURED},
	{"steering", HONOURED},
	{"user", LABEL},
	{"stream", SERVED},
	{"stream_options", SERVED},
	{"timeout", SERVED},
	{"presence_penalty", HONOURED},
	{"frequency_penalty", HONOURED},
	{"repetition_penalty", HONOURED},
	{"length_penalty", ONE},
	{"min_tokens", OFF},
	{"use_beam_search", OFF},
	{"include_stop_str_in_output", OFF},
	{"skip_special_tokens", TRUE},
	{"logit_bias", OFF},
	{NULL, OFF},
};

static const struct key chat_keys[] = {
	{"messages", HONOURED},
	{"max_completion_tokens", HONOURED},
	{"top_logprobs", HONOURED},
	{"response_format", HONOURED},
	{"metadata", LABEL},
	{"safety_identifier", LABEL},
	{"prompt_cache_key", LABEL},
	{"service_tier", LABEL},
	{"store", OFF},
	{"tools", OFF},
	{"functions", OFF},
	{NULL, OFF},
};

static const struct key completion_keys[] = {
	{"prompt", HONOURED},
	{"best_of", HONOURED},
	{"echo", HONOURED},
	{"prompt_logprobs_from", HONOURED},
	{"suffix", OFF},
	{NULL, OFF},
};

int tt_api_at(struct tt_api_request *out, const char *param, int status)
{
	if (status != TT_OK && !*out->param)
		snprintf(out->param, sizeof out->param, "%s", param);
	return status;
}

/* As a word of this file. */
static int at(struct tt_api_request *out, const char *param, int status)
{
	return tt_api_at(out, param, status);
}

static const struct key *find_key(const struct key *keys, const char *name)
{
	while (keys->name && strcmp(keys->name, name) != 0)
		keys++;
	return keys->name ? keys : NULL;
}

static bool asks_for_nothing(const json_t *value)
{
	return json_is_null(value) || json_is_false(value) ||
	       (json_is_number(value) && json_number_value(value) == 0) ||
	       (json_is_string(value) && json_string_length(value) == 0) ||
	       (json_is_array(value) && json_array_size(value) == 0) ||
	       (json_is_object(value) && json_object_size(value) == 0);
}

static bool is_accepted(const json_t *value, enum treatment treatment, bool serves)
{
	if (treatment == ONE)
		return json_is_null(value) || (json_is_number(value) && json_number_value(value) == 1);
	if (treatment == TRUE)
		return json_is_null(value) || json_is_true(value);
	return treatment == HONOURED || treatment == LABEL || (treatment == SERVED && serves) ||
	       asks_for_nothing(value);
}

/* Of a name only what stands in a header's token, since that is where it is told. */
static void ignore(struct tt_api_request *out, const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t n = strlen(out->ignored);
	int n_name = (int)strspn(name, allowed);
	if (n + (size_t)n_name + 3 < sizeof out->ignored)
		snprintf(out->ignored + n, sizeof out->ignored - n, "%s%.*s%s", n ? ", " : "", n_name, name,
			name[n_name] ? "?" : "");
}

static int check_keys(struct tt_api_request *out, const json_t *body, bool lenient, struct tt_error *err)
{
	const struct key *own = out->endpoint == TT_CHAT_COMPLETIONS ? chat_keys : completion_keys;
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)body, name, value)
	{
		const struct key *key = find_key(common_keys, name);
		key = key ? key : find_key(own, name);
		if (!key && lenient) {
			ignore(out, name);
			continue;
		}
		out->code = key ? "unsupported_parameter" : "unknown_parameter";
		if (!key)
			return at(out, name, tt_fail(err, TT_ERR_FORMAT, "unknown key \"%.60s\"", name));
		if (!is_accepted(value, key->treatment, out->serves))
			return at(out, name, tt_fail(err, TT_ERR_UNSUPPORTED, "%s is not supported", name));
	}
	out->code = NULL;
	return TT_OK;
}

int tt_api_only_keys(const json_t *object, const char *const *allowed, const char *what, struct tt_error *err)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		size_t i = 0;
		while (allowed[i] && strcmp(allowed[i], name) != 0)
			i++;
		if (!allowed[i])
			return tt_fail(err, TT_ERR_FORMAT, "%s has the unknown key \"%.60s\"", what, name);
	}
	return TT_OK;
}

/* ---- Sampling */

/* A seed may be negative, as in OpenAI's API. */
static int parse_seed(uint64_t *out, const json_t *body, struct tt_error *err)
{
	const json_t *seed = json_object_get(body, "seed");
	if (!seed || json_is_null(seed))
		return TT_OK;
	if (!json_is_integer(seed))
		return tt_fail(err, TT_ERR_FORMAT, "seed must be an integer");
	*out = (uint64_t)json_integer_value(seed);
	return TT_OK;
}

static int parse_max_tokens(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	const uint32_t least = out->echo || out->prompt_logprobs ? 0 : 1, absent = UINT32_MAX;
	uint32_t older = absent, newer = absent;
	TT_TRY(tt_json_u32(body, "max_tokens", least, 1 << 24, &older, err));
	if (out->endpoint == TT_CHAT_COMPLETIONS)
		TT_TRY(tt_json_u32(body, "max_completion_tokens", least, 1 << 24, &newer, err));
	if (older != absent && newer != absent && older != newer)
		return tt_fail(err, TT_ERR_FORMAT, "max_tokens and max_completion_tokens differ");
	if (older != absent || newer != absent)
		out->options.max_tokens = older != absent ? older : newer;
	return TT_OK;
}

static int parse_logprobs(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	const json_t *prompt = json_object_get(body, "prompt_logprobs");
	out->prompt_logprobs = prompt && !json_is_null(prompt);
	TT_TRY(tt_json_u32(body, "prompt_logprobs", 0, TT_MAX_TOP, &out->n_prompt_top, err));
	if (out->endpoint == TT_COMPLETIONS)
		TT_TRY(tt_json_bool(body, "echo", &out->echo, err));
	if (out->endpoint == TT_COMPLETIONS) {
		const json_t *n = json_object_get(body, "logprobs");
		out->logprobs = n && !json_is_null(n);
		return tt_json_u32(body, "logprobs", 0, TT_MAX_TOP, &out->options.n_top, err);
	}
	TT_TRY(tt_json_bool(body, "logprobs", &out->logprobs, err));
	TT_TRY(tt_json_u32(body, "top_logprobs", 0, TT_MAX_TOP, &out->options.n_top, err));
	if (out->options.n_top && !out->logprobs)
		return tt_fail(err, TT_ERR_FORMAT, "top_logprobs needs logprobs to be true");
	return TT_OK;
}

static int add_stop(struct tt_api_request *out, const json_t *stop, struct tt_error *err)
{
	if (!json_is_string(stop) || json_string_length(stop) == 0)
		return tt_fail(err, TT_ERR_FORMAT, "stop must be a string that is not empty, or a list of them");
	if (out->n_stop == TT_MAX_STOP)
		return tt_fail(err, TT_ERR_FORMAT, "more than %d stop strings", TT_MAX_STOP);
	out->stop[out->n_stop++] = json_string_value(stop);
	return TT_OK;
}

static int parse_stop(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	const json_t *stop = json_object_get(body, "stop");
	if (!stop || json_is_null(stop))
		return TT_OK;
	if (!json_is_array(stop))
		return add_stop(out, stop, err);
	for (size_t i = 0; i < json_array_size(stop); i++)
		TT_TRY(add_stop(out, json_array_get(stop, i), err));
	return TT_OK;
}

static int parse_stop_ids(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	const json_t *list = json_object_get(body, "stop_token_ids");
	if (!list || json_is_null(list))
		return TT_OK;
	if (!json_is_array(list) || json_array_size(list) > TT_MAX_STOPS)
		return tt_fail(err, TT_ERR_FORMAT, "stop_token_ids must be a list of at most %d ids", TT_MAX_STOPS);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *id = json_array_get(list, i);
		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
			return tt_fail(err, TT_ERR_FORMAT, "stop_token_ids must hold token ids");
		out->stop_ids[out->n_stop_ids++] = (int32_t)json_integer_value(id);
	}
	return TT_OK;
}

/* Its key is the one at fault whatever is wrong with it. */
static int parse_number(
	struct tt_api_request *out, const json_t *body, const char *key, float *number, struct tt_error *err)
{
	TT_TRY(at(out, key, tt_json_any_float(body, key, number, err)));
	return at(out, key, tt_sampling_check(&out->options.sampling, err));
}

static int parse_penalties(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	struct tt_request_options *o = &out->options;
	const struct {
		const char *key;
		float *to;
	} penalties[] = {
		{"repetition_penalty", &o->repetition_penalty},
		{"presence_penalty", &o->presence_penalty},
		{"frequency_penalty", &o->frequency_penalty},
	};
	for (int i = 0; i < 3; i++) {
		const char *key = penalties[i].key;
		TT_TRY(at(out, key, tt_json_any_float(body, key, penalties[i].to, err)));
		TT_TRY(at(out, key,
			tt_penalties_check(o->repetition_penalty, o->presence_penalty, o->frequency_penalty, err)));
	}
	return TT_OK;
}

static int parse_sampling(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	struct tt_request_options *o = &out->options;
	const json_t *top_k = json_object_get(body, "top_k");
	uint32_t best_of = 1;
	TT_TRY(parse_number(out, body, "temperature", &o->sampling.temperature, err));
	TT_TRY(parse_number(out, body, "top_p", &o->sampling.top_p, err));
	TT_TRY(parse_number(out, body, "min_p", &o->sampling.min_p, err));
	TT_TRY(parse_penalties(out, body, err));
	if (!json_is_integer(top_k) || json_integer_value(top_k) != -1) /* -1 is vLLM's "off" */
		TT_TRY(at(out, "top_k", tt_json_u32(body, "top_k", 0, TT_MAX_TOP_K, &o->sampling.top_k, err)));
	TT_TRY(at(out, "ignore_eos", tt_json_bool(body, "ignore_eos", &o->ignore_eos, err)));
	TT_TRY(at(out, "n", tt_json_u32(body, "n", 1, TT_MAX_CHOICES, &out->n, err)));
	TT_TRY(at(out, "best_of", tt_json_u32(body, "best_of", 1, TT_MAX_CHOICES, &best_of, err)));
	if (best_of != 1 && best_of != out->n)
		return at(out, "best_of", tt_fail(err, TT_ERR_UNSUPPORTED, "best_of is not supported"));
	TT_TRY(at(out, "seed", parse_seed(&o->sampling.seed, body, err)));
	/* Before max_tokens, which may be 0 where a prompt is told of. */
	TT_TRY(at(out, "logprobs", parse_logprobs(out, body, err)));
	TT_TRY(at(out, "max_tokens", parse_max_tokens(out, body, err)));
	TT_TRY(at(out, "stop_token_ids", parse_stop_ids(out, body, err)));
	return at(out, "stop", parse_stop(out, body, err));
}

/* ---- What only a server does */

static int parse_stream(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	static const char *const keys[] = {"include_usage", "continuous_usage_stats", "include_obfuscation", NULL};
	const json_t *options = json_object_get(body, "stream_options");
	bool obfuscation = false;
	TT_TRY(at(out, "stream", tt_json_bool(body, "stream", &out->stream, err)));
	if (!options || json_is_null(options))
		return TT_OK;
	if (!json_is_object(options) || !out->stream)
		return at(out, "stream_options",
			tt_fail(err, TT_ERR_FORMAT, "stream_options must be an object, beside a stream that is true"));
	TT_TRY(at(out, "stream_options", tt_api_only_keys(options, keys, "stream_options", err)));
	TT_TRY(at(out, "stream_options", tt_json_bool(options, "include_usage", &out->include_usage, err)));
	TT_TRY(at(out, "stream_options", tt_json_bool(options, "include_obfuscation", &obfuscation, err)));
	if (obfuscation)
		return at(out, "stream_options",
			tt_fail(err, TT_ERR_UNSUPPORTED, "include_obfuscation is not supported"));
	return at(out, "stream_options", tt_json_bool(options, "continuous_usage_stats", &out->continuous_usage, err));
}

static int parse_timeout(
	struct tt_api_request *out, const json_t *body, const struct tt_api_context *context, struct tt_error *err)
{
	float timeout = 0;
	TT_TRY(at(out, "timeout", tt_json_float(body, "timeout", 0.001, 1e6, &timeout, err)));
	out->options.timeout = context->timeout;
	if (timeout > 0 && (out->options.timeout == 0 || (double)timeout < out->options.timeout))
		out->options.timeout = (double)timeout;
	return TT_OK;
}

/* ---- The whole */

/* A number for all prompts, or one for each. */
static int parse_score_from(struct tt_api_request *out, const json_t *body, struct tt_error *err)
{
	const json_t *from = json_object_get(body, "prompt_logprobs_from");
	bool list = json_is_array(from);
	if (!from || json_is_null(from))
		return TT_OK;
	if (!tt_api_scores(out))
		return tt_fail(err, TT_ERR_FORMAT, "prompt_logprobs_from needs prompt_logprobs, or echo and logprobs");
	if (list && json_array_size(from) != out->n_prompts)
		return tt_fail(err, TT_ERR_FORMAT, "prompt_logprobs_from must have a number for each prompt");
	for (uint32_t i = 0; i < out->n_prompts; i++) {
		const json_t *value = list ? json_array_get(from, i) : from;
		if (!json_is_integer(value) || json_integer_value(value) < 0 ||
			(uint64_t)json_integer_value(value) > out->prompts[i].n_ids)
			return tt_fail(err, TT_ERR_FORMAT,
				"prompt_logprobs_from must be from 0 to the prompt's %zu tokens",
				out->prompts[i].n_ids);
		out->prompts[i].score_from = (size_t)json_integer_value(value);
	}
	return TT_OK;
}

bool tt_api_scores(const struct tt_api_request *body)
{
	return body->prompt_logprobs || (body->echo && body->logprobs);
}

const struct tt_api_prompt *tt_api_prompt_of(const struct tt_api_request *body, uint32_t choice)
{
	return &body->prompts[choice / body->n];
}

uint32_t tt_api_n_choices(const struct tt_api_request *body)
{
	return body->n_prompts * body->n;
}

size_t tt_api_n_prompt_tokens(const struct tt_api_request *body)
{
	size_t n = 0;
	for (uint32_t i = 0; i < body->n_prompts; i++)
		n += body->prompts[i].n_ids;
	return n;
}

/* The only response_format that can be asked for is text. */
static int check_format(const json_t *body, struct tt_error *err)
{
	const json_t *format = json_object_get(body, "response_format");
	const char *type = json_string_value(json_object_get(format, "type"));
	if (format && !json_is_null(format) && (!type || strcmp(type, "text") != 0))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "response_format is not supported (only text)");
	return TT_OK;
}

static int parse(
	struct tt_api_request *out, const json_t *body, const struct tt_api_context *context, struct tt_error *err)
{
	if (!json_is_object(body))
		return tt_fail(err, TT_ERR_FORMAT, "body must be an object");
	TT_TRY(check_keys(out, body, context->lenient, err));
	TT_TRY(at(out, "response_format", check_format(body, err)));
	TT_TRY(parse_sampling(out, body, err));
	TT_TRY(tt_api_read_steering(out, body, context, err));
	if (out->serves) {
		TT_TRY(parse_stream(out, body, err));
		TT_TRY(parse_timeout(out, body, context, err));
	}
	if (out->endpoint == TT_COMPLETIONS) {
		TT_TRY(at(
			out, "prompt", tt_api_read_prompts(&out->prompts, &out->n_prompts, body, context->text, err)));
		return at(out, "prompt_logprobs_from", parse_score_from(out, body, err));
	}
	TT_TRY(tt_alloc(&out->prompts, 1, sizeof *out->prompts, err));
	out->n_prompts = 1;
	return at(out, "messages", tt_api_read_messages(out->prompts, body, context->text, context->now, err));
}

bool tt_endpoint_parse(const char *url, enum tt_endpoint *out)
{
	*out = strcmp(url, "/v1/completions") == 0 ? TT_COMPLETIONS : TT_CHAT_COMPLETIONS;
	return *out == TT_COMPLETIONS || strcmp(url, "/v1/chat/completions") == 0;
}

int tt_api_request_parse(struct tt_api_request *out, const json_t *body, enum tt_endpoint endpoint,
	const struct tt_api_context *context, struct tt_error *err)
{
	*out = (struct tt_api_request){.endpoint = endpoint, .n = 1, .serves = context->serves};
	tt_request_options_default(&out->options);
	out->options.max_tokens = context->max_tokens;
	out->options.sampling = context->sampling;
	int status = parse(out, body, context, err);
	if (status != TT_OK)
		tt_api_request_free(out);
	return status;
}

void tt_api_request_free(struct tt_api_request *body)
{
	tt_api_prompts_free(body->prompts, body->n_prompts);
	body->prompts = NULL;
	body->n_prompts = 0;
}
