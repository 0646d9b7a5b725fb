/* Text to tokens and back: a model's tokenizer and chat template as one object. */
#include "runtime/text/text.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/options.h"
#include "base/outputs.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "runtime/text/chat.h"
#include "runtime/text/text.h"
#include "weights/gguf.h"
#include "weights/model.h"

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

struct tt_text {
	struct tt_tokenizer *tokenizer; /* NULL if there is only a template */
	struct tt_chat_template chat;
	char template_sha256[65]; /* of a template that is not the model's own */
	char *template_path;      /* and its file, if it is one */
};

const struct tt_chat_template *tt_text_template(const struct tt_text *text)
{
	return &text->chat;
}

const struct tt_tokenizer *tt_text_tokenizer(const struct tt_text *text)
{
	return text->tokenizer;
}

static int load_gguf(struct tt_text *text, const struct tt_gguf *file, struct tt_error *err)
{
	TT_TRY(tt_tokenizer_from_gguf(&text->tokenizer, file, err));
	return tt_chat_from_gguf(&text->chat, file, err);
}

static int load_directory(struct tt_text *text, const char *directory, struct tt_error *err)
{
	TT_TRY(tt_tokenizer_from_directory(&text->tokenizer, directory, err));
	return tt_chat_from_directory(&text->chat, directory, err);
}

/* A template's source: one that has the name, else the file's; *source is released by the caller. */
static int read_template(struct tt_buffer *source, const char *name_or_path, struct tt_error *err)
{
	const char *named = tt_chat_named(name_or_path);
	return named ? tt_buffer_add(source, named, strlen(named), err)
		     : tt_file_read(source, name_or_path, MAX_TEMPLATE_BYTES, err);
}

static int load_template(struct tt_text *text, const char *name_or_path, struct tt_error *err)
{
	struct tt_buffer source = {0};
	int status = read_template(&source, name_or_path, err);
	if (status == TT_OK)
		status = tt_chat_from_source(&text->chat, source.data, source.len, name_or_path, NULL, NULL, err);
	tt_buffer_free(&source);
	return status;
}

int tt_text_take_template(struct tt_text *text, const char *name_or_path, struct tt_error *err)
{
	struct tt_buffer source = {0};
	struct tt_chat_template chat = {0};
	int status = read_template(&source, name_or_path, err);
	if (status == TT_OK && source.len == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: an empty chat template", name_or_path);
	if (status == TT_OK)
		status = tt_sha256(text->template_sha256, source.data, source.len, err);
	if (status == TT_OK && !tt_chat_named(name_or_path))
		status = tt_file_resolve(&text->template_path, name_or_path, err);
	if (status == TT_OK)
		status = tt_chat_from_source(
			&chat, source.data, source.len, name_or_path, text->chat.bos_token, text->chat.eos_token, err);
	tt_buffer_free(&source);
	if (status != TT_OK)
		return status;
	tt_chat_free(&text->chat);
	text->chat = chat;
	return TT_OK;
}

const char *tt_text_template_sha256(const struct tt_text *text)
{
	return *text->template_sha256 ? text->template_sha256 : NULL;
}

const char *tt_text_template_path(const struct tt_text *text)
{
	return text->template_path;
}

static int load_path(struct tt_text *text, const char *path, struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	if (tt_file_is_directory(path))
		return load_directory(text, path, err);
	if (tt_ends_with(path, ".jinja") || tt_ends_with(path, ".j2") || (tt_chat_named(path) && !tt_file_exists(path)))
		return load_template(text, path, err);
	TT_TRY(tt_gguf_open(&file, path, err));
	int status = load_gguf(text, file, err);
	tt_gguf_close(file);
	return status;
}

int tt_text_open(struct tt_text **out, const char *path, struct tt_error *err)
{
	struct tt_text *text = NULL;
	TT_TRY(tt_need(out, "out", err));
	*out = NULL;
	TT_TRY(tt_need(path, "path", err));
	TT_TRY(tt_alloc(&text, 1, sizeof *text, err));
	int status = load_path(text, path, err);
	if (status != TT_OK) {
		tt_text_close(text);
		return status;
	}
	*out = text;
	return TT_OK;
}

/* A Hugging Face directory may hold weights without a tokenizer; such a model runs on ids. */
static int load_directory_with_tokenizer(struct tt_text *text, const char *directory, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_file_join(&path, directory, "tokenizer.json", err));
	bool exists = tt_file_exists(path);
	free(path);
	return exists ? load_directory(text, directory, err) : TT_OK;
}

int tt_text_from_model(struct tt_text **out, const struct tt_model *model, struct tt_error *err)
{
	struct tt_text *text = NULL;
	int status = TT_OK;
	*out = NULL;
	TT_TRY(tt_alloc(&text, 1, sizeof *text, err));
	if (model->gguf && tt_gguf_find(model->gguf, "tokenizer.ggml.model"))
		status = load_gguf(text, model->gguf, err);
	else if (!model->gguf && model->directory)
		status = load_directory_with_tokenizer(text, model->directory, err);
	if (status == TT_OK && text->tokenizer && tt_tokenizer_size(text->tokenizer) > model->config.vocab_size)
		status = tt_fail(err, TT_ERR_FORMAT, "the tokenizer has %zu tokens, the embedding only %u rows",
			tt_tokenizer_size(text->tokenizer), model->config.vocab_size);
	if (status != TT_OK) {
		tt_text_close(text);
		return status;
	}
	*out = text;
	return TT_OK;
}

void tt_text_close(struct tt_text *text)
{
	if (!text)
		return;
	tt_tokenizer_free(text->tokenizer);
	tt_chat_free(&text->chat);
	free(text->template_path);
	free(text);
}

bool tt_text_has_tokenizer(const struct tt_text *text)
{
	return text && text->tokenizer;
}

bool tt_text_has_template(const struct tt_text *text)
{
	return text && text->chat.source;
}

static int encode(const struct tt_text *text, const char *string, size_t n, const uint8_t *untrusted, unsigned flags,
	int32_t **ids, size_t *n_ids, struct tt_error *err)
{
	struct tt_ids list = {0};
	unsigned encode_flags =
		(flags & TT_TEXT_SPECIAL ? TT_ENCODE_SPECIAL : 0) | (flags & TT_TEXT_BOS ? TT_ENCODE_BOS : 0);
	TT_TRY(tt_need(ids, "ids", err));
	TT_TRY(tt_need(n_ids, "n_ids", err));
	if (!text->tokenizer)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no tokenizer");
	int status = tt_tokenizer_encode(text->tokenizer, string, n, untrusted, encode_flags, &list, err);
	if (status == TT_OK && !list.data)
		status = tt_alloc(&list.data, 1, sizeof *list.data, err);
	if (status != TT_OK) {
		tt_ids_free(&list);
		return status;
	}
	*ids = list.data;
	*n_ids = list.len;
	return TT_OK;
}

int tt_text_encode(const struct tt_text *text, const char *string, size_t n, unsigned flags, int32_t **ids,
	size_t *n_ids, struct tt_error *err)
{
	TT_TRY(tt_need(text, "text", err));
	TT_TRY(tt_need_list(string, n, "string", err));
	return encode(text, string ? string : "", n, NULL, flags, ids, n_ids, err);
}

int tt_text_n_front(const struct tt_text *text, unsigned flags, size_t *n, struct tt_error *err)
{
	int32_t *ids = NULL;
	TT_TRY(tt_text_encode(text, "", 0, flags, &ids, n, err));
	tt_free(ids);
	return TT_OK;
}

/* Renders the chat template; the caller's bos and eos, if given, replace the model's. */
static int render(const struct tt_text *text, const char *messages_json, const struct tt_chat_options *options,
	struct tt_buffer *prompt, struct tt_buffer *untrusted, struct tt_error *err)
{
	struct tt_chat_options o = {0};
	json_t *messages = NULL;
	TT_TRY(tt_need(text, "text", err));
	TT_TRY(tt_need(messages_json, "messages_json", err));
	if (options)
		TT_TRY(tt_options_take(&o, sizeof o, options, "tt_chat_options", err));
	if (!text->chat.source)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no chat template");
	struct tt_chat_template chat = text->chat;
	if (o.bos)
		chat.bos_token = (char *)(uintptr_t)o.bos;
	if (o.eos)
		chat.eos_token = (char *)(uintptr_t)o.eos;
	TT_TRY(tt_json_parse(&messages, messages_json, strlen(messages_json), "messages", err));
	int status = tt_chat_render(&chat, messages, !o.no_generation_prompt, (time_t)o.now, prompt, untrusted, err);
	json_decref(messages);
	return status;
}

int tt_text_render(const struct tt_text *text, const char *messages_json, const struct tt_chat_options *options,
	char **prompt, struct tt_error *err)
{
	struct tt_buffer out = {0}, untrusted = {0};
	TT_TRY(tt_need(prompt, "prompt", err));
	int status = render(text, messages_json, options, &out, &untrusted, err);
	tt_buffer_free(&untrusted);
	if (status == TT_OK)
		status = tt_buffer_add(&out, "", 0, err);
	if (status != TT_OK) {
		tt_buffer_free(&out);
		return status;
	}
	*prompt = out.data;
	return TT_OK;
}

int tt_text_encode_chat(const struct tt_text *text, const char *messages_json, const struct tt_chat_options *options,
	int32_t **ids, size_t *n_ids, struct tt_error *err)
{
	size_t from = 0, to = 0;
	return tt_text_encode_chat_span(text, messages_json, options, ids, n_ids, &from, &to, err);
}

/* From the first to the last byte of the last user message; nothing if the template does not show it. */
static int locate_last_user(const struct tt_text *text, const struct tt_buffer *prompt,
	const struct tt_buffer *untrusted, const struct tt_ids *ids, size_t *from, size_t *to, struct tt_error *err)
{
	size_t first = 0, end = prompt->len;
	while (first < end && untrusted->data[first] != TT_JINJA_LAST_USER)
		first++;
	while (end > first && untrusted->data[end - 1] != TT_JINJA_LAST_USER)
		end--;
	*from = *to = 0;
	return first < end
		       ? tt_tokenizer_locate(text->tokenizer, prompt->data, prompt->len, first, end, ids, from, to, err)
		       : TT_OK;
}

int tt_text_encode_chat_span(const struct tt_text *text, const char *messages_json,
	const struct tt_chat_options *options, int32_t **ids, size_t *n_ids, size_t *from, size_t *to,
	struct tt_error *err)
{
	struct tt_buffer out = {0}, untrusted = {0};
	TT_TRY(tt_need(from, "from", err));
	TT_TRY(tt_need(to, "to", err));
	int status = render(text, messages_json, options, &out, &untrusted, err);
	if (status == TT_OK)
		status = encode(
			text, out.data, out.len, (const uint8_t *)untrusted.data, TT_TEXT_SPECIAL, ids, n_ids, err);
	if (status == TT_OK) {
		const struct tt_ids list = {.data = *ids, .len = *n_ids};
		status = locate_last_user(text, &out, &untrusted, &list, from, to, err);
		if (status != TT_OK) {
			tt_free(*ids);
			*ids = NULL;
		}
	}
	tt_buffer_free(&out);
	tt_buffer_free(&untrusted);
	return status;
}

int tt_text_user_message(const char *prompt, size_t n, const char *system, char **messages_json, struct tt_error *err)
{
	TT_TRY(tt_need_list(prompt, n, "prompt", err));
	TT_TRY(tt_need(messages_json, "messages_json", err));
	json_t *user = json_stringn(prompt ? prompt : "", n);
	if (!user)
		return tt_utf8_check(prompt, n) == n ? tt_fail(err, TT_ERR_MEMORY, "out of memory: the prompt")
						     : tt_fail(err, TT_ERR_FORMAT, "the prompt is not valid UTF-8");
	json_t *messages = system ? json_pack("[{ss ss} {ss so}]", "role", "system", "content", system, "role", "user",
					    "content", user)
				  : json_pack("[{ss so}]", "role", "user", "content", user);
	if (!messages && !tt_utf8_is_valid(system))
		return tt_fail(err, TT_ERR_FORMAT, "the system message is not valid UTF-8");
	return tt_json_dump(messages_json, messages, JSON_COMPACT, err);
}

const char *tt_text_piece(const struct tt_text *text, int32_t id, size_t *n)
{
	size_t unused;
	n = n ? n : &unused;
	*n = 0;
	return tt_text_has_tokenizer(text) ? tt_tokenizer_piece(text->tokenizer, id, n) : "";
}

int tt_text_decode(const struct tt_text *text, const int32_t *ids, size_t n_ids, char **string, struct tt_error *err)
{
	TT_TRY(tt_need(text, "text", err));
	TT_TRY(tt_need_list(ids, n_ids, "ids", err));
	TT_TRY(tt_need(string, "string", err));
	if (!text->tokenizer)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no tokenizer");
	return tt_tokenizer_decode(text->tokenizer, ids, n_ids, string, err);
}
