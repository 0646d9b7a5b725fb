#include "runtime/serve/job.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/json.h"
#include "runtime/engine/thread.h"
#include "runtime/serve/audit.h"

enum {
	MAX_FIELDS = 512,       /* bytes of fields of an answer's header */
	COMPLETION_TOKENS = 16, /* of a completion that does not say; OpenAI's */
	CHAT_TOKENS = 1 << 24,  /* of a chat: as many as the context holds */
	MAX_CHOICES = 4096,     /* of a body, over all its prompts: each is kept until the last has ended */
};

static const char event_stream[] = "text/event-stream; charset=utf-8";

/* ---- Its end */

static void free_job(struct tt_job *job)
{
	tt_api_request_free(&job->body);
	tt_catalog_give(job->catalog);
	json_decref(job->json);
	tt_buffer_free(&job->text);
	tt_chunks_close(&job->chunks);
	for (uint32_t i = 0; i < job->n_choices; i++)
		tt_buffer_free(&job->news[i].text);
	free(job->choices);
	free(job->news);
	free(job->answer);
	free(job);
}

/* Frees the requests, after which the engine's thread does not know the job, and the rest as soon as that is
 * possible. */
static void release(struct tt_job *job)
{
	struct tt_server *server = job->server;
	*(job->previous ? &job->previous->next : &server->jobs) = job->next;
	if (job->next)
		job->next->previous = job->previous;
	server->n_jobs--;
	tt_audit_leave(job);
	for (uint32_t i = 0; i < job->n_choices; i++) {
		bool flies = i < job->n_submitted && !job->news[i].finished;
		server->n_flying -= flies;
		if (flies) {
			tt_lock(server->engine); /* whose thread still counts tokens of it */
			tt_metrics_end(job, &job->news[i], true);
			tt_unlock(server->engine);
		}
		tt_choice_free(&job->choices[i]);
		job->n_listed += atomic_load(&job->news[i].has_news);
	}
	tt_quota_end(job);
	job->dead = true;
	if (job->n_listed == 0)
		free_job(job);
}

/* The answer is given. */
static void end(struct tt_job *job)
{
	if (job->connection)
		job->connection->job = NULL;
	release(job);
}

void tt_job_abandon(struct tt_job *job)
{
	job->connection = NULL;
	if (job->stage == TT_JOB_RUNNING)
		release(job);
	else
		uv_cancel((uv_req_t *)&job->work); /* unless a thread has it already */
}

/* ---- Errors */

static void set_problem(struct tt_job *job, int status, const char *code, const char *param, const char *message)
{
	job->status = status;
	job->code = code;
	snprintf(job->param, sizeof job->param, "%s", param ? param : "");
	if (message)
		snprintf(job->error.message, sizeof job->error.message, "%s", message);
}

static struct tt_problem problem_of(const struct tt_job *job)
{
	return (struct tt_problem){
		.status = job->status,
		.message = job->error.message,
		.param = *job->param ? job->param : NULL,
		.code = job->code,
	};
}

static void add_error_event(struct tt_job *job)
{
	const struct tt_problem problem = problem_of(job);
	char *text = tt_problem_text(&problem);
	struct tt_buffer event = {0};
	if (text && tt_buffer_print(&event, NULL, "data: %s\n\ndata: [DONE]\n\n", text) == TT_OK)
		tt_connection_add(job->connection, event.data, event.len);
	free(text);
	tt_buffer_free(&event);
}

/* Tells the client what the job says is wrong, and ends it. */
static void tell_problem(struct tt_job *job)
{
	struct tt_connection *c = job->connection;
	if (c && job->speaks) {
		add_error_event(job);
		c->closes = true;
		tt_connection_end(c);
	} else if (c) {
		const struct tt_problem problem = problem_of(job);
		tt_reply_retry(c, &problem, job->retry_ms ? job->retry_ms : 500);
	}
	end(job);
}

void tt_job_fail(struct tt_job *job, int status, const char *code, const char *message)
{
	if (job->stage == TT_JOB_RUNNING) {
		set_problem(job, status, code, NULL, message);
		tell_problem(job);
	} else if (job->connection) {
		const struct tt_problem problem = {.status = status, .message = message, .code = code};
		job->connection->job = NULL;
		tt_reply_problem(job->connection, &problem);
		job->connection = NULL;
	}
}

/* ---- Preparing, on a thread of the pool */

/* OpenAI's status and word for what the body code returns. */
static void set_refusal(struct tt_job *job, int status)
{
	const char *code = job->body.code;
	int http = status == TT_ERR_MEMORY || status == TT_ERR_DEVICE || status == TT_ERR_IO ? 500 : 400;
	http = job->body.forbidden ? 403 : http;
	if (status == TT_ERR_LIMIT)
		code = "context_length_exceeded";
	set_problem(job, http, code, job->body.param, NULL);
}

/* Whether the body's model is there. One that ends in a policy is a body whose steering is that policy. */
static bool take_model(struct tt_job *job)
{
	const json_t *name = json_object_get(job->json, "model"), *steering = json_object_get(job->json, "steering");
	const char *policy = NULL;
	if (!name || json_is_null(name))
		return true;
	if (!json_is_string(name) || !tt_server_is_model(job->server, json_string_value(name), &policy))
		return false;
	if (!policy)
		return true;
	if (steering && !json_is_null(steering)) {
		set_problem(job, 400, NULL, "steering", "the model names a policy: it is all that steers");
		return true;
	}
	return tt_named_policies_find(&job->catalog->policies, policy) &&
	       json_object_set_new(job->json, "steering", tt_server_steering_by(policy)) == 0;
}

/* The tokens that the body may come to. */
static uint64_t longest_of(const struct tt_job *job)
{
	uint64_t context = tt_engine_info(job->server->engine)->context, most = job->body.options.max_tokens;
	return tt_api_n_prompt_tokens(&job->body) + tt_api_n_choices(&job->body) * (most < context ? most : context);
}

/* Whether that is more than its key may ever have, at once or within a minute or a day. */
static bool is_beyond(const struct tt_job *job)
{
	const uint32_t limits[] = {job->max_tokens, job->token_limits[TT_A_MINUTE], job->token_limits[TT_A_DAY]};
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		if (limits[i] && job->longest > limits[i])
			return true;
	return false;
}

static void read_body(struct tt_job *job)
{
	struct tt_server *server = job->server;
	struct tt_error *err = &job->error;
	struct tt_api_context context = job->catalog->context;
	int status = tt_body_parse(&job->json, &job->text, err);
	if (status != TT_OK) {
		set_problem(job, status == TT_ERR_MEMORY ? 500 : 400, status == TT_ERR_MEMORY ? NULL : "invalid_json",
			NULL, NULL);
		return;
	}
	if (!take_model(job))
		set_problem(job, 404, "model_not_found", "model", "there is no such model here; GET /v1/models has it");
	if (job->status)
		return;
	context.right = job->right;
	context.now = job->created;
	context.sampling = (struct tt_sampling){.seed = job->seed, .temperature = 1, .top_p = 1};
	context.max_tokens = job->endpoint == TT_COMPLETIONS ? COMPLETION_TOKENS : CHAT_TOKENS;
	status = tt_api_request_parse(&job->body, job->json, job->endpoint, &context, err);
	if (status == TT_OK)
		status = tt_api_request_check(server->engine, &job->body, err);
	job->longest = status == TT_OK ? longest_of(job) : 0;
	if (status == TT_OK && tt_api_n_choices(&job->body) > MAX_CHOICES)
		set_problem(job, 400, NULL, "n", "at most 4096 choices, over all prompts");
	else if (status == TT_OK && is_beyond(job))
		set_problem(job, 400, "key_tokens", "max_tokens",
			"the prompts and answers are more than this key may have");
	else if (status != TT_OK)
		set_refusal(job, status);
	/* Of the JSON, which may be many times as long as its text, only the stop strings are still needed. */
	json_t *stop = json_incref(json_object_get(job->json, "stop"));
	json_decref(job->json);
	job->json = stop;
}

static void prepare(uv_work_t *work)
{
	struct tt_job *job = work->data;
	read_body(job);
	if (job->status == 0 && tt_audit_make_begin(job, &job->error) != TT_OK)
		set_problem(job, 500, NULL, NULL, NULL);
	tt_buffer_free(&job->text);
}

/* ---- Running */

/* Runs on the engine's thread, under its lock. A choice that is not streamed has no news until it ends. */
static void notify(void *user, struct tt_request *request)
{
	struct tt_job_choice *news = user;
	struct tt_server *server = news->job->server;
	struct tt_job_choice *first = NULL;
	bool runs = tt_request_finish(request) == TT_RUNNING;
	if (runs)
		tt_metrics_token(news);
	if (runs && !news->job->body.stream)
		return;
	if (atomic_exchange(&news->has_news, true))
		return;
	do {
		first = atomic_load(&server->woken);
		news->next = first;
	} while (!atomic_compare_exchange_weak(&server->woken, &first, news));
	if (!first)
		uv_async_send(&server->wake);
}

static int submit_one(struct tt_job *job, uint32_t i)
{
	struct tt_request *request;
	job->body.options.notify = notify;
	job->body.options.user = &job->news[i];
	if (job->deadline > 0) {
		job->body.options.timeout = job->deadline - tt_now();
		if (job->body.options.timeout <= 0)
			return tt_fail(&job->error, TT_ERR_LIMIT, "the request took too long");
	}
	TT_TRY(tt_choice_submit(&job->choices[i], &request, job->server->engine, &job->body, i, false, &job->error));
	job->choices[i].request = request;
	job->n_submitted++;
	job->server->n_flying++;
	return TT_OK;
}

/* Whether a further choice of the job may be submitted: of each job as many as the engine runs at once, where the queue
 * has room for them, and one where it has none, since what ends is what brings the next. */
static bool may_submit(const struct tt_job *job)
{
	const struct tt_server *server = job->server;
	uint32_t running = server->options->max_batch, n = job->n_submitted - job->n_ended;
	return n == 0 || (n < running && server->n_flying < (1 + TT_QUEUE_BATCHES) * running);
}

/* Submits choices. False: that failed, and the job is no more. */
static bool submit_some(struct tt_job *job)
{
	while (job->n_submitted < job->n_choices && may_submit(job)) {
		int status = submit_one(job, job->n_submitted);
		if (status == TT_OK)
			continue;
		set_problem(job, status == TT_ERR_LIMIT ? 504 : 500, status == TT_ERR_LIMIT ? "deadline" : NULL, NULL,
			NULL);
		tell_problem(job);
		return false;
	}
	return true;
}

static int allocate(struct tt_job *job)
{
	struct tt_error *err = &job->error;
	uint32_t n = tt_api_n_choices(&job->body);
	TT_TRY(tt_alloc(&job->choices, n, sizeof *job->choices, err));
	TT_TRY(tt_alloc(&job->news, n, sizeof *job->news, err));
	job->n_choices = n;
	for (uint32_t i = 0; i < n; i++) {
		job->news[i].job = job;
		job->news[i].index = i;
	}
	if (!job->body.stream)
		return TT_OK;
	return tt_chunks_open(
		&job->chunks, job->server->engine, &job->body, job->server->model, job->id, job->created, err);
}

/* Whether the key has had its tokens for now. */
static bool is_over_quota(struct tt_job *job)
{
	job->retry_ms = tt_quota_wait(job, job->longest);
	if (job->retry_ms)
		set_problem(job, 429, "token_quota", NULL, "this key has had as many tokens as it may have for now");
	return job->retry_ms > 0;
}

/* Whether as many requests wait as may. */
static bool is_full(const struct tt_server *server)
{
	uint32_t running = server->options->max_batch;
	uint32_t waiting = server->n_flying > running ? server->n_flying - running : 0;
	return waiting + server->n_preparing >= TT_QUEUE_BATCHES * running;
}

/* Where bodies have many choices, those that came at the same time may have filled the queue meanwhile. */
static bool is_late(struct tt_job *job)
{
	if (job->status || !is_full(job->server))
		return false;
	set_problem(job, 429, "queue_full", NULL, "too many requests wait");
	return true;
}

static void prepared(uv_work_t *work, int status)
{
	struct tt_job *job = work->data;
	(void)status;
	job->server->n_preparing--;
	job->stage = TT_JOB_RUNNING;
	if (!job->connection) {
		release(job);
		return;
	}
	if (job->status == 0 && job->server->draining && !job->server->inherited)
		set_problem(job, 503, "draining", NULL, "the server is about to end");
	else if (!is_late(job) && job->status == 0 && !is_over_quota(job) && allocate(job) != TT_OK)
		set_problem(job, 500, NULL, NULL, NULL);
	if (job->status) {
		tell_problem(job);
		return;
	}
	tt_quota_begin(job);
	tt_metrics_add(&job->server->metrics, TT_CHOICES, job->body.n);
	if (job->body.options.timeout > 0) /* from the request on */
		job->deadline = tt_now() + job->body.options.timeout - 1e-9 * (double)(uv_hrtime() - job->arrived);
	job->spoken = uv_now(&job->server->loop);
	tt_audit_begin(job); /* it is written while the prompt is computed */
	submit_some(job);
}

/* The engine is done with the request of a choice. What a client has not taken of it yet keeps nobody else waiting. */
static void count_out(struct tt_job *job, struct tt_job_choice *news)
{
	if (news->finished)
		return;
	news->finished = true;
	job->server->n_flying--;
	tt_metrics_end(job, news, false);
}

/* ---- The stream */

/* Of the answer's header. nginx would keep events until it has a buffer of them. */
static void write_fields(const struct tt_job *job, char out[MAX_FIELDS])
{
	const char *ignored = job->body.ignored;
	snprintf(out, MAX_FIELDS, "X-Request-Id: req_%s\r\nX-Trimtab-Policy-Set: %s\r\n%s%s%s%s", job->id,
		job->catalog->set, job->body.stream ? "X-Accel-Buffering: no\r\n" : "",
		*ignored ? "X-Trimtab-Ignored: " : "", ignored, *ignored ? "\r\n" : "");
}

static void speak(struct tt_job *job, const char *data, size_t n)
{
	if (!job->speaks) {
		char fields[MAX_FIELDS];
		write_fields(job, fields);
		tt_connection_begin(job->connection, event_stream, fields);
	}
	job->speaks = true;
	job->spoken = uv_now(&job->server->loop);
	tt_connection_add(job->connection, data, n);
}

/* What the answer says beside OpenAI's keys. */
static json_t *facts_of(const struct tt_job *job, uint32_t i)
{
	const struct tt_model_info *info = tt_engine_info(job->server->engine);
	const struct tt_request *request = job->choices[i].request;
	json_t *facts =
		json_pack("{s:s, s:I, s:o}", "mode", info->mode, "seed", (json_int_t)job->body.options.sampling.seed,
			"steering", tt_decisions_json(request, &job->body, info->n_layers));
	if (facts && job->body.options.n_steering > job->body.n_acting)
		json_object_set_new(facts, "shadow", tt_shadows_json(request, &job->body, info->n_layers));
	if (facts && job->begun)
		json_object_set_new(facts, "audit", tt_audit_receipt(job));
	return facts;
}

/* Adds an event for what the choice holds. */
static int add_event(struct tt_job *job, struct tt_job_choice *news, enum tt_finish finish, struct tt_buffer *out)
{
	struct tt_choice *choice = &job->choices[news->index];
	const struct tt_api_prompt *prompt = tt_api_prompt_of(&job->body, news->index);
	json_t *facts = news->began ? NULL : facts_of(job, news->index);
	const struct tt_chunk chunk = {
		.index = news->index,
		.first = !news->began,
		.text = choice->text.data ? choice->text.data : "",
		.n_text = choice->text.len,
		.logprobs = choice->logprobs,
		.finish = finish,
		.facts = facts,
		.n_prompt = prompt->n_ids,
		.n_generated = news->n_taken,
	};
	int status = tt_chunk_add(out, &job->chunks, &chunk, &job->error);
	if (status == TT_OK)
		status = tt_audit_add_text(job, news, &job->error);
	json_decref(facts);
	tt_choice_clear(choice);
	news->began = true;
	news->closed = finish != TT_RUNNING;
	return status;
}

/* Takes the tokens that are there, each with an event of its own, unless the client is slow. How many there are and
 * whether more may come is asked for at one moment, so that the last token is known to be that. The lock is not held
 * while events are written: the model's thread would wait for them, and where cores are few also for whatever has taken
 * the core from this thread. */
static int take_tokens(struct tt_job *job, struct tt_job_choice *news, struct tt_buffer *out)
{
	struct tt_engine *engine = job->server->engine;
	const struct tt_text *text = tt_engine_text(engine);
	struct tt_choice *choice = &job->choices[news->index];
	size_t unsent = tt_connection_unsent(job->connection);
	struct tt_token token;
	tt_lock(engine);
	enum tt_finish reason = tt_request_finish(choice->request), good = reason;
	size_t n = tt_request_n_generated(choice->request);
	tt_unlock(engine);
	if (reason > TT_FINISH_CONTEXT)
		good = TT_RUNNING;
	if (reason != TT_RUNNING)
		count_out(job, news);
	while (news->n_taken < n && unsent + out->len < TT_UNSENT_PAUSE && tt_request_next(choice->request, &token)) {
		if (news->n_taken++ == 0)
			TT_TRY(tt_choice_begin(choice, &job->body, text, &job->error));
		TT_TRY(tt_choice_add(choice, &token, &job->body, text, &job->error));
		TT_TRY(add_event(job, news, news->n_taken == n ? good : TT_RUNNING, out));
	}
	job->n_stalled += (news->n_taken < n) - news->stalled;
	news->stalled = news->n_taken < n;
	news->ended = !news->stalled && reason != TT_RUNNING;
	if (news->ended && reason > TT_FINISH_CONTEXT) {
		job->status = reason == TT_FINISH_DEADLINE ? 504 : 500;
	} else if (news->ended && !news->closed) { /* it ended without a further token */
		if (!news->began)
			TT_TRY(tt_choice_begin(choice, &job->body, text, &job->error));
		TT_TRY(add_event(job, news, good, out));
	}
	return TT_OK;
}

static void set_end_problem(struct tt_job *job)
{
	if (job->status == 504)
		set_problem(job, 504, "deadline", NULL, "the request took too long");
	else
		set_problem(job, 500, NULL, NULL, "the engine could not run the request");
}

static void end_stream(struct tt_job *job)
{
	static const char done[] = "data: [DONE]\n\n";
	struct tt_connection *c = job->connection;
	struct tt_buffer out = {0};
	int status = TT_OK;
	if (job->body.include_usage) {
		json_t *facts = facts_of(job, 0);
		size_t n_generated = 0;
		for (uint32_t i = 0; i < job->n_choices; i++)
			n_generated += job->news[i].n_taken;
		status = tt_chunk_add_usage(
			&out, &job->chunks, tt_api_n_prompt_tokens(&job->body), n_generated, facts, &job->error);
		json_decref(facts);
	}
	if (status == TT_OK)
		status = tt_buffer_add(&out, done, sizeof done - 1, &job->error);
	if (status == TT_OK) {
		speak(job, out.data, out.len);
		tt_connection_end(c);
		end(job);
	} else {
		job->status = 500;
		tell_problem(job);
	}
	tt_buffer_free(&out);
}

/* All has been said but the last word, which waits until the log has what was said. False: the job is no more. */
static bool close_stream(struct tt_job *job)
{
	if (!job->begun) {
		end_stream(job);
		return false;
	}
	if (tt_audit_make_end(job, &job->error) != TT_OK) {
		job->status = 500;
		tell_problem(job);
		return false;
	}
	tt_audit_end(job);
	return true;
}

/* Writes the news of a choice to its stream. False: the job is no more. */
static bool stream(struct tt_job *job, struct tt_job_choice *news)
{
	struct tt_server *server = job->server;
	struct tt_buffer *out = &server->events;
	if (news->ended || !job->recorded)
		return true;
	out->len = 0;
	int status = take_tokens(job, news, out);
	job->n_ended += news->ended;
	if (status == TT_OK && out->len)
		speak(job, out->data, out->len);
	if (status != TT_OK || job->status) {
		if (status != TT_OK)
			job->status = 500;
		set_end_problem(job);
		tell_problem(job);
		return false;
	}
	if (!news->ended)
		return true;
	return job->n_ended < job->n_choices ? submit_some(job) : close_stream(job);
}

void tt_job_resume(struct tt_job *job)
{
	for (uint32_t i = 0; job->n_stalled && i < job->n_submitted; i++)
		if (job->news[i].stalled && !stream(job, &job->news[i]))
			return;
}

void tt_job_tick(struct tt_job *job, uint64_t now)
{
	static const char ping[] = ": ping\n\n";
	const double silence = (double)job->server->options->ping_seconds;
	if (job->stage != TT_JOB_RUNNING || !job->body.stream)
		return;
	/* The engine sees to what runs in it. What it has finished waits for a client, who may take it by the byte. */
	if (job->n_stalled && job->deadline > 0 && tt_now() >= job->deadline) {
		tt_job_fail(job, 504, "deadline", "the request took too long");
		return;
	}
	if ((double)(now - job->spoken) < 1000 * silence || tt_connection_unsent(job->connection))
		return;
	speak(job, ping, sizeof ping - 1);
}

/* ---- The whole answer */

static void finish(uv_work_t *work)
{
	struct tt_job *job = work->data;
	struct tt_engine *engine = job->server->engine;
	json_t *answer = NULL;
	int status = TT_OK;
	for (uint32_t i = 0; status == TT_OK && i < job->n_choices; i++)
		status = tt_choice_collect(
			&job->choices[i], job->choices[i].request, &job->body, tt_engine_text(engine), &job->error);
	if (status == TT_OK)
		status = tt_answer_json(&answer, engine, &job->body, job->choices, job->id, job->created, &job->error);
	if (status == TT_OK)
		status = tt_json_add(answer, facts_of(job, 0), &job->error);
	if (status == TT_OK)
		status = tt_json_set(answer, "model", json_string(job->server->model), &job->error);
	if (status == TT_OK)
		status = tt_json_dump(&job->answer, answer, TT_ANSWER_FLAGS, &job->error);
	else
		json_decref(answer);
	if (status == TT_OK)
		status = tt_audit_make_end(job, &job->error);
	job->status = status == TT_OK ? 0 : 500;
}

static void send_answer(struct tt_job *job)
{
	char fields[MAX_FIELDS];
	write_fields(job, fields);
	tt_connection_answer(job->connection, 200, "application/json", fields, job->answer, strlen(job->answer));
	end(job);
}

static void finished(uv_work_t *work, int status)
{
	struct tt_job *job = work->data;
	(void)status;
	job->stage = TT_JOB_RUNNING;
	if (!job->connection)
		release(job);
	else if (job->status)
		tell_problem(job);
	else if (job->ended)
		tt_audit_end(job);
	else
		send_answer(job);
}

/* A choice that is not streamed has ended, or not. False: the job is no more. */
static bool look(struct tt_job *job, struct tt_job_choice *news)
{
	if (news->ended || !job->recorded) /* or a thread of the pool may have the job already */
		return true;
	enum tt_finish reason = tt_request_finish(job->choices[news->index].request);
	if (reason == TT_RUNNING)
		return true;
	news->ended = true;
	job->n_ended++;
	count_out(job, news);
	if (reason > TT_FINISH_CONTEXT) {
		job->status = reason == TT_FINISH_DEADLINE ? 504 : 500;
		set_end_problem(job);
		tell_problem(job);
		return false;
	}
	if (job->n_ended < job->n_choices)
		return submit_some(job);
	if (uv_queue_work(&job->server->loop, &job->work, finish, finished) < 0) {
		tt_job_fail(job, 500, NULL, "the answer cannot be written");
		return false;
	}
	job->stage = TT_JOB_FINISHING;
	return true;
}

void tt_job_recorded(struct tt_job *job, const struct tt_record *record)
{
	bool begun = record == job->begun;
	job->begun_back = job->begun_back || begun;
	if (record->status != TT_OK) {
		set_problem(job, 503, "audit_unavailable", NULL, "the audit log cannot be written");
		tell_problem(job);
	} else if (!begun) {
		if (job->body.stream)
			end_stream(job);
		else
			send_answer(job);
	} else { /* what has come meanwhile */
		job->recorded = true;
		for (uint32_t i = 0; i < job->n_submitted; i++)
			if (!(job->body.stream ? stream(job, &job->news[i]) : look(job, &job->news[i])))
				return;
	}
}

void tt_job_take_news(struct tt_server *server)
{
	/* This takes the engine's lock, under which its thread adds the news of a step: now all of them are here. */
	tt_metrics_look(server);
	struct tt_job_choice *last = atomic_exchange(&server->woken, NULL), *news = NULL;
	while (last) { /* the list has the newest first */
		struct tt_job_choice *earlier = last->next;
		last->next = news;
		news = last;
		last = earlier;
	}
	while (news) {
		struct tt_job_choice *next = news->next;
		struct tt_job *job = news->job;
		atomic_store(&news->has_news, false);
		if (job->dead) {
			if (--job->n_listed == 0)
				free_job(job);
		} else if (job->body.stream) {
			stream(job, news);
		} else {
			look(job, news);
		}
		news = next;
	}
}

/* ---- Its beginning */

/* Whether a key has as many requests as it may have at once. */
static bool is_busy(const struct tt_server *server, const struct tt_key *key)
{
	uint32_t n = 0, most = key->requests ? key->requests : server->options->key_requests;
	for (const struct tt_job *job = server->jobs; job; job = job->next)
		n += job->connection && strcmp(job->key, key->id) == 0;
	return most && n >= most;
}

static int make_id(struct tt_job *job)
{
	unsigned char bytes[20];
	if (uv_random(NULL, NULL, bytes, sizeof bytes, 0, NULL) < 0)
		return TT_ERR_IO;
	for (int i = 0; i < 12; i++)
		snprintf(job->id + 2 * i, 3, "%02x", bytes[i]);
	memcpy(&job->seed, bytes + 12, sizeof job->seed);
	job->seed >>= 11; /* which every reader of JSON can hold */
	return TT_OK;
}

const struct tt_problem *tt_job_objection(const struct tt_connection *c)
{
	static const struct tt_problem draining = {503, "the server is about to end", NULL, "draining"},
				       full = {429, "too many requests wait", NULL, "queue_full"},
				       busy = {429, "this key has as many requests as it may have", NULL, "key_busy"},
				       broken = {503, "what steers every request cannot be loaded", NULL,
					       "policies_unavailable"},
				       unrecorded = {503, "the audit log cannot be written", NULL, "audit_unavailable"};
	const struct tt_server *server = c->server;
	if (server->catalog->is_broken)
		return &broken;
	if (server->draining && !server->inherited)
		return &draining;
	if (is_full(server))
		return &full;
	if (c->key && is_busy(server, c->key))
		return &busy;
	return server->recorder && !tt_recorder_takes(server->recorder) ? &unrecorded : NULL;
}

void tt_job_start(struct tt_connection *c, enum tt_endpoint endpoint)
{
	static const struct tt_problem lacking = {500, "out of memory", NULL, NULL};
	struct tt_server *server = c->server;
	struct tt_engine_stats before;
	struct tt_job *job;
	const struct tt_key *key = c->key;
	if (tt_alloc(&job, 1, sizeof *job, NULL) != TT_OK) {
		tt_reply_problem(c, &lacking);
		return;
	}
	job->server = server;
	job->endpoint = endpoint;
	job->created = (int64_t)time(NULL);
	job->arrived = uv_hrtime();
	tt_engine_stats(server->engine, &before);
	job->steps_before = before.n_steps;
	job->work_before = before.n_prefill_tokens + before.n_decode_tokens;
	job->right = tt_server_right(key);
	job->max_tokens = key ? key->body_tokens : 0;
	if (key)
		memcpy(job->key, key->id, sizeof job->key);
	job->work.data = job;
	job->connection = c;
	job->text = c->http.body;
	job->catalog = tt_catalog_take(server->catalog);
	if (make_id(job) != TT_OK || tt_quota_find(job, key) != TT_OK ||
		uv_queue_work(&server->loop, &job->work, prepare, prepared) < 0) {
		tt_catalog_give(job->catalog);
		free(job);
		tt_reply_problem(c, &lacking);
		return;
	}
	c->http.body = (struct tt_buffer){0}; /* the job's now */
	c->job = job;
	job->next = server->jobs;
	if (job->next)
		job->next->previous = job;
	server->jobs = job;
	server->n_jobs++;
	server->n_preparing++;
}
