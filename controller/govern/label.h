/* Labels: names that point at approved versions of a policy. production is what steers; previous, which the store
 * keeps, is what production was before its last move; others are free. */
#ifndef CONTROLLER_GOVERN_LABEL_H
#define CONTROLLER_GOVERN_LABEL_H

#include "controller/govern/stack.h"
#include "controller/govern/version.h"

enum { TT_MAX_LABELS = 64 }; /* of all policies, beside previous */

/* The version that the label points at; a refusal where there is none. */
int tt_label_find(
	struct tt_version *out, struct tt_store *store, const char *policy, const char *label, struct tt_error *err);
/* Refuses more labels than a server loads, and more policies than a request holds: those of the stack and those that
 * are mandatory. */
int tt_check_room(struct tt_store *store, const struct tt_stack *stack, struct tt_error *err);

#endif
