/* A policy as the ranks' processes hand it on: the numbers that kernels see, in one block. */
#ifndef RUNTIME_ENGINE_POLICY_PACK_H
#define RUNTIME_ENGINE_POLICY_PACK_H

#include "base/memory.h"
#include "controller/policy/policy.h"
#include "weights/config.h"

int tt_policy_pack(struct tt_buffer *out, const struct tt_policy *policy, struct tt_error *err);

/* Fills what the kernels need of a policy, with its tensors in the block itself, which must stay as long and is aligned
 * for floats. TT_ERR_FORMAT where it is not what tt_policy_pack makes for such a model; every number that kernels take
 * for an index or a size is checked. */
int tt_policy_unpack(
	struct tt_policy *out, const void *block, size_t n_bytes, const struct tt_config *config, struct tt_error *err);

#endif
