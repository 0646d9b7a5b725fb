/* Labels: names that point at approved versions of a policy. production is what steers; previous, which the store
 * keeps, is what production was before its last move; others are free. */
#ifndef CONTROLLER_GOVERN_LABEL_H
#define CONTROLLER_GOVERN_LABEL_H

#include "controller/govern/version.h"

/* The version that the label points at; a refusal where there is none. */
int tt_label_find(
	struct tt_version *out, struct tt_store *store, const char *policy, const char *label, struct tt_error *err);

#endif
