#include "controller/govern/stack.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/govern/command.h"
#include "controller/govern/label.h"
#include "controller/govern/query.h"
#include "controller/govern/version.h"

/* Reads [{"name", "label", "scale"}]; label is production where it is absent. */
static int read_list(struct tt_stack *out, struct tt_store *store, const json_t *list, struct tt_error *err)
{
	out->n = 0;
	if (!json_is_array(list) || json_array_size(list) > TT_MAX_STACK_ENTRIES)
		return tt_refuse(
			store, TT_REFUSED_INPUT, err, "a stack is a list of at most %d policies", TT_MAX_STACK_ENTRIES);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		const char *policy = json_string_value(json_object_get(item, "name"));
		const char *label = tt_json_string_or(item, "label", "production");
		struct tt_stack_entry *entry = &out->entries[out->n++];
		float scale = 1;
		TT_TRY(tt_json_float(item, "scale", -1e6, 1e6, &scale, err));
		if (!policy || !tt_name_is_valid(policy) || !tt_name_is_valid(label) || json_object_size(item) > 3)
			return tt_refuse(store, TT_REFUSED_INPUT, err, "a policy of a stack is {name, label, scale}");
		*entry = (struct tt_stack_entry){.scale = (double)scale};
		memcpy(entry->policy, policy, strlen(policy));
		memcpy(entry->label, label, strlen(label));
		for (size_t k = 0; k < i; k++)
			if (strcmp(out->entries[k].policy, policy) == 0)
				return tt_refuse(store, TT_REFUSED_INPUT, err, "%s is twice in the stack", policy);
	}
	return TT_OK;
}

static json_t *list_json(const struct tt_stack *stack)
{
	json_t *list = json_array();
	for (size_t i = 0; i < stack->n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:f}", "name", stack->entries[i].policy, "label",
						    stack->entries[i].label, "scale", stack->entries[i].scale));
	return list;
}

/* Every policy must have its label, on a version that may be steered that hard. */
static int check_entries(struct tt_store *store, const struct tt_stack *stack, struct tt_error *err)
{
	for (size_t i = 0; i < stack->n; i++) {
		const struct tt_stack_entry *entry = &stack->entries[i];
		struct tt_version v;
		if (strcmp(entry->label, "previous") == 0) /* a rollback takes it away */
			return tt_refuse(store, TT_REFUSED_INPUT, err,
				"a stack cannot have the label previous, which does not stay");
		TT_TRY(tt_label_find(&v, store, entry->policy, entry->label, err));
		if (entry->scale < v.least || entry->scale > v.most)
			return tt_refuse(store, TT_REFUSED_INPUT, err, "the scale %g of %s is not from %g to %g",
				entry->scale, entry->policy, v.least, v.most);
	}
	return TT_OK;
}

struct row {
	struct tt_stack stack;
	int64_t state;
	char author[TT_MAX_PERSON + 1];
};

/* The first row of a query for number, state, author, content. */
static int read_row(struct row *out, struct tt_store *store, const char *sql, struct tt_value value, bool *found,
	struct tt_error *err)
{
	struct tt_query q;
	json_t *list = NULL;
	*out = (struct row){0};
	TT_TRY(tt_query_open(&q, &store->db, sql, TT_SQL(value), err));
	*found = tt_query_next(&q, err);
	if (*found) {
		const char *author = tt_query_text(&q, 2), *text = tt_query_text(&q, 3);
		out->stack.number = tt_query_integer(&q, 0);
		out->state = tt_query_integer(&q, 1);
		if (strlen(author) < sizeof out->author)
			memcpy(out->author, author, strlen(author));
		q.status = tt_json_parse(&list, text, strlen(text), "a stack of the store", err);
	}
	if (*found && q.status == TT_OK)
		q.status = read_list(&out->stack, store, list, err);
	json_decref(list);
	return tt_query_close(&q);
}

int tt_stack_read(struct tt_stack *out, struct tt_store *store, struct tt_error *err)
{
	struct row row;
	bool found;
	TT_TRY(read_row(&row, store,
		"SELECT number, state, author, content FROM stack WHERE state = ? ORDER BY number DESC LIMIT 1",
		tt_integer(TT_APPROVED), &found, err));
	*out = row.stack;
	return TT_OK;
}

/* ---- Commands */

static int stack_propose(struct tt_call *call, struct tt_error *err)
{
	const json_t *list = json_object_get(call->arguments, "policies");
	struct tt_stack stack;
	const char *reason;
	char *text;
	struct tt_database *db = &call->store->db;
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	TT_TRY(read_list(&stack, call->store, list, err));
	TT_TRY(check_entries(call->store, &stack, err));
	TT_TRY(tt_sql_integer(db, "SELECT coalesce(max(number), 0) + 1 FROM stack", TT_SQL_NONE, &stack.number, err));
	TT_TRY(tt_json_dump(&text, list_json(&stack), JSON_COMPACT, err));
	int status = tt_sql_run(db,
		"INSERT INTO stack (number, state, author, approver, content, reason, created, changed) "
		"VALUES (?, ?, ?, '', ?, ?, ?, ?)",
		TT_SQL(tt_integer(stack.number), tt_integer(TT_SUBMITTED), tt_text(call->actor->person), tt_text(text),
			tt_text(reason), tt_integer(call->now), tt_integer(call->now)),
		err);
	free(text);
	TT_TRY(status);
	TT_TRY(tt_call_tell(call, "reason", reason, err));
	TT_TRY(tt_json_set(call->answer, "number", json_integer(stack.number), err));
	TT_TRY(tt_json_set(call->entry, "number", json_integer(stack.number), err));
	return tt_json_set(call->entry, "policies", list_json(&stack), err);
}

static int decide(struct tt_call *call, enum tt_version_state state, struct tt_error *err)
{
	const json_t *number = json_object_get(call->arguments, "number");
	const char *reason;
	struct row row;
	bool found;
	TT_TRY(tt_call_text(call, "reason", false, &reason, err));
	if (!json_is_integer(number))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err, "number must be that of a proposed stack");
	TT_TRY(read_row(&row, call->store, "SELECT number, state, author, content FROM stack WHERE number = ?",
		tt_integer(json_integer_value(number)), &found, err));
	if (!found)
		return tt_refuse(call->store, TT_REFUSED_UNKNOWN, err, "there is no stack of this number");
	if (row.state != TT_SUBMITTED)
		return tt_refuse(call->store, TT_REFUSED_STATE, err, "this stack is decided on already");
	if (state == TT_APPROVED) {
		TT_TRY(tt_check_second_person(call, row.author, "", "", err));
		TT_TRY(check_entries(call->store, &row.stack, err)); /* labels may have moved */
		TT_TRY(tt_check_room(call->store, &row.stack, err));
		/* Of two that are approved the higher number is in force: an older one would not come into it. */
		int64_t newest;
		TT_TRY(tt_sql_integer(&call->store->db, "SELECT coalesce(max(number), 0) FROM stack WHERE state = ?",
			TT_SQL(tt_integer(TT_APPROVED)), &newest, err));
		if (newest > row.stack.number)
			return tt_refuse(call->store, TT_REFUSED_STATE, err,
				"stack %lld is newer and in force: propose this one again", (long long)newest);
	}
	TT_TRY(tt_sql_run(&call->store->db, "UPDATE stack SET state = ?, approver = ?, changed = ? WHERE number = ?",
		TT_SQL(tt_integer(state), tt_text(call->actor->person), tt_integer(call->now),
			tt_integer(row.stack.number)),
		err));
	TT_TRY(tt_call_tell(call, "reason", reason, err));
	TT_TRY(tt_json_set(call->answer, "number", json_integer(row.stack.number), err));
	TT_TRY(tt_json_set(call->entry, "number", json_integer(row.stack.number), err));
	return tt_json_set(call->entry, "policies", list_json(&row.stack), err);
}

static int stack_approve(struct tt_call *call, struct tt_error *err)
{
	return decide(call, TT_APPROVED, err);
}

static int stack_reject(struct tt_call *call, struct tt_error *err)
{
	return decide(call, TT_REJECTED, err);
}

static int stack_list(struct tt_call *call, struct tt_error *err)
{
	struct tt_query q;
	struct tt_stack current;
	json_t *list = json_array();
	TT_TRY(tt_json_set(call->answer, "stacks", list, err));
	TT_TRY(tt_stack_read(&current, call->store, err));
	TT_TRY(tt_json_set(call->answer, "in_force", json_integer(current.number), err));
	TT_TRY(tt_json_set(call->answer, "policies", list_json(&current), err));
	TT_TRY(tt_query_open(&q, &call->store->db,
		"SELECT number, state, author, approver, content, created FROM stack ORDER BY number", TT_SQL_NONE,
		err));
	while (q.status == TT_OK && tt_query_next(&q, err)) {
		const char *text = tt_query_text(&q, 4), *state = tt_version_state_word(tt_query_integer(&q, 1));
		json_t *content = NULL;
		q.status = tt_json_parse(&content, text, strlen(text), "a stack of the store", err);
		if (q.status == TT_OK)
			q.status = tt_call_append(list,
				json_pack("{s:I, s:s, s:s, s:s, s:I, s:o}", "number",
					(json_int_t)tt_query_integer(&q, 0), "state", state ? state : "?", "author",
					tt_query_text(&q, 2), "approver", tt_query_text(&q, 3), "created",
					(json_int_t)tt_query_integer(&q, 5), "policies", content),
				err);
	}
	return tt_query_close(&q);
}

const struct tt_command tt_stack_commands[] = {
	{"stack/propose", "stack.propose", TT_RIGHT_EDIT, {"policies", "reason", NULL}, stack_propose},
	{"stack/approve", "stack.approve", TT_RIGHT_APPROVE, {"number", "reason", NULL}, stack_approve},
	{"stack/reject", "stack.reject", TT_RIGHT_APPROVE, {"number", "reason", NULL}, stack_reject},
	{"stack/list", NULL, TT_RIGHT_SEE, {NULL}, stack_list},
	{NULL, NULL, TT_RIGHT_SEE, {NULL}, NULL},
};
