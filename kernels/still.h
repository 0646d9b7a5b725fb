/* Whether the devices of ranks stand still: a collective that never ends spins on each of them, and to the host that
 * looks like work. So a rank says how far its device has come. */
#ifndef KERNELS_STILL_H
#define KERNELS_STILL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/shard.h"

enum {
	TT_STILL_LOOK_MS = 250, /* between two looks */
	TT_STILL_LOOKS = 20,    /* so many without anything done: five seconds */
	/* of a processor's time that a rank has had between two looks that count: a machine that is too busy for its
	 * ranks makes none of them stand still */
	TT_STILL_RUN_MS = 25,
};

/* What a rank says; shared by processes. A mark is a place in the work of a device, the same on all ranks. Counts go
 * round. */
struct tt_still_rank {
	_Atomic uint32_t given;   /* marks that its device was given */
	_Atomic uint32_t reached; /* those that it has come to */
	_Atomic uint32_t run;     /* how often its process has run for TT_STILL_RUN_MS: it polls while it waits */
};

/* Who looks: all zeros before the first look. */
struct tt_still {
	uint32_t reached[TT_MAX_RANKS];
	uint32_t run[TT_MAX_RANKS]; /* at the last look that counted */
	uint32_t n_looks;           /* that have found nothing done */
};

/* Looks once. True where all devices were given a mark that not all have come to, and none has come to another in
 * TT_STILL_LOOKS looks. A rank that has not given its device that mark is computing, and waited for. A look counts
 * where all ranks whose devices have work have run since the last one that did: they may be stopped, or wait for a
 * processor. *behind: the rank whose device is behind others, or TT_MAX_RANKS where all have come equally far. */
bool tt_still_look(struct tt_still *still, const struct tt_still_rank *ranks, uint32_t n_ranks, uint32_t *behind);

#endif
