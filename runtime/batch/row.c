#include "runtime/batch/row.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/sampling.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "runtime/batch/telemetry.h"

enum { MAX_CUSTOM_ID = 512 };

/* ---- Input */

/* Records in `in` what is wrong with the line. */
static int bad_line(struct tt_input *in, const char *code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int bad_line(struct tt_input *in, const char *code, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(in->error.message, sizeof in->error.message, format, arguments);
	va_end(arguments);
	in->code = code;
	return TT_OK;
}

static int digest_line(
	struct tt_input *in, const struct tt_batch_job *job, const struct tt_lines *lines, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = tt_buffer_print(&text, err, "%llu\n", (unsigned long long)lines->number);
	if (status == TT_OK)
		status = tt_buffer_add(&text, lines->line.data, lines->line.len, err);
	if (status == TT_OK)
		status = tt_sha256(in->sha256, text.data, text.len, err);
	tt_buffer_free(&text);
	TT_TRY(status);
	return tt_row_seed(&in->seed, job->options->seed, lines->line.data, lines->line.len, err);
}

/* Takes the row's id, and refuses one that an earlier row has. */
static int take_id(struct tt_input *in, const char *key, struct tt_ids_seen *ids, struct tt_error *err)
{
	const json_t *id = json_object_get(in->json, key);
	size_t n = json_string_length(id);
	if (!json_is_string(id))
		return bad_line(in, "invalid_request", "%s must be a string", key);
	if (n == 0 || n > MAX_CUSTOM_ID)
		return bad_line(in, "invalid_request", "%s must have 1 to %d bytes", key, MAX_CUSTOM_ID);
	TT_TRY(tt_copy_string(&in->custom_id, json_string_value(id), n, err));
	TT_TRY(tt_ids_seen_add(ids, in->custom_id, in->number, &in->repeats, err));
	return in->repeats ? bad_line(in, "duplicate_custom_id", "an earlier line has the same %s", key) : TT_OK;
}

/* Makes the body of a request from a row {"id", "prompt"}; other keys are ignored. */
static int read_plain(struct tt_input *in, const struct tt_batch_job *job, struct tt_error *err)
{
	const json_t *prompt = json_object_get(in->json, "prompt");
	const char *system = job->options->system;
	in->plain = true;
	in->endpoint = job->options->raw ? TT_COMPLETIONS : TT_CHAT_COMPLETIONS;
	if (!json_is_string(prompt))
		return bad_line(in, "invalid_request", "prompt must be a string");
	if (job->options->raw)
		in->body = json_pack("{s:O}", "prompt", prompt);
	else if (system)
		in->body = json_pack("{s:[{s:s, s:s}, {s:s, s:O}]}", "messages", "role", "system", "content", system,
			"role", "user", "content", prompt);
	else
		in->body = json_pack("{s:[{s:s, s:O}]}", "messages", "role", "user", "content", prompt);
	if (!in->body && tt_utf8_is_valid(system))
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: the messages");
	return in->body ? TT_OK : tt_fail(err, TT_ERR_FORMAT, "the system message is not valid UTF-8");
}

static int read_openai(struct tt_input *in)
{
	static const char *const keys[] = {"custom_id", "method", "url", "body", NULL};
	const char *name;
	json_t *value;
	json_object_foreach(in->json, name, value)
	{
		size_t i = 0;
		while (keys[i] && strcmp(keys[i], name) != 0)
			i++;
		if (!keys[i])
			return bad_line(in, "invalid_request", "unknown key \"%.60s\"", name);
	}
	const json_t *method = json_object_get(in->json, "method");
	const char *url = json_string_value(json_object_get(in->json, "url"));
	if (method && (!json_is_string(method) || strcmp(json_string_value(method), "POST") != 0))
		return bad_line(in, "invalid_request", "method must be POST");
	if (!url || !tt_endpoint_parse(url, &in->endpoint))
		return bad_line(in, "invalid_url", "url must be /v1/chat/completions or /v1/completions%s%.60s",
			url ? ", not " : "", url ? url : "");
	in->body = json_incref(json_object_get(in->json, "body"));
	if (!json_is_object(in->body))
		return bad_line(in, "invalid_request", "body must be an object");
	return TT_OK;
}

static int read_line(struct tt_input *in, const struct tt_batch_job *job, const struct tt_lines *lines,
	struct tt_ids_seen *ids, struct tt_error *err)
{
	struct tt_error reason;
	in->number = lines->number;
	TT_TRY(digest_line(in, job, lines, err));
	if (lines->too_long)
		return bad_line(in, "line_too_long", "longer than %d bytes", TT_MAX_LINE);
	int status = tt_json_parse(&in->json, lines->line.data, lines->line.len, "row", &reason);
	if (status == TT_ERR_MEMORY)
		return tt_fail(err, status, "%s", reason.message);
	if (status != TT_OK) {
		/* The message begins with a line number, which the parser counts within this line. */
		const char *where = strstr(reason.message, "column");
		return bad_line(in, "invalid_json_line", "not valid JSON: %s", where ? where : reason.message);
	}
	if (!json_is_object(in->json))
		return bad_line(in, "invalid_json_line", "not a JSON object");
	bool openai = json_object_get(in->json, "custom_id") || json_object_get(in->json, "body");
	TT_TRY(take_id(in, openai ? "custom_id" : "id", ids, err));
	if (in->code)
		return TT_OK;
	return openai ? read_openai(in) : read_plain(in, job, err);
}

int tt_input_read(struct tt_input *out, const struct tt_batch_job *job, const struct tt_lines *lines,
	struct tt_ids_seen *ids, struct tt_error *err)
{
	*out = (struct tt_input){0};
	int status = read_line(out, job, lines, ids, err);
	if (status != TT_OK)
		tt_input_free(out);
	return status;
}

void tt_input_free(struct tt_input *input)
{
	json_decref(input->json);
	json_decref(input->body);
	free(input->custom_id);
	*input = (struct tt_input){0};
}

/* ---- Output */

/* What the row is of: its line's own id, and the case. */
static json_t *swept(const struct tt_row *row)
{
	json_t *id = row->custom_id ? json_stringn(row->custom_id, row->n_own) : json_null();
	return json_pack("{s:o, s:s, s:o}", "custom_id", id, "policy", row->swept_policy, "scale",
		tt_json_number(row->swept_scale));
}

/* Writes the row's line, and drops json. */
static int finish(struct tt_row *row, json_t *json, struct tt_error *err)
{
	char *text = NULL;
	if (row->swept_policy && json && json_object_set_new(json, "swept", swept(row)) != 0) {
		json_decref(json);
		json = NULL; /* as if there had been no memory for all of it */
	}
	TT_TRY(tt_json_dump(&text, json, TT_ANSWER_FLAGS, err));
	int status = tt_buffer_print(&row->line, err, "%s\n", text);
	free(text);
	row->done = true;
	return status;
}

/* A message as JSON. The message may have been cut inside a character; then its bytes that are not ASCII become '?'. */
static json_t *message_json(uint64_t line, const char *message)
{
	char text[sizeof((struct tt_error *)0)->message + 32];
	int n = snprintf(text, sizeof text, "line %llu: ", (unsigned long long)line);
	snprintf(text + n, sizeof text - (size_t)n, "%s", message);
	json_t *json = json_string(text);
	for (char *c = text; !json && *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return json ? json : json_string(text);
}

static int finish_badly(
	struct tt_row *row, const struct tt_input *in, const char *code, const char *message, struct tt_error *err)
{
	row->is_error = true;
	return finish(row,
		json_pack("{s:s+, s:s?, s:n, s:{s:s, s:o, s:I}}", "id", "batch_req_", row->id, "custom_id",
			row->custom_id, "response", "error", "code", code, "message", message_json(in->number, message),
			"line", (json_int_t)in->number),
		err);
}

/* Whether the error is the row's fault. Any other error stops the job, since another try may succeed. */
static bool is_rows_fault(int code)
{
	return code == TT_ERR_ARGUMENT || code == TT_ERR_FORMAT || code == TT_ERR_UNSUPPORTED || code == TT_ERR_LIMIT ||
	       code == TT_ERR_MISMATCH;
}

static int name_row(
	struct tt_row *row, const struct tt_input *in, const struct tt_sweep_case *sweep, struct tt_error *err)
{
	struct tt_buffer text = {0};
	char digest[65];
	const char *suffix = sweep ? sweep->suffix : "";
	int status = tt_buffer_print(&text, err, "%s%s", in->sha256, suffix);
	if (status == TT_OK)
		status = tt_sha256(digest, text.data, text.len, err);
	tt_buffer_free(&text);
	TT_TRY(status);
	memcpy(row->id, digest, sizeof row->id - 1);
	if (!in->custom_id)
		return TT_OK;
	row->n_own = strlen(in->custom_id);
	TT_TRY(tt_buffer_print(&text, err, "%s%s", in->custom_id, suffix));
	row->custom_id = text.data;
	return TT_OK;
}

struct tt_sampling tt_row_sampling(const struct tt_batch_options *options, bool plain, uint64_t seed)
{
	return (struct tt_sampling){.temperature = plain ? options->temperature : 1, .top_p = 1, .seed = seed};
}

static int prepare(struct tt_row *row, const struct tt_batch_job *job, const struct tt_input *in,
	const struct tt_sweep_case *sweep, struct tt_error *err)
{
	const struct tt_batch_options *o = job->options;
	const struct tt_api_context context = {.text = tt_engine_text(job->engine),
		.policies = &job->policies,
		.max_tokens = o->max_tokens,
		.sampling = tt_row_sampling(o, in->plain, in->seed),
		.now = job->created};
	TT_TRY(tt_api_request_parse(&row->body, in->body, in->endpoint, &context, err));
	if (sweep && row->body.options.n_steering)
		return tt_fail(err, TT_ERR_ARGUMENT, "a row with steering of its own cannot be swept");
	if (sweep)
		tt_api_request_steer(&row->body, &job->policies.list[sweep->name], sweep->scale);
	TT_TRY(tt_api_request_check(job->engine, &row->body, err));
	TT_TRY(tt_alloc(&row->choices, tt_api_n_choices(&row->body), sizeof *row->choices, err));
	row->n_choices = tt_api_n_choices(&row->body);
	return TT_OK;
}

/* Frees the requests and the prompt, which may be large; the finished lines stay. */
static void release(struct tt_row *row)
{
	for (uint32_t i = 0; i < row->n_choices; i++)
		tt_choice_free(&row->choices[i]);
	free(row->choices);
	row->choices = NULL;
	row->n_choices = 0;
	tt_api_request_free(&row->body);
}

/* Ends the row with a line that says why, if the row is at fault; otherwise returns the error. */
static int refuse(struct tt_row *row, const struct tt_input *input, int status, const struct tt_error *reason,
	struct tt_error *err)
{
	release(row);
	if (!is_rows_fault(status))
		return tt_fail(err, status, "%s", reason->message);
	return finish_badly(row, input, status == TT_ERR_LIMIT ? "context_length_exceeded" : "invalid_request",
		reason->message, err);
}

int tt_row_start(struct tt_row *row, const struct tt_batch_job *job, const struct tt_input *input,
	const struct tt_sweep_case *sweep, struct tt_error *err)
{
	struct tt_error reason = {0};
	if (sweep) {
		row->swept_policy = job->policies.list[sweep->name].name;
		row->swept_scale = sweep->scale;
	}
	TT_TRY(name_row(row, input, sweep, err));
	if (input->code)
		return finish_badly(row, input, input->code, input->error.message, err);
	int status = prepare(row, job, input, sweep, &reason);
	return status == TT_OK ? TT_OK : refuse(row, input, status, &reason, err);
}

int tt_row_submit(struct tt_row *row, struct tt_request **request, const struct tt_batch_job *job,
	const struct tt_input *input, struct tt_error *err)
{
	struct tt_error reason = {0};
	uint32_t i = row->n_submitted;
	int status = tt_choice_submit(
		&row->choices[i], request, job->engine, &row->body, i, job->options->telemetry != NULL, &reason);
	row->n_submitted += status == TT_OK;
	if (status == TT_OK || i == 0)
		return status == TT_OK ? TT_OK : refuse(row, input, status, &reason, err);
	/* Not the row's fault, since all of its prompts were checked. */
	return tt_fail(err, status, "%s", reason.message);
}

static int write_telemetry(struct tt_row *row, const struct tt_batch_job *job, struct tt_error *err)
{
	char *quoted = NULL;
	TT_TRY(tt_json_dump(&quoted, json_string(row->custom_id), JSON_ENCODE_ANY, err));
	int status = TT_OK;
	for (uint32_t i = 0; status == TT_OK && i < row->n_choices; i++)
		status = tt_telemetry_write(&row->telemetry, quoted, &row->body, i, &row->choices[i],
			tt_engine_info(job->engine)->n_layers, job->options->telemetry_dense, err);
	free(quoted);
	return status;
}

static int write_answer(struct tt_row *row, const struct tt_batch_job *job, struct tt_error *err)
{
	json_t *answer;
	if (job->options->telemetry)
		TT_TRY(write_telemetry(row, job, err));
	TT_TRY(tt_answer_json(&answer, job->engine, &row->body, row->choices, row->id, job->created, err));
	row->n_prompt = tt_api_n_prompt_tokens(&row->body);
	for (uint32_t i = 0; i < row->n_choices; i++)
		row->n_generated += tt_request_n_generated(row->choices[i].request);
	return finish(row,
		json_pack("{s:s+, s:s, s:{s:i, s:s+, s:o}, s:n}", "id", "batch_req_", row->id, "custom_id",
			row->custom_id, "response", "status_code", 200, "request_id", "req_", row->id, "body", answer,
			"error"),
		err);
}

int tt_row_take(struct tt_row *row, struct tt_request *request, const struct tt_batch_job *job, struct tt_error *err)
{
	enum tt_finish finish = tt_request_finish(request);
	TT_TRY(tt_choice_collect(&row->choices[row->n_taken++], request, &row->body, tt_engine_text(job->engine), err));
	if (finish > TT_FINISH_CONTEXT)
		return tt_fail(err, TT_ERR_DEVICE, "a request was ended by the engine");
	if (row->n_taken < row->n_choices)
		return TT_OK;
	TT_TRY(write_answer(row, job, err));
	release(row);
	return TT_OK;
}

void tt_row_free(struct tt_row *row)
{
	release(row);
	free(row->custom_id);
	tt_buffer_free(&row->line);
	tt_buffer_free(&row->telemetry);
	*row = (struct tt_row){0};
}
