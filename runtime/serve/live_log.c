/* What the operators' page shows of the store: the head of the audit log, requests that have ended, and who has changed
 * what. */
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/govern/query.h"
#include "runtime/serve/live.h"
#include "runtime/serve/replay.h"
#include "runtime/serve/server.h"
#include "runtime/serve/task.h"

enum { N_REQUESTS = 30, N_CHANGES = 12 };

static int copy(json_t *to, const json_t *from, const char *const *keys, struct tt_error *err)
{
	for (; *keys; keys++)
		if (json_object_get(from, *keys))
			TT_TRY(tt_json_set(to, *keys, json_incref(json_object_get(from, *keys)), err));
	return TT_OK;
}

/* A request that has ended, of its two entries. Of its choices the first is shown. The first entry says what was to
 * steer it; the second, unless it was interrupted, how that went. */
static int request_row(json_t *list, struct tt_log *log, uint64_t begin, uint64_t end, struct tt_error *err)
{
	static const char *const first[] = {
		"seq", "at", "key", "route", "prompt_tokens", "stream", "steering", "shadow", NULL};
	static const char *const last[] = {"kind", "tokens", "seconds", "choices_of", NULL};
	static const char *const choice[] = {"finish", "steering", "shadow", NULL};
	json_t *entry = NULL, *row = json_object();
	int status = tt_entry_read(&entry, log, begin, err);
	if (status == TT_OK)
		status = copy(row, entry, first, err);
	json_decref(entry);
	entry = NULL;
	if (status == TT_OK)
		status = tt_entry_read(&entry, log, end, err);
	if (status == TT_OK)
		status = copy(row, entry, last, err);
	if (status == TT_OK)
		status = copy(row, json_array_get(json_object_get(entry, "choices"), 0), choice, err);
	json_decref(entry);
	if (status == TT_OK && json_array_append(list, row) < 0)
		status = tt_fail(err, TT_ERR_MEMORY, "out of memory");
	json_decref(row);
	return status;
}

static int list_requests(json_t *list, struct tt_log *log, struct tt_error *err)
{
	uint64_t pairs[N_REQUESTS][2];
	size_t n = 0;
	struct tt_query q;
	TT_TRY(tt_query_open(&q, log->db,
		"SELECT begin, seq FROM log_leaf WHERE begin IS NOT NULL ORDER BY seq DESC LIMIT ?",
		TT_SQL(tt_integer(N_REQUESTS)), err));
	for (; n < N_REQUESTS && tt_query_next(&q, err); n++) {
		pairs[n][0] = (uint64_t)tt_query_integer(&q, 0);
		pairs[n][1] = (uint64_t)tt_query_integer(&q, 1);
	}
	int status = tt_query_close(&q);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		status = request_row(list, log, pairs[i][0], pairs[i][1], err);
	return status;
}

static int list_changes(json_t *list, struct tt_database *db, struct tt_error *err)
{
	struct tt_query q;
	int status = TT_OK;
	TT_TRY(tt_query_open(&q, db,
		"SELECT at, kind, policy, person, fields, seq FROM change ORDER BY id DESC LIMIT ?",
		TT_SQL(tt_integer(N_CHANGES)), err));
	while (status == TT_OK && tt_query_next(&q, err)) {
		json_t *fields = json_loads(tt_query_text(&q, 4), 0, NULL);
		json_t *row = json_pack("{s:I, s:s, s:s, s:s, s:I, s:o*}", "at", (json_int_t)tt_query_integer(&q, 0),
			"kind", tt_query_text(&q, 1), "policy", tt_query_text(&q, 2), "person", tt_query_text(&q, 3),
			"seq", (json_int_t)tt_query_integer(&q, 5), "fields", fields);
		if (json_array_append_new(list, row) < 0)
			status = tt_fail(err, TT_ERR_MEMORY, "out of memory");
	}
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

/* The newest entry, and the newest checkpoint: its first three lines are the log's name, its size and its root. */
static int head_json(json_t **out, struct tt_log *log, struct tt_error *err)
{
	struct tt_tree tree;
	struct tt_buffer note = {0};
	char name[200] = "", size[32], root[64] = "";
	uint64_t signed_size = 0;
	TT_TRY(tt_log_tree(log, &tree, err));
	TT_TRY(tt_log_last_checkpoint(log, &note, &signed_size, err));
	if (note.len)
		sscanf(note.data, "%199[^\n]\n%31[^\n]\n%63[^\n]\n", name, size, root);
	*out = json_pack("{s:I, s:I, s:s, s:s}", "size", (json_int_t)tree.size, "signed", (json_int_t)signed_size,
		"name", name, "root", root);
	tt_buffer_free(&note);
	return *out ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "out of memory");
}

static int read_log(json_t *answer, struct tt_log *log, struct tt_error *err)
{
	json_t *head = NULL, *requests = json_array(), *changes = json_array();
	int status = head_json(&head, log, err);
	if (status == TT_OK)
		status = list_requests(requests, log, err);
	if (status == TT_OK)
		status = list_changes(changes, log->db, err);
	if (status == TT_OK)
		status = tt_json_add(answer,
			json_pack("{s:O, s:O, s:O}", "head", head, "requests", requests, "changes", changes), err);
	json_decref(head);
	json_decref(requests);
	json_decref(changes);
	return status;
}

/* All of it as of one moment. */
static int read_at_once(struct tt_task *task, struct tt_log *log, json_t **answer, struct tt_error *err)
{
	(void)task;
	*answer = json_object();
	int status = tt_database_begin_read(log->db, err);
	if (status == TT_OK)
		status = tt_database_end(log->db, read_log(*answer, log, err), err);
	if (status != TT_OK) {
		json_decref(*answer);
		*answer = NULL;
	}
	return status;
}

static int answer_log(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err)
{
	(void)body;
	return tt_task_read_log(task, read_at_once, answer, err);
}

void tt_live_log(struct tt_connection *c)
{
	static const struct tt_problem none = {404, "there is no audit log (--state)", NULL, "not_found"};
	if (!c->server->recorder) {
		tt_reply_problem(c, &none);
		return;
	}
	struct tt_task *task = tt_task_new(c, answer_log);
	if (task)
		tt_task_start(task);
}
