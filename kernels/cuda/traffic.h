/* The purpose of an access to memory. The emulator counts accesses by purpose, so that a test can check that a decode
 * step reads each weight once, or that a policy costs no more than its directions. On a GPU it compiles to nothing. */
#ifndef KERNELS_CUDA_TRAFFIC_H
#define KERNELS_CUDA_TRAFFIC_H

enum tt_traffic {
	TT_TRAFFIC_WEIGHT,     /* model weights: no kernel ever writes them */
	TT_TRAFFIC_KV,         /* keys and values in their pages */
	TT_TRAFFIC_ACTIVATION, /* h, q, ffn, logits and the sums of squares */
	TT_TRAFFIC_DIRECTION,  /* directions, targets, coefficients, gates, records of pages: what steering costs */
	TT_TRAFFIC_PLAN,       /* the step plan */
	TT_TRAFFIC_RESULT,     /* the results that leave in the step's one copy, and captured rows */
	TT_TRAFFIC_SCRATCH,    /* partial results between blocks, arrival counters */
	TT_TRAFFIC_KINDS,
};

#endif
