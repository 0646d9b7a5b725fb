#include "controller/policy/operations.h"

#include <string.h>

#include "controller/policy/policy.h"

#define TENSOR(in_file, its_shape, in_policy, in_slot)                                                                 \
	.name = in_file, .shape = its_shape, .member = offsetof(struct tt_policy, in_policy),                          \
	.slot = offsetof(struct tt_steer_slot, in_slot)
#define DIRECTIONS                                                                                                     \
	{                                                                                                              \
		TENSOR("direction.%u", TT_SHAPE_LAYER_MATRIX, directions, directions)                                  \
	}
#define KEEPS_LENGTH                                                                                                   \
	{                                                                                                              \
		"trimtab.norm", {"free", "keep"}, {NULL, ", whose length it keeps,"}, .format = 2                      \
	}

// clang-format off
static const struct tt_operation operations[] = {
	[TT_OP_ADD] = {
		.row = {"add", "adds a direction to the residual stream", .format = 1,
			.form = KEEPS_LENGTH,
			.n_tensors = 1,
			.tensors = {DIRECTIONS}},
		.min_rows = 1,
		.max_rows = 1,
		.change = TT_CHANGE_DIRECTION,
	},
	[TT_OP_ABLATE] = {
		.row = {"ablate", "takes the direction out of the residual stream", .format = 1,
			.n_tensors = 1,
			.tensors = {DIRECTIONS}},
		.min_rows = 1,
		.max_rows = TT_MAX_DIRECTIONS,
		.orthonormal = true,
		.change = TT_CHANGE_PART,
	},
	[TT_OP_CLAMP] = {
		.row = {"clamp", "sets the part along the direction to a target", .format = 1,
			.n_tensors = 2,
			.tensors = {
				DIRECTIONS,
				{TENSOR("target.%u", TT_SHAPE_LAYER_ROW, targets, targets), .follows_rows = true}}},
		.min_rows = 1,
		.max_rows = TT_MAX_DIRECTIONS,
		.orthonormal = true,
		.change = TT_CHANGE_OTHER,
	},
	[TT_OP_AFFINE] = {
		.row = {"affine", "replaces the part along the directions by an affine map of the stream", .format = 1,
			.n_tensors = 3,
			.tensors = {
				DIRECTIONS,
				{TENSOR("affine.%u.W", TT_SHAPE_LAYER_MATRIX, affine, readers),
					.less_directions = true},
				{TENSOR("affine.%u.b", TT_SHAPE_LAYER_ROW, targets, targets)}}},
		.min_rows = 1,
		.max_rows = TT_MAX_DIRECTIONS,
		.change = TT_CHANGE_OTHER,
	},
	[TT_OP_ONE_SIDED] = {
		.row = {"one_sided",
			"takes the direction out of the residual stream where the stream points along it", .format = 1,
			.n_tensors = 1,
			.tensors = {DIRECTIONS}},
		.min_rows = 1,
		.max_rows = 1,
		.orthonormal = true,
		.change = TT_CHANGE_PART,
	},
	[TT_OP_ROTATE] = {
		.row = {"rotate", "turns the residual stream in the plane of two directions", .format = 2,
			.form = {"trimtab.rotate", {"always", "adaptive"},
				{NULL, ", where it points along the first of them,"}, .format = 2},
			.n_tensors = 2,
			.tensors = {
				DIRECTIONS,
				{TENSOR("target.%u", TT_SHAPE_LAYER_ROW, targets, targets), .not_zero = true}}},
		.min_rows = 2,
		.max_rows = 2,
		.orthonormal = true,
		.change = TT_CHANGE_OTHER,
	},
};
// clang-format on

uint32_t tt_n_operations(void)
{
	return sizeof operations / sizeof *operations;
}

const struct tt_operation *tt_operation_of(enum tt_policy_op op)
{
	return (uint32_t)op < tt_n_operations() ? &operations[op] : NULL;
}

bool tt_operation_find(const char *word, enum tt_policy_op *op)
{
	for (uint32_t i = 0; i < tt_n_operations(); i++) {
		if (strcmp(word, operations[i].row.word))
			continue;
		*op = (enum tt_policy_op)i;
		return true;
	}
	return false;
}
