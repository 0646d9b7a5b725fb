#include "runtime/engine/policy_pack.h"

#include <string.h>

#include "base/fail.h"

/* Before the numbers: w, the observed layers, the operation's tensors, the gate's; each table's in its order. */
struct head {
	uint32_t n_layers, hidden_size;
	uint32_t op, form, n_directions, gate, gate_form, pool, n_observed, n_units;
	uint32_t n_conditions, below, table;
	float alpha, threshold;
};

static int add_row(
	struct tt_buffer *out, const struct tt_policy *p, const struct tt_policy_row *row, struct tt_error *err)
{
	for (uint32_t i = 0; i < row->n_tensors; i++)
		TT_TRY(tt_buffer_add(out, tt_tensor_values(p, &row->tensors[i]),
			tt_tensor_size(p, row->tensors[i].shape) * sizeof(float), err));
	return TT_OK;
}

int tt_policy_pack(struct tt_buffer *out, const struct tt_policy *p, struct tt_error *err)
{
	const struct head head = {
		.n_layers = p->n_layers,
		.hidden_size = p->hidden_size,
		.op = p->op,
		.form = p->form,
		.n_directions = p->n_directions,
		.gate = p->gate,
		.gate_form = p->gate_form,
		.pool = p->pool,
		.n_observed = p->n_observed,
		.n_units = p->n_units,
		.n_conditions = p->rule.n,
		.below = p->rule.below,
		.table = p->rule.table,
		.alpha = p->alpha,
		.threshold = p->threshold,
	};
	TT_TRY(tt_buffer_add(out, &head, sizeof head, err));
	TT_TRY(tt_buffer_add(out, p->weights, p->n_layers * sizeof *p->weights, err));
	TT_TRY(tt_buffer_add(out, p->observed, p->n_observed * sizeof *p->observed, err));
	TT_TRY(add_row(out, p, &tt_operation_of(p->op)->row, err));
	return add_row(out, p, &tt_gate_of(p->gate)->row, err);
}

static uint32_t n_forms(const struct tt_policy_row *row)
{
	return row->form.key ? TT_MAX_ROW_FORMS : 1;
}

/* Whether the sizes and kinds are such as a policy for this model may have. */
static bool is_good(const struct head *h, const struct tt_config *config)
{
	const struct tt_operation *op = tt_operation_of((enum tt_policy_op)h->op);
	const struct tt_gate *gate = tt_gate_of((enum tt_policy_gate)h->gate);
	if (!op || !gate || h->form >= n_forms(&op->row) || h->gate_form >= n_forms(&gate->row) ||
		h->n_layers != config->n_layers || h->hidden_size != config->hidden_size)
		return false;
	if (h->n_directions < op->min_rows || h->n_directions > op->max_rows ||
		(uint64_t)h->n_layers * h->n_directions * h->hidden_size > TT_MAX_POLICY_FLOATS)
		return false;
	bool means = h->pool != TT_POOL_LAST;
	if (h->pool > TT_POOL_LAST_MEAN || h->n_observed > (means ? TT_MAX_POOLED : h->n_layers) ||
		gate->observes != (h->n_observed > 0) || (means && !gate->observes))
		return false;
	uint64_t input = (uint64_t)tt_gate_vectors((enum tt_gate_pool)h->pool, h->n_observed) * h->hidden_size;
	return gate->units == (h->n_units > 0) && h->n_units <= TT_MAX_UNITS &&
	       h->n_units * input <= TT_MAX_POLICY_FLOATS && gate->rule == (h->n_conditions > 0) &&
	       h->n_conditions <= TT_MAX_CONDITIONS;
}

struct reader {
	const char *at;
	size_t left;
};

static const void *take(struct reader *r, size_t n, size_t size)
{
	const char *at = r->at;
	if (n > r->left / size)
		return NULL;
	r->at += n * size;
	r->left -= n * size;
	return at;
}

/* Tensors point into the block; the policy is only read. */
static bool take_row(struct tt_policy *p, const struct tt_policy_row *row, struct reader *r)
{
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		const struct tt_policy_tensor *tensor = &row->tensors[i];
		const void *values = take(r, tt_tensor_size(p, tensor->shape), sizeof(float));
		if (!values)
			return false;
		if (tensor->shape == TT_SHAPE_NUMBER)
			memcpy((char *)p + tensor->member, values, sizeof(float));
		else
			memcpy((char *)p + tensor->member, &values, sizeof values);
	}
	return true;
}

static bool are_layers(const uint32_t *layers, uint32_t n, uint32_t n_layers)
{
	for (uint32_t i = 0; i < n; i++)
		if (layers[i] >= n_layers || (i > 0 && layers[i] <= layers[i - 1]))
			return false;
	return true;
}

int tt_policy_unpack(
	struct tt_policy *out, const void *block, size_t n_bytes, const struct tt_config *config, struct tt_error *err)
{
	struct reader r = {block, n_bytes};
	struct head h;
	const void *head = take(&r, 1, sizeof h);
	if (!head)
		return tt_fail(err, TT_ERR_FORMAT, "a policy of %zu bytes is too short", n_bytes);
	memcpy(&h, head, sizeof h);
	if (!is_good(&h, config))
		return tt_fail(err, TT_ERR_FORMAT, "a policy's sizes are not this model's");
	*out = (struct tt_policy){
		.n_layers = h.n_layers,
		.hidden_size = h.hidden_size,
		.op = (enum tt_policy_op)h.op,
		.form = h.form,
		.n_directions = h.n_directions,
		.gate = (enum tt_policy_gate)h.gate,
		.gate_form = h.gate_form,
		.pool = (enum tt_gate_pool)h.pool,
		.n_observed = h.n_observed,
		.n_units = h.n_units,
		.rule = {.n = h.n_conditions, .below = h.below, .table = h.table},
		.alpha = h.alpha,
		.threshold = h.threshold,
	};
	out->weights = (float *)(uintptr_t)take(&r, h.n_layers, sizeof *out->weights);
	out->observed = (uint32_t *)(uintptr_t)take(&r, h.n_observed, sizeof *out->observed);
	if (!out->weights || !out->observed || !are_layers(out->observed, h.n_observed, h.n_layers) ||
		!take_row(out, &tt_operation_of(out->op)->row, &r) || !take_row(out, &tt_gate_of(out->gate)->row, &r) ||
		r.left)
		return tt_fail(err, TT_ERR_FORMAT, "a policy of %zu bytes is not whole", n_bytes);
	return TT_OK;
}
