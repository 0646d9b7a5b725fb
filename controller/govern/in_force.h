/* All that a server goes by, as it is at one moment. */
#ifndef CONTROLLER_GOVERN_IN_FORCE_H
#define CONTROLLER_GOVERN_IN_FORCE_H

#include "controller/govern/key.h"
#include "controller/govern/stack.h"
#include "controller/govern/version.h"

struct tt_labelled {
	struct tt_version version;
	char label[TT_MAX_NAME + 1];
};

struct tt_in_force {
	struct tt_labelled *labels; // [n_labels] by policy, production first
	size_t n_labels;
	struct tt_stack stack;
	struct tt_keys keys;
	bool all_killed;
	char (*killed)[TT_MAX_NAME + 1]; // [n_killed] policies
	size_t n_killed;
	int64_t version; /* of the database, as tt_database_version has it */
};

int tt_in_force_read(struct tt_in_force *out, struct tt_store *store, struct tt_error *err);
void tt_in_force_free(struct tt_in_force *force);

#endif
