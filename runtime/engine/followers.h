/* Rank 0's view of the other ranks' processes: starting them, what they say, and their end. */
#ifndef RUNTIME_ENGINE_FOLLOWERS_H
#define RUNTIME_ENGINE_FOLLOWERS_H

#include "runtime/engine/rank_messages.h"
#include "runtime/engine/ring.h"

struct tt_followers;

/* Starts hello->n_ranks - 1 processes and greets each with hello, which gets its rank, and the ring's file, which stays
 * the caller's, as the ring does. They load the model meanwhile. Call tt_followers_close even if this fails. */
int tt_followers_open(
	struct tt_followers **out, struct tt_ring *ring, int file, struct tt_rank_hello *hello, struct tt_error *err);
/* Ends them: those that carry out TT_COMMAND_STOP in time by themselves. NULL is fine. */
void tt_followers_close(struct tt_followers *all);

/* Waits for the answer of a rank to what it was sent. What it refuses, and its end, are errors that name it. */
int tt_followers_receive(struct tt_followers *all, uint32_t rank, struct tt_rank_reply *reply, struct tt_error *err);
int tt_followers_send(
	struct tt_followers *all, uint32_t rank, const void *message, size_t n, int file, struct tt_error *err);

/* After anything failed, ends the meeting and all processes, returns when none is left, and fills err with what came
 * first, by the rank's name: what is in err, of rank 0, or another rank's end. */
int tt_followers_fail(struct tt_followers *all, struct tt_error *err);
/* Ends the meeting because of that rank, for this reason, unless it has ended before; then as tt_followers_fail. */
int tt_followers_blame(struct tt_followers *all, uint32_t rank, const struct tt_error *why, struct tt_error *err);
/* What ended them, or NULL as long as they run. */
const struct tt_error *tt_followers_failure(const struct tt_followers *all);

#endif
