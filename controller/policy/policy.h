/* A steering policy in memory, and what must hold of it. */
#ifndef CONTROLLER_POLICY_POLICY_H
#define CONTROLLER_POLICY_POLICY_H

#include "controller/policy/gates.h"
#include "controller/policy/operations.h"
#include "kernels/steer.h"
#include "runtime/trimtab.h"

enum {
	TT_MAX_POLICY_FLOATS =
		1 << 28, /* all directions together, or an mlp's first matrix, 1 GiB: far above any model of today */
	TT_MAX_UNITS = 1 << 14,       /* hidden units of an mlp; the paper has 1024 */
	TT_MAX_POLICY_TEXT = 1 << 20, /* bytes of one metadata string */
	TT_MAX_POLICY_NAME = 200,     /* bytes */
};

struct tt_policy {
	char *name;
	enum tt_policy_op op;
	uint32_t form; /* of the operation: index into its row's words */
	enum tt_policy_when when;
	uint32_t n_layers, hidden_size;
	uint32_t n_directions; /* rows a layer */
	float *directions; // [n_layers][n_directions][hidden_size], zeros where the layer has none; orthonormal where the row says so
	float *targets; // [n_layers][n_directions], clamp and rotate: t, affine: b; NULL where the row has none
	float *affine;  // [n_layers][n_directions][hidden_size], affine: W; NULL where the row has none
	float *weights; // [n_layers], 0 where the layer has no direction
	float *norms;   // [n_layers]
	float alpha;
	enum tt_policy_gate gate;
	uint32_t n_observed;
	uint32_t *observed; // [n_observed] ascending
	uint32_t gate_form; /* of the gate: index into its row's words */
	float threshold;
	float *gate_weight; // [n_observed * hidden_size]
	float gate_bias;
	uint32_t n_units;  /* of an mlp; its tensors are NULL for other gates */
	float *fc1_weight; // [n_units][n_observed * hidden_size]
	float *fc1_bias;   // [n_units]
	float *fc2_weight; // [1 + n_layers][n_units]
	float *fc2_bias;   // [1 + n_layers]
	char *fingerprint, *weights_digest, *fitted_on, *created, *version; /* "" when not set, never NULL */
	char *path;                                                         /* of the file it was read from, or NULL */
};

/* An empty policy for a model of these dimensions: add, generation, always, alpha 1, all weights 0. */
int tt_policy_new(
	struct tt_policy **out, uint32_t n_layers, uint32_t hidden_size, uint32_t n_directions, struct tt_error *err);

/* Gives it the operation: room for the tensors of its row, all 0; those of the former one are gone, but the directions stay.
 * The default form. */
int tt_policy_set_operation(struct tt_policy *policy, enum tt_policy_op op, struct tt_error *err);

/* Gives it the gate over these layers (none for one that reads nothing), n_units hidden units (0 for one that has none): room
 * for the tensors of its row, all 0, the default form, the row's first threshold. On an error it has no gate. */
int tt_policy_set_gate(struct tt_policy *policy, enum tt_policy_gate gate, const uint32_t *observed,
	uint32_t n_observed, uint32_t n_units, struct tt_error *err);

/* Replaces one of the policy's strings. */
int tt_policy_set_text(char **field, const char *text, struct tt_error *err);

/* Everything that must hold of a policy, whoever made it: finite numbers, ascending layers in range, a gate with its
 * tensors, weights 0..1, and at least one layer that is steered. Orthonormalises the rows where the operation's table says so, fills norms.
 *
 * A clamp's target k is the projection wanted on the given row k made a unit vector. When several rows are not orthogonal
 * the targets follow them: the new ones ask for exactly the same projections on the given unit rows. Rows that are
 * orthonormal already keep their bits, so that a policy written and read again is the same one. */
int tt_policy_finish(struct tt_policy *policy, struct tt_error *err);

/* The first and last layer with a weight and a direction; false when there is none. */
bool tt_policy_band(const struct tt_policy *policy, uint32_t *first, uint32_t *last);

/* True where the layer's directions are not all zero. */
bool tt_policy_has_direction(const struct tt_policy *policy, uint32_t layer);

/* Refuses by their first bytes what people also call a policy: pickles, which run code when read, and GGUF vectors. */
int tt_policy_refuse_pickle(const char *path, struct tt_error *err);

/* SHA-256 of what one coefficient does to h: the operation, its form and every tensor of its row. Policies of one digest and
 * equal coefficients give the same bits. */
int tt_policy_digest(const struct tt_policy *policy, uint8_t digest[32], struct tt_error *err);

/* Whether the kernels need a whole row of h for it. */
bool tt_policy_needs_whole_row(const struct tt_policy *policy);

#endif
