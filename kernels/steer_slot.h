/* A policy as the kernels see it. kernels/steer.h defines what they do with it. */
#ifndef KERNELS_STEER_SLOT_H
#define KERNELS_STEER_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/host_device.h"
#include "base/tt_enums.h"

enum { TT_MAX_POOLED = 4 }; /* layers at most that a gate observes if it reads means */

/* What a gate reads, x_c, is a row of vectors of the model's width: the last prompt token's h of each observed layer,
 * ascending, then the mean h of each observed layer; pool may leave either part out. This is how many vectors there
 * are. */
TT_HOST_DEVICE static inline uint32_t tt_gate_vectors(enum tt_gate_pool pool, uint32_t n_observed)
{
	return pool == TT_POOL_LAST_MEAN ? 2 * n_observed : n_observed;
}

/* Whether vector i of x_c is a mean. It is that of the observed layer i, counted modulo n_observed. */
TT_HOST_DEVICE static inline bool tt_gate_vector_is_mean(enum tt_gate_pool pool, uint32_t n_observed, uint32_t i)
{
	return pool == TT_POOL_MEAN || i >= n_observed;
}

/* Whether outputs 1 + l of the gate's network are factors of the weights w[l]. */
TT_HOST_DEVICE static inline bool tt_gate_learns_layers(uint32_t gate, uint32_t form)
{
	return gate == TT_GATE_MLP || (gate == TT_GATE_PROBE_MLP && form != 0);
}

/* Whether the gate opens below its threshold instead of above. */
TT_HOST_DEVICE static inline bool tt_gate_opens_below(uint32_t gate, uint32_t form)
{
	return gate == TT_GATE_COSINE && form != 0;
}

/* Whether a rule opens where the conditions of the bits of held hold, and no others. */
TT_HOST_DEVICE static inline bool tt_steer_rule(uint32_t table, uint32_t held)
{
	return table >> held & 1;
}

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
	/* mlp: 1 if s is the output of fc2 itself, as in the paper; cosine: 1 if it opens below the threshold;
	 * probe_mlp: 1 if it gives the weights of the layers. */
	uint32_t gate_form;
	enum tt_gate_pool pool;   /* which states x_c is made of; n_in is tt_gate_vectors * hidden */
	uint32_t n_observed;      /* at most TT_MAX_POOLED if pool asks for means */
	const uint32_t *observed; // [n_observed] layers, ascending
	const float *gate_weight; // [n_in]; [n_conditions][n_in] of a rule
	float gate_bias, threshold;
	uint32_t n_conditions;   /* of a rule; 0 for other gates */
	uint32_t below, table;   /* of a rule: which conditions hold below; what opens it (tt_steer_rule) */
	const float *thresholds; // [n_conditions]
	uint32_t n_units;        /* of an mlp or a probe_mlp */
	const float *fc1_weight; // [n_units][n_in]
	const float *fc1_bias;   // [n_units]
	const float *fc2_weight; // [n_out][n_units], n_out is 1 + n_layers if tt_gate_learns_layers, else 1
	const float *fc2_bias;   // [n_out]
	uint32_t last_observed;  /* of observed, which the host cannot read; 0 where there is none */
};

#endif
