#include "controller/govern/command.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/govern/key.h"
#include "controller/govern/query.h"

/* Each ends in a command without a name. */
static const struct tt_command *const tables[] = {
	tt_version_commands, tt_label_commands, tt_stack_commands, tt_kill_commands, tt_key_commands};

const struct tt_command *tt_command_at(size_t i)
{
	for (size_t k = 0; k < sizeof tables / sizeof *tables; k++)
		for (const struct tt_command *command = tables[k]; command->name; command++)
			if (i-- == 0)
				return command;
	return NULL;
}

const struct tt_command *tt_command_find(const char *name)
{
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
		for (const struct tt_command *command = tables[i]; command->name; command++)
			if (strcmp(command->name, name) == 0)
				return command;
	return NULL;
}

/* Unknown arguments are errors: a mistyped one must not be taken for an absent one. */
static int check_arguments(
	const struct tt_command *command, struct tt_store *store, const json_t *arguments, struct tt_error *err)
{
	const char *name;
	json_t *value;
	if (!json_is_object(arguments))
		return tt_refuse(store, TT_REFUSED_INPUT, err, "arguments must be an object");
	json_object_foreach((json_t *)(uintptr_t)arguments, name, value)
	{
		size_t i = 0;
		while (command->arguments[i] && strcmp(command->arguments[i], name) != 0)
			i++;
		if (!command->arguments[i])
			return tt_refuse(
				store, TT_REFUSED_INPUT, err, "%s does not take \"%.60s\"", command->name, name);
	}
	return TT_OK;
}

static int check_right(
	const struct tt_command *command, struct tt_store *store, const struct tt_actor *actor, struct tt_error *err)
{
	char words[TT_ROLES_BYTES];
	TT_TRY(tt_key_check(store, actor, command->right, err));
	if (tt_roles_allow(actor->roles, command->right))
		return TT_OK;
	tt_right_text(words, command->right);
	return tt_refuse(store, TT_REFUSED_RIGHT, err, "%s needs a key with one of the roles %s", command->name, words);
}

/* The one place where a change is recorded. */
static int record(const struct tt_command *command, struct tt_call *call, struct tt_error *err)
{
	struct tt_log_place place;
	char *text;
	TT_TRY(tt_json_set(call->entry, "person", json_string(call->actor->person), err));
	TT_TRY(tt_json_set(call->entry, "key", json_string(call->actor->key), err));
	TT_TRY(tt_log_append(&call->store->log, command->kind, json_incref(call->entry), &place, err));
	TT_TRY(tt_json_set(call->answer, "seq", json_integer((json_int_t)place.seq), err));
	TT_TRY(tt_json_dump(&text, json_incref(call->entry), JSON_COMPACT, err));
	int status = tt_sql_run(&call->store->db,
		"INSERT INTO change (at, kind, policy, person, key, fields, seq) VALUES (?, ?, ?, ?, ?, ?, ?)",
		TT_SQL(tt_integer(call->now), tt_text(command->kind),
			tt_text(json_string_value(json_object_get(call->entry, "policy"))),
			tt_text(call->actor->person), tt_text(call->actor->key), tt_text(text),
			tt_integer((int64_t)place.seq)),
		err);
	free(text);
	return status;
}

static int run(const struct tt_command *command, struct tt_call *call, struct tt_error *err)
{
	TT_TRY(check_right(command, call->store, call->actor, err));
	TT_TRY(check_arguments(command, call->store, call->arguments, err));
	TT_TRY(command->run(call, err));
	return command->kind ? record(command, call, err) : TT_OK;
}

int tt_command_run(const struct tt_command *command, struct tt_store *store, const struct tt_actor *actor,
	const json_t *arguments, json_t **answer, struct tt_error *err)
{
	json_t *empty = json_object();
	struct tt_call call = {
		.store = store,
		.actor = actor,
		.arguments = arguments ? arguments : empty,
		.now = (int64_t)time(NULL),
		.entry = json_object(),
		.answer = json_object(),
	};
	int status = empty && call.entry && call.answer ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "out of memory");
	*answer = NULL;
	store->refusal = TT_REFUSED_INPUT;
	if (status == TT_OK)
		status = command->kind ? tt_database_begin(&store->db, err) : tt_database_begin_read(&store->db, err);
	if (status == TT_OK)
		status = tt_database_end(&store->db, run(command, &call, err), err);
	if (status == TT_OK)
		*answer = json_incref(call.answer);
	json_decref(empty);
	json_decref(call.entry);
	json_decref(call.answer);
	return status;
}

int tt_call_text(struct tt_call *call, const char *name, bool needed, const char **out, struct tt_error *err)
{
	*out = NULL;
	TT_TRY(tt_json_string(call->arguments, name, out, err));
	if (!*out && needed)
		return tt_refuse(call->store, TT_REFUSED_INPUT, err, "%s is missing", name);
	if (*out && strlen(*out) > TT_MAX_REASON)
		return tt_refuse(call->store, TT_REFUSED_INPUT, err, "%s is too long", name);
	return TT_OK;
}

int tt_call_name(struct tt_call *call, const char *name, bool needed, const char **out, struct tt_error *err)
{
	TT_TRY(tt_call_text(call, name, needed, out, err));
	if (*out && !tt_name_is_valid(*out))
		return tt_refuse(call->store, TT_REFUSED_INPUT, err,
			"%s must have 1 to 64 letters, digits, '.', '_' and '-'", name);
	return TT_OK;
}

int tt_call_tell(struct tt_call *call, const char *name, const char *text, struct tt_error *err)
{
	if (!text)
		return TT_OK;
	TT_TRY(tt_json_set(call->entry, name, json_string(text), err));
	return tt_json_set(call->answer, name, json_string(text), err);
}

int tt_call_append(json_t *list, json_t *entry, struct tt_error *err)
{
	if (entry && json_array_append_new(list, entry) == 0)
		return TT_OK;
	return tt_fail(err, TT_ERR_FORMAT, "what the store holds is no JSON");
}
