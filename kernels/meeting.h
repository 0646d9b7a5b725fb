/* Where the ranks of an engine meet, which are processes: words in memory that all of them share, by which one waits
 * for another. Nothing in it is a pointer. A rank that waits polls for some microseconds and then sleeps. */
#ifndef KERNELS_MEETING_H
#define KERNELS_MEETING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/shard.h"

enum { TT_MEETING_WORDS = 4 }; /* more than there are steps in flight */

struct tt_meeting_rank {
	_Alignas(64) _Atomic uint32_t n_arrived; /* meetings that it came to */
	/* commands of rank 0 that it has carried out; rank 0's own: how many it waits for that others carry out */
	_Atomic uint32_t n_done;
	_Atomic uint64_t words[TT_MEETING_WORDS]; /* by the step's number: what it made of a step */
	/* what it failed with, before it ended the meeting; no other rank writes here */
	int32_t status;
	char message[sizeof((struct tt_error *)0)->message];
};

struct tt_meeting {
	uint32_t n_ranks;
	_Alignas(64) _Atomic uint32_t ended; /* 0, or 1 + the rank that failed first: nobody waits any more */
	_Alignas(64) _Atomic uint32_t n_here, n_met;
	_Alignas(64) _Atomic uint32_t n_published; /* commands of rank 0 */
	struct tt_meeting_rank ranks[TT_MAX_RANKS];
};

/* Waits as long as *word, a word of the meeting, is value. False where the meeting has ended. */
bool tt_meeting_wait(struct tt_meeting *m, _Atomic uint32_t *word, uint32_t value);
/* Adds 1 to a word, and wakes who waits for that. */
void tt_meeting_count(_Atomic uint32_t *word);

/* Returns when all ranks have called it; false where the meeting has ended instead. */
bool tt_meeting_meet(struct tt_meeting *m, uint32_t rank);

/* Ends the meeting because of that rank, and wakes all who wait. Only the first call says which. */
void tt_meeting_end(struct tt_meeting *m, uint32_t rank);
/* The same by that rank itself, which says why. */
void tt_meeting_fail(struct tt_meeting *m, uint32_t rank, const struct tt_error *why);

#endif
