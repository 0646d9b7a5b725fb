#include "runtime/serve/audit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/hex.h"
#include "base/json.h"
#include "controller/govern/log_proof.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/thread.h"
#include "runtime/serve/task.h"
#include "runtime/serve/transcript.h"

enum {
	MAX_TOLD = 48 << 10, /* bytes of an entry that its choices may take; all of them are in its commitments */
	FLAGS = JSON_COMPACT | JSON_REAL_PRECISION(9),
};

/* ---- Entries */

static struct tt_record *new_record(const char *kind, struct tt_error *err)
{
	struct tt_record *record;
	if (tt_alloc(&record, 1, sizeof *record, err) != TT_OK)
		return NULL;
	record->kind = kind;
	return record;
}

/* Takes over the object and makes its text the record's. */
static int set_fields(struct tt_record *record, json_t *fields, struct tt_error *err)
{
	char *text;
	TT_TRY(tt_json_dump(&text, fields, FLAGS, err));
	int status = tt_buffer_add(&record->fields, text + 1, strlen(text) - 2, err);
	free(text);
	return status;
}

static json_t *steering_json(const struct tt_api_request *body, uint32_t from, uint32_t to)
{
	json_t *list = json_array();
	for (uint32_t i = from; i < to; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s*, s:f}", "policy", body->policies[i]->name, "version",
				      body->policies[i]->sha256, "label", body->policies[i]->label, "scale",
				      (double)body->options.steering[i].scale));
	return list;
}

static int commit_ids(struct tt_job *job, char out[65], struct tt_error *err)
{
	struct tt_buffer ids = {0};
	int status = tt_transcript_ids(&ids, &job->body, err);
	if (status == TT_OK)
		status = tt_transcript_commit(out, job->begun->open, TT_COMMIT_IDS, ids.data, ids.len, err);
	tt_buffer_free(&ids);
	return status;
}

static json_t *begin_json(const struct tt_job *job, const char *text, const char *ids)
{
	const struct tt_api_request *body = &job->body;
	const struct tt_request_options *o = &body->options;
	return json_pack("{s:I, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:f, s:f, "
			 "s:f, s:b, s:s, "
			 "s:o, s:o}",
		"run", (json_int_t)tt_recorder_run(job->server->recorder), "request", job->id, "key", job->key, "route",
		job->endpoint == TT_COMPLETIONS ? "/v1/completions" : "/v1/chat/completions", "date",
		(json_int_t)job->created, "seed", (json_int_t)o->sampling.seed, "body", text, "ids", ids, "prompts",
		(json_int_t)body->n_prompts, "prompt_tokens", (json_int_t)tt_api_n_prompt_tokens(body), "n",
		(json_int_t)body->n, "max_tokens", (json_int_t)o->max_tokens, "temperature",
		(double)o->sampling.temperature, "top_p", (double)o->sampling.top_p, "min_p", (double)o->sampling.min_p,
		"top_k", (json_int_t)o->sampling.top_k, "repetition_penalty", (double)o->repetition_penalty,
		"presence_penalty", (double)o->presence_penalty, "frequency_penalty", (double)o->frequency_penalty,
		"stream", (int)body->stream, "when", tt_when_word(o->when), "steering",
		steering_json(body, 0, body->n_acting), "shadow", steering_json(body, body->n_acting, o->n_steering));
}

int tt_audit_make_begin(struct tt_job *job, struct tt_error *err)
{
	char text[65], ids[65];
	if (!job->server->recorder)
		return TT_OK;
	job->begun = new_record("begin", err);
	if (!job->begun)
		return TT_ERR_MEMORY;
	job->begun->user = job;
	snprintf(job->begun->owner, sizeof job->begun->owner, "%s", job->key);
	TT_TRY(tt_secret_make(job->begun->open, err));
	TT_TRY(tt_transcript_commit(text, job->begun->open, TT_COMMIT_BODY, job->text.data, job->text.len, err));
	TT_TRY(commit_ids(job, ids, err));
	TT_TRY(set_fields(job->begun, begin_json(job, text, ids), err));
	job->keeps_text = job->server->options->keep_text;
	if (job->keeps_text) {
		job->begun->payload = job->text;
		job->text = (struct tt_buffer){0};
	}
	return TT_OK;
}

void tt_audit_begin(struct tt_job *job)
{
	if (!job->begun) {
		job->recorded = true;
		return;
	}
	job->added = true;
	tt_recorder_add(job->server->recorder, job->begun);
}

/* What became of a choice, in words. */
static const char *end_word(const struct tt_request *request)
{
	static const char *const words[] = {
		[TT_RUNNING] = "abandoned",
		[TT_FINISH_STOP] = "stop",
		[TT_FINISH_LENGTH] = "length",
		[TT_FINISH_CONTEXT] = "length",
		[TT_FINISH_CANCELLED] = "abandoned",
		[TT_FINISH_DEADLINE] = "deadline",
		[TT_FINISH_FAILED] = "error",
	};
	return request ? words[tt_request_finish(request)] : "abandoned";
}

static json_t *choice_json(const struct tt_job *job, uint32_t i)
{
	const uint32_t n_layers = tt_engine_info(job->server->engine)->n_layers;
	const struct tt_request *request = job->choices ? job->choices[i].request : NULL;
	json_t *choice = json_pack("{s:s, s:I}", "finish", end_word(request), "tokens",
		(json_int_t)(request ? tt_request_n_generated(request) : 0));
	if (!choice || !request || job->body.options.n_steering == 0)
		return choice;
	if (job->body.n_acting)
		json_object_set_new(choice, "steering", tt_decisions_json(request, &job->body, n_layers));
	if (job->body.options.n_steering > job->body.n_acting)
		json_object_set_new(choice, "shadow", tt_shadows_json(request, &job->body, n_layers));
	return choice;
}

/* The choices, as many as fit. */
static int choices_json(const struct tt_job *job, json_t **out, struct tt_error *err)
{
	json_t *list = json_array();
	size_t n_bytes = 0;
	for (uint32_t i = 0; i < job->n_choices; i++) {
		char *text;
		json_t *choice = choice_json(job, i);
		int status = tt_json_dump(&text, json_incref(choice), FLAGS, err);
		if (status != TT_OK) {
			json_decref(choice);
			json_decref(list);
			return status;
		}
		n_bytes += strlen(text) + 1;
		free(text);
		if (n_bytes > MAX_TOLD) {
			json_decref(choice);
			break;
		}
		json_array_append_new(list, choice);
	}
	*out = list;
	return TT_OK;
}

/* Of the answer as the client got it: each choice's length and text. */
static int commit_answer(const struct tt_job *job, char out[65], struct tt_error *err)
{
	struct tt_commitment commitment;
	tt_commitment_begin(&commitment, job->begun->open, TT_COMMIT_ANSWER);
	for (uint32_t i = 0; i < job->n_choices; i++) {
		const struct tt_buffer *text = job->body.stream ? &job->news[i].text : &job->choices[i].text;
		tt_commitment_add_size(&commitment, text->len);
		tt_commitment_add(&commitment, text->data, text->len);
	}
	return tt_commitment_end(&commitment, out, err);
}

static int make_result(const struct tt_job *job, struct tt_buffer *out, struct tt_error *err)
{
	const uint32_t n_layers = tt_engine_info(job->server->engine)->n_layers;
	for (uint32_t i = 0; i < job->n_choices; i++)
		TT_TRY(tt_transcript_choice(
			out, job->choices[i].request, SIZE_MAX, job->body.options.n_steering, n_layers, err));
	return TT_OK;
}

static int fill_end(const struct tt_job *job, struct tt_record *record, struct tt_error *err)
{
	char answer[65], result[65];
	struct tt_buffer bytes = {0};
	json_t *choices = NULL;
	size_t n_tokens = 0;
	int status = make_result(job, &bytes, err);
	if (status == TT_OK)
		status = tt_transcript_commit(result, job->begun->open, TT_COMMIT_RESULT, bytes.data, bytes.len, err);
	if (status == TT_OK && job->keeps_text)
		record->payload = bytes;
	else
		tt_buffer_free(&bytes);
	if (status == TT_OK)
		status = commit_answer(job, answer, err);
	if (status == TT_OK)
		status = choices_json(job, &choices, err);
	if (status != TT_OK)
		return status;
	for (uint32_t i = 0; i < job->n_choices; i++)
		if (job->choices[i].request)
			n_tokens += tt_request_n_generated(job->choices[i].request);
	return set_fields(record,
		json_pack("{s:s, s:s, s:I, s:I, s:f, s:o}", "result", result, "answer", answer, "choices_of",
			(json_int_t)job->n_choices, "tokens", (json_int_t)n_tokens, "seconds",
			1e-9 * (double)(uv_hrtime() - job->arrived), "choices", choices),
		err);
}

int tt_audit_make_end(struct tt_job *job, struct tt_error *err)
{
	if (!job->begun || job->ended)
		return TT_OK;
	struct tt_record *record = new_record("end", err);
	if (!record)
		return TT_ERR_MEMORY;
	record->begun = job->begun;
	record->user = job;
	int status = fill_end(job, record, err);
	if (status == TT_OK)
		job->ended = record;
	else
		tt_record_free(record);
	return status;
}

void tt_audit_end(struct tt_job *job)
{
	job->ending = true;
	tt_recorder_add(job->server->recorder, job->ended);
}

void tt_audit_leave(struct tt_job *job)
{
	struct tt_record *begun = job->begun;
	struct tt_error err;
	if (!begun)
		return;
	begun->user = NULL;
	if (!job->added || (job->begun_back && begun->status != TT_OK)) { /* it is in no log */
		tt_record_free(begun);
		tt_record_free(job->ended);
		return;
	}
	if (job->ended_back) /* both are done */
		return;
	if (!job->ended) {
		tt_lock(job->server->engine); /* whose thread may still run the requests */
		int status = tt_audit_make_end(job, &err);
		tt_unlock(job->server->engine);
		if (status != TT_OK) { /* without memory; what is said of it is that it has ended */
			job->ended = new_record("end", &err);
			if (!job->ended)
				return;
			job->ended->begun = begun;
		}
	}
	job->ended->user = NULL;
	if (!job->ending)
		tt_audit_end(job);
}

int tt_audit_add_text(struct tt_job *job, struct tt_job_choice *news, struct tt_error *err)
{
	const struct tt_buffer *text = &job->choices[news->index].text;
	return job->begun ? tt_buffer_add(&news->text, text->data, text->len, err) : TT_OK;
}

json_t *tt_audit_receipt(const struct tt_job *job)
{
	char leaf[65], open[65];
	const struct tt_record *begun = job->begun;
	if (!begun)
		return NULL;
	if (!begun->written)
		return json_null();
	tt_hex(leaf, &begun->place.leaf, sizeof begun->place.leaf);
	tt_hex(open, begun->open, sizeof begun->open);
	return json_pack("{s:I, s:s, s:s}", "seq", (json_int_t)begun->place.seq, "leaf", leaf, "open", open);
}

/* ---- What comes back */

static void take(struct tt_server *server)
{
	struct tt_record *record = tt_recorder_take(server->recorder), *next;
	for (; record; record = next) {
		struct tt_job *job = record->user;
		next = record->next;
		if (!record->begun) {
			if (job)
				tt_job_recorded(job, record);
			continue;
		}
		if (job) {
			job->ended_back = true;
			tt_job_recorded(job, record);
		}
		tt_record_free((struct tt_record *)record->begun);
		tt_record_free(record);
	}
}

static void on_recorded(uv_async_t *handle)
{
	take(handle->data);
}

static void wake(void *user)
{
	struct tt_server *server = user;
	uv_async_send(&server->recorded);
}

static void say(void *user, const char *line)
{
	tt_server_note(user, "%s", line);
}

/* ---- GET /v1/audit/SEQ */

/* Whether the entry is one of a request that was asked with this key. */
static bool is_own(const json_t *proof, const char *key)
{
	const char *text = tt_json_string_or(proof, "entry", "");
	json_t *entry = json_loads(text, 0, NULL);
	bool own = strcmp(tt_json_string_or(entry, "kind", ""), "begin") == 0 &&
		   strcmp(tt_json_string_or(entry, "key", ""), key) == 0;
	json_decref(entry);
	return own;
}

static int prove(struct tt_task *task, struct tt_log *log, json_t **answer, struct tt_error *err)
{
	json_t *begin = NULL, *last = NULL;
	bool found = false;
	uint64_t end;
	int status = tt_log_prove(&begin, log, task->number, err);
	if (status == TT_ERR_ARGUMENT || (status == TT_OK && !is_own(begin, task->key))) {
		json_decref(begin);
		task->http = 404;
		return tt_fail(err, TT_ERR_ARGUMENT, "there is no such entry of this key");
	}
	if (status == TT_OK)
		status = tt_log_find_end(log, task->number, &found, &end, err);
	if (status == TT_OK && found)
		status = tt_log_prove(&last, log, end, err);
	if (status == TT_OK)
		*answer = json_pack("{s:O, s:o}", "begin", begin, "end", last ? json_incref(last) : json_null());
	json_decref(begin);
	json_decref(last);
	return status;
}

static int answer_entry(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err)
{
	(void)body;
	return tt_task_read_log(task, prove, answer, err);
}

void tt_audit_answer(struct tt_connection *c)
{
	static const struct tt_problem unknown = {404, "there is no such entry", NULL, "not_found"};
	static const char prefix[] = "/v1/audit/";
	const struct tt_key *key = c->key;
	uint64_t number;
	if (!tt_path_number(c, sizeof prefix - 1, &number) || !c->server->recorder) {
		tt_reply_problem(c, &unknown);
		return;
	}
	struct tt_task *task = tt_task_new(c, answer_entry);
	if (!task)
		return;
	task->number = number;
	snprintf(task->key, sizeof task->key, "%s", key ? key->id : "");
	tt_task_start(task);
}

/* ---- Opening and closing */

static json_t *options_json(const struct tt_serve_options *o)
{
	return json_pack("{s:I, s:b, s:b, s:s}", "max_batch", (json_int_t)o->max_batch, "lenient", (int)o->lenient,
		"keys", (int)(o->keys != NULL), "keep_text", o->keep_text ? "all" : "none");
}

static json_t *policies_json(const struct tt_server *server)
{
	const struct tt_named_policies *policies = &server->catalog->policies;
	json_t *list = json_array();
	for (size_t i = 0; i < policies->n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s*}", "policy", policies->list[i].name, "version",
						    policies->list[i].sha256, "label", policies->list[i].label));
	return list;
}

static int open_json(json_t **out, struct tt_server *server, struct tt_error *err)
{
	char *build;
	json_t *numerics = json_object();
	TT_TRY(tt_describe_build(&build, err));
	int status = tt_engine_numerics(numerics, server->engine, err);
	*out = NULL;
	if (status == TT_OK)
		*out = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "version", tt_version(), "model", server->model,
			"numerics", json_incref(numerics), "options", options_json(server->options), "policies",
			policies_json(server), "build", json_loads(build, 0, NULL));
	json_decref(numerics);
	tt_free(build);
	return status;
}

int tt_audit_open(struct tt_server *server, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	struct tt_recorder_options options = {
		.directory = o->state,
		.name = o->audit_name,
		.anchor = o->audit_anchor,
		.full = o->audit_serve ? TT_AUDIT_SERVE : TT_AUDIT_REFUSE,
		.sync = (enum tt_audit_sync)o->audit_sync,
		.wake = wake,
		.note = say,
		.user = server,
	};
	server->recorded.data = server;
	if (!o->state)
		return TT_OK;
	int status = uv_async_init(&server->loop, &server->recorded, on_recorded);
	if (status < 0)
		return tt_fail(err, TT_ERR_IO, "the event loop: %s", uv_strerror(status));
	TT_TRY(open_json(&options.open, server, err));
	return tt_recorder_open(&server->recorder, &options, err);
}

int tt_audit_close(struct tt_server *server, struct tt_error *err)
{
	if (!server->recorder)
		return TT_OK;
	tt_recorder_stop(server->recorder);
	take(server);
	return tt_recorder_close(server->recorder, err);
}
