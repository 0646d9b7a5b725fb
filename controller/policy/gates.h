/* The table of gates, one row each, like the table in controller/policy/operations.h. kernels/steer.h has the
 * arithmetic. */
#ifndef CONTROLLER_POLICY_GATES_H
#define CONTROLLER_POLICY_GATES_H

#include "base/tt_enums.h"
#include "controller/policy/policy_row.h"

struct tt_gate {
	struct tt_policy_row row;
	bool observes;              /* it reads the stream after layers that the file names */
	bool units;                 /* it has hidden units, as many as its tensor of TT_SHAPE_UNITS_INPUT has rows */
	bool threshold;             /* the file gives a threshold, which must be from least to most */
	bool rule;                  /* a rule joins conditions, which have a threshold each */
	float least, most, initial; /* of a threshold; initial is that of a new policy */
};

/* The row of a gate, or NULL for a number that is no gate. */
const struct tt_gate *tt_gate_of(enum tt_policy_gate gate);
/* Finds a gate by its word; false if no gate has it. */
bool tt_gate_find(const char *word, enum tt_policy_gate *gate);
/* The word of files and reports for what a gate reads, or NULL for a number that is none. */
const char *tt_gate_pool_word(enum tt_gate_pool pool);
/* Rows of the table. */
uint32_t tt_n_gates(void);

#endif
