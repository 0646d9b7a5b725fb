#include "runtime/serve/replay.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "controller/govern/version.h"
#include "runtime/engine/numerics.h"
#include "runtime/serve/transcript.h"

enum { MAX_BODY = 16 << 20 };

const char *const tt_replay_words[4] = {"equal", "equal tokens", "different", "skipped"};

/* A version of the store, under the name that a request had it by. */
struct tt_stored {
	struct tt_named_policy named; /* whose name is the one below */
	char name[TT_MAX_NAME + 1];
	struct tt_stored *next;
};

static int skip(struct tt_replay *r, const char *why)
{
	r->outcome = TT_REPLAY_SKIPPED;
	snprintf(r->why, sizeof r->why, "%s", why);
	return TT_OK;
}

void tt_replay_free(struct tt_replay *r)
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

int tt_entry_read(json_t **out, struct tt_log *log, uint64_t seq, struct tt_error *err)
{
	struct tt_buffer body = {0};
	int status = tt_log_read(log, seq, &body, NULL, err);
	if (status == TT_OK)
		status = tt_json_parse(out, body.data, body.len, "an entry", err);
	tt_buffer_free(&body);
	return status;
}

static bool is_kind(const json_t *entry, const char *kind)
{
	return strcmp(tt_json_string_or(entry, "kind", ""), kind) == 0;
}

static int read_text(struct tt_replays *with, struct tt_replay *r, bool *found, struct tt_error *err)
{
	TT_TRY(tt_payload_read(&with->payloads, r->seq, found, r->open, &r->text, &r->result, err));
	if (!*found || !with->body)
		return TT_OK;
	tt_buffer_free(&r->text);
	return tt_file_read(&r->text, with->body, MAX_BODY, err);
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

static int look_up(struct tt_replays *with, struct tt_replay *r, struct tt_error *err)
{
	bool found;
	uint64_t end;
	char body[65];
	TT_TRY(tt_entry_read(&r->begin, &with->log, r->seq, err));
	if (!is_kind(r->begin, "begin"))
		return skip(r, "it is no request");
	TT_TRY(tt_log_find_end(&with->log, r->seq, &found, &end, err));
	if (found)
		TT_TRY(tt_entry_read(&r->end, &with->log, end, err));
	if (!found || !is_kind(r->end, "end") || !json_object_get(r->end, "result"))
		return skip(r, found ? "it was interrupted" : "it has not ended");
	if (obstacle(r->end))
		return skip(r, obstacle(r->end));
	TT_TRY(read_text(with, r, &found, err));
	if (!found)
		return skip(r, "its key was erased");
	if (!r->text.data)
		return skip(r, "its text was not kept");
	TT_TRY(tt_transcript_commit(body, r->open, TT_COMMIT_BODY, r->text.data, r->text.len, err));
	if (strcmp(body, tt_json_string_or(r->begin, "body", "")) != 0) {
		r->outcome = TT_REPLAY_DIFFERENT;
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
static const struct tt_named_policy *load_stored(struct tt_replays *with, const char *name, const char *sha256)
{
	struct tt_stored *stored;
	if (!tt_name_is_valid(name) || strlen(sha256) != 64 || tt_alloc(&stored, 1, sizeof *stored, NULL) != TT_OK)
		return NULL;
	memcpy(stored->name, name, strlen(name));
	memcpy(stored->named.sha256, sha256, 64);
	stored->named.name = stored->name;
	struct tt_policy **policy = &stored->named.policy;
	if (tt_version_load(policy, &with->db, with->state, sha256, NULL) != TT_OK ||
		tt_engine_add_policy(with->engine, *policy, NULL, NULL) != TT_OK) {
		tt_policy_free(*policy);
		free(stored);
		return NULL;
	}
	stored->next = with->stored;
	with->stored = stored;
	return &stored->named;
}

/* The policy of an entry: one that is on the engine, else a version of the store. */
static const struct tt_named_policy *find_policy(struct tt_replays *with, const json_t *entry)
{
	const char *name = tt_json_string_or(entry, "policy", ""), *sha256 = tt_json_string_or(entry, "version", "");
	for (size_t i = 0; i < with->policies->n; i++)
		if (strcmp(with->policies->list[i].name, name) == 0 &&
			strcmp(with->policies->list[i].sha256, sha256) == 0)
			return &with->policies->list[i];
	for (const struct tt_stored *stored = with->stored; stored; stored = stored->next)
		if (strcmp(stored->name, name) == 0 && strcmp(stored->named.sha256, sha256) == 0)
			return &stored->named;
	return load_stored(with, name, sha256);
}

/* A list of the entry as what a body leaves to the server. */
static bool take_policies(struct tt_replays *with, const json_t *list, struct tt_api_steering *out, uint32_t *n)
{
	size_t i;
	const json_t *entry;
	json_array_foreach(list, i, entry)
	{
		if (*n == TT_MAX_STACK)
			return false;
		out[*n] = (struct tt_api_steering){
			find_policy(with, entry), (float)json_number_value(json_object_get(entry, "scale"))};
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

/* Of one that was abandoned, no more tokens than there were. */
static void bound_tokens(struct tt_replay *r)
{
	const json_t *choices = json_object_get(r->end, "choices"), *choice;
	uint64_t most = 0;
	size_t i;
	json_array_foreach(choices, i, choice)
	{
		most = number(choice, "tokens") > most ? number(choice, "tokens") : most;
	}
	if (most && most < r->body.options.max_tokens)
		r->body.options.max_tokens = (uint32_t)most;
}

static int parse_body(struct tt_replays *with, struct tt_replay *r, struct tt_error *err)
{
	const bool chat = strcmp(tt_json_string_or(r->begin, "route", ""), "/v1/chat/completions") == 0;
	struct tt_api_context context = {
		.text = tt_engine_text(with->engine),
		.policies = with->policies,
		.max_tokens = (uint32_t)number(r->begin, "max_tokens"),
		.sampling = {.seed = number(r->begin, "seed"), .temperature = 1, .top_p = 1},
		.now = (int64_t)number(r->begin, "date"),
		.serves = true,
		.lenient = true,
		.right = TT_API_CHOOSES_ANY,
	};
	struct tt_error why = {0};
	if (!take_policies(with, json_object_get(r->begin, "steering"), context.standing, &context.n_standing) ||
		!take_policies(with, json_object_get(r->begin, "shadow"), context.shadows, &context.n_shadows))
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
	bound_tokens(r);
	return TT_OK;
}

/* Whether the prompt has the same ids. */
static int check_ids(struct tt_replay *r, struct tt_error *err)
{
	char commitment[65];
	struct tt_buffer ids = {0};
	int status = tt_transcript_ids(&ids, &r->body, err);
	if (status == TT_OK)
		status = tt_transcript_commit(commitment, r->open, TT_COMMIT_IDS, ids.data, ids.len, err);
	tt_buffer_free(&ids);
	if (status == TT_OK && strcmp(commitment, tt_json_string_or(r->begin, "ids", "")) != 0) {
		r->outcome = TT_REPLAY_DIFFERENT;
		snprintf(r->why, sizeof r->why, "the prompt is rendered or tokenised otherwise");
	}
	return status;
}

int tt_replay_read(struct tt_replay *r, struct tt_replays *with, struct tt_error *err)
{
	TT_TRY(look_up(with, r, err));
	if (r->outcome == TT_REPLAY_EQUAL)
		TT_TRY(parse_body(with, r, err));
	return r->outcome == TT_REPLAY_EQUAL ? check_ids(r, err) : TT_OK;
}

int tt_replay_submit(struct tt_replay *r, struct tt_replays *with, bool trace, struct tt_error *err)
{
	const uint32_t n = tt_api_n_choices(&r->body);
	TT_TRY(tt_alloc(&r->choices, n, sizeof *r->choices, err));
	r->n_choices = n;
	for (uint32_t i = 0; i < n; i++) {
		struct tt_request *request;
		TT_TRY(tt_choice_submit(&r->choices[i], &request, with->engine, &r->body, i, trace && i == 0, err));
		r->choices[i].request = request;
	}
	return TT_OK;
}

/* ---- The comparison */

static int make_result(struct tt_replays *with, struct tt_replay *r, struct tt_buffer *out, struct tt_error *err)
{
	const uint32_t n_layers = tt_engine_info(with->engine)->n_layers;
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
static void tell_difference(struct tt_replay *r, const struct tt_buffer *result)
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

static bool same_tokens(const struct tt_replay *r, const struct tt_buffer *result)
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
static int same_numerics(struct tt_replays *with, const struct tt_replay *r, bool *same, struct tt_error *err)
{
	uint64_t seq = number(r->begin, "run");
	if (!with->other || with->other_run != seq) {
		json_decref(with->other);
		with->other = NULL;
		with->other_run = seq;
		TT_TRY(tt_entry_read(&with->other, &with->log, seq, err));
	}
	if (!with->numerics) {
		with->numerics = json_object();
		TT_TRY(tt_engine_numerics(with->numerics, with->engine, err));
	}
	*same = json_equal(json_object_get(with->other, "numerics"), with->numerics) == 1;
	return TT_OK;
}

int tt_replay_compare(struct tt_replay *r, struct tt_replays *with, struct tt_error *err)
{
	char commitment[65];
	struct tt_buffer result = {0};
	bool same = true;
	int status = make_result(with, r, &result, err);
	if (status == TT_OK)
		status = tt_transcript_commit(commitment, r->open, TT_COMMIT_RESULT, result.data, result.len, err);
	if (status == TT_OK && strcmp(commitment, tt_json_string_or(r->end, "result", "")) != 0) {
		r->outcome = TT_REPLAY_DIFFERENT;
		tell_difference(r, &result);
		status = same_numerics(with, r, &same, err);
		if (status == TT_OK && !same && same_tokens(r, &result)) {
			r->outcome = TT_REPLAY_EQUAL_TOKENS;
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

/* ---- What requests are replayed with */

int tt_replays_open(struct tt_replays *with, struct tt_error *err)
{
	TT_TRY(tt_database_open(&with->db, with->state, TT_DATABASE_READ, err));
	TT_TRY(tt_log_open(&with->log, &with->db, err));
	return tt_payloads_open(&with->payloads, &with->db, with->state, err);
}

void tt_replays_close(struct tt_replays *with)
{
	while (with->stored) {
		struct tt_stored *next = with->stored->next;
		tt_engine_remove_policy(with->engine, with->stored->named.policy, NULL);
		tt_policy_free(with->stored->named.policy);
		free(with->stored);
		with->stored = next;
	}
	tt_payloads_close(&with->payloads);
	tt_log_close(&with->log);
	tt_database_close(&with->db);
	json_decref(with->numerics);
	json_decref(with->other);
}
