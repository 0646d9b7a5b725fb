/* The operations, a row each: all that a policy file, a slot, the identity of pages, inspect and the reports need to know of
 * them. kernels/steer.h has the arithmetic. */
#ifndef CONTROLLER_POLICY_OPERATIONS_H
#define CONTROLLER_POLICY_OPERATIONS_H

#include "base/tt_enums.h"
#include "controller/policy/policy_row.h"

struct tt_operation {
	struct tt_policy_row row;
	uint32_t min_rows, max_rows; /* directions a layer */
	bool orthonormal;            /* its rows are made orthonormal */
	bool whole_row;              /* the kernels need a whole row of h, in every form ... */
	bool form_whole_row;         /* ... or in those that are not the default */
	enum tt_change change;       /* how far it moves h */
};

/* The row of an operation, or NULL for a number that is none. */
const struct tt_operation *tt_operation_of(enum tt_policy_op op);
/* By its word; false when there is none. */
bool tt_operation_find(const char *word, enum tt_policy_op *op);
uint32_t tt_n_operations(void);

#endif
