/* A policy's copy in the memory of a rank's backend. */
#include "runtime/engine/rank_policies.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

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
static int copy_policy(struct tt_rank *rank, uint32_t index, const struct tt_policy *p, struct tt_error *err)
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
		.last_observed = p->n_observed ? p->observed[p->n_observed - 1] : 0,
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

/* A device sizes the control op by this maximum. */
static void count_units(struct tt_rank *rank)
{
	uint32_t most = 0;
	for (uint32_t i = 0; i < TT_MAX_SLOTS; i++)
		most = rank->slots[i].n_units > most ? rank->slots[i].n_units : most;
	rank->state.max_units = most;
}

int tt_rank_add_policy(struct tt_rank *rank, uint32_t slot, const struct tt_policy *policy,
	const struct tt_config *config, struct tt_error *err)
{
	if (policy->pool != TT_POOL_LAST)
		TT_TRY(tt_kv_memory_add_sums(&rank->kv, rank->backend, config, err));
	int status = copy_policy(rank, slot, policy, err);
	if (status != TT_OK)
		release_slot(rank->backend, &rank->slots[slot]);
	count_units(rank);
	return status;
}

void tt_rank_remove_policy(struct tt_rank *rank, uint32_t slot)
{
	if (!rank->slots)
		return;
	release_slot(rank->backend, &rank->slots[slot]);
	count_units(rank);
}
