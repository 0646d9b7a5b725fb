/* The kill switch, of all policies or one, which the store keeps. */
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/govern/command.h"
#include "controller/govern/query.h"

/* The argument "name": "" is all policies. */
static int read_target(struct tt_call *call, const char **out, struct tt_error *err)
{
	const char *reason;
	int64_t n = 1;
	TT_TRY(tt_call_name(call, "name", false, out, err));
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	TT_TRY(tt_call_tell(call, "reason", reason, err));
	TT_TRY(tt_call_tell(call, "policy", *out, err));
	if (*out)
		TT_TRY(tt_sql_integer(&call->store->db, "SELECT count(*) FROM version WHERE policy = ?",
			TT_SQL(tt_text(*out)), &n, err));
	if (n == 0)
		return tt_refuse(call->store, TT_REFUSED_UNKNOWN, err, "there is no policy %s", *out);
	*out = *out ? *out : "";
	return TT_OK;
}

static int policy_kill(struct tt_call *call, struct tt_error *err)
{
	const char *policy;
	TT_TRY(read_target(call, &policy, err));
	return tt_sql_run(&call->store->db, "INSERT OR IGNORE INTO kill (policy, at, person) VALUES (?, ?, ?)",
		TT_SQL(tt_text(policy), tt_integer(call->now), tt_text(call->actor->person)), err);
}

static int policy_resume(struct tt_call *call, struct tt_error *err)
{
	const char *policy;
	TT_TRY(read_target(call, &policy, err));
	TT_TRY(tt_sql_run(&call->store->db, "DELETE FROM kill WHERE policy = ?", TT_SQL(tt_text(policy)), err));
	if (tt_sql_changes(&call->store->db) == 0)
		return tt_refuse(call->store, TT_REFUSED_STATE, err, "it is not killed");
	return TT_OK;
}

static int policy_killed(struct tt_call *call, struct tt_error *err)
{
	struct tt_query q;
	json_t *list = json_array();
	TT_TRY(tt_json_set(call->answer, "killed", list, err));
	TT_TRY(tt_query_open(
		&q, &call->store->db, "SELECT policy, at, person FROM kill ORDER BY policy", TT_SQL_NONE, err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		const char *policy = tt_query_text(&q, 0);
		q.status = tt_call_append(list,
			json_pack("{s:o, s:I, s:s}", "policy", *policy ? json_string(policy) : json_null(), "at",
				(json_int_t)tt_query_integer(&q, 1), "person", tt_query_text(&q, 2)),
			err);
	}
	return tt_query_close(&q);
}

const struct tt_command tt_kill_commands[] = {
	{"policy/kill", "kill", TT_RIGHT_KILL, {"name", "reason", NULL}, policy_kill},
	{"policy/resume", "resume", TT_RIGHT_RESUME, {"name", "reason", NULL}, policy_resume},
	{"policy/killed", NULL, TT_RIGHT_SEE, {NULL}, policy_killed},
	{NULL, NULL, TT_RIGHT_SEE, {NULL}, NULL},
};
