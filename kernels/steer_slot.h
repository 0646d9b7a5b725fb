/* A policy as the kernels see it. kernels/steer.h defines what they do with it. */
#ifndef KERNELS_STEER_SLOT_H
#define KERNELS_STEER_SLOT_H

#include <stdint.h>

#include "base/tt_enums.h"

/* One loaded policy, in the memory of the backend. */
struct tt_steer_slot {
	enum tt_policy_op op;
	uint32_t form;           /* of the operation: 0 is its default */
	uint32_t n_directions;   /* rows a layer; 1 for add and one_sided */
	const float *directions; // [n_layers][n_directions][hidden]
	const float *readers;    // [n_layers][n_directions][hidden] a_k; NULL if they are the directions
	const float *targets;    // [n_layers][n_directions] t_k or b_k; NULL if the operation has none
	const float *weights;    // [n_layers] w; 0 on layers that the policy leaves alone
	float alpha;             /* see tt_steer_coefficient */
	enum tt_policy_gate gate;
	/* mlp: 1 if s is the output of fc2 itself, as in the paper; cosine: 1 if it opens below the threshold. */
	uint32_t gate_form;
	uint32_t n_observed;
	const uint32_t *observed; // [n_observed] layers, ascending
	const float *gate_weight; // [n_observed * hidden], in the order of observed
	float gate_bias, threshold;
	uint32_t n_units;        /* of an mlp, whose x_c is in the order of observed */
	const float *fc1_weight; // [n_units][n_observed * hidden]
	const float *fc1_bias;   // [n_units]
	const float *fc2_weight; // [1 + n_layers][n_units]
	const float *fc2_bias;   // [1 + n_layers]
};

#endif
