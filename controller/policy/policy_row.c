#include "controller/policy/policy_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/policy/policy.h"

bool tt_tensor_is_layered(enum tt_tensor_shape shape)
{
	return shape == TT_SHAPE_LAYER_MATRIX || shape == TT_SHAPE_LAYER_ROW;
}

uint32_t tt_tensor_dims(const struct tt_policy *p, enum tt_tensor_shape shape, uint64_t dims[2])
{
	uint64_t input = (uint64_t)tt_gate_vectors(p->pool, p->n_observed) * p->hidden_size,
		 outputs = 1 + (uint64_t)(tt_gate_learns_layers(p->gate, p->gate_form) ? p->n_layers : 0);
	const struct {
		uint32_t n_dims;
		uint64_t dims[2];
	} shapes[] = {
		[TT_SHAPE_LAYER_MATRIX] = {2, {p->n_directions, p->hidden_size}},
		[TT_SHAPE_LAYER_ROW] = {1, {p->n_directions, 1}},
		[TT_SHAPE_INPUT] = {1, {input, 1}},
		[TT_SHAPE_NUMBER] = {1, {1, 1}},
		[TT_SHAPE_UNITS_INPUT] = {2, {p->n_units, input}},
		[TT_SHAPE_UNITS] = {1, {p->n_units, 1}},
		[TT_SHAPE_OUTPUTS_UNITS] = {2, {outputs, p->n_units}},
		[TT_SHAPE_OUTPUTS] = {1, {outputs, 1}},
		[TT_SHAPE_CONDITIONS_INPUT] = {2, {p->rule.n, input}},
		[TT_SHAPE_CONDITIONS] = {1, {p->rule.n, 1}},
	};
	dims[0] = shapes[shape].dims[0];
	dims[1] = shapes[shape].dims[1];
	return shapes[shape].n_dims;
}

size_t tt_tensor_part(const struct tt_policy *p, enum tt_tensor_shape shape)
{
	uint64_t dims[2];
	tt_tensor_dims(p, shape, dims);
	return (size_t)(dims[0] * dims[1]); /* cannot overflow: tt_policy_new and tt_policy_set_gate bound it */
}

size_t tt_tensor_size(const struct tt_policy *p, enum tt_tensor_shape shape)
{
	return tt_tensor_part(p, shape) * (tt_tensor_is_layered(shape) ? p->n_layers : 1);
}

/* The names come from the tables; a %u in one stands for the layer. */
void tt_tensor_name(char *out, size_t n, const struct tt_policy_tensor *tensor, uint32_t layer)
{
	const char *place = strstr(tensor->name, "%u");
	if (!place)
		snprintf(out, n, "%s", tensor->name);
	else
		snprintf(out, n, "%.*s%u%s", (int)(place - tensor->name), tensor->name, layer, place + 2);
}

static void *member(const struct tt_policy *p, const struct tt_policy_tensor *tensor)
{
	return (char *)(uintptr_t)p + tensor->member;
}

float *tt_tensor_values(const struct tt_policy *p, const struct tt_policy_tensor *tensor)
{
	float *values = member(p, tensor);
	if (tensor->shape != TT_SHAPE_NUMBER)
		memcpy(&values, member(p, tensor), sizeof values);
	return values;
}

int tt_policy_row_allocate(struct tt_policy *p, const struct tt_policy_row *row, struct tt_error *err)
{
	for (uint32_t i = 0; i < row->n_tensors; i++)
		if (!tt_tensor_values(p, &row->tensors[i]))
			TT_TRY(tt_alloc_aligned(member(p, &row->tensors[i]), tt_tensor_size(p, row->tensors[i].shape),
				sizeof(float), err));
	return TT_OK;
}

void tt_policy_row_free(struct tt_policy *p, const struct tt_policy_row *row)
{
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		float *none = NULL;
		if (row->tensors[i].shape == TT_SHAPE_NUMBER)
			continue;
		free(tt_tensor_values(p, &row->tensors[i]));
		memcpy(member(p, &row->tensors[i]), &none, sizeof none);
	}
}

int tt_form_find(const struct tt_policy_form *form, const char *word)
{
	for (int i = 0; form->key && i < TT_MAX_ROW_FORMS; i++)
		if (form->words[i] && strcmp(word, form->words[i]) == 0)
			return i;
	return -1;
}

bool tt_form_is_written(const struct tt_policy_row *row, uint32_t index)
{
	return row->form.key && (row->form.format <= row->format || index != 0);
}

uint32_t tt_policy_row_format(const struct tt_policy_row *row, uint32_t index)
{
	return tt_form_is_written(row, index) && row->form.format > row->format ? row->form.format : row->format;
}
