/* A steering policy in memory, and the conditions that it must meet. */
#ifndef CONTROLLER_POLICY_POLICY_H
#define CONTROLLER_POLICY_POLICY_H

#include "controller/policy/gates.h"
#include "controller/policy/operations.h"
#include "controller/policy/rule.h"
#include "kernels/steer.h"
#include "runtime/trimtab.h"

enum {
	/* All directions together, or an mlp's first matrix: 1 GiB, far more than any model of today needs. */
	TT_MAX_POLICY_FLOATS = 1 << 28,
	TT_MAX_UNITS = 1 << 14,       /* hidden units of an mlp; the paper's controller has 1024 */
	TT_MAX_POLICY_TEXT = 1 << 20, /* bytes of one metadata string */
	TT_MAX_POLICY_NAME = 200,     /* bytes */
};

struct tt_policy {
	char *name;
	enum tt_policy_op op;
	uint32_t form; /* of the operation: index into the words of its row */
	enum tt_policy_when when;
	uint32_t n_layers, hidden_size;
	uint32_t n_directions; /* rows a layer */
	/* Zeros where the layer has none; orthonormal if the operation's row says so. */
	float *directions; // [n_layers][n_directions][hidden_size]
	float *targets;    // [n_layers][n_directions] t of clamp and rotate, b of affine; NULL for other operations
	float *affine;     // [n_layers][n_directions][hidden_size] W of affine; NULL for other operations
	float *weights;    // [n_layers] 0 where the layer has no direction
	float *norms;      // [n_layers] root of the sum of squares of all the layer's directions
	float alpha;
	enum tt_policy_gate gate;
	enum tt_gate_pool pool; /* which states of the observed layers; TT_POOL_LAST for a gate that observes none */
	uint32_t n_observed;
	uint32_t *observed; // [n_observed] ascending
	uint32_t gate_form; /* of the gate: index into the words of its row */
	float threshold;
	float *gate_weight; // [n_in], n_in is tt_gate_vectors * hidden_size; [rule.n][n_in] of a rule
	float gate_bias;
	uint32_t n_units;    /* of an mlp or a probe_mlp; the tensors below are NULL for other gates */
	float *fc1_weight;   // [n_units][n_in]
	float *fc1_bias;     // [n_units]
	float *fc2_weight;   // [n_out][n_units], n_out is 1 + n_layers if tt_gate_learns_layers, else 1
	float *fc2_bias;     // [n_out]
	float *thresholds;   // [rule.n] NULL for gates without a rule
	struct tt_rule rule; /* all 0 for gates without one */
	char *fingerprint, *weights_digest, *fitted_on, *created, *version; /* "" when not set, never NULL */
	char *path;                                                         /* of the file it was read from, or NULL */
	char *model_hint; /* of a control vector: what its file calls the model, or ""; NULL for other policies */
};

/* Makes an empty policy for a model of these dimensions: add, generation, always, alpha 1, all weights 0. */
int tt_policy_new(
	struct tt_policy **out, uint32_t n_layers, uint32_t hidden_size, uint32_t n_directions, struct tt_error *err);

/* Gives the policy another operation, in its default form. The directions stay. The other tensors of the former
 * operation are freed, and those of the new one are made, all 0. */
int tt_policy_set_operation(struct tt_policy *policy, enum tt_policy_op op, struct tt_error *err);

/* What the tensors of a gate have their shapes from. */
struct tt_gate_choice {
	enum tt_policy_gate gate;
	uint32_t form; /* index into the words of its row; 0 is its default */
	enum tt_gate_pool pool;
	const uint32_t *observed; // [n_observed] the layers that it reads, none for a gate that reads nothing
	uint32_t n_observed;
	uint32_t n_units;              /* its hidden units, 0 for a gate without any */
	const char *conditions, *rule; /* of a rule, as tt_rule_parse reads them; NULL for a gate without one */
};

/* Gives the policy another gate, with the initial threshold of its row and its tensors all 0. If this fails, the policy
 * keeps the gate it had, or has none (always). */
int tt_policy_set_gate(struct tt_policy *policy, const struct tt_gate_choice *choice, struct tt_error *err);

/* Replaces one of the policy's strings. */
int tt_policy_set_text(char **field, const char *text, struct tt_error *err);
/* Compares the chat template that the policy was fitted under, as the last entry of fitted_on says, with that of this
 * SHA-256 (NULL: the model's own). *out: where they differ, a new text that says so; NULL where they do not, or nothing
 * says. */
int tt_policy_other_template(char **out, const struct tt_policy *policy, const char *sha256, struct tt_error *err);

/* Checks all that any policy must meet, wherever it comes from: finite numbers, ascending layers in range, a gate with
 * its tensors, weights 0..1, and at least one layer that is steered. Then makes the directions orthonormal if the row
 * of the operation says so, and fills norms.
 *
 * A clamp's target k is the projection wanted on the given row k, made a unit vector. If several rows are not
 * orthogonal, the targets change with them: the new ones ask for exactly the same projections on the given unit rows.
 * Rows that are orthonormal already keep their bits, so that a policy that is written and read again is the same. */
int tt_policy_finish(struct tt_policy *policy, struct tt_error *err);

/* The first and last layer with a weight and a direction; false when there is none. */
bool tt_policy_band(const struct tt_policy *policy, uint32_t *first, uint32_t *last);

/* True where the layer's directions are not all zero. */
bool tt_policy_has_direction(const struct tt_policy *policy, uint32_t layer);

/* Refuses, by its first bytes, another kind of file that people may offer as a policy: pickles, which run code when
 * they are read. *gguf: whether it is a GGUF file. */
int tt_policy_refuse_pickle(const char *path, bool *gguf, struct tt_error *err);

/* SHA-256 over all that decides what a coefficient does to h: the operation, its form and every tensor of its row. Two
 * policies with the same digest and equal coefficients give the same bits. */
int tt_policy_digest(const struct tt_policy *policy, uint8_t digest[32], struct tt_error *err);

#endif
