/* audit replay: requests of the log run again, and what comes out held against its commitments. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "controller/govern/log.h"
#include "controller/govern/payload.h"
#include "controller/govern/version.h"
#include "controller/govern/query.h"
#include "runtime/engine/numerics.h"
#include "runtime/serve/audit_command.h"
#include "runtime/serve/transcript.h"

enum { MAX_BODY = 16 << 20, WHY = 500 };

enum outcome {
	EQUAL,
	EQUAL_TOKENS, /* elsewhere: another backend, cache or processor */
	DIFFERENT,
	SKIPPED, /* it cannot be replayed */
};
static const char *const outcome_words[] = {"equal", "equal tokens", "different", "skipped"};

/* A version of the store, under the name that a request had it by. */
struct stored {
	struct tt_named_policy named; /* whose name is the one below */
	char name[TT_MAX_NAME + 1];
	struct stored *next;
};

struct run {
	const struct tt_audit_options *options;
	struct tt_database db;
	struct tt_log log;
	struct tt_payloads payloads;
	struct tt_named_policies policies;
	struct stored *stored; /* a list */
	json_t *numerics;      /* of the engine */
	json_t *other;         /* numerics of the last run that was looked at */
	uint64_t other_run;
	uint64_t *begins; // [n]
	size_t n;
	json_t *rows;
	uint64_t counts[4];
};

/* A request that is replayed. */
struct replay {
	uint64_t seq;
	json_t *begin, *end, *json;
	uint8_t open[TT_SECRET];
	struct tt_buffer text, result; /* the body; the recorded result, or empty */
	struct tt_api_request body;
	bool parsed;
	struct tt_choice *choices; // [n_choices]
	uint32_t n_choices;
	enum outcome outcome;
	char why[WHY];
};

static int skip(struct replay *r, const char *why)
{
	r->outcome = SKIPPED;
	snprintf(r->why, sizeof r->why, "%s", why);
	return TT_OK;
}

static void close_replay(struct replay *r)
{
	for (uint32_t i = 0; i < r->n_choices; i++)
		tt_choice_free(&r->choices[i]);
	free(r->choices);
	if (r->parsed)
		tt_api_request_free(&r->body);
	json_decref(r->begin);
	json_decref(r->end);
	json_decref(r->json);
	tt_buffer_free(&r->text);
	tt_buffer_free(&r->result);
}

/* ---- What the log has */

static int read_entry(struct run *run, uint64_t seq, json_t **out, struct tt_error *err)
{
	struct tt_buffer body = {0};
	int status = tt_log_read(&run->log, seq, &body, NULL, err);
	if (status == TT_OK)
		status = tt_json_parse(out, body.data, body.len, "an entry", err);
	tt_buffer_free(&body);
	return status;
}

static bool is_kind(const json_t *entry, const char *kind)
{
	return strcmp(tt_json_string_or(entry, "kind", ""), kind) == 0;
}

static int read_text(struct run *run, struct replay *r, bool *found, struct tt_error *err)
{
	TT_TRY(tt_payload_read(&run->payloads, r->seq, found, r->open, &r->text, &r->result, err));
	if (!*found || !run->options->body)
		return TT_OK;
	tt_buffer_free(&r->text);
	return tt_file_read(&r->text, run->options->body, MAX_BODY, err);
}

static const char *obstacle_of_choice(const json_t *choice)
{
	const char *finish = tt_json_string_or(choice, "finish", "");
	const json_t *decision;
	size_t i;
	if (strcmp(finish, "error") == 0)
		return "the engine failed";
	if (strcmp(finish, "abandoned") == 0 && json_integer_value(json_object_get(choice, "tokens")) == 0)
		return "it was abandoned before its first token";
	json_array_foreach(json_object_get(choice, "steering"), i, decision)
	{
		if (json_is_true(json_object_get(decision, "killed")))
			return "the kill switch came while it ran";
	}
	return NULL;
}

/* Why a request would not end again as it has; NULL: it would. */
static const char *obstacle(const json_t *end)
{
	const json_t *choices = json_object_get(end, "choices");
	if ((json_int_t)json_array_size(choices) != json_integer_value(json_object_get(end, "choices_of")))
		return "it has more choices than the log tells of";
	for (size_t i = 0; i < json_array_size(choices); i++) {
		const char *why = obstacle_of_choice(json_array_get(choices, i));
		if (why)
			return why;
	}
	return NULL;
}

static int look_up(struct run *run, struct replay *r, struct tt_error *err)
{
	bool found;
	uint64_t end;
	char body[65];
	TT_TRY(read_entry(run, r->seq, &r->begin, err));
	if (!is_kind(r->begin, "begin"))
		return skip(r, "it is no request");
	TT_TRY(tt_log_find_end(&run->log, r->seq, &found, &end, err));
	if (found)
		TT_TRY(read_entry(run, end, &r->end, err));
	if (!found || !is_kind(r->end, "end") || !json_object_get(r->end, "result"))
		return skip(r, found ? "it was interrupted" : "it has not ended");
	if (obstacle(r->end))
		return skip(r, obstacle(r->end));
	TT_TRY(read_text(run, r, &found, err));
	if (!found)
		return skip(r, "its key was erased");
	if (!r->text.data)
		return skip(r, "its text was not kept");
	TT_TRY(tt_transcript_commit(body, r->open, TT_COMMIT_BODY, r->text.data, r->text.len, err));
	if (strcmp(body, tt_json_string_or(r->begin, "body", "")) != 0) {
		r->outcome = DIFFERENT;
		snprintf(r->why, sizeof r->why, "the body is not the one that was asked with");
	}
	return TT_OK;
}

/* ---- The request again */

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Takes a version out of the store; NULL where it has none, or where it is no policy of this model. */
static const struct tt_named_policy *load_stored(struct run *run, const char *name, const char *sha256)
{
	struct stored *stored;
	if (!tt_name_is_valid(name) || strlen(sha256) != 64 || tt_alloc(&stored, 1, sizeof *stored, NULL) != TT_OK)
		return NULL;
	memcpy(stored->name, name, strlen(name));
	memcpy(stored->named.sha256, sha256, 64);
	stored->named.name = stored->name;
	struct tt_policy **policy = &stored->named.policy;
	if (tt_version_load(policy, &run->db, run->options->state, sha256, NULL) != TT_OK ||
		tt_engine_add_policy(run->options->engine, *policy, NULL, NULL) != TT_OK) {
		tt_policy_free(*policy);
		free(stored);
		return NULL;
	}
	stored->next = run->stored;
	run->stored = stored;
	return &stored->named;
}

/* The policy of an entry: a file of the command line, else a version of the store. */
static const struct tt_named_policy *find_policy(struct run *run, const json_t *entry)
{
	const char *name = tt_json_string_or(entry, "policy", ""), *sha256 = tt_json_string_or(entry, "version", "");
	const struct tt_named_policy *policy = tt_named_policies_find(&run->policies, name);
	if (policy && strcmp(policy->sha256, sha256) == 0)
		return policy;
	for (const struct stored *stored = run->stored; stored; stored = stored->next)
		if (strcmp(stored->name, name) == 0 && strcmp(stored->named.sha256, sha256) == 0)
			return &stored->named;
	return load_stored(run, name, sha256);
}

/* A list of the entry as what a body leaves to the server. */
static bool take_policies(struct run *run, const json_t *list, struct tt_api_steering *out, uint32_t *n)
{
	size_t i;
	const json_t *entry;
	json_array_foreach(list, i, entry)
	{
		if (*n == TT_MAX_STACK)
			return false;
		out[*n] = (struct tt_api_steering){
			find_policy(run, entry), (float)json_number_value(json_object_get(entry, "scale"))};
		if (!out[(*n)++].policy)
			return false;
	}
	return true;
}

/* What steered is what the log says, whatever the server's rules made of the body. */
static void set_steering(struct tt_api_request *body, const struct tt_api_context *context)
{
	struct tt_request_options *o = &body->options;
	o->n_steering = 0;
	for (uint32_t i = 0; i < context->n_standing + context->n_shadows; i++) {
		bool acts = i < context->n_standing;
		const struct tt_api_steering *s =
			acts ? &context->standing[i] : &context->shadows[i - context->n_standing];
		body->policies[i] = s->policy;
		o->steering[i] = (struct tt_steering){s->policy->policy, acts ? s->scale : 0};
		o->n_steering++;
	}
	body->n_acting = context->n_standing;
}

static int parse_body(struct run *run, struct replay *r, struct tt_error *err)
{
	const bool chat = strcmp(tt_json_string_or(r->begin, "route", ""), "/v1/chat/completions") == 0;
	struct tt_api_context context = {
		.text = tt_engine_text(run->options->engine),
		.policies = &run->policies,
		.max_tokens = (uint32_t)number(r->begin, "max_tokens"),
		.sampling = {.seed = number(r->begin, "seed"), .temperature = 1, .top_p = 1},
		.now = (int64_t)number(r->begin, "date"),
		.serves = true,
		.lenient = true,
		.right = TT_API_CHOOSES_ANY,
	};
	struct tt_error why = {0};
	if (!take_policies(run, json_object_get(r->begin, "steering"), context.standing, &context.n_standing) ||
		!take_policies(run, json_object_get(r->begin, "shadow"), context.shadows, &context.n_shadows))
		return skip(r, "a policy of it is not here in that version (--policy NAME=FILE)");
	if (context.n_standing + context.n_shadows > TT_MAX_STACK) /* no server has written that */
		return skip(r, "it names more policies than a request can have");
	TT_TRY(tt_json_parse(&r->json, r->text.data, r->text.len, "the body", err));
	json_t *steering = json_object_get(r->json, "steering");
	if (json_is_object(steering)) /* names of labels, which may have moved; set_steering knows what they were */
		json_object_set_new(steering, "policies", json_array());
	if (tt_api_request_parse(&r->body, r->json, chat ? TT_CHAT_COMPLETIONS : TT_COMPLETIONS, &context, &why) !=
		TT_OK)
		return skip(r, why.message);
	r->parsed = true;
	r->body.options.timeout = 0;
	set_steering(&r->body, &context);
	return TT_OK;
}

/* Whether the prompt has the same ids. */
static int check_ids(struct replay *r, struct tt_error *err)
{
	char commitment[65];
	struct tt_buffer ids = {0};
	int status = tt_transcript_ids(&ids, &r->body, err);
	if (status == TT_OK)
		status = tt_transcript_commit(commitment, r->open, TT_COMMIT_IDS, ids.data, ids.len, err);
	tt_buffer_free(&ids);
	if (status == TT_OK && strcmp(commitment, tt_json_string_or(r->begin, "ids", "")) != 0) {
		r->outcome = DIFFERENT;
		snprintf(r->why, sizeof r->why, "the prompt is rendered or tokenised otherwise");
	}
	return status;
}

static int submit(struct run *run, struct replay *r, struct tt_error *err)
{
	const uint32_t n = tt_api_n_choices(&r->body);
	TT_TRY(tt_alloc(&r->choices, n, sizeof *r->choices, err));
	r->n_choices = n;
	for (uint32_t i = 0; i < n; i++) {
		struct tt_request *request;
		TT_TRY(tt_choice_submit(&r->choices[i], &request, run->options->engine, &r->body, i, false, err));
		r->choices[i].request = request;
	}
	return TT_OK;
}

static int begin(struct run *run, struct replay *r, struct tt_error *err)
{
	TT_TRY(look_up(run, r, err));
	if (r->outcome == EQUAL)
		TT_TRY(parse_body(run, r, err));
	if (r->outcome == EQUAL)
		TT_TRY(check_ids(r, err));
	return r->outcome == EQUAL ? submit(run, r, err) : TT_OK;
}

/* ---- The comparison */

static int make_result(struct run *run, struct replay *r, struct tt_buffer *out, struct tt_error *err)
{
	const uint32_t n_layers = tt_engine_info(run->options->engine)->n_layers;
	const json_t *choices = json_object_get(r->end, "choices");
	for (uint32_t i = 0; i < r->n_choices; i++) {
		struct tt_request *request = r->choices[i].request;
		size_t told = (size_t)number(json_array_get(choices, i), "tokens");
		TT_TRY(tt_request_wait(request, err));
		/* Of one that was abandoned, as many as there were. */
		TT_TRY(tt_transcript_choice(out, request, told, r->body.options.n_steering, n_layers, err));
	}
	return TT_OK;
}

/* Where two results part, as far as it can be said. */
static void tell_difference(struct replay *r, const struct tt_buffer *result)
{
	size_t at = 0, least = result->len < r->result.len ? result->len : r->result.len;
	if (!r->result.data) {
		snprintf(r->why, sizeof r->why, "what comes out is not what is in the log");
		return;
	}
	while (at < least && result->data[at] == r->result.data[at])
		at++;
	snprintf(r->why, sizeof r->why, "the result differs from byte %zu of %zu on", at, r->result.len);
}

static bool same_tokens(const struct replay *r, const struct tt_buffer *result)
{
	size_t at = 0, n_other;
	uint64_t n;
	if (!r->result.data || result->len != r->result.len)
		return false;
	for (uint32_t i = 0; i < r->n_choices && at + 8 <= result->len; i++) {
		memcpy(&n, result->data + at, sizeof n);
		n_other = result->len - at - 8;
		if (n > n_other / 8 || memcmp(result->data + at, r->result.data + at, 8 + 4 * n) != 0)
			return false;
		at += 8 + 8 * (size_t)n;
		uint64_t n_steering = 0, n_layers = 0;
		memcpy(&n_steering, result->data + at, sizeof n_steering);
		at += 8;
		for (; n_steering > 0 && at + 8 <= result->len; n_steering--) {
			memcpy(&n_layers, result->data + at, sizeof n_layers);
			at += 8 + 4 * (size_t)n_layers + 8;
		}
	}
	return true;
}

/* Whether the request ran with the numerics that this engine has. */
static int same_numerics(struct run *run, const struct replay *r, bool *same, struct tt_error *err)
{
	uint64_t seq = number(r->begin, "run");
	if (!run->other || run->other_run != seq) {
		json_decref(run->other);
		run->other = NULL;
		run->other_run = seq;
		TT_TRY(read_entry(run, seq, &run->other, err));
	}
	*same = json_equal(json_object_get(run->other, "numerics"), run->numerics) == 1;
	return TT_OK;
}

static int compare(struct run *run, struct replay *r, struct tt_error *err)
{
	char commitment[65];
	struct tt_buffer result = {0};
	bool same = true;
	int status = make_result(run, r, &result, err);
	if (status == TT_OK)
		status = tt_transcript_commit(commitment, r->open, TT_COMMIT_RESULT, result.data, result.len, err);
	if (status == TT_OK && strcmp(commitment, tt_json_string_or(r->end, "result", "")) != 0) {
		r->outcome = DIFFERENT;
		tell_difference(r, &result);
		status = same_numerics(run, r, &same, err);
		if (status == TT_OK && !same && same_tokens(r, &result)) {
			r->outcome = EQUAL_TOKENS;
			snprintf(r->why, sizeof r->why,
				"the same tokens; the numerics are others than the log's, so more cannot be said");
		} else if (status == TT_OK && !same) {
			size_t n = strlen(r->why);
			snprintf(r->why + n, sizeof r->why - n, "; the numerics are others than the log's");
		}
	}
	tt_buffer_free(&result);
	return status;
}

static int tell(struct run *run, const struct replay *r, struct tt_error *err)
{
	json_t *row = json_pack("{s:I, s:s}", "seq", (json_int_t)r->seq, "outcome", outcome_words[r->outcome]);
	run->counts[r->outcome]++;
	if (*r->why)
		json_object_set_new(row, "why", json_string(r->why));
	if (!row || json_array_append_new(run->rows, row) < 0)
		return tt_fail(err, TT_ERR_MEMORY, "out of memory");
	return TT_OK;
}

/* As many at a time as the engine runs at once. */
static int replay_some(struct run *run, const uint64_t *begins, size_t n, struct tt_error *err)
{
	struct replay *replays;
	int status = TT_OK;
	TT_TRY(tt_alloc(&replays, n, sizeof *replays, err));
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		replays[i].seq = begins[i];
		status = begin(run, &replays[i], err);
	}
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		if (replays[i].outcome == EQUAL)
			status = compare(run, &replays[i], err);
		if (status == TT_OK)
			status = tell(run, &replays[i], err);
	}
	for (size_t i = 0; i < n; i++)
		close_replay(&replays[i]);
	free(replays);
	return status;
}

/* ---- Which */

static int list_ended(struct run *run, struct tt_error *err)
{
	const struct tt_audit_options *o = run->options;
	struct tt_query q;
	size_t capacity = 0;
	int status = TT_OK;
	TT_TRY(tt_query_open(&q, &run->db,
		"SELECT begin FROM log_leaf WHERE begin IS NOT NULL AND begin >= ? AND begin <= ? ORDER BY begin",
		TT_SQL(tt_integer((int64_t)o->range_from), tt_integer(o->range_to ? (int64_t)o->range_to : INT64_MAX)),
		err));
	while (status == TT_OK && tt_query_next(&q, err)) {
		status = tt_grow(&run->begins, &capacity, run->n + 1, sizeof *run->begins, err);
		if (status == TT_OK)
			run->begins[run->n++] = (uint64_t)tt_query_integer(&q, 0);
	}
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static int choose(struct run *run, struct tt_error *err)
{
	const struct tt_audit_options *o = run->options;
	uint64_t state = o->seed;
	if (o->n_entries) {
		TT_TRY(tt_alloc(&run->begins, o->n_entries, sizeof *run->begins, err));
		memcpy(run->begins, o->entries, o->n_entries * sizeof *run->begins);
		run->n = o->n_entries;
		return TT_OK;
	}
	TT_TRY(list_ended(run, err));
	if (o->sample == 0 || o->sample >= run->n)
		return TT_OK;
	for (size_t i = 0; i < o->sample; i++) { /* the first of a shuffle */
		size_t k = i + (size_t)(tt_random_next(&state) % (run->n - i));
		uint64_t chosen = run->begins[k];
		run->begins[k] = run->begins[i];
		run->begins[i] = chosen;
	}
	run->n = o->sample;
	qsort(run->begins, run->n, sizeof *run->begins, by_number);
	return TT_OK;
}

/* ---- All */

static int open_run(struct run *run, struct tt_error *err)
{
	const struct tt_audit_options *o = run->options;
	const struct tt_policy_files files = {o->policies, o->n_policies, NULL, o->note, o->user};
	run->rows = json_array();
	run->numerics = json_object();
	TT_TRY(tt_database_open(&run->db, o->state, TT_DATABASE_READ, err));
	TT_TRY(tt_log_open(&run->log, &run->db, err));
	TT_TRY(tt_payloads_open(&run->payloads, &run->db, o->state, err));
	TT_TRY(tt_named_policies_load(&run->policies, o->engine, &files, err));
	TT_TRY(tt_engine_numerics(run->numerics, o->engine, err));
	return choose(run, err);
}

static void close_run(struct run *run)
{
	while (run->stored) {
		struct stored *next = run->stored->next;
		tt_engine_remove_policy(run->options->engine, run->stored->named.policy, NULL);
		tt_policy_free(run->stored->named.policy);
		free(run->stored);
		run->stored = next;
	}
	tt_named_policies_free(&run->policies, run->options->engine);
	tt_payloads_close(&run->payloads);
	tt_log_close(&run->log);
	tt_database_close(&run->db);
	json_decref(run->numerics);
	json_decref(run->other);
	json_decref(run->rows);
	free(run->begins);
}

static int tell_all(struct run *run, char **text, struct tt_error *err)
{
	struct tt_buffer out = {0};
	int status = TT_OK;
	size_t i;
	const json_t *row;
	json_array_foreach(run->rows, i, row)
	{
		char *line;
		if (status != TT_OK || (!run->options->json && !json_object_get(row, "why")))
			continue;
		status = tt_json_dump(&line, json_incref((json_t *)(uintptr_t)row), JSON_COMPACT, err);
		if (status == TT_OK) {
			status = tt_buffer_print(&out, err, "%s\n", line);
			free(line);
		}
	}
	if (status == TT_OK && !run->options->json)
		status = tt_buffer_print(&out, err,
			"%" PRIu64 " of %zu requests came out the same, bit for bit; %" PRIu64 " different, %" PRIu64
			" only by their tokens, %" PRIu64 " cannot be replayed\n",
			run->counts[EQUAL], run->n, run->counts[DIFFERENT], run->counts[EQUAL_TOKENS],
			run->counts[SKIPPED]);
	if (status != TT_OK)
		tt_buffer_free(&out);
	*text = out.data;
	return status;
}

int tt_audit_replay(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct run run = {.options = o};
	const size_t most = o->max_batch ? o->max_batch : 32;
	*text = NULL;
	int status = open_run(&run, err);
	for (size_t i = 0; status == TT_OK && i < run.n; i += most)
		status = replay_some(&run, run.begins + i, run.n - i < most ? run.n - i : most, err);
	if (status == TT_OK)
		status = tell_all(&run, text, err);
	if (status == TT_OK && run.counts[DIFFERENT])
		status = tt_fail(err, TT_ERR_MISMATCH, "%" PRIu64 " requests did not come out as they are in the log",
			run.counts[DIFFERENT]);
	close_run(&run);
	return status;
}
