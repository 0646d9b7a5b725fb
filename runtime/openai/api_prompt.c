#include "runtime/openai/api_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "runtime/openai/request_body.h"
#include "runtime/text/chat.h"
#include "runtime/text/text.h"

/* ---- Messages */

/* The text of a message's content, which is a string or a list of parts that are all text. *out is a new reference. */
static int join_content(json_t **out, const json_t *content, size_t message, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = tt_buffer_add(&text, "", 0, err);
	for (size_t i = 0; status == TT_OK && i < json_array_size(content); i++) {
		const json_t *part = json_array_get(content, i), *words = json_object_get(part, "text");
		const char *type = json_string_value(json_object_get(part, "type"));
		if (!type || strcmp(type, "text") != 0 || !json_is_string(words))
			status = tt_fail(err, TT_ERR_UNSUPPORTED,
				"messages[%zu] has content of type \"%.40s\"; only text is supported", message,
				type ? type : "?");
		else
			status = tt_buffer_add(&text, json_string_value(words), json_string_length(words), err);
	}
	*out = status == TT_OK ? json_stringn(text.data, text.len) : NULL;
	tt_buffer_free(&text);
	return status != TT_OK || *out ? status : tt_fail(err, TT_ERR_MEMORY, "out of memory");
}

/* A message in the form that templates know. */
static int clean_message(json_t *out, const json_t *message, size_t index, struct tt_error *err)
{
	static const char *const keys[] = {"role", "content", "name", "refusal", "type", NULL};
	char what[40];
	json_t *content = NULL;
	snprintf(what, sizeof what, "messages[%zu]", index);
	if (!json_is_object(message))
		return tt_fail(err, TT_ERR_FORMAT, "%s must be an object", what);
	TT_TRY(tt_api_only_keys(message, keys, what, err));
	const char *role = json_string_value(json_object_get(message, "role")), *type = NULL;
	TT_TRY(tt_within(tt_json_string(message, "type", &type, err), err, what));
	if (type && strcmp(type, "text") != 0) /* lm-eval says so of each of its messages */
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s is of type \"%.40s\"; only text is supported", what, type);
	const json_t *given = json_object_get(message, "content");
	if (!role)
		return tt_fail(err, TT_ERR_FORMAT, "%s has no role", what);
	if (json_is_string(given))
		content = json_incref((json_t *)(uintptr_t)given);
	else if (json_is_array(given))
		TT_TRY(join_content(&content, given, index, err));
	else
		return tt_fail(err, TT_ERR_FORMAT, "%s has no content", what);
	json_t *clean = json_pack("{s:s, s:o}", "role", tt_chat_role(role), "content", content);
	if (json_array_append_new(out, clean) < 0)
		return tt_fail(err, TT_ERR_MEMORY, "out of memory");
	return TT_OK;
}

int tt_api_read_messages(
	struct tt_api_prompt *out, const json_t *body, const struct tt_text *text, int64_t now, struct tt_error *err)
{
	const json_t *messages = json_object_get(body, "messages");
	const struct tt_chat_options chat = {.size = sizeof chat, .now = now};
	int status = TT_OK;
	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return tt_fail(err, TT_ERR_FORMAT, "messages must be a list that is not empty");
	json_t *clean = json_array();
	for (size_t i = 0; status == TT_OK && i < json_array_size(messages); i++)
		status = clean_message(clean, json_array_get(messages, i), i, err);
	char *json = NULL;
	if (status == TT_OK)
		status = tt_json_dump(&json, json_incref(clean), JSON_COMPACT, err);
	json_decref(clean);
	if (status == TT_OK)
		status = tt_text_encode_chat_span(
			text, json, &chat, &out->ids, &out->n_ids, &out->mean_from, &out->mean_to, err);
	free(json);
	return status;
}

/* ---- Prompts */

static int bad_prompt(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT, "prompt must be a string, a list of token ids, or a list of such");
}

static int read_ids(struct tt_api_prompt *out, const json_t *prompt, const struct tt_text *text, struct tt_error *err)
{
	size_t n = json_array_size(prompt);
	TT_TRY(tt_alloc(&out->ids, n, sizeof *out->ids, err));
	for (size_t i = 0; i < n; i++) {
		const json_t *id = json_array_get(prompt, i);
		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
			return bad_prompt(err);
		out->ids[i] = (int32_t)json_integer_value(id);
	}
	out->n_ids = n;
	out->no_special = true;
	return tt_text_has_tokenizer(text) ? tt_text_decode(text, out->ids, n, &out->text, err)
					   : tt_copy_string(&out->text, "", 0, err);
}

static int read_text(struct tt_api_prompt *out, const json_t *prompt, const struct tt_text *text, struct tt_error *err)
{
	const unsigned flags = TT_TEXT_BOS | TT_TEXT_SPECIAL;
	const char *string = json_string_value(prompt);
	size_t n = json_string_length(prompt);
	TT_TRY(tt_text_encode(text, string, n, flags, &out->ids, &out->n_ids, err));
	TT_TRY(tt_text_n_front(text, flags, &out->n_hidden, err));
	return tt_copy_string(&out->text, string, n, err);
}

static int read_prompt(
	struct tt_api_prompt *out, const json_t *prompt, const struct tt_text *text, struct tt_error *err)
{
	if (json_is_string(prompt))
		return read_text(out, prompt, text, err);
	return json_is_array(prompt) ? read_ids(out, prompt, text, err) : bad_prompt(err);
}

int tt_api_read_prompts(
	struct tt_api_prompt **out, uint32_t *n, const json_t *body, const struct tt_text *text, struct tt_error *err)
{
	const json_t *prompt = json_object_get(body, "prompt"), *first = json_array_get(prompt, 0);
	bool several = json_is_string(first) || json_is_array(first);
	size_t n_prompts = several ? json_array_size(prompt) : 1;
	if (n_prompts > TT_MAX_API_PROMPTS)
		return tt_fail(err, TT_ERR_FORMAT, "prompt has more than %d prompts", TT_MAX_API_PROMPTS);
	TT_TRY(tt_alloc(out, n_prompts, sizeof **out, err));
	*n = (uint32_t)n_prompts;
	if (!several)
		return read_prompt(*out, prompt, text, err);
	for (size_t i = 0; i < n_prompts; i++)
		TT_TRY(read_prompt(&(*out)[i], json_array_get(prompt, i), text, err));
	return TT_OK;
}

void tt_api_prompts_free(struct tt_api_prompt *prompts, uint32_t n)
{
	for (uint32_t i = 0; prompts && i < n; i++) {
		tt_free(prompts[i].ids);
		tt_free(prompts[i].text);
	}
	free(prompts);
}
