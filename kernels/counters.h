/* What a session asked of its device since it was opened. It proves that a step is one copy in, one launch, one copy
 * out and one wait. */
#ifndef KERNELS_COUNTERS_H
#define KERNELS_COUNTERS_H

#include <stdint.h>

struct tt_device_counters {
	uint64_t launches, dependent_launches; /* of kernels, also while a graph is captured */
	uint64_t graph_launches, graphs;       /* graphs: how many were captured */
	uint64_t copies_in, copies_out;        /* in: host to device */
	/* those of copies_out for captured rows or logits that were too many to come with the other results */
	uint64_t drains;
	uint64_t bytes_in, bytes_out;
	uint64_t waits;
	uint64_t exchanges;    /* between ranks, also while a graph is captured */
	uint64_t bytes, flops; /* as the launchers derived them; those of a graph count once, when it is captured */
};

#endif
