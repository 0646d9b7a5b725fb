/* Clusters: what block.c runs, what the primitives call, and what shared.c does for a block whose turn it is not. */
#ifndef KERNELS_EMU_CLUSTER_H
#define KERNELS_EMU_CLUSTER_H

#include "kernels/emu/internal.h"

/* cluster.c */
void cluster_run(uint32_t first_block);
/* The running thread has come to the cluster's barrier, and to its wait for it. */
void cluster_arrive(SITE);
void cluster_wait(SITE);
/* Checks a read of another block's shared memory at the place of p in this one's; returns the host's address. */
const unsigned char *cluster_check(const void *p, uint32_t rank, size_t size, SITE);

/* shared.c */
/* A block's memory and its shadow while another block of its cluster runs. */
struct shared_kept {
	unsigned char *bytes;
	struct shared_word *words;
};
void shared_keep(struct shared_kept *to);
void shared_put_back(const struct shared_kept *from);
/* Another block reads a kept block's memory, which began at the clock block_start. */
const unsigned char *shared_kept_check(
	const struct shared_kept *kept, const void *p, size_t size, uint32_t block_start, SITE);

#endif
