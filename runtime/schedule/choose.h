/* Which positions of one sequence the next step runs. runtime/schedule/scheduler.c decides whose turn it is. */
#ifndef RUNTIME_SCHEDULE_CHOOSE_H
#define RUNTIME_SCHEDULE_CHOOSE_H

#include "runtime/schedule/page_pool.h"
#include "runtime/schedule/scheduled_step.h"

/* Adds the positions that the sequence can run to the plan, within the room that is left, and moves the sequence's
 * progress on. A prompt that could decide and steer in one pass waits for a step that has room for all of it: a second
 * prefill costs more than the wait. killed: the sequence goes on unsteered. */
void tt_choose(struct tt_scheduled_step *plan, struct tt_sequence *q, const struct tt_limits *limits,
	struct tt_page_pool *pool, bool killed);

/* Whether its decision can steer the same pass, but only if the whole prompt runs in it, and a step has room for that
 * beside a full batch of decoding rows. */
bool tt_choose_one_pass(const struct tt_sequence *q, const struct tt_limits *limits);

#endif
