/* Policies of every operation and gate, made of noise, for timing: their cost is that of any policy of their shape. */
#ifndef BENCH_HARNESS_NOISE_H
#define BENCH_HARNESS_NOISE_H

#include "runtime/trimtab.h"

/* What a policy of noise is like. Zeros: it adds a direction, without a gate. */
struct tt_noise {
	enum tt_policy_op op;
	uint32_t form; /* of the operation */
	enum tt_policy_gate gate;
	uint32_t first_layer, n_layers; /* that it steers; 0 of them: all */
	/* Only layers behind those that the gate reads, where there are any: else flagged prompts run again. */
	bool behind_gate;
	uint64_t seed;
};

/* Makes a policy with directions of unit length, for prompt and generation, whose gate, if it has one, reads the last
 * prompt token and the mean of the prompt in three layers and is open. */
int tt_noise_policy(
	struct tt_policy **out, const struct tt_model_info *info, const struct tt_noise *noise, struct tt_error *err);

enum { TT_BENCH_ALL_LAYERS = -1 };

/* One that adds a direction at a layer, or at every layer, without a gate. */
int tt_bench_synthetic_policy(
	struct tt_policy **out, const struct tt_model_info *info, int layer, uint64_t seed, struct tt_error *err);

#endif
