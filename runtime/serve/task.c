#include "runtime/serve/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "runtime/serve/job.h"
#include "runtime/serve/server.h"

static void run(uv_work_t *work)
{
	struct tt_task *task = work->data;
	json_t *body = NULL, *answer = NULL;
	task->status = task->has_body ? tt_body_parse(&body, &task->text, &task->error) : TT_OK;
	if (task->status == TT_OK)
		task->status = task->run(task, body, &answer, &task->error);
	if (task->status == TT_OK)
		task->status = tt_json_dump(&task->answer, answer, TT_ANSWER_FLAGS, &task->error);
	json_decref(body);
}

/* What went wrong on this side may name a path, so it is told to the server's owner alone. */
static void answer_problem(struct tt_connection *c, const struct tt_task *task)
{
	const int status = task->http ? task->http : task->status == TT_ERR_MEMORY ? 500 : 400;
	const struct tt_problem problem = {
		.status = status,
		.message = status == 500 ? "the server failed at this; its own output says how" : task->error.message,
		.param = *task->param ? task->param : NULL,
		.code = !task->http && task->status == TT_ERR_LIMIT ? "context_length_exceeded" : NULL,
	};
	if (status == 500)
		tt_server_note(task->server, "a request failed: %s", task->error.message);
	tt_reply_problem(c, &problem);
}

static void done(uv_work_t *work, int status)
{
	struct tt_task *task = work->data;
	struct tt_connection *c = task->connection;
	(void)status;
	if (c)
		c->task = NULL;
	if (c && task->status == TT_OK) {
		tt_connection_answer(c, 200, "application/json", "", task->answer, strlen(task->answer));
	} else if (c) {
		answer_problem(c, task);
	}
	tt_buffer_free(&task->text);
	free(task->answer);
	if (task->after)
		task->after(task);
	free(task);
}

int tt_task_read_log(struct tt_task *task,
	int (*use)(struct tt_task *task, struct tt_log *log, json_t **answer, struct tt_error *err), json_t **answer,
	struct tt_error *err)
{
	struct tt_database db;
	struct tt_log log;
	task->http = 500;
	TT_TRY(tt_database_open(&db, task->server->options->state, TT_DATABASE_READ, err));
	tt_database_limit(&db, TT_QUERY_SECONDS);
	int status = tt_log_open(&log, &db, err);
	if (status == TT_OK) {
		status = use(task, &log, answer, err);
		tt_log_close(&log);
	}
	tt_database_close(&db);
	return status;
}

bool tt_path_number(const struct tt_connection *c, size_t at, uint64_t *out)
{
	const struct tt_span path = tt_http_path(&c->http);
	size_t i = at;
	for (*out = 0; i < path.len && path.data[i] >= '0' && path.data[i] <= '9' && i < at + 15; i++)
		*out = *out * 10 + (uint64_t)(path.data[i] - '0');
	return i > at && i == path.len;
}

static const struct tt_problem lacking = {500, "out of memory", NULL, NULL};

struct tt_task *tt_task_new(struct tt_connection *c,
	int (*work)(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err))
{
	struct tt_task *task;
	if (tt_alloc(&task, 1, sizeof *task, NULL) != TT_OK) {
		tt_reply_problem(c, &lacking);
		return NULL;
	}
	task->server = c->server;
	task->connection = c;
	task->run = work;
	task->work.data = task;
	return task;
}

void tt_task_start(struct tt_task *task)
{
	struct tt_connection *c = task->connection;
	task->text = c->http.body;
	if (uv_queue_work(&c->server->loop, &task->work, run, done) < 0) {
		if (task->after)
			task->after(task);
		free(task);
		tt_reply_problem(c, &lacking);
		return;
	}
	c->http.body = (struct tt_buffer){0}; /* the task's now */
	c->task = task;
}

static void text_done(struct tt_task *task)
{
	task->server->n_texts--;
}

static void start(struct tt_connection *c,
	int (*work)(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err))
{
	struct tt_task *task = tt_task_new(c, work);
	if (!task)
		return;
	task->has_body = true;
	task->after = text_done;
	c->server->n_texts++;
	tt_task_start(task);
}

/* ---- Text and tokens */

static int fail_at(struct tt_task *task, const char *param, int status)
{
	if (status != TT_OK)
		snprintf(task->param, sizeof task->param, "%s", param);
	return status;
}

static uint64_t most_tokens(const struct tt_task *task)
{
	return TT_MOST_CONTEXTS * (uint64_t)tt_engine_info(task->server->engine)->context;
}

static int fail_long(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_LIMIT, "the text fills more than %d contexts", TT_MOST_CONTEXTS);
}

/* A text is refused before it is read where it is that long even by many bytes a token. */
static int check_length(const struct tt_task *task, const json_t *text, struct tt_error *err)
{
	enum { BYTES = 16 }; /* of a token */
	return json_dumpb(text, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) > BYTES * most_tokens(task) ? fail_long(err)
												     : TT_OK;
}

/* The ids of body.messages, or of body.prompt (content, as llama.cpp's server calls it). */
static int encode(
	struct tt_task *task, const json_t *body, int32_t **ids, size_t *n, bool special, struct tt_error *err)
{
	const struct tt_text *text = tt_engine_text(task->server->engine);
	const bool is_chat = json_object_get(body, "messages") != NULL;
	const char *key = is_chat ? "messages" : json_object_get(body, "prompt") ? "prompt" : "content";
	const json_t *value = json_object_get(body, key);
	struct tt_api_prompt chat = {0};
	int status;
	if (!is_chat && !json_is_string(value))
		return fail_at(task, "prompt", tt_fail(err, TT_ERR_FORMAT, "there must be a prompt or messages"));
	TT_TRY(fail_at(task, key, check_length(task, value, err)));
	if (is_chat) {
		status = tt_api_read_messages(&chat, body, text, 0, err);
		*ids = chat.ids;
		*n = chat.n_ids;
	} else {
		status = tt_text_encode(text, json_string_value(value), json_string_length(value),
			TT_TEXT_SPECIAL | (special ? TT_TEXT_BOS : 0), ids, n, err);
	}
	if (status == TT_OK && *n > most_tokens(task))
		status = fail_long(err);
	return fail_at(task, key, status);
}

static json_t *ids_json(const int32_t *ids, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer(ids[i]));
	return list;
}

static json_t *pieces_json(const struct tt_text *text, const int32_t *ids, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++) {
		size_t n_piece;
		const char *piece = tt_text_piece(text, ids[i], &n_piece);
		json_array_append_new(list, tt_piece_json(piece, n_piece));
	}
	return list;
}

static int tokenize(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err)
{
	static const char *const keys[] = {"model", "prompt", "content", "messages", "add_special_tokens",
		"add_generation_prompt", "return_token_strs", NULL};
	struct tt_engine *engine = task->server->engine;
	bool special = true, marker = true, pieces = false;
	int32_t *ids = NULL;
	size_t n = 0;
	TT_TRY(tt_api_only_keys(body, keys, "the body", err));
	TT_TRY(fail_at(task, "add_special_tokens", tt_json_bool(body, "add_special_tokens", &special, err)));
	TT_TRY(fail_at(task, "return_token_strs", tt_json_bool(body, "return_token_strs", &pieces, err)));
	TT_TRY(fail_at(task, "add_generation_prompt", tt_json_bool(body, "add_generation_prompt", &marker, err)));
	if (!marker)
		return fail_at(task, "add_generation_prompt",
			tt_fail(err, TT_ERR_UNSUPPORTED, "add_generation_prompt can only be true"));
	int status = encode(task, body, &ids, &n, special, err);
	if (status == TT_OK)
		*answer = json_pack("{s:I, s:i, s:o, s:o}", "count", (json_int_t)n, "max_model_len",
			(int)tt_engine_info(engine)->context, "tokens", ids_json(ids, n), "token_strs",
			pieces ? pieces_json(tt_engine_text(engine), ids, n) : json_null());
	tt_free(ids);
	return status;
}

static int detokenize(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err)
{
	static const char *const keys[] = {"model", "tokens", NULL};
	const json_t *list = json_object_get(body, "tokens");
	size_t n = json_array_size(list);
	char *text = NULL;
	int32_t *ids;
	TT_TRY(tt_api_only_keys(body, keys, "the body", err));
	if (!json_is_array(list))
		return fail_at(task, "tokens", tt_fail(err, TT_ERR_FORMAT, "tokens must be a list"));
	if (n > most_tokens(task))
		return fail_at(task, "tokens", fail_long(err));
	TT_TRY(tt_alloc(&ids, n, sizeof *ids, err));
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		const json_t *id = json_array_get(list, i);
		ids[i] = (int32_t)json_integer_value(id);
		if (!json_is_integer(id) || json_integer_value(id) < 0 ||
			json_integer_value(id) >= (json_int_t)tt_engine_info(task->server->engine)->vocab_size)
			status = tt_fail(err, TT_ERR_FORMAT, "tokens must be ids of the vocabulary");
	}
	if (status == TT_OK)
		status = tt_text_decode(tt_engine_text(task->server->engine), ids, n, &text, err);
	if (status == TT_OK)
		*answer = json_pack("{s:s}", "prompt", text);
	free(ids);
	tt_free(text);
	return fail_at(task, "tokens", status);
}

const struct tt_problem *tt_text_objection(const struct tt_connection *c)
{
	static const struct tt_problem full = {429, "too many texts wait", NULL, "queue_full"};
	return c->server->n_texts < TT_MOST_TEXTS ? NULL : &full;
}

void tt_tokenize(struct tt_connection *c)
{
	start(c, tokenize);
}

void tt_detokenize(struct tt_connection *c)
{
	start(c, detokenize);
}
