#include "controller/policy/gates.h"

#include <string.h>

#include "controller/policy/policy.h"

#define TENSOR(in_file, its_shape, its_member)                                                                         \
	{                                                                                                              \
		.name = in_file, .shape = its_shape, .member = offsetof(struct tt_policy, its_member),                 \
		.slot = offsetof(struct tt_steer_slot, its_member)                                                     \
	}

// clang-format off
#define PROBE_TENSORS                                                                                                  \
	TENSOR("gate.w", TT_SHAPE_INPUT, gate_weight), TENSOR("gate.b", TT_SHAPE_NUMBER, gate_bias)
#define MLP_TENSORS                                                                                                    \
	TENSOR("gate.fc1.weight", TT_SHAPE_UNITS_INPUT, fc1_weight),                                                   \
	TENSOR("gate.fc1.bias", TT_SHAPE_UNITS, fc1_bias),                                                             \
	TENSOR("gate.fc2.weight", TT_SHAPE_OUTPUTS_UNITS, fc2_weight),                                                 \
	TENSOR("gate.fc2.bias", TT_SHAPE_OUTPUTS, fc2_bias)

static const struct tt_gate gates[] = {
	[TT_GATE_ALWAYS] = {.row = {"always", NULL, .format = 1}},
	[TT_GATE_PROBE] = {
		.row = {"probe", "a linear probe", .format = 1,
			.n_tensors = 2,
			.tensors = {PROBE_TENSORS}},
		.observes = true,
		.threshold = true,
		.least = 0,
		.most = 1,
		.initial = 0.5f,
	},
	[TT_GATE_MLP] = {
		.row = {"mlp", "a two-layer network", .format = 1,
			.form = {"trimtab.gate.bound", {"sigmoid", "none"}, .format = 1},
			.n_tensors = 4,
			.tensors = {MLP_TENSORS}},
		.observes = true,
		.units = true,
	},
	[TT_GATE_COSINE] = {
		.row = {"cosine", "a cosine similarity to a condition vector", .format = 2,
			.form = {"trimtab.gate.side", {"above", "below"}, .format = 2},
			.n_tensors = 1,
			.tensors = {
				{.name = "gate.w", .shape = TT_SHAPE_INPUT,
					.member = offsetof(struct tt_policy, gate_weight),
					.slot = offsetof(struct tt_steer_slot, gate_weight), .not_zero = true}}},
		.observes = true,
		.threshold = true,
		.least = -1,
		.most = 1,
		.initial = 0,
	},
	[TT_GATE_PROBE_MLP] = {
		.row = {"probe_mlp", "a linear probe plus a two-layer network", .format = 3,
			.form = {"trimtab.gate.layers", {"fixed", "learned"}, .format = 3},
			.n_tensors = 6,
			.tensors = {PROBE_TENSORS, MLP_TENSORS}},
		.observes = true,
		.units = true,
		.threshold = true,
		.least = 0,
		.most = 1,
		.initial = 0.5f,
	},
	[TT_GATE_RULE] = {
		.row = {"rule", "cosine similarities to condition vectors, joined by a rule,", .format = 4,
			.n_tensors = 2,
			.tensors = {
				{.name = "gate.w", .shape = TT_SHAPE_CONDITIONS_INPUT,
					.member = offsetof(struct tt_policy, gate_weight),
					.slot = offsetof(struct tt_steer_slot, gate_weight), .not_zero = true},
				TENSOR("gate.thresholds", TT_SHAPE_CONDITIONS, thresholds)}},
		.observes = true,
		.rule = true,
		.least = -1,
		.most = 1,
	},
};
// clang-format on

uint32_t tt_n_gates(void)
{
	return sizeof gates / sizeof *gates;
}

const struct tt_gate *tt_gate_of(enum tt_policy_gate gate)
{
	return (uint32_t)gate < tt_n_gates() ? &gates[gate] : NULL;
}

bool tt_gate_find(const char *word, enum tt_policy_gate *gate)
{
	for (uint32_t i = 0; i < tt_n_gates(); i++) {
		if (strcmp(word, gates[i].row.word))
			continue;
		*gate = (enum tt_policy_gate)i;
		return true;
	}
	return false;
}

const char *tt_gate_pool_word(enum tt_gate_pool pool)
{
	static const char *const words[] = {"last", "mean", "last,mean"};
	return (uint32_t)pool < sizeof words / sizeof *words ? words[pool] : NULL;
}
