/* Policies on an engine: whether they belong to its model, and their copy in the backend's memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/engine.h"

bool tt_policy_slot(const struct tt_engine *engine, const struct tt_policy *policy, uint16_t *slot)
{
	for (uint32_t i = 0; i < TT_MAX_SLOTS; i++) {
		if (engine->policies[i].policy != policy)
			continue;
		*slot = (uint16_t)i;
		return true;
	}
	return false;
}

static int check_model(const struct tt_engine *engine, const struct tt_policy *policy, struct tt_error *err)
{
	const struct tt_model_info *info = &engine->info;
	if (policy->hidden_size != info->hidden_size)
		return tt_fail(err, TT_ERR_MISMATCH, "policy %s is for width %u, the model has %u", policy->name,
			policy->hidden_size, info->hidden_size);
	if (policy->n_layers != info->n_layers)
		return tt_fail(err, TT_ERR_MISMATCH, "policy %s is for %u layers, the model has %u", policy->name,
			policy->n_layers, info->n_layers);
	if (strcmp(policy->fingerprint, info->fingerprint))
		return tt_fail(err, TT_ERR_MISMATCH,
			"policy %s was fitted on another model: its fingerprint is \"%.120s\", the model's \"%.120s\"",
			policy->name, policy->fingerprint, info->fingerprint);
	return TT_OK;
}

static int check_weights(
	const struct tt_engine *engine, struct tt_policy *policy, const char **warning, struct tt_error *err)
{
	if (!strcmp(policy->weights_digest, engine->info.weights_digest))
		return TT_OK;
	if (engine->options.strict_model)
		return tt_fail(err, TT_ERR_MISMATCH,
			"policy %s was fitted on other weights (digest %.12s..., the model's is %.12s...)",
			policy->name, policy->weights_digest, engine->info.weights_digest);
	struct tt_buffer text = {0};
	TT_TRY(tt_buffer_print(&text, err,
		"policy %s was fitted on other weights of this architecture (digest %.12s..., here %.12s...)",
		policy->name, policy->weights_digest, engine->info.weights_digest));
	free(policy->warning);
	policy->warning = text.data;
	if (warning)
		*warning = policy->warning;
	return TT_OK;
}

/* One allocation holds the arrays one behind the other: directions, targets, weights, gate. */
static int copy_to_backend(struct tt_engine *engine, uint32_t slot, struct tt_error *err)
{
	struct tt_backend *backend = engine->backend;
	struct tt_loaded_policy *loaded = &engine->policies[slot];
	const struct tt_policy *p = loaded->policy;
	size_t rows = (size_t)p->n_layers * p->n_directions, n_directions = rows * p->hidden_size;
	size_t n_gate = (size_t)p->n_observed * p->hidden_size, n_targets = p->targets ? rows : 0;
	TT_TRY(backend->allocate(
		backend, &loaded->memory, n_directions + n_targets + p->n_layers + n_gate, sizeof(float), err));
	TT_TRY(backend->allocate(backend, &loaded->observed, p->n_observed, sizeof(uint32_t), err));
	float *directions = loaded->memory, *targets = directions + n_directions, *weights = targets + n_targets;
	float *gate_weight = weights + p->n_layers;
	memcpy(directions, p->directions, n_directions * sizeof(float));
	if (n_targets)
		memcpy(targets, p->targets, n_targets * sizeof(float));
	memcpy(weights, p->weights, p->n_layers * sizeof(float));
	if (n_gate) {
		memcpy(gate_weight, p->gate_weight, n_gate * sizeof(float));
		memcpy(loaded->observed, p->observed, p->n_observed * sizeof(uint32_t));
	}
	engine->state.slots[slot] = (struct tt_steer_slot){
		.op = p->op,
		.n_directions = p->n_directions,
		.directions = directions,
		.targets = n_targets ? targets : NULL,
		.weights = weights,
		.alpha = p->alpha,
		.gate = p->gate,
		.n_observed = p->n_observed,
		.observed = loaded->observed,
		.gate_weight = gate_weight,
		.gate_bias = p->gate_bias,
		.threshold = p->threshold,
	};
	return TT_OK;
}

static void unload(struct tt_engine *engine, uint32_t slot)
{
	struct tt_loaded_policy *loaded = &engine->policies[slot];
	engine->backend->release(engine->backend, loaded->memory);
	engine->backend->release(engine->backend, loaded->observed);
	*loaded = (struct tt_loaded_policy){0};
	engine->state.slots[slot] = (struct tt_steer_slot){0};
}

int tt_engine_add_policy(struct tt_engine *engine, struct tt_policy *policy, const char **warning, struct tt_error *err)
{
	uint16_t slot;
	if (warning)
		*warning = NULL;
	TT_TRY(check_model(engine, policy, err));
	TT_TRY(check_weights(engine, policy, warning, err));
	if (tt_policy_slot(engine, policy, &slot))
		return TT_OK;
	if (!tt_policy_slot(engine, NULL, &slot))
		return tt_fail(err, TT_ERR_LIMIT, "%d policies are loaded already", TT_MAX_SLOTS);
	engine->policies[slot].policy = policy;
	int status = copy_to_backend(engine, slot, err);
	if (status != TT_OK)
		unload(engine, slot);
	return status;
}

int tt_engine_remove_policy(struct tt_engine *engine, struct tt_policy *policy, struct tt_error *err)
{
	uint16_t slot;
	if (!policy || !tt_policy_slot(engine, policy, &slot))
		return tt_fail(err, TT_ERR_ARGUMENT, "that policy was not added to the engine");
	if (engine->policies[slot].n_users > 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "policy %s steers %u requests that are not finished", policy->name,
			engine->policies[slot].n_users);
	unload(engine, slot);
	return TT_OK;
}

void tt_policies_close(struct tt_engine *engine)
{
	for (uint32_t i = 0; engine->policies && engine->backend && i < TT_MAX_SLOTS; i++)
		unload(engine, i);
	free(engine->policies);
}
