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
	uint32_t n_users;            /* requests not finished */
	uint64_t last_step;          /* that may name it, of those whose requests are finished */
	struct tt_steer_slot slot;   /* what the kernels' table holds: pointers to the backend's copies */
	struct tt_page_key identity; /* of the operation and its directions */
	char *warning;               /* that it was fitted on other weights; NULL where it was not */
};

/* False when the policy was not added. */
bool tt_policy_slot(const struct tt_engine *engine, const struct tt_policy *policy, uint16_t *slot);
/* Unloads those removed that no step names any more. */
void tt_policy_slots_sweep(struct tt_engine *engine);
void tt_policy_slots_close(struct tt_engine *engine);

#endif
