#include "runtime/capture/capture_row.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/sha256.h"
#include "controller/measure/prompts.h"
#include "runtime/openai/api_prompt.h"

/* What a line says; borrowed from its JSON. */
struct said {
	const char *id, *response;
	const json_t *json, *prompt, *messages;
};

static int read_said(
	struct said *out, const json_t *json, const struct tt_capture_data_options *o, struct tt_error *err)
{
	if (!json_is_object(json))
		return tt_fail(err, TT_ERR_FORMAT, "not a JSON object");
	*out = (struct said){.json = json,
		.prompt = tt_json_has(json, "prompt") ? json_object_get(json, "prompt") : NULL,
		.messages = tt_json_has(json, "messages") ? json_object_get(json, "messages") : NULL};
	TT_TRY(tt_json_string(json, "id", &out->id, err));
	TT_TRY(tt_json_string(json, "response", &out->response, err));
	if (!out->prompt == !out->messages)
		return tt_fail(err, TT_ERR_FORMAT,
			out->prompt ? "prompt and messages exclude each other" : "prompt is missing");
	if (out->messages && o->raw)
		return tt_fail(err, TT_ERR_FORMAT, "messages need the chat template, and raw prompts have none");
	if (out->messages && o->system)
		return tt_fail(err, TT_ERR_FORMAT, "messages have their own system message");
	if (o->positions == TT_CAPTURE_RESPONSE && !out->response)
		return tt_fail(err, TT_ERR_FORMAT, "response is missing");
	if (out->id && (!*out->id || strlen(out->id) > TT_MAX_ROW_ID))
		return tt_fail(err, TT_ERR_FORMAT, "id must have 1 to %d bytes", TT_MAX_ROW_ID);
	return TT_OK;
}

static int encode_user(struct tt_capture_row *out, const char *prompt, const struct tt_text *text, const char *system,
	struct tt_error *err)
{
	/* Rows must not depend on the day on which a run goes on. */
	const struct tt_chat_options options = {.size = sizeof options, .now = TT_FIXED_DATE};
	char *messages = NULL;
	if (!tt_text_has_template(text))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no chat template: the prompts must be raw");
	TT_TRY(tt_text_user_message(prompt, strlen(prompt), system, &messages, err));
	int status = tt_text_encode_chat_span(
		text, messages, &options, &out->ids, &out->n_prompt, &out->mean_from, &out->mean_to, err);
	tt_free(messages);
	return status;
}

/* Takes over the ids of what OpenAI's API would read as a prompt or as messages. */
static void take_ids(struct tt_capture_row *out, struct tt_api_prompt *prompt)
{
	out->ids = prompt->ids;
	out->n_prompt = prompt->n_ids;
	out->mean_from = prompt->mean_from;
	out->mean_to = prompt->mean_to;
	prompt->ids = NULL;
}

/* A text as it is, or token ids. */
static int encode_raw(
	struct tt_capture_row *out, const struct said *said, const struct tt_text *text, struct tt_error *err)
{
	struct tt_api_prompt *prompts = NULL;
	uint32_t n = 0;
	if (json_array_size(said->prompt) > 0 && !json_is_integer(json_array_get(said->prompt, 0)))
		return tt_fail(err, TT_ERR_FORMAT, "prompt must be a string or a list of token ids");
	int status = tt_api_read_prompts(&prompts, &n, said->json, text, err);
	if (status == TT_OK)
		take_ids(out, &prompts[0]);
	tt_api_prompts_free(prompts, n);
	return status;
}

static int encode_prompt(struct tt_capture_row *out, const struct said *said, const struct tt_text *text,
	const struct tt_capture_data_options *o, struct tt_error *err)
{
	if (said->messages) {
		struct tt_api_prompt prompt = {0};
		int status = tt_api_read_messages(&prompt, said->json, text, TT_FIXED_DATE, err);
		take_ids(out, &prompt);
		return status;
	}
	if (o->raw || !json_is_string(said->prompt))
		return encode_raw(out, said, text, err);
	return encode_user(out, json_string_value(said->prompt), text, o->system, err);
}

/* Text in a response is text, whatever it spells. */
static int add_response(
	struct tt_capture_row *out, const char *response, const struct tt_text *text, struct tt_error *err)
{
	int32_t *ids = NULL, *both = NULL;
	size_t n, total;
	TT_TRY(tt_text_encode(text, response, strlen(response), 0, &ids, &n, err));
	int status = tt_add_size(out->n_prompt, n, &total) ? tt_alloc(&both, total, sizeof *both, err)
							   : tt_fail(err, TT_ERR_LIMIT, "the response is too long");
	if (status == TT_OK) {
		memcpy(both, out->ids, out->n_prompt * sizeof *both);
		memcpy(both + out->n_prompt, ids, n * sizeof *both);
		tt_free(out->ids);
		out->ids = both;
		out->n_ids = total;
	}
	tt_free(ids);
	return status;
}

static int choose_kept(struct tt_capture_row *out, enum tt_capture_positions positions, struct tt_error *err)
{
	if (out->n_prompt == 0)
		return tt_fail(err, TT_ERR_FORMAT, "the prompt has no tokens");
	if (positions == TT_CAPTURE_RESPONSE && out->n_ids == out->n_prompt)
		return tt_fail(err, TT_ERR_FORMAT, "the response has no tokens");
	out->from = positions == TT_CAPTURE_ALL ? 0 : positions == TT_CAPTURE_RESPONSE ? out->n_prompt : out->n_ids - 1;
	out->n_kept = out->n_ids - out->from;
	return TT_OK;
}

static int read_row(struct tt_capture_row *out, const json_t *json, uint64_t number, const struct tt_text *text,
	const struct tt_capture_data_options *o, struct tt_error *err)
{
	struct said said = {0};
	char line[24];
	TT_TRY(read_said(&said, json, o, err));
	snprintf(line, sizeof line, "%llu", (unsigned long long)number);
	if (!said.id)
		said.id = line;
	TT_TRY(tt_copy_string(&out->id, said.id, strlen(said.id), err));
	TT_TRY(encode_prompt(out, &said, text, o, err));
	out->n_ids = out->n_prompt;
	if (said.response && o->positions != TT_CAPTURE_LAST)
		TT_TRY(add_response(out, said.response, text, err));
	return choose_kept(out, o->positions, err);
}

int tt_capture_row_read(struct tt_capture_row *out, const struct tt_lines *lines, const struct tt_text *text,
	const struct tt_capture_data_options *options, struct tt_error *err)
{
	char what[300];
	json_t *json = NULL;
	*out = (struct tt_capture_row){0};
	snprintf(what, sizeof what, "%.200s:%llu", lines->path, (unsigned long long)lines->number);
	int status = lines->too_long ? tt_fail(err, TT_ERR_LIMIT, "longer than %d bytes", TT_MAX_LINE)
				     : tt_json_parse(&json, lines->line.data, lines->line.len, "row", err);
	if (status == TT_OK)
		status = read_row(out, json, lines->number, text, options, err);
	if (status == TT_ERR_FORMAT && err && !json_is_object(json)) {
		const struct tt_error inner = *err;
		tt_fail(err, status, "%s%s", inner.message,
			tt_json_line_hint(lines->line.data, lines->line.len, lines->number));
	}
	json_decref(json);
	return tt_within(status, err, what);
}

void tt_capture_row_free(struct tt_capture_row *row)
{
	free(row->id);
	tt_free(row->ids);
	*row = (struct tt_capture_row){0};
}

int tt_capture_row_digest(uint8_t digest[32], const struct tt_capture_row *row, struct tt_error *err)
{
	const uint64_t sizes[] = {row->n_ids, row->n_prompt, row->from};
	struct tt_buffer all = {0};
	int status = tt_buffer_add(&all, digest, 32, err);
	if (status == TT_OK)
		status = tt_buffer_add(&all, sizes, sizeof sizes, err);
	if (status == TT_OK)
		status = tt_buffer_add(&all, row->ids, row->n_ids * sizeof *row->ids, err);
	if (status == TT_OK)
		status = tt_buffer_add(&all, row->id, strlen(row->id), err);
	if (status == TT_OK)
		status = tt_sha256_bytes(digest, all.data, all.len, err);
	tt_buffer_free(&all);
	return status;
}
