/* A policy's copy in the memory of a rank's backend. */
#ifndef RUNTIME_ENGINE_RANK_POLICIES_H
#define RUNTIME_ENGINE_RANK_POLICIES_H

#include "controller/policy/policy.h"
#include "runtime/engine/rank.h"

/* Copies the policy to a slot that is free, and makes room for the means that its gate reads. config: the whole
 * model's. */
int tt_rank_add_policy(struct tt_rank *rank, uint32_t slot, const struct tt_policy *policy,
	const struct tt_config *config, struct tt_error *err);
/* Does nothing for a slot that is free. */
void tt_rank_remove_policy(struct tt_rank *rank, uint32_t slot);

#endif
