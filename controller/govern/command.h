/* The commands of the store: what the command line, the server's routes and whatever else changes policies or keys
 * call, so that none of them is weaker than another. A command is one transaction, with the entry that records it. */
#ifndef CONTROLLER_GOVERN_COMMAND_H
#define CONTROLLER_GOVERN_COMMAND_H

#include "controller/govern/store.h"

/* A command that runs, within its transaction. */
struct tt_call {
	struct tt_store *store;
	const struct tt_actor *actor;
	const json_t *arguments; /* an object */
	int64_t now;             /* Unix time */
	json_t *entry;           /* what the record says beside who did what: an object */
	json_t *answer;          /* an object */
};

struct tt_command {
	const char *name; /* "policy/label" */
	const char *kind; /* of the record; NULL: the command only looks */
	enum tt_right right;
	const char *arguments[10]; /* the names of what it takes, in the end NULL */
	int (*run)(struct tt_call *call, struct tt_error *err);
};

/* All of them, one after the other; NULL after the last. */
const struct tt_command *tt_command_at(size_t i);
/* NULL: there is none of this name. */
const struct tt_command *tt_command_find(const char *name);

/* Runs it for the actor; arguments is an object, or NULL for an empty one. *answer is a new reference. The store's
 * refusal says what kind of error it was. */
int tt_command_run(const struct tt_command *command, struct tt_store *store, const struct tt_actor *actor,
	const json_t *arguments, json_t **answer, struct tt_error *err);

/* ---- For the commands themselves */

/* Text arguments; NULL where it is absent and not needed. */
int tt_call_text(struct tt_call *call, const char *name, bool needed, const char **out, struct tt_error *err);
/* The name of a policy or label, checked. */
int tt_call_name(struct tt_call *call, const char *name, bool needed, const char **out, struct tt_error *err);
/* Put text under a name in the record and the answer; no text puts nothing. */
int tt_call_tell(struct tt_call *call, const char *name, const char *text, struct tt_error *err);
/* Adds what json_pack gave to a list. */
int tt_call_append(json_t *list, json_t *entry, struct tt_error *err);

extern const struct tt_command tt_version_commands[], tt_label_commands[], tt_stack_commands[], tt_kill_commands[],
	tt_key_commands[];

#endif
