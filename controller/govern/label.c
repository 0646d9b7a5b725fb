#include "controller/govern/label.h"

#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/govern/query.h"
#include "controller/govern/stack.h"

static const char production[] = "production", previous[] = "previous";

/* "" where the policy has no such label. */
static int read_digest(
	char out[65], struct tt_store *store, const char *policy, const char *label, struct tt_error *err)
{
	struct tt_query q;
	out[0] = 0;
	TT_TRY(tt_query_open(&q, &store->db, "SELECT sha256 FROM label WHERE policy = ? AND label = ?",
		TT_SQL(tt_text(policy), tt_text(label)), err));
	if (tt_query_next(&q, err)) {
		const char *digest = tt_query_text(&q, 0);
		if (strlen(digest) == 64)
			memcpy(out, digest, 65);
	}
	return tt_query_close(&q);
}

int tt_label_find(
	struct tt_version *out, struct tt_store *store, const char *policy, const char *label, struct tt_error *err)
{
	char digest[65];
	TT_TRY(read_digest(digest, store, policy, label, err));
	if (!*digest)
		return tt_refuse(store, TT_REFUSED_UNKNOWN, err, "%s has no label %s", policy, label);
	return tt_version_find(out, store, policy, digest, err);
}

static int put(struct tt_call *call, const char *policy, const char *label, const char *sha256, struct tt_error *err)
{
	return tt_sql_run(&call->store->db,
		"INSERT OR REPLACE INTO label (policy, label, sha256, mover, moved) VALUES (?, ?, ?, ?, ?)",
		TT_SQL(tt_text(policy), tt_text(label), tt_text(sha256), tt_text(call->actor->person),
			tt_integer(call->now)),
		err);
}

static int drop(struct tt_store *store, const char *policy, const char *label, struct tt_error *err)
{
	return tt_sql_run(&store->db, "DELETE FROM label WHERE policy = ? AND label = ?",
		TT_SQL(tt_text(policy), tt_text(label)), err);
}

/* The stack in force must stay within what the version may be steered by. */
static int check_stack(struct tt_call *call, const struct tt_version *v, const char *label, struct tt_error *err)
{
	struct tt_stack stack;
	TT_TRY(tt_stack_read(&stack, call->store, err));
	for (size_t i = 0; i < stack.n; i++) {
		const struct tt_stack_entry *entry = &stack.entries[i];
		if (strcmp(entry->policy, v->policy) == 0 && strcmp(entry->label, label) == 0 &&
			(entry->scale < v->least || entry->scale > v->most))
			return tt_refuse(call->store, TT_REFUSED_STATE, err,
				"the default stack has %s at %g, and this version is for %g to %g", v->policy,
				entry->scale, v->least, v->most);
	}
	return TT_OK;
}

int tt_check_room(struct tt_store *store, const struct tt_stack *stack, struct tt_error *err)
{
	struct tt_query q;
	int64_t n_labels;
	size_t n = stack->n;
	TT_TRY(tt_sql_integer(
		&store->db, "SELECT count(*) FROM label WHERE label <> ?", TT_SQL(tt_text(previous)), &n_labels, err));
	TT_TRY(tt_query_open(&q, &store->db,
		"SELECT policy FROM label JOIN version USING (policy, sha256) WHERE label = ? AND floor IS NOT NULL",
		TT_SQL(tt_text(production)), err));
	while (tt_query_next(&q, err)) {
		bool stands = false;
		for (size_t i = 0; i < stack->n; i++)
			stands = stands || (strcmp(stack->entries[i].policy, tt_query_text(&q, 0)) == 0 &&
						   strcmp(stack->entries[i].label, production) == 0);
		n += !stands;
	}
	TT_TRY(tt_query_close(&q));
	if (n_labels > TT_MAX_LABELS)
		return tt_refuse(store, TT_REFUSED_STATE, err, "there are %d labels already", TT_MAX_LABELS);
	if (n > TT_MAX_STACK_ENTRIES)
		return tt_refuse(store, TT_REFUSED_STATE, err,
			"the default stack and what is mandatory would be more than %d policies", TT_MAX_STACK_ENTRIES);
	return TT_OK;
}

/* That a policy is mandatory is not ended by one person who may not approve. from: "" or the digest of before. */
static int check_mandatory(
	struct tt_call *call, const struct tt_version *v, const char *label, const char *from, struct tt_error *err)
{
	struct tt_version before;
	if (strcmp(label, production) != 0 || !*from || v->mandatory ||
		tt_roles_allow(call->actor->roles, TT_RIGHT_APPROVE))
		return TT_OK;
	TT_TRY(tt_version_find(&before, call->store, v->policy, from, err));
	return before.mandatory
		       ? tt_refuse(call->store, TT_REFUSED_RIGHT, err,
				 "%s would be mandatory no more: that needs a key with the role approver", v->policy)
		       : TT_OK;
}

/* Moves a label, in force from the next admission on. */
static int move(struct tt_call *call, const struct tt_version *v, const char *label, struct tt_error *err)
{
	char from[65];
	struct tt_stack stack;
	if (v->state != TT_APPROVED)
		return tt_refuse(call->store, TT_REFUSED_STATE, err,
			"%s %.12s is %s: labels point at approved versions", v->policy, v->sha256,
			tt_version_state_word(v->state));
	TT_TRY(check_stack(call, v, label, err));
	TT_TRY(read_digest(from, call->store, v->policy, label, err));
	TT_TRY(check_mandatory(call, v, label, from, err));
	TT_TRY(tt_call_tell(call, "label", label, err));
	TT_TRY(tt_call_tell(call, "from", *from ? from : NULL, err));
	TT_TRY(put(call, v->policy, label, v->sha256, err));
	TT_TRY(tt_stack_read(&stack, call->store, err));
	return tt_check_room(call->store, &stack, err);
}

static int policy_label(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	char from[65];
	const char *label, *reason;
	TT_TRY(tt_version_of_call(&v, call, err));
	TT_TRY(tt_call_name(call, "label", true, &label, err));
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	TT_TRY(tt_call_tell(call, "reason", reason, err));
	if (strcmp(label, previous) == 0)
		return tt_refuse(call->store, TT_REFUSED_INPUT, err, "the store itself keeps the label previous");
	TT_TRY(read_digest(from, call->store, v.policy, label, err));
	TT_TRY(move(call, &v, label, err));
	if (strcmp(label, production) == 0 && *from && strcmp(from, v.sha256) != 0)
		return put(call, v.policy, previous, from, err);
	return TT_OK;
}

/* production goes back to what it was, by one person. There is no way forward by it: previous is gone then. */
static int policy_rollback(struct tt_call *call, struct tt_error *err)
{
	struct tt_version v;
	const char *policy, *reason;
	TT_TRY(tt_call_name(call, "name", true, &policy, err));
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	TT_TRY(tt_call_tell(call, "reason", reason, err));
	TT_TRY(tt_label_find(&v, call->store, policy, previous, err));
	TT_TRY(tt_call_tell(call, "policy", v.policy, err));
	TT_TRY(tt_call_tell(call, "version", v.sha256, err));
	TT_TRY(move(call, &v, production, err));
	return drop(call->store, v.policy, previous, err);
}

static int policy_unlabel(struct tt_call *call, struct tt_error *err)
{
	const char *policy, *label, *reason;
	struct tt_stack stack;
	TT_TRY(tt_call_name(call, "name", true, &policy, err));
	TT_TRY(tt_call_name(call, "label", true, &label, err));
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	/* Without production a mandatory policy would be off, which is what kill is for. */
	if (strcmp(label, production) == 0 || strcmp(label, previous) == 0)
		return tt_refuse(
			call->store, TT_REFUSED_INPUT, err, "%s stays; policy/kill ends steering by a policy", label);
	TT_TRY(tt_stack_read(&stack, call->store, err));
	for (size_t i = 0; i < stack.n; i++)
		if (strcmp(stack.entries[i].policy, policy) == 0 && strcmp(stack.entries[i].label, label) == 0)
			return tt_refuse(
				call->store, TT_REFUSED_STATE, err, "the default stack has %s by this label", policy);
	TT_TRY(drop(call->store, policy, label, err));
	if (tt_sql_changes(&call->store->db) == 0)
		return tt_refuse(call->store, TT_REFUSED_UNKNOWN, err, "%s has no label %s", policy, label);
	TT_TRY(tt_call_tell(call, "policy", policy, err));
	TT_TRY(tt_call_tell(call, "label", label, err));
	return tt_call_tell(call, "reason", reason, err);
}

const struct tt_command tt_label_commands[] = {
	{"policy/label", "label", TT_RIGHT_MOVE, {"name", "label", "version", "reason", NULL}, policy_label},
	{"policy/unlabel", "label.remove", TT_RIGHT_MOVE, {"name", "label", "reason", NULL}, policy_unlabel},
	{"policy/rollback", "rollback", TT_RIGHT_MOVE, {"name", "reason", NULL}, policy_rollback},
	{NULL, NULL, TT_RIGHT_SEE, {NULL}, NULL},
};
