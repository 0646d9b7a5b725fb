/* The gates, a row each, as controller/policy/operations.h has the operations. kernels/steer.h has the arithmetic. */
#ifndef CONTROLLER_POLICY_GATES_H
#define CONTROLLER_POLICY_GATES_H

#include "base/tt_enums.h"
#include "controller/policy/policy_row.h"

struct tt_gate {
	struct tt_policy_row row;
	bool observes;              /* it reads layers, which the file names */
	bool units;                 /* it has hidden units: as many as its first tensor has rows */
	bool threshold;             /* the file gives a threshold, from least to most; initial in a new policy */
	float least, most, initial; /* of the threshold */
};

/* The row of a gate, or NULL for a number that is none. */
const struct tt_gate *tt_gate_of(enum tt_policy_gate gate);
/* By its word; false when there is none. */
bool tt_gate_find(const char *word, enum tt_policy_gate *gate);
uint32_t tt_n_gates(void);

#endif
