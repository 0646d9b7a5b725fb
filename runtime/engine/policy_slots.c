/* Policies on an engine: whether they belong to its model, and their copy in the backend's memory. */
#include "runtime/engine/policy_slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/policy/control_vector.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/ranks.h"
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

static void unload(struct tt_engine *engine, uint32_t index)
{
	if (engine->policies[index].loaded)
		tt_ranks_remove_policy(engine, index);
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
	return tt_ranks_add_policy(engine, slot, policy, err);
}

static int add(struct tt_engine *engine, void *argument, struct tt_error *err)
{
	struct addition *a = argument;
	uint16_t slot;
	TT_TRY(adopt(engine, a->policy, err));
	TT_TRY(check_model(engine, a->policy, err));
	if (!tt_policy_slot(engine, a->policy, &slot)) {
		tt_policy_slots_sweep(engine);
		if (!free_slot(engine, &slot))
			return tt_fail(err, TT_ERR_LIMIT, "%d policies are loaded already", TT_MAX_SLOTS);
		int status = load(engine, a->policy, slot, err);
		if (status != TT_OK) {
			unload(engine, slot);
			return status;
		}
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

static void set_killed(struct tt_engine *engine, const struct tt_policy *policy, bool killed)
{
	uint16_t slot;
	if (!policy || !tt_policy_slot(engine, policy, &slot))
		return;
	engine->policies[slot].killed = killed;
	for (struct tt_sequence *q = engine->scheduler.waiting; killed && q; q = q->next)
		end_steering(q, slot);
	for (uint32_t i = 0; killed && i < engine->scheduler.n_running; i++)
		end_steering(engine->scheduler.running[i], slot);
}

void tt_engine_kill_policies(struct tt_engine *engine, struct tt_policy *const *policies, size_t n, bool killed)
{
	if (!engine || !policies || n == 0)
		return;
	tt_lock(engine);
	for (size_t i = 0; i < n; i++)
		set_killed(engine, policies[i], killed);
	tt_unlock(engine);
	if (!killed)
		return;
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
