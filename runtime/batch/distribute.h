/* Who answers which rows of a job, where ranks ask for them as they go: a rank gets rows in proportion to what it has
 * shown that it can do, less and less towards the end, so that all end at about the same time. No clock and no message
 * is known here. */
#ifndef RUNTIME_BATCH_DISTRIBUTE_H
#define RUNTIME_BATCH_DISTRIBUTE_H

#include "runtime/batch/parts.h"

struct tt_hand_out_rank {
	uint64_t given, done;
	double begun, told; /* when it first asked, and when last */
};

struct tt_hand_out {
	const struct tt_rows_done *done; /* rows that earlier runs have answered */
	uint64_t next, n_left;           /* rows before next were given or are done; so many others are left */
	uint64_t batch, most;            /* rows that run side by side on a rank; rows that it gets at once at most */
	struct tt_hand_out_rank *ranks;  // [n_ranks]
	size_t n_ranks;
};

/* done is borrowed. */
int tt_hand_out_open(struct tt_hand_out *out, const struct tt_rows_done *done, size_t n_ranks, uint64_t batch,
	uint64_t most, struct tt_error *err);
void tt_hand_out_close(struct tt_hand_out *out);

/* A rank asks for rows: it has finished n_done of what it was given, and the time is now, in seconds. Sets *range,
 * which is empty where it should get none at present, since it has enough to do or others would be done sooner, and
 * *ended where there are no more for anybody. */
void tt_hand_out_claim(
	struct tt_hand_out *out, size_t rank, uint64_t n_done, double now, struct tt_row_range *range, bool *ended);

#endif
