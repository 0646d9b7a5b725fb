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
	bool has_keys; /* the store has keys, though perhaps none that is valid */
	bool all_killed;
	char (*killed)[TT_MAX_NAME + 1]; // [n_killed] policies
	size_t n_killed;
	int64_t change; /* the last one's number */
};

/* The number of the last change, 0 before the first: whether there is news. */
int tt_last_change(int64_t *out, struct tt_store *store, struct tt_error *err);
int tt_in_force_read(struct tt_in_force *out, struct tt_store *store, struct tt_error *err);
/* Whether steering by the policy was ended, apart from all steering. */
bool tt_in_force_is_killed(const struct tt_in_force *force, const char *policy);
void tt_in_force_free(struct tt_in_force *force);

#endif
