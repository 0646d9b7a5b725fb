/* Policies on an engine: whether they belong to its model, and their copy in the backend's memory. */
#include "runtime/engine/policy_slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/policy/control_vector.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/thread.h"
#include "weights/arch.h"
#include "weights/model.h"

bool tt_policy_slot(const struct tt_engine *engine, const struct tt_policy *policy, uint16_t *slot)
{
	for (uint32_t i = 0; i < TT_MAX_SLOTS; i++) {
		if (!engine->policies[i].loaded || engine->policies[i].policy != policy)
			continue;
		*slot = (uint16_t)i;
		return true;
	}
	return false;
}

static bool free_slot(const struct tt_engine *engine, uint16_t *slot)
{
	for (uint32_t i = 0; i < TT_MAX_SLOTS; i++) {
		if (engine->policies[i].loaded)
			continue;
		*slot = (uint16_t)i;
		return true;
	}
	return false;
}

/* How many bytes two fingerprints begin with alike, in whole words. */
static size_t common_words(const char *a, const char *b)
{
	size_t n = 0;
	for (size_t i = 0; a[i] && a[i] == b[i]; i++)
		if (a[i] == ' ')
			n = i + 1;
	return n;
}

/* The fingerprint comes first, since it names all that differs. The sizes are compared too: a file may say anything. */
static int check_model(const struct tt_engine *engine, const struct tt_policy *policy, struct tt_error *err)
{
	const struct tt_model_info *info = &engine->info;
	size_t common = common_words(policy->fingerprint, info->fingerprint);
	if (strcmp(policy->fingerprint, info->fingerprint))
		return tt_fail(err, TT_ERR_MISMATCH,
			"policy %s was fitted on another model: \"%.150s\" there, \"%.150s\" here", policy->name,
			policy->fingerprint + common, info->fingerprint + common);
	if (policy->hidden_size != info->hidden_size || policy->n_layers != info->n_layers)
		return tt_fail(err, TT_ERR_MISMATCH,
			"policy %s was fitted on another model: %u layers of width %u there, %u of width %u here",
			policy->name, policy->n_layers, policy->hidden_size, info->n_layers, info->hidden_size);
	return TT_OK;
}

/* Makes a control vector that names no model this engine's. */
static int adopt(const struct tt_engine *engine, struct tt_policy *policy, struct tt_error *err)
{
	if (!tt_control_vector_is_free(policy))
		return TT_OK;
	if (engine->options.strict_model)
		return tt_fail(err, TT_ERR_MISMATCH,
			"policy %s is a control vector, which does not say for which weights it was made",
			policy->name);
	return tt_control_vector_adopt(policy, &engine->info, err);
}

/* Whether a control vector's word for its model, which is GGUF's or Hugging Face's, is that of this model's family. */
static bool hint_fits(const struct tt_engine *engine, const char *hint)
{
	const struct tt_arch_row *own = &TT_ARCHS[engine->model->config.arch];
	const struct tt_arch_row *row = tt_arch_find(offsetof(struct tt_arch_row, hf_type), hint, strlen(hint));
	return !*hint || strcmp(hint, own->gguf) == 0 || (row && strcmp(row->gguf, own->gguf) == 0);
}

/* *warning: a new text if the policy may be of another model or chat template, otherwise NULL. */
static int check_weights(
	const struct tt_engine *engine, const struct tt_policy *policy, char **warning, struct tt_error *err)
{
	struct tt_buffer text = {0};
	*warning = NULL;
	bool same = strcmp(policy->weights_digest, engine->info.weights_digest) == 0;
	if (!same && engine->options.strict_model)
		return tt_fail(err, TT_ERR_MISMATCH,
			"policy %s was fitted on other weights (digest %.12s..., the model's is %.12s...)",
			policy->name, policy->weights_digest, engine->info.weights_digest);
	if (!same)
		TT_TRY(tt_buffer_print(&text, err,
			"policy %s was fitted on other weights of this architecture (digest %.12s..., here %.12s...)",
			policy->name, policy->weights_digest, engine->info.weights_digest));
	else if (policy->model_hint && !hint_fits(engine, policy->model_hint))
		TT_TRY(tt_buffer_print(&text, err, "control vector %s was made for a model of %s, and this is %s",
			policy->name, policy->model_hint, engine->info.architecture));
	else
		return tt_policy_other_template(warning, policy, engine->info.chat_template_sha256, err);
	*warning = text.data;
	return TT_OK;
}

static int copy(struct tt_backend *backend, void *out_pointer, const void *from, size_t count, size_t size,
	struct tt_error *err)
{
	void *to = NULL;
	if (count == 0)
		return TT_OK;
	TT_TRY(backend->allocate(backend, &to, count, size, err));
	memcpy(out_pointer, &to, sizeof to);
	return backend->upload(backend, to, from, count * size, err);
}

/* Copies the tensor minus the directions, the vectors that h is multiplied with. */
static int copy_readers(struct tt_backend *backend, void *out_pointer, const struct tt_policy *p, const float *values,
	size_t n, struct tt_error *err)
{
	float *readers = NULL;
	TT_TRY(tt_alloc(&readers, n, sizeof *readers, err));
	for (size_t i = 0; i < n; i++)
		readers[i] = values[i] - p->directions[i];
	int status = copy(backend, out_pointer, readers, n, sizeof *readers, err);
	free(readers);
	return status;
}

static void *member(struct tt_steer_slot *slot, const struct tt_policy_tensor *tensor)
{
	return (char *)slot + tensor->slot;
}

static int copy_row(struct tt_backend *backend, struct tt_steer_slot *slot, const struct tt_policy *p,
	const struct tt_policy_row *row, struct tt_error *err)
{
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		const struct tt_policy_tensor *tensor = &row->tensors[i];
		const float *values = tt_tensor_values(p, tensor);
		size_t n = tt_tensor_size(p, tensor->shape);
		void *to = member(slot, tensor);
		if (tensor->shape == TT_SHAPE_NUMBER)
			memcpy(to, values, sizeof *values);
		else if (tensor->less_directions)
			TT_TRY(copy_readers(backend, to, p, values, n, err));
		else
			TT_TRY(copy(backend, to, values, n, sizeof *values, err));
	}
	return TT_OK;
}

/* The slot's host copy keeps every pointer that was allocated, so that a failure half way can be undone. */
static int copy_to_rank(struct tt_rank *rank, uint32_t index, const struct tt_policy *p, struct tt_error *err)
{
	struct tt_backend *backend = rank->backend;
	struct tt_steer_slot *slot = &rank->slots[index];
	*slot = (struct tt_steer_slot){
		.op = p->op,
		.form = p->form,
		.n_directions = p->n_directions,
		.alpha = p->alpha,
		.gate = p->gate,
		.gate_form = p->gate_form,
		.pool = p->pool,
		.n_observed = p->n_observed,
		.threshold = p->threshold,
		.n_units = p->n_units,
		.n_conditions = p->rule.n,
		.below = p->rule.below,
		.table = p->rule.table,
	};
	TT_TRY(copy(backend, &slot->weights, p->weights, p->n_layers, sizeof *p->weights, err));
	TT_TRY(copy(backend, &slot->observed, p->observed, p->n_observed, sizeof *p->observed, err));
	TT_TRY(copy_row(backend, slot, p, &tt_operation_of(p->op)->row, err));
	TT_TRY(copy_row(backend, slot, p, &tt_gate_of(p->gate)->row, err));
	return backend->upload(backend, &rank->state.slots[index], slot, sizeof *slot, err);
}

/* A device sizes the control op by this maximum. */
static void count_units(struct tt_engine *engine)
{
	for (uint32_t r = 0; r < engine->n_ranks; r++) {
		struct tt_rank *rank = &engine->ranks[r];
		uint32_t most = 0;
		for (uint32_t i = 0; i < TT_MAX_SLOTS; i++)
			most = rank->slots[i].n_units > most ? rank->slots[i].n_units : most;
		rank->state.max_units = most;
	}
}

static void release_row(struct tt_backend *backend, struct tt_steer_slot *slot, const struct tt_policy_row *row)
{
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		void *memory;
		if (row->tensors[i].shape == TT_SHAPE_NUMBER)
			continue;
		memcpy(&memory, member(slot, &row->tensors[i]), sizeof memory);
		backend->release(backend, memory);
	}
}

static void release_slot(struct tt_backend *backend, struct tt_steer_slot *slot)
{
	backend->release(backend, (void *)(uintptr_t)slot->weights);
	backend->release(backend, (void *)(uintptr_t)slot->observed);
	release_row(backend, slot, &tt_operation_of(slot->op)->row);
	release_row(backend, slot, &tt_gate_of(slot->gate)->row);
	*slot = (struct tt_steer_slot){0};
}

static void unload(struct tt_engine *engine, uint32_t index)
{
	for (uint32_t r = 0; r < engine->n_ranks; r++)
		if (engine->ranks[r].slots)
			release_slot(engine->ranks[r].backend, &engine->ranks[r].slots[index]);
	free(engine->policies[index].warning);
	engine->policies[index] = (struct tt_loaded_policy){0};
}

/* The identity is part of the key of shared KV pages: pages steered with the same identity and the same coefficients
 * hold the same bits. */
static int identify(const struct tt_policy *p, struct tt_page_key *identity, struct tt_error *err)
{
	uint8_t digest[32];
	TT_TRY(tt_policy_digest(p, digest, err));
	memcpy(identity, digest, sizeof *identity);
	return TT_OK;
}

void tt_policy_slots_sweep(struct tt_engine *engine)
{
	for (uint32_t i = 0; engine->n_removed > 0 && i < TT_MAX_SLOTS; i++) {
		const struct tt_loaded_policy *p = &engine->policies[i];
		if (!p->loaded || p->policy || p->n_users > 0 || p->last_step > engine->scheduler.n_collected)
			continue;
		unload(engine, i);
		count_units(engine);
		engine->n_removed--;
	}
}

struct addition {
	struct tt_policy *policy;
	const char **warning;
};

static int load(struct tt_engine *engine, struct tt_policy *policy, uint16_t slot, struct tt_error *err)
{
	struct tt_loaded_policy *loaded = &engine->policies[slot];
	loaded->loaded = true;
	loaded->policy = policy;
	TT_TRY(check_weights(engine, policy, &loaded->warning, err));
	TT_TRY(identify(policy, &loaded->identity, err));
	for (uint32_t r = 0; r < engine->n_ranks; r++)
		TT_TRY(copy_to_rank(&engine->ranks[r], slot, policy, err));
	return TT_OK;
}

static int add(struct tt_engine *engine, void *argument, struct tt_error *err)
{
	struct addition *a = argument;
	uint16_t slot;
	TT_TRY(adopt(engine, a->policy, err));
	TT_TRY(check_model(engine, a->policy, err));
	for (uint32_t r = 0; a->policy->pool != TT_POOL_LAST && r < engine->n_ranks; r++)
		TT_TRY(tt_kv_memory_add_sums(
			&engine->ranks[r].kv, engine->ranks[r].backend, &engine->model->config, err));
	if (!tt_policy_slot(engine, a->policy, &slot)) {
		tt_policy_slots_sweep(engine);
		if (!free_slot(engine, &slot))
			return tt_fail(err, TT_ERR_LIMIT, "%d policies are loaded already", TT_MAX_SLOTS);
		int status = load(engine, a->policy, slot, err);
		if (status != TT_OK) {
			unload(engine, slot);
			return status;
		}
		count_units(engine);
	}
	if (a->warning)
		*a->warning = engine->policies[slot].warning;
	return TT_OK;
}

int tt_engine_add_policy(struct tt_engine *engine, struct tt_policy *policy, const char **warning, struct tt_error *err)
{
	struct addition addition = {policy, warning};
	if (warning)
		*warning = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(policy, "policy", err));
	return tt_on_owner(engine, add, &addition, err);
}

static void end_steering(struct tt_sequence *q, uint16_t slot)
{
	for (uint32_t i = 0; i < q->n_policies; i++)
		if (q->policies[i].slot == slot && q->policies[i].scale != 0)
			q->ends_steering = true;
}

void tt_engine_kill_policy(struct tt_engine *engine, const struct tt_policy *policy, bool killed)
{
	uint16_t slot;
	if (!engine || !policy)
		return;
	tt_lock(engine);
	if (tt_policy_slot(engine, policy, &slot)) {
		engine->policies[slot].killed = killed;
		for (struct tt_sequence *q = engine->scheduler.waiting; killed && q; q = q->next)
			end_steering(q, slot);
		for (uint32_t i = 0; killed && i < engine->scheduler.n_running; i++)
			end_steering(engine->scheduler.running[i], slot);
	}
	tt_unlock(engine);
	/* What was planned before is launched; what is planned from now on knows. */
	pthread_mutex_lock(&engine->launch);
	pthread_mutex_unlock(&engine->launch);
}

static int remove_policy(struct tt_engine *engine, void *argument, struct tt_error *err)
{
	const struct tt_policy *policy = argument;
	uint16_t slot;
	if (!tt_policy_slot(engine, policy, &slot))
		return tt_fail(err, TT_ERR_ARGUMENT, "that policy was not added to the engine");
	engine->policies[slot].policy = NULL;
	engine->n_removed++;
	tt_policy_slots_sweep(engine);
	return TT_OK;
}

int tt_engine_remove_policy(struct tt_engine *engine, struct tt_policy *policy, struct tt_error *err)
{
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(policy, "policy", err));
	return tt_on_owner(engine, remove_policy, policy, err);
}

void tt_policy_slots_close(struct tt_engine *engine)
{
	for (uint32_t i = 0; engine->policies && i < TT_MAX_SLOTS; i++)
		unload(engine, i);
	free(engine->policies);
}
