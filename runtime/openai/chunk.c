#include "runtime/openai/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

/* By hand, since it is done for every token. */
int tt_add_quoted(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err)
{
	static const char digits[] = "0123456789ABCDEF", plain[] = "\"\\bfnrt", letters[] = "\"\\\b\f\n\r\t";
	size_t from = 0;
	TT_TRY(tt_buffer_add(out, "\"", 1, err));
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c >= ' ' && c != '"' && c != '\\')
			continue;
		const char *at = c ? strchr(letters, c) : NULL;
		const char escape[6] = {'\\', at ? plain[at - letters] : 'u', '0', '0', digits[c >> 4], digits[c & 15]};
		TT_TRY(tt_buffer_add(out, text + from, i - from, err));
		TT_TRY(tt_buffer_add(out, escape, at ? 2 : 6, err));
		from = i + 1;
	}
	TT_TRY(tt_buffer_add(out, text + from, n - from, err));
	return tt_buffer_add(out, "\"", 1, err);
}

static int add_word(struct tt_buffer *out, const char *word, struct tt_error *err)
{
	return tt_buffer_add(out, word, strlen(word), err);
}

int tt_chunks_open(struct tt_chunks *out, const struct tt_engine *engine, const struct tt_api_request *body,
	const char *model, const char *id, int64_t created, struct tt_error *err)
{
	const bool chat = body->endpoint == TT_CHAT_COMPLETIONS;
	out->body = body;
	TT_TRY(tt_buffer_print(&out->head, err,
		"data: {\"id\":\"%s%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", chat ? "chatcmpl-" : "cmpl-",
		id, chat ? "chat.completion.chunk" : "text_completion", (long long)created));
	TT_TRY(tt_add_quoted(&out->head, model, strlen(model), err));
	return tt_buffer_print(&out->head, err, ",\"system_fingerprint\":\"%.16s\",\"choices\":[",
		tt_engine_info(engine)->weights_digest);
}

void tt_chunks_close(struct tt_chunks *chunks)
{
	tt_buffer_free(&chunks->head);
}

/* Adds the value, or null. */
static int add_value(struct tt_buffer *out, const json_t *value, struct tt_error *err)
{
	char *text = NULL;
	if (!value)
		return add_word(out, "null", err);
	TT_TRY(tt_json_dump(&text, json_incref((json_t *)(uintptr_t)value), TT_ANSWER_FLAGS | JSON_ENCODE_ANY, err));
	int status = add_word(out, text, err);
	free(text);
	return status;
}

static int add_usage(struct tt_buffer *out, size_t n_prompt, size_t n_generated, struct tt_error *err)
{
	return tt_buffer_print(out, err,
		",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu}", n_prompt,
		n_generated, n_prompt + n_generated);
}

/* Adds the keys of facts and the end of the event. */
static int add_end(struct tt_buffer *out, const json_t *facts, struct tt_error *err)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)facts, key, value)
	{
		TT_TRY(tt_buffer_print(out, err, ",\"%s\":", key));
		TT_TRY(add_value(out, value, err));
	}
	return add_word(out, "}\n\n", err);
}

static int add_choice(struct tt_buffer *out, const struct tt_chunk *chunk, bool chat, struct tt_error *err)
{
	TT_TRY(tt_buffer_print(out, err, "{\"index\":%u,%s", chunk->index,
		!chat          ? "\"text\":"
		: chunk->first ? "\"delta\":{\"role\":\"assistant\",\"content\":"
			       : "\"delta\":{\"content\":"));
	TT_TRY(tt_add_quoted(out, chunk->text, chunk->n_text, err));
	TT_TRY(add_word(out, chat ? "},\"logprobs\":" : ",\"logprobs\":", err));
	if (chat && chunk->logprobs)
		TT_TRY(add_word(out, "{\"content\":", err));
	TT_TRY(add_value(out, chunk->logprobs, err));
	if (chat && chunk->logprobs)
		TT_TRY(add_word(out, ",\"refusal\":null}", err));
	if (chunk->finish == TT_RUNNING)
		return add_word(out, ",\"finish_reason\":null}]", err);
	return tt_buffer_print(out, err, ",\"finish_reason\":\"%s\"}]", tt_finish_word(chunk->finish));
}

int tt_chunk_add(
	struct tt_buffer *out, const struct tt_chunks *chunks, const struct tt_chunk *chunk, struct tt_error *err)
{
	const struct tt_api_request *body = chunks->body;
	TT_TRY(tt_buffer_add(out, chunks->head.data, chunks->head.len, err));
	TT_TRY(add_choice(out, chunk, body->endpoint == TT_CHAT_COMPLETIONS, err));
	if (body->continuous_usage)
		TT_TRY(add_usage(out, chunk->n_prompt, chunk->n_generated, err));
	else if (body->include_usage)
		TT_TRY(add_word(out, ",\"usage\":null", err));
	return add_end(out, chunk->facts, err);
}

int tt_chunk_add_usage(struct tt_buffer *out, const struct tt_chunks *chunks, size_t n_prompt, size_t n_generated,
	const json_t *facts, struct tt_error *err)
{
	TT_TRY(tt_buffer_add(out, chunks->head.data, chunks->head.len, err));
	TT_TRY(add_word(out, "]", err));
	TT_TRY(add_usage(out, n_prompt, n_generated, err));
	return add_end(out, facts, err);
}
