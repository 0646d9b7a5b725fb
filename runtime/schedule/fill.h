/* Writes the arrays of the packed plan (tokens, positions, pages, coefficient rows, samples, gates) from the list of
 * sequences and positions that choose.h made. */
#ifndef RUNTIME_SCHEDULE_FILL_H
#define RUNTIME_SCHEDULE_FILL_H

#include "runtime/schedule/scheduled_step.h"

/* Returns TT_ERR_LIMIT if the plan does not fit in limits->plan_bytes. */
int tt_fill(struct tt_scheduled_step *plan, const struct tt_limits *limits,
	const uint16_t *row_slots, // [n_rows] policy slot of each coefficient row
	struct tt_error *err);

#endif
