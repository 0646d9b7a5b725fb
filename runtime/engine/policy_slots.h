/* Policies on an engine, each in a slot of the kernels' table. */
#ifndef RUNTIME_ENGINE_POLICY_SLOTS_H
#define RUNTIME_ENGINE_POLICY_SLOTS_H

#include "controller/policy/policy.h"
#include "runtime/schedule/page_pool.h"

struct tt_engine;

/* A policy that was added. Its index is its slot in the kernels' table. */
struct tt_loaded_policy {
	bool loaded;
	struct tt_policy *policy;    /* NULL: the slot is free, or its policy was removed while requests still use it */
	bool killed;                 /* its kill switch is on */
	uint32_t n_users;            /* requests not finished */
	uint64_t last_step;          /* the last step of finished requests that may use it */
	struct tt_page_key identity; /* a digest of the operation, its form and its tensors */
	char *warning;               /* says that it was fitted on other weights; NULL if it was not */
};

/* Finds the policy's slot. False if the policy was not added. */
bool tt_policy_slot(const struct tt_engine *engine, const struct tt_policy *policy, uint16_t *slot);
/* Unloads the removed policies that no request and no step uses any more. */
void tt_policy_slots_sweep(struct tt_engine *engine);
void tt_policy_slots_close(struct tt_engine *engine);

#endif
