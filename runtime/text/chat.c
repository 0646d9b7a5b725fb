#include "runtime/text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "weights/gguf.h"

#define NAME "chat template"
#define MAX_TEMPLATE ((size_t)1 << 20)
/* tokenizer_config.json holds an entry for each added token: 180 KB in the largest known. */
#define MAX_CONFIG ((size_t)64 << 20)

void tt_chat_free(struct tt_chat_template *chat)
{
	tt_jinja_free(chat->jinja);
	free(chat->source);
	free(chat->bos_token);
	free(chat->eos_token);
	*chat = (struct tt_chat_template){0};
}

/* Keeps the source and, if it can be parsed, the parsed template. If not, tt_chat_render will say why. */
static int keep_source(struct tt_chat_template *chat, const char *source, size_t n, struct tt_error *err)
{
	if (n > MAX_TEMPLATE || memchr(source, 0, n))
		return tt_fail(err, TT_ERR_FORMAT, "the chat template is too long or holds a zero byte");
	TT_TRY(tt_copy_string(&chat->source, source, n, err));
	int status = tt_jinja_parse(&chat->jinja, source, n, NAME, NULL);
	return status == TT_ERR_MEMORY ? tt_fail(err, status, "out of memory: chat template") : TT_OK;
}

/* The text of the token whose id is the value of key; "" if the key or the token is missing. */
static int token_from_gguf(char **out, const struct tt_gguf *file, const char *key, struct tt_error *err)
{
	const struct tt_gguf_value *tokens = tt_gguf_find(file, "tokenizer.ggml.tokens");
	struct tt_gguf_string text = {.data = "", .len = 0};
	uint32_t id = UINT32_MAX;
	TT_TRY(tt_gguf_u32(file, key, 0, UINT32_MAX, &id, err));
	if (id != UINT32_MAX && tokens && tokens->kind == TT_GGUF_ARRAY && tokens->element == TT_GGUF_STRING &&
		id < tokens->count) {
		const uint8_t *at = tokens->data;
		for (uint64_t i = 0; i <= id; i++)
			text = tt_gguf_next_string(&at);
	}
	return tt_copy_string(out, text.data, text.len, err);
}

static int fill_from_gguf(struct tt_chat_template *chat, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_gguf_string source = {0};
	TT_TRY(tt_gguf_text(file, "tokenizer.chat_template", &source, err));
	TT_TRY(token_from_gguf(&chat->bos_token, file, "tokenizer.ggml.bos_token_id", err));
	TT_TRY(token_from_gguf(&chat->eos_token, file, "tokenizer.ggml.eos_token_id", err));
	return source.data ? keep_source(chat, source.data, source.len, err) : TT_OK;
}

int tt_chat_from_gguf(struct tt_chat_template *out, const struct tt_gguf *file, struct tt_error *err)
{
	*out = (struct tt_chat_template){0};
	int status = fill_from_gguf(out, file, err);
	if (status != TT_OK)
		tt_chat_free(out);
	return status;
}

/* A token of tokenizer_config.json is its text, or an object that has the text as its "content". */
static int token_from_config(char **out, const json_t *config, const char *key, struct tt_error *err)
{
	const json_t *token = json_object_get(config, key);
	if (json_is_object(token))
		token = json_object_get(token, "content");
	if (!token || json_is_null(token))
		return tt_copy_string(out, "", 0, err);
	if (!json_is_string(token))
		return tt_fail(err, TT_ERR_FORMAT, "tokenizer_config.json: %s must be a string", key);
	return tt_copy_string(out, json_string_value(token), json_string_length(token), err);
}

/* chat_template is a string, or a list of {"name", "template"} from which "default" is taken. */
static const json_t *template_in_config(const json_t *config)
{
	const json_t *field = json_object_get(config, "chat_template");
	for (size_t i = 0; i < json_array_size(field); i++) {
		const json_t *entry = json_array_get(field, i);
		const char *name = json_string_value(json_object_get(entry, "name"));
		if (name && strcmp(name, "default") == 0)
			return json_object_get(entry, "template");
	}
	return json_is_array(field) ? NULL : field;
}

static int template_from_config(struct tt_chat_template *chat, const json_t *config, struct tt_error *err)
{
	const json_t *source = template_in_config(config);
	if (!source || json_is_null(source))
		return TT_OK;
	if (!json_is_string(source))
		return tt_fail(err, TT_ERR_FORMAT, "tokenizer_config.json: chat_template must be a string");
	return keep_source(chat, json_string_value(source), json_string_length(source), err);
}

static int template_from_file(struct tt_chat_template *chat, const char *path, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = tt_file_read(&text, path, MAX_TEMPLATE, err);
	if (status == TT_OK)
		status = keep_source(chat, text.data ? text.data : "", text.len, err);
	tt_buffer_free(&text);
	return status;
}

static int fill_from_directory(
	struct tt_chat_template *chat, const char *alone, const char *config_path, struct tt_error *err)
{
	json_t *config = NULL;
	if (tt_file_exists(config_path))
		TT_TRY(tt_json_load(&config, config_path, MAX_CONFIG, err));
	int status = token_from_config(&chat->bos_token, config, "bos_token", err);
	if (status == TT_OK)
		status = token_from_config(&chat->eos_token, config, "eos_token", err);
	if (status == TT_OK)
		status = tt_file_exists(alone) ? template_from_file(chat, alone, err)
					       : template_from_config(chat, config, err);
	json_decref(config);
	return status;
}

int tt_chat_from_directory(struct tt_chat_template *out, const char *directory, struct tt_error *err)
{
	char *alone = NULL, *config = NULL;
	*out = (struct tt_chat_template){0};
	int status = tt_file_join(&alone, directory, "chat_template.jinja", err);
	if (status == TT_OK)
		status = tt_file_join(&config, directory, "tokenizer_config.json", err);
	if (status == TT_OK)
		status = fill_from_directory(out, alone, config, err);
	free(alone);
	free(config);
	if (status != TT_OK)
		tt_chat_free(out);
	return status;
}

int tt_chat_from_source(struct tt_chat_template *out, const char *source, size_t n, const char *name,
	const char *bos_token, const char *eos_token, struct tt_error *err)
{
	*out = (struct tt_chat_template){0};
	int status = tt_jinja_parse(&out->jinja, source, n, name, err);
	if (status == TT_OK)
		status = tt_copy_string(&out->source, source, n, err);
	if (status == TT_OK)
		status = tt_copy_string(
			&out->bos_token, bos_token ? bos_token : "", bos_token ? strlen(bos_token) : 0, err);
	if (status == TT_OK)
		status = tt_copy_string(
			&out->eos_token, eos_token ? eos_token : "", eos_token ? strlen(eos_token) : 0, err);
	if (status != TT_OK)
		tt_chat_free(out);
	return status;
}

/* Finds the list of messages, which is the conversation itself or a member of it. */
static int find_messages(const json_t *conversation, const json_t **out, struct tt_error *err)
{
	static const char *const known[] = {"messages", "tools", "documents"};
	const json_t *messages =
		json_is_object(conversation) ? json_object_get(conversation, "messages") : conversation;
	size_t n_known = 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		n_known += json_object_get(conversation, known[i]) != NULL;
	if (n_known < json_object_size(conversation))
		return tt_fail(
			err, TT_ERR_ARGUMENT, "a conversation has messages, tools and documents, and no other key");
	if (!json_is_array(messages))
		return tt_fail(err, TT_ERR_ARGUMENT, "messages must be a list");
	for (size_t i = 0; i < json_array_size(messages); i++) {
		const json_t *message = json_array_get(messages, i);
		if (!json_is_object(message) || !json_is_string(json_object_get(message, "role")))
			return tt_fail(err, TT_ERR_ARGUMENT, "messages[%zu] must be an object with a role", i);
	}
	*out = messages;
	return TT_OK;
}

/* What the template sees. tools and documents are always defined, as none if the conversation has none; transformers
 * does the same. */
static json_t *make_context(const struct tt_chat_template *chat, const json_t *conversation, const json_t *messages,
	bool add_generation_prompt)
{
	json_t *tools = json_object_get(conversation, "tools"), *documents = json_object_get(conversation, "documents");
	return json_pack("{s:O, s:b, s:s, s:s, s:O?, s:O?}", "messages", (json_t *)messages, "add_generation_prompt",
		(int)add_generation_prompt, "bos_token", chat->bos_token ? chat->bos_token : "", "eos_token",
		chat->eos_token ? chat->eos_token : "", "tools", tools, "documents", documents);
}

/* The reason why jansson could not make the context. */
static int no_context(const struct tt_chat_template *chat, struct tt_error *err)
{
	if (tt_utf8_is_valid(chat->bos_token) && tt_utf8_is_valid(chat->eos_token))
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: the chat template's context");
	return tt_fail(err, TT_ERR_FORMAT, "bos_token or eos_token is not valid UTF-8");
}

int tt_chat_render(const struct tt_chat_template *chat, const json_t *conversation, bool add_generation_prompt,
	time_t now, struct tt_buffer *text, struct tt_buffer *untrusted, struct tt_error *err)
{
	struct tt_jinja *parsed = NULL;
	if (!chat->source)
		return tt_fail(err, TT_ERR_ARGUMENT, "the model has no chat template");
	const json_t *messages = NULL;
	TT_TRY(find_messages(conversation, &messages, err));
	if (!chat->jinja)
		TT_TRY(tt_jinja_parse(&parsed, chat->source, strlen(chat->source), NAME, err));
	json_t *context = make_context(chat, conversation, messages, add_generation_prompt);
	int status = context ? TT_OK : no_context(chat, err);
	if (status == TT_OK)
		status = tt_jinja_render(
			parsed ? parsed : chat->jinja, context, now ? now : time(NULL), NULL, text, untrusted, err);
	json_decref(context);
	tt_jinja_free(parsed);
	return status;
}
