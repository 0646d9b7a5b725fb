#include "controller/govern/version.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "controller/govern/query.h"
#include "runtime/trimtab.h"

static const char *const state_words[TT_N_VERSION_STATES] = {"draft", "submitted", "approved", "rejected", "retired"};

const char *tt_version_state_word(int64_t state)
{
	return state >= 0 && state < TT_N_VERSION_STATES ? state_words[state] : NULL;
}

/* ---- Reading */

#define COLUMNS                                                                                                        \
	"policy, sha256, state, author, editor, submitter, approver, least, most, floor, reason, parent, report, "     \
	"created, changed"

static bool copy(char *out, size_t size, const char *text)
{
	size_t n = strlen(text);
	memcpy(out, text, n < size ? n + 1 : 0);
	return n < size;
}

static bool is_digest(const char *text, size_t least, size_t most)
{
	size_t n = strlen(text);
	return n >= least && n <= most && strspn(text, "0123456789abcdef") == n;
}

static int read_version(
	struct tt_version *out, const struct tt_query *q, const struct tt_database *db, struct tt_error *err)
{
	int64_t state = tt_query_integer(q, 2);
	*out = (struct tt_version){
		.state = (enum tt_version_state)state,
		.least = tt_query_real(q, 7),
		.most = tt_query_real(q, 8),
		.mandatory = !tt_query_is_null(q, 9),
		.floor = tt_query_real(q, 9),
	};
	bool whole = copy(out->policy, sizeof out->policy, tt_query_text(q, 0)) && tt_name_is_valid(out->policy) &&
		     copy(out->sha256, sizeof out->sha256, tt_query_text(q, 1)) && is_digest(out->sha256, 64, 64) &&
		     copy(out->author, sizeof out->author, tt_query_text(q, 3)) &&
		     copy(out->editor, sizeof out->editor, tt_query_text(q, 4)) &&
		     copy(out->submitter, sizeof out->submitter, tt_query_text(q, 5)) &&
		     copy(out->approver, sizeof out->approver, tt_query_text(q, 6));
	if (!whole || !tt_version_state_word(state) || !(out->least <= out->most) ||
		(out->mandatory && !(out->floor > 0 && out->floor >= out->least && out->floor <= out->most)))
		return tt_fail(err, TT_ERR_FORMAT, "%s has a version of a policy that is none", db->path);
	return TT_OK;
}

int tt_version_find(
	struct tt_version *out, struct tt_store *store, const char *policy, const char *digits, struct tt_error *err)
{
	struct tt_query q;
	int n = 0;
	if (!is_digest(digits, 8, 64))
		return tt_refuse(store, TT_REFUSED_INPUT, err,
			"a version is the SHA-256 of its file, or at least the first 8 of its digits");
	TT_TRY(tt_query_open(&q, &store->db,
		"SELECT " COLUMNS " FROM version WHERE policy = ? AND substr(sha256, 1, ?) = ? LIMIT 2",
		TT_SQL(tt_text(policy), tt_integer((int64_t)strlen(digits)), tt_text(digits)), err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		q.status = read_version(out, &q, &store->db, err);
		n++;
	}
	TT_TRY(tt_query_close(&q));
	if (n == 1)
		return TT_OK;
	return tt_refuse(store, n ? TT_REFUSED_INPUT : TT_REFUSED_UNKNOWN, err,
		n ? "%s has several versions that begin with %s" : "%s has no version %s", policy, digits);
}

int tt_version_of_call(struct tt_version *out, struct tt_call *call, struct tt_error *err)
{
	const char *policy, *digits;
	TT_TRY(tt_call_name(call, "name", true, &policy, err));
	TT_TRY(tt_call_text(call, "version", true, &digits, err));
	TT_TRY(tt_version_find(out, call->store, policy, digits, err));
	TT_TRY(tt_call_tell(call, "policy", out->policy, err));
	return tt_call_tell(call, "version", out->sha256, err);
}

int tt_version_bytes(struct tt_buffer *out, struct tt_database *db, const char *sha256, struct tt_error *err)
{
	struct tt_query q;
	char digest[65] = "";
	TT_TRY(tt_query_open(&q, db, "SELECT bytes FROM policy_file WHERE sha256 = ?", TT_SQL(tt_text(sha256)), err));
	if (tt_query_next(&q, err)) {
		size_t n;
		const void *bytes = tt_query_bytes(&q, 0, &n);
		q.status = tt_buffer_add(out, bytes, n, err);
		if (q.status == TT_OK)
			q.status = tt_sha256(digest, out->data, out->len, err);
	}
	TT_TRY(tt_query_close(&q));
	if (strcmp(digest, sha256) != 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: version %.12s has other bytes", db->path, sha256);
	return TT_OK;
}

/* A message says `name` for a file that is no more, and that is nobody's to know. */
static void rename_file(struct tt_error *err, const char *path, const char *name)
{
	struct tt_buffer message = {0};
	const char *found = err ? strstr(err->message, path) : NULL;
	if (!found)
		return;
	if (tt_buffer_print(&message, NULL, "%.*s%s%s", (int)(found - err->message), err->message, name,
		    found + strlen(path)) == TT_OK)
		snprintf(err->message, sizeof err->message, "%s", message.data);
	tt_buffer_free(&message);
}

/* The policy that these bytes are a file of, which messages call `name`. They go by a file of their own, which nobody
 * else can read. */
static int load_bytes(struct tt_policy **out, const char *directory, const char *name, const void *bytes, size_t n,
	struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, directory, ".policy.XXXXXX", err));
	int file = mkstemp(path), status = TT_OK;
	if (file < 0) {
		status = tt_fail_io(err, path, "create");
		free(path);
		return status;
	}
	if (tt_file_write_all(file, bytes, n) < 0)
		status = tt_fail_io(err, path, "write");
	close(file);
	if (status == TT_OK)
		status = tt_policy_load(out, path, err);
	unlink(path);
	if (status != TT_OK)
		rename_file(err, path, name);
	free(path);
	return status;
}

int tt_version_load(
	struct tt_policy **out, struct tt_database *db, const char *directory, const char *sha256, struct tt_error *err)
{
	struct tt_buffer bytes = {0};
	char name[32];
	*out = NULL;
	snprintf(name, sizeof name, "version %.12s", sha256);
	int status = tt_version_bytes(&bytes, db, sha256, err);
	if (status == TT_OK)
		status = load_bytes(out, directory, name, bytes.data, bytes.len, err);
	tt_buffer_free(&bytes);
	return status;
}

/* ---- What is said of a version */

struct said {
	const char *reason, *parent, *report;
	float least, most, floor;
	bool mandatory;
};

static int read_said(struct said *said, struct tt_call *call, struct tt_error *err)
{
	struct tt_store *store = call->store;
	const json_t *floor = json_object_get(call->arguments, "floor");
	TT_TRY(tt_call_text(call, "reason", false, &said->reason, err));
	TT_TRY(tt_call_text(call, "parent", false, &said->parent, err));
	TT_TRY(tt_call_text(call, "report", false, &said->report, err));
	TT_TRY(tt_json_float(call->arguments, "least", -1e6, 1e6, &said->least, err));
	TT_TRY(tt_json_float(call->arguments, "most", -1e6, 1e6, &said->most, err));
	TT_TRY(tt_json_float(call->arguments, "floor", -1e6, 1e6, &said->floor, err));
	if (floor)
		said->mandatory = !json_is_null(floor);
	if (said->report && !is_digest(said->report, 64, 64))
		return tt_refuse(store, TT_REFUSED_INPUT, err, "report must be the SHA-256 of a report of eval");
	if (said->parent && !is_digest(said->parent, 64, 64))
		return tt_refuse(store, TT_REFUSED_INPUT, err, "parent must be the SHA-256 of a version");
	if (!(said->least <= said->most))
		return tt_refuse(store, TT_REFUSED_INPUT, err, "the least scale is above the most");
	if (said->mandatory && !(said->floor > 0 && said->floor >= said->least && said->floor <= said->most))
		return tt_refuse(store, TT_REFUSED_INPUT, err,
			"the floor of a mandatory policy must be above 0 and within its range of scales");
	return TT_OK;
}

static struct tt_value floor_of(const struct said *said)
{
	return said->mandatory ? tt_real((double)said->floor) : tt_null();
}

/* Puts what was decided on into the record. */
static int tell_said(const struct said *said, struct tt_call *call, struct tt_error *err)
{
	TT_TRY(tt_call_tell(call, "reason", said->reason, err));
	TT_TRY(tt_call_tell(call, "parent", said->parent, err));
	TT_TRY(tt_call_tell(call, "report", said->report, err));
	return tt_json_add(call->entry,
		json_pack("{s:f, s:f, s:o}", "least", (double)said->least, "most", (double)said->most, "floor",
			said->mandatory ? json_real((double)said->floor) : json_null()),
		err);
}

/* ---- Commands */

/* Checks that the bytes are a policy's, and puts them into the store. */
static int keep_file(struct tt_call *call, const struct tt_buffer *bytes, const char *sha256, struct tt_error *err)
{
	struct tt_policy *policy;
	struct tt_policy_info info;
	TT_TRY(load_bytes(&policy, call->store->directory, "file", bytes->data, bytes->len, err));
	tt_policy_describe(policy, &info);
	int status = tt_json_add(call->answer,
		json_pack("{s:s, s:s, s:s}", "operation", info.op_word, "gate", info.gate_word, "when",
			tt_when_word(info.when)),
		err);
	tt_policy_free(policy);
	TT_TRY(status);
	return tt_sql_run(&call->store->db, "INSERT OR IGNORE INTO policy_file (sha256, bytes) VALUES (?, ?)",
		TT_SQL(tt_text(sha256), tt_bytes(bytes->data, bytes->len)), err);
}

static int add(struct tt_call *call, const char *policy, const struct tt_buffer *bytes, struct tt_error *err)
{
	struct said said = {.most = 1};
	char sha256[65];
	int64_t n;
	struct tt_database *db = &call->store->db;
	TT_TRY(read_said(&said, call, err));
	TT_TRY(tt_sha256(sha256, bytes->data, bytes->len, err));
	TT_TRY(tt_call_tell(call, "policy", policy, err));
	TT_TRY(tt_call_tell(call, "version", sha256, err));
	TT_TRY(tt_sql_integer(db, "SELECT count(*) FROM version WHERE policy = ? AND sha256 = ?",
		TT_SQL(tt_text(policy), tt_text(sha256)), &n, err));
	if (n)
		return tt_refuse(
			call->store, TT_REFUSED_STATE, err, "%s has this version already: %.12s", policy, sha256);
	TT_TRY(keep_file(call, bytes, sha256, err));
	TT_TRY(tell_said(&said, call, err));
	return tt_sql_run(db,
		"INSERT INTO version (policy, sha256, state, author, editor, submitter, approver, least, most, floor, "
		"reason, parent, report, created, changed) VALUES (?, ?, ?, ?, '', '', '', ?, ?, ?, ?, ?, ?, ?, ?)",
		TT_SQL(tt_text(policy), tt_text(sha256), tt_integer(TT_DRAFT), tt_text(call->actor->person),
			tt_real((double)said.least), tt_real((double)said.most), floor_of(&said), tt_text(said.reason),
			tt_text(said.parent), tt_text(said.report), tt_integer(call->now), tt_integer(call->now)),
		err);
}

static int policy_add(struct tt_call *call, struct tt_error *err)
{
	const char *policy;
	const json_t *file = json_object_get(call->arguments, "file");
	struct tt_buffer bytes = {0};
	TT_TRY(tt_call_name(call, "name", true, &policy, err));
	if (!json_is_string(file))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err, "file must be the policy's file in base64");
	size_t n = json_string_length(file);
	TT_TRY(tt_alloc(&bytes.data, n / 4 * 3 + 1, 1, err));
	int status = TT_OK;
	if (!tt_base64_parse((uint8_t *)bytes.data, n / 4 * 3, &bytes.len, json_string_value(file), n))
		status = tt_refuse(call->store, TT_REFUSED_INPUT, err, "file must be the policy's file in base64");
	if (status == TT_OK)
		status = add(call, policy, &bytes, err);
	tt_buffer_free(&bytes);
	return status;
}

static int policy_edit(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	TT_TRY(tt_version_of_call(&v, call, err));
	struct said said = {.least = (float)v.least, .most = (float)v.most, .floor = (float)v.floor};
	said.mandatory = v.mandatory;
	if (v.state != TT_DRAFT && v.state != TT_REJECTED)
		return tt_refuse(call->store, TT_REFUSED_STATE, err,
			"%s %.12s is %s: only drafts and what was rejected "
			"can be edited",
			v.policy, v.sha256, state_words[v.state]);
	TT_TRY(read_said(&said, call, err));
	TT_TRY(tell_said(&said, call, err));
	return tt_sql_run(&call->store->db,
		"UPDATE version SET state = ?, editor = ?, least = ?, most = ?, floor = ?, reason = coalesce(?, "
		"reason), "
		"parent = coalesce(?, parent), report = coalesce(?, report), changed = ? WHERE policy = ? AND sha256 = "
		"?",
		TT_SQL(tt_integer(TT_DRAFT), tt_text(call->actor->person), tt_real((double)said.least),
			tt_real((double)said.most), floor_of(&said), tt_text(said.reason), tt_text(said.parent),
			tt_text(said.report), tt_integer(call->now), tt_text(v.policy), tt_text(v.sha256)),
		err);
}

int tt_check_second_person(
	struct tt_call *call, const char *author, const char *submitter, const char *editor, struct tt_error *err)
{
	const char *const names[] = {author, submitter, editor}, *const parts[] = {"wrote", "submitted", "edited"};
	for (int i = 0; i < 3; i++)
		if (tt_person_is(call->actor->person, names[i]))
			return tt_refuse(call->store, TT_REFUSED_RIGHT, err, "%s %s it: a second person must approve",
				call->actor->person, parts[i]);
	return TT_OK;
}

/* A state to another one, with a reason. */
static int move_to(struct tt_call *call, const struct tt_version *v, enum tt_version_state from,
	enum tt_version_state to, const char *column, struct tt_error *err)
{
	const char *reason;
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	TT_TRY(tt_call_tell(call, "reason", reason, err));
	TT_TRY(tt_call_tell(call, "state", state_words[to], err));
	if (v->state != from)
		return tt_refuse(call->store, TT_REFUSED_STATE, err, "%s %.12s is %s, not %s", v->policy, v->sha256,
			state_words[v->state], state_words[from]);
	return tt_sql_run(&call->store->db,
		"UPDATE version SET state = ?1, changed = ?2, submitter = iif(?3 = 'submitter', ?4, submitter), "
		"approver = iif(?3 = 'approver', ?4, approver) WHERE policy = ?5 AND sha256 = ?6",
		TT_SQL(tt_integer(to), tt_integer(call->now), tt_text(column), tt_text(call->actor->person),
			tt_text(v->policy), tt_text(v->sha256)),
		err);
}

static int policy_submit(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	TT_TRY(tt_version_of_call(&v, call, err));
	return move_to(call, &v, TT_DRAFT, TT_SUBMITTED, "submitter", err);
}

static int policy_approve(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	TT_TRY(tt_version_of_call(&v, call, err));
	TT_TRY(tt_check_second_person(call, v.author, v.submitter, v.editor, err));
	return move_to(call, &v, TT_SUBMITTED, TT_APPROVED, "approver", err);
}

static int policy_reject(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	TT_TRY(tt_version_of_call(&v, call, err));
	return move_to(call, &v, TT_SUBMITTED, TT_REJECTED, "", err);
}

static int policy_retire(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	int64_t n;
	TT_TRY(tt_version_of_call(&v, call, err));
	TT_TRY(tt_sql_integer(&call->store->db,
		"SELECT count(*) FROM label WHERE policy = ? AND sha256 = ? AND label <> 'previous'",
		TT_SQL(tt_text(v.policy), tt_text(v.sha256)), &n, err));
	if (n)
		return tt_refuse(call->store, TT_REFUSED_STATE, err, "%s %.12s has a label: move that first", v.policy,
			v.sha256);
	TT_TRY(tt_sql_run(&call->store->db, "DELETE FROM label WHERE policy = ? AND sha256 = ?",
		TT_SQL(tt_text(v.policy), tt_text(v.sha256)), err));
	return move_to(call, &v, TT_APPROVED, TT_RETIRED, "", err);
}

/* ---- Looking */

static int labels_of(struct tt_call *call, const struct tt_version *v, json_t **out, struct tt_error *err)
{
	struct tt_query q;
	*out = json_array();
	TT_TRY(tt_query_open(&q, &call->store->db,
		"SELECT label FROM label WHERE policy = ? AND sha256 = ? ORDER BY label",
		TT_SQL(tt_text(v->policy), tt_text(v->sha256)), err));
	while (q.status == TT_OK && tt_query_next(&q, err))
		q.status = tt_call_append(*out, json_string(tt_query_text(&q, 0)), err);
	return tt_query_close(&q);
}

static json_t *text_or_null(const struct tt_query *q, int column)
{
	const char *text = tt_query_text(q, column);
	return *text ? json_string(text) : json_null();
}

static int describe(struct tt_call *call, const struct tt_query *q, json_t *list, struct tt_error *err)
{
	struct tt_version v;
	json_t *labels = NULL;
	TT_TRY(read_version(&v, q, &call->store->db, err));
	int status = labels_of(call, &v, &labels, err);
	if (status != TT_OK) {
		json_decref(labels);
		return status;
	}
	return tt_call_append(list,
		json_pack("{s:s, s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:f, s:f, s:o, s:o, s:o, s:o, s:I, s:I}", "policy",
			v.policy, "version", v.sha256, "state", state_words[v.state], "labels", labels, "author",
			v.author, "editor", text_or_null(q, 4), "submitter", text_or_null(q, 5), "approver",
			text_or_null(q, 6), "least", v.least, "most", v.most, "floor",
			v.mandatory ? json_real(v.floor) : json_null(), "reason", text_or_null(q, 10), "parent",
			text_or_null(q, 11), "report", text_or_null(q, 12), "created",
			(json_int_t)tt_query_integer(q, 13), "changed", (json_int_t)tt_query_integer(q, 14)),
		err);
}

/* All versions, those of a policy, or one. */
static int list_versions(struct tt_call *call, const char *policy, const char *sha256, struct tt_error *err)
{
	struct tt_query q;
	json_t *list = json_array();
	TT_TRY(tt_json_set(call->answer, "versions", list, err));
	TT_TRY(tt_query_open(&q, &call->store->db,
		"SELECT " COLUMNS " FROM version WHERE (?1 IS NULL OR policy = ?1) AND (?2 IS NULL OR sha256 = ?2) "
		"ORDER BY policy, created, sha256",
		TT_SQL(tt_text(policy), tt_text(sha256)), err));
	while (q.status == TT_OK && tt_query_next(&q, err))
		q.status = describe(call, &q, list, err);
	return tt_query_close(&q);
}

static int policy_list(struct tt_call *call, struct tt_error *err)
{
	const char *policy;
	TT_TRY(tt_call_name(call, "name", false, &policy, err));
	return list_versions(call, policy, NULL, err);
}

static int policy_show(struct tt_call *call, struct tt_error *err)
{
	const char *policy;
	struct tt_version v;
	TT_TRY(tt_call_name(call, "name", true, &policy, err));
	if (!json_object_get(call->arguments, "version"))
		return list_versions(call, policy, NULL, err);
	TT_TRY(tt_version_of_call(&v, call, err));
	return list_versions(call, policy, v.sha256, err);
}

/* What was done, the oldest first. */
static int policy_history(struct tt_call *call, struct tt_error *err)
{
	struct tt_query q;
	const char *policy;
	json_t *list = json_array();
	TT_TRY(tt_json_set(call->answer, "changes", list, err));
	TT_TRY(tt_call_name(call, "name", false, &policy, err));
	TT_TRY(tt_query_open(&q, &call->store->db,
		"SELECT id, at, kind, person, fields FROM change WHERE ?1 IS NULL OR policy = ?1 ORDER BY id",
		TT_SQL(tt_text(policy)), err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		const char *text = tt_query_text(&q, 4);
		json_t *fields = NULL;
		q.status = tt_json_parse(&fields, text, strlen(text), "a change", err);
		if (q.status == TT_OK)
			q.status = tt_call_append(list,
				json_pack("{s:I, s:I, s:s, s:s, s:o}", "id", (json_int_t)tt_query_integer(&q, 0), "at",
					(json_int_t)tt_query_integer(&q, 1), "kind", tt_query_text(&q, 2), "person",
					tt_query_text(&q, 3), "fields", fields),
				err);
	}
	return tt_query_close(&q);
}

#define SAID "reason", "parent", "report", "least", "most", "floor"

const struct tt_command tt_version_commands[] = {
	{"policy/add", "policy.add", TT_RIGHT_EDIT, {"name", "file", SAID, NULL}, policy_add},
	{"policy/edit", "policy.edit", TT_RIGHT_EDIT, {"name", "version", SAID, NULL}, policy_edit},
	{"policy/submit", "policy.submit", TT_RIGHT_EDIT, {"name", "version", "reason", NULL}, policy_submit},
	{"policy/approve", "policy.approve", TT_RIGHT_APPROVE, {"name", "version", "reason", NULL}, policy_approve},
	{"policy/reject", "policy.reject", TT_RIGHT_APPROVE, {"name", "version", "reason", NULL}, policy_reject},
	{"policy/retire", "policy.retire", TT_RIGHT_APPROVE, {"name", "version", "reason", NULL}, policy_retire},
	{"policy/list", NULL, TT_RIGHT_SEE, {"name", NULL}, policy_list},
	{"policy/show", NULL, TT_RIGHT_SEE, {"name", "version", NULL}, policy_show},
	{"policy/history", NULL, TT_RIGHT_SEE, {"name", NULL}, policy_history},
	{NULL, NULL, TT_RIGHT_SEE, {NULL}, NULL},
};
