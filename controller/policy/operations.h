/* The table of operations, one row each. Policy files, slots, the digest that decides whether pages are shared, inspect
 * and the reports know operations from it alone. kernels/steer.h has the arithmetic. */
#ifndef CONTROLLER_POLICY_OPERATIONS_H
#define CONTROLLER_POLICY_OPERATIONS_H

#include "base/tt_enums.h"
#include "controller/policy/policy_row.h"

struct tt_operation {
	struct tt_policy_row row;
	uint32_t min_rows, max_rows; /* directions a layer */
	bool orthonormal;            /* its directions are made orthonormal when a policy is finished */
	enum tt_change change;       /* how far it moves h */
};

/* The row of an operation, or NULL for a number that is no operation. */
const struct tt_operation *tt_operation_of(enum tt_policy_op op);
/* Finds an operation by its word; false if no operation has it. */
bool tt_operation_find(const char *word, enum tt_policy_op *op);
/* Rows of the table. */
uint32_t tt_n_operations(void);

#endif
