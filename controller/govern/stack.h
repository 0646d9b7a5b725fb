/* The default stack: which policies, by labels and scales, steer what says nothing of steering. It is proposed and
 * approved as a version is; the last one that was approved is in force. */
#ifndef CONTROLLER_GOVERN_STACK_H
#define CONTROLLER_GOVERN_STACK_H

#include "controller/govern/store.h"

enum { TT_MAX_STACK_ENTRIES = 4 };

struct tt_stack_entry {
	char policy[TT_MAX_NAME + 1], label[TT_MAX_NAME + 1];
	double scale;
};

struct tt_stack {
	int64_t number;                                      /* 0: none was approved, and it is empty */
	struct tt_stack_entry entries[TT_MAX_STACK_ENTRIES]; // [n]
	size_t n;
};

/* The one in force. */
int tt_stack_read(struct tt_stack *out, struct tt_store *store, struct tt_error *err);

#endif
