/* Policies that are refused, each in one line that names the field: files that are no policy, and policies in memory
 * that do not hold what must hold. How rows are made orthonormal is here too. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/policy/policy.h"
#include "policy_files.h"
#include "weights/safetensors.h"
#include "weights_files.h"

Test(policy, each_condition_of_a_rule_has_a_vector)
{
	struct tt_policy *p = load(POLICY("rule"));
	struct tt_error err = {0};
	memset(p->gate_weight + 24, 0, 24 * sizeof *p->gate_weight);
	cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "gate.w is zero for condition cold"), "%s", err.message);
	tt_policy_free(p);
}

Test(policy, rotate_takes_two_rows_and_a_target)
{
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	for (uint32_t rows = 1; rows <= 3; rows += 2) {
		char expected[64];
		snprintf(expected, sizeof expected, "op rotate takes 2 directions a layer, not %u", rows);
		cr_assert_eq(tt_policy_new(&p, 1, 4, rows, &err), TT_OK);
		cr_assert_eq(tt_policy_set_operation(p, TT_OP_ROTATE, &err), TT_OK);
		for (uint32_t k = 0; k < rows; k++)
			p->directions[5 * k] = p->targets[k] = p->weights[0] = 1;
		cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
		cr_expect_not_null(strstr(err.message, expected), "%s", err.message);
		tt_policy_free(p);
	}
	p = load(POLICY("rotate")); /* the targets stay as they are; the rows become orthonormal */
	cr_expect(fabsf(hypotf(p->targets[2], p->targets[3]) - 1) > 0.01f);
	p->targets[4] = p->targets[5] = 0;
	cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "target.2 is zero"), "%s", err.message);
	tt_policy_free(p);
}

Test(policy, clamp_rows_become_orthonormal_and_targets_follow)
{
	struct tt_policy *p = load(POLICY("clamp"));
	struct tt_safetensors *expected = NULL;
	struct tt_error err = {0};
	char name[24];
	cr_assert_eq(tt_safetensors_open(&expected, POLICY("clamp_expected"), &err), TT_OK, "%s", err.message);
	for (uint32_t l = 1; l <= 2; l++) {
		snprintf(name, sizeof name, "direction.%u", l);
		const struct tt_st_tensor *rows = tt_safetensors_find(expected, name);
		snprintf(name, sizeof name, "target.%u", l);
		const struct tt_st_tensor *targets = tt_safetensors_find(expected, name);
		/* Layer 2's second row is nearly equal to its first, which magnifies the f32 rounding of the rows by
		 * about 100. */
		double bound = l == 2 ? 2e-5 : 1e-6;
		for (uint32_t i = 0; i < 24; i++)
			cr_expect_float_eq(p->directions[l * 24 + i], tt_st_float(rows, i), bound, "row %u, %u", l, i);
		for (uint32_t k = 0; k < 3; k++)
			cr_expect_float_eq(p->targets[l * 3 + k], tt_st_float(targets, k),
				bound * (1 + fabs(tt_st_float(targets, k))), "target %u, %u", l, k);
	}
	tt_safetensors_close(expected);
	tt_policy_free(p);
}

Test(policy, a_degenerate_row_is_refused)
{
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_policy_new(&p, 2, 4, 2, &err), TT_OK);
	p->op = TT_OP_ABLATE;
	p->weights[1] = 1;
	float *rows = p->directions + 8;
	rows[0] = 1;
	rows[1] = 2;
	rows[4] = 3;
	rows[5] = 6;
	cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "direction.1 row 1 depends"), "%s", err.message);
	rows[4] = rows[5] = 0;
	cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "direction.1 row 1 is zero"), "%s", err.message);
	rows[7] = -5;
	cr_expect_eq(tt_policy_finish(p, &err), TT_OK, "%s", err.message);
	cr_expect_eq(rows[7], -1.0f);
	cr_expect_float_eq(p->norms[1], sqrt(2), 1e-6);
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		if (tt_operation_of(op)->max_rows > 1)
			continue;
		p->op = op;
		cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
		cr_expect_not_null(strstr(err.message, "takes one direction a layer, not 2"), "%s", err.message);
	}
	tt_policy_free(p);
}

/* A file changed in one place: a metadata key is set (removed if value is NULL), or a tensor is set (removed if n_dims
 * is 9). */
struct change {
	const char *source, *key, *value;
	const char *tensor;
	enum tt_dtype dtype;
	uint32_t n_dims;
	uint64_t shape[2];
	float fill;
	const char *expected;
};

#define PROBE POLICY("probe")
#define ALWAYS POLICY("always")
#define CLAMP POLICY("clamp")
#define AFFINE POLICY("affine")
#define ONE_SIDED POLICY("one_sided")
#define MLP POLICY("mlp")
#define ROTATE POLICY("rotate")
#define COSINE POLICY("cosine")
#define KEEP POLICY("keep")
#define PROBE_MLP POLICY("probe_mlp")
#define LEARNED POLICY("probe_mlp_learned")
#define POOLED POLICY("probe_mlp_learned_pooled")
#define MEAN POLICY("mlp_mean")
#define RULE POLICY("rule")
#define META(source, key, value, expected)                                                                             \
	{                                                                                                              \
		source, key, value, NULL, 0, 0, {0}, 0, expected                                                       \
	}
#define TENSOR(source, tensor, dtype, n_dims, a, b, fill, expected)                                                    \
	{                                                                                                              \
		source, NULL, NULL, tensor, dtype, n_dims, {a, b}, fill, expected                                      \
	}

static const struct change changes[] = {
	META(PROBE, "trimtab.format", "5", "this build reads 1 to 4"),
	META(PROBE, "trimtab.format", "02", "this build reads 1 to 4"),
	META(PROBE, "trimtab.gate.rule", "a", "trimtab.gate.rule is not a key of format 1"),
	META(POOLED, "trimtab.gate.conditions", "a", "trimtab.gate.conditions is not a key of format 3"),
	META(RULE, "trimtab.format", "3", "is not a key of format 3"),
	META(RULE, "trimtab.gate", "cosine", "trimtab.threshold is missing"),
	META(RULE, "trimtab.gate", "mlp", "trimtab.gate.rule belongs to gate rule, but trimtab.gate is mlp"),
	META(RULE, "trimtab.threshold", "0.5", "trimtab.threshold belongs to gate probe, but trimtab.gate is rule"),
	META(RULE, "trimtab.gate.rule", NULL, "trimtab.gate.rule is missing"),
	META(RULE, "trimtab.gate.rule", "hot or cold", "the rule does not depend on condition \"dull\""),
	META(RULE, "trimtab.gate.rule", "hot or cold and", "trimtab.gate.rule: the rule wants a condition at its end"),
	META(RULE, "trimtab.gate.conditions", NULL, "trimtab.gate.conditions is missing"),
	META(RULE, "trimtab.gate.conditions", "hot,cold,dull,more", "does not depend on condition \"more\""),
	META(RULE, "trimtab.gate.conditions", "hot,cold", "a condition where it has \"dull\", at byte 22"),
	META(RULE, "trimtab.observe", "0,2", "gate.w must have shape [3, 16]"),
	TENSOR(RULE, "gate.w", TT_DTYPE_F32, 2, 2, 24, 1, "gate.w must have shape [3, 24]"),
	TENSOR(RULE, "gate.w", TT_DTYPE_F32, 2, 3, 24, 0, "gate.w is zero for condition hot"),
	TENSOR(RULE, "gate.w", TT_DTYPE_F32, 2, 3, 24, NAN, "gate.w holds a number"),
	TENSOR(RULE, "gate.thresholds", TT_DTYPE_F32, 1, 3, 0, 1.01f, "gate.thresholds must be -1 to 1"),
	TENSOR(RULE, "gate.thresholds", TT_DTYPE_F32, 1, 3, 0, -1.01f, "gate.thresholds must be -1 to 1"),
	TENSOR(RULE, "gate.thresholds", TT_DTYPE_F32, 1, 3, 0, NAN, "gate.thresholds holds a number"),
	TENSOR(RULE, "gate.thresholds", TT_DTYPE_F32, 1, 2, 0, 0, "gate.thresholds must have shape [3]"),
	TENSOR(RULE, "gate.thresholds", TT_DTYPE_F32, 9, 0, 0, 0, "gate.thresholds is missing"),
	TENSOR(COSINE, "gate.thresholds", TT_DTYPE_F32, 1, 1, 0, 0, "gate.thresholds does not belong"),
	META(PROBE, "trimtab.gate.pool", "mean", "trimtab.gate.pool is not a key of format 1"),
	META(COSINE, "trimtab.gate.pool", "mean", "trimtab.gate.pool is not a key of format 2"),
	META(MEAN, "trimtab.format", "2", "trimtab.gate.pool is not a key of format 2"),
	META(MEAN, "trimtab.gate.pool", "median", "trimtab.gate.pool: \"median\" is not one of its words"),
	META(MEAN, "trimtab.gate.pool", "mean,last", "trimtab.gate.pool: \"mean,last\" is not one of its words"),
	META(MEAN, "trimtab.gate.pool", "last,mean", "gate.fc1.weight must have shape [12, 48]"),
	META(MEAN, "trimtab.observe", "0-4", "a gate that pools mean observes at most 4 layers, not 5"),
	META(POOLED, "trimtab.gate.pool", NULL, "gate.w must have shape [24]"),
	META(POOLED, "trimtab.observe", "0-5", "a gate that pools last,mean observes at most 4 layers, not 6"),
	TENSOR(POOLED, "gate.w", TT_DTYPE_F32, 1, 24, 0, 1, "gate.w must have shape [48]"),
	TENSOR(POOLED, "gate.fc1.weight", TT_DTYPE_F32, 1, 12, 0, 1, "gate.fc1.weight must have shape [n, 48]"),
	META(PROBE_MLP, "trimtab.format", "2", "trimtab.gate: probe_mlp needs trimtab.format 3, the file says 2"),
	META(PROBE_MLP, "trimtab.gate.layers", "some", "trimtab.gate.layers: \"some\" is not one of its words"),
	META(PROBE_MLP, "trimtab.gate.layers", "learned", "gate.fc2.weight must have shape [7, 12]"),
	META(PROBE_MLP, "trimtab.gate.bound", "none", "trimtab.gate.bound belongs to gate mlp, but trimtab.gate is"),
	META(PROBE_MLP, "trimtab.gate", "probe", "gate.fc1.bias does not belong"),
	META(PROBE_MLP, "trimtab.threshold", NULL, "trimtab.threshold is missing"),
	META(PROBE_MLP, "trimtab.threshold", "1.5", "threshold must be 0 to 1"),
	META(LEARNED, "trimtab.gate.layers", "fixed", "gate.fc2.weight must have shape [1, 12]"),
	META(LEARNED, "trimtab.gate", "probe", "trimtab.gate.layers belongs to gate probe_mlp, but trimtab.gate is"),
	META(LEARNED, "trimtab.format", "2", "trimtab.gate.layers is not a key of format 2"),
	TENSOR(PROBE_MLP, "gate.w", TT_DTYPE_F32, 9, 0, 0, 0, "gate.w is missing"),
	TENSOR(PROBE_MLP, "gate.b", TT_DTYPE_F32, 1, 1, 0, NAN, "gate.b holds a number"),
	TENSOR(PROBE_MLP, "gate.fc1.weight", TT_DTYPE_F32, 9, 0, 0, 0, "gate.fc1.weight is missing ([n, 24]"),
	TENSOR(PROBE_MLP, "gate.fc2.weight", TT_DTYPE_F32, 2, 1, 11, 1, "gate.fc2.weight must have shape [1, 12]"),
	TENSOR(PROBE_MLP, "gate.fc2.weight", TT_DTYPE_F32, 1, 12, 0, 1, "gate.fc2.weight must have shape [1, 12]"),
	TENSOR(PROBE_MLP, "gate.fc2.bias", TT_DTYPE_F32, 1, 7, 0, 1, "gate.fc2.bias must have shape [1]"),
	TENSOR(LEARNED, "gate.fc2.bias", TT_DTYPE_F32, 1, 7, 0, INFINITY, "gate.fc2.bias holds a number"),
	META(PROBE, "trimtab.op", "rotate", "trimtab.op: rotate needs trimtab.format 2, the file says 1"),
	META(ROTATE, "trimtab.format", "1", "trimtab.rotate is not a key of format 1"),
	META(ROTATE, "trimtab.rotate", "sometimes", "trimtab.rotate"),
	META(ROTATE, "trimtab.op", "clamp", "trimtab.rotate belongs to op rotate, but trimtab.op is clamp"),
	TENSOR(ROTATE, "target.1", TT_DTYPE_F32, 1, 2, 0, 0, "target.1 is zero"),
	TENSOR(ROTATE, "target.1", TT_DTYPE_F32, 1, 3, 0, 1, "target.1 must have shape [2]"),
	TENSOR(ROTATE, "target.1", TT_DTYPE_F32, 9, 0, 0, 0, "target.1 is missing"),
	TENSOR(ROTATE, "target.2", TT_DTYPE_F32, 1, 2, 0, INFINITY, "target.2 holds a number that is not finite"),
	TENSOR(ROTATE, "direction.1", TT_DTYPE_F32, 2, 2, 8, 1, "direction.1 row 1 depends"),
	META(PROBE, "trimtab.future", "1", "trimtab.future"),
	META(PROBE, "trimtab.name", NULL, "trimtab.name"),
	META(PROBE, "trimtab.name", "", "trimtab.name"),
	META(PROBE, "trimtab.fingerprint", NULL, "trimtab.fingerprint"),
	META(PROBE, "trimtab.fingerprint", "", "trimtab.fingerprint"),
	META(PROBE, "trimtab.op", NULL, "trimtab.op"),
	META(PROBE, "trimtab.op", "affine", "affine.2.W is missing"),
	META(CLAMP, "trimtab.op", "one_sided", "target.1 does not belong"),
	META(AFFINE, "trimtab.op", "one_sided", "affine.1.W does not belong"),
	META(AFFINE, "trimtab.op", "ablate", "affine.1.W does not belong"),
	META(AFFINE, "trimtab.op", "clamp", "target.1"),
	META(PROBE, "trimtab.op", "multiply", "trimtab.op"),
	META(PROBE, "trimtab.op", "clamp", "target.2"),
	META(PROBE, "trimtab.when", "always", "trimtab.when"),
	META(PROBE, "trimtab.when", NULL, "trimtab.when"),
	META(PROBE, "trimtab.gate", "mlp", "trimtab.threshold belongs to gate probe"),
	META(MLP, "trimtab.gate", "probe", "trimtab.threshold"),
	META(MLP, "trimtab.gate", "always", "trimtab.observe"),
	META(MLP, "trimtab.threshold", "0.5", "trimtab.threshold belongs to gate probe"),
	META(MLP, "trimtab.gate.bound", "tanh", "trimtab.gate.bound"),
	META(MLP, "trimtab.gate.bound", "", "trimtab.gate.bound"),
	META(MLP, "trimtab.gate.bounds", "none", "trimtab.gate.bounds is not a key"),
	META(PROBE, "trimtab.gate.bound", "none", "trimtab.gate.bound belongs to gate mlp"),
	META(ALWAYS, "trimtab.gate.bound", "sigmoid", "trimtab.gate.bound belongs to gate mlp"),
	META(MLP, "trimtab.observe", NULL, "trimtab.observe"),
	META(MLP, "trimtab.observe", "0-3", "gate.fc1.weight must have shape [12, 32]"),
	META(ALWAYS, "trimtab.norm", "keep", "trimtab.norm is not a key of format 1"),
	META(KEEP, "trimtab.norm", "kept", "trimtab.norm"),
	META(KEEP, "trimtab.op", "ablate", "trimtab.norm belongs to op add, but trimtab.op is ablate"),
	META(PROBE, "trimtab.gate", "similarity", "is not one of its words"),
	META(PROBE, "trimtab.gate", "cosine", "trimtab.gate: cosine needs trimtab.format 2, the file says 1"),
	META(COSINE, "trimtab.format", "1", "trimtab.gate.side is not a key of format 1"),
	META(COSINE, "trimtab.gate", "mlp", "trimtab.threshold belongs to gate"),
	META(COSINE, "trimtab.gate", "probe", "trimtab.gate.side belongs to gate cosine, but trimtab.gate is probe"),
	META(COSINE, "trimtab.gate.side", "larger", "trimtab.gate.side"),
	META(COSINE, "trimtab.threshold", "1.01", "threshold must be -1 to 1"),
	META(COSINE, "trimtab.threshold", "-1.01", "threshold must be -1 to 1"),
	META(COSINE, "trimtab.threshold", NULL, "trimtab.threshold"),
	META(COSINE, "trimtab.observe", "0-1", "gate.w must have shape [16]"),
	TENSOR(COSINE, "gate.w", TT_DTYPE_F32, 1, 24, 0, 0, "gate.w is zero"),
	TENSOR(COSINE, "gate.w", TT_DTYPE_F32, 1, 24, 0, NAN, "gate.w holds a number"),
	TENSOR(COSINE, "gate.w", TT_DTYPE_F32, 9, 0, 0, 0, "gate.w is missing"),
	TENSOR(COSINE, "gate.b", TT_DTYPE_F32, 1, 1, 0, 1, "gate.b does not belong"),
	META(PROBE, "trimtab.gate", "Probe", "trimtab.gate"),
	META(PROBE, "trimtab.gate", "always", "trimtab.observe"),
	META(ALWAYS, "trimtab.gate", "probe", "trimtab.observe"),
	META(ALWAYS, "trimtab.threshold", "0.5", "trimtab.threshold"),
	META(PROBE, "trimtab.observe", "0,6", "layer 6"),
	META(PROBE, "trimtab.observe", "1,0", "trimtab.observe"),
	META(PROBE, "trimtab.observe", "1,1", "trimtab.observe"),
	META(PROBE, "trimtab.observe", "", "trimtab.observe"),
	META(PROBE, "trimtab.observe", "0-2", "gate.w"),
	META(PROBE, "trimtab.observe", "0, 1", "trimtab.observe"),
	META(PROBE, "trimtab.observe", "99999999999999999999", "trimtab.observe"),
	META(PROBE, "trimtab.layers", NULL, "trimtab.layers"),
	META(PROBE, "trimtab.layers", "2-3,5,6", "trimtab.layers: layer 6"),
	META(PROBE, "trimtab.layers", "3-2,5", "trimtab.layers"),
	META(PROBE, "trimtab.layers", "2-3,5,", "trimtab.layers"),
	META(PROBE, "trimtab.layers", "2-5", "direction.4"),
	META(PROBE, "trimtab.layers", "2-3", "direction.5"),
	META(PROBE, "trimtab.alpha", NULL, "trimtab.alpha"),
	META(PROBE, "trimtab.alpha", "nan", "trimtab.alpha"),
	META(PROBE, "trimtab.alpha", "1e39", "trimtab.alpha"),
	META(PROBE, "trimtab.alpha", "0.2x", "trimtab.alpha"),
	META(PROBE, "trimtab.alpha", "\"0.2\"", "trimtab.alpha"),
	META(PROBE, "trimtab.threshold", "1.5", "threshold"),
	META(PROBE, "trimtab.threshold", "-0.1", "threshold"),
	META(PROBE, "trimtab.threshold", NULL, "trimtab.threshold"),
	META(PROBE, "trimtab.fitted_on", "{}", "trimtab.fitted_on"),
	META(PROBE, "trimtab.fitted_on", "[{\"file\": 1}]", "trimtab.fitted_on"),
	META(PROBE, "trimtab.fitted_on", "[", "trimtab.fitted_on"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 9, 0, 0, 0, "weight"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 2, 6, 1, 0.5f, "weight"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 7, 0, 0.5f, "weight[0]"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 5, 0, 0.5f, "trimtab.layers: layer 5"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 6, 0, 1.5f, "weight[0] must be 0 to 1"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 6, 0, -0.5f, "weight[0] must be 0 to 1"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 6, 0, NAN, "weight[0] must be 0 to 1"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 6, 0, 1, "weight[0]"),
	TENSOR(PROBE, "weight", TT_DTYPE_F32, 1, 6, 0, 0, "no layer would be steered"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 9, 0, 0, 0, "direction.3"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_I32, 2, 1, 8, 1, "direction.3 must be F32"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 2, 1, 9, 1, "direction.3"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 2, 2, 8, 1, "direction.3"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 1, 7, 0, 1, "direction.3"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 2, 1, 8, NAN, "direction.3"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 2, 1, 8, INFINITY, "direction.3"),
	TENSOR(PROBE, "direction.3", TT_DTYPE_F32, 2, 1, 8, 0, "weight[3]"),
	TENSOR(PROBE, "direction.2", TT_DTYPE_F32, 2, 65, 8, 1, "direction.2: 65 rows"),
	TENSOR(PROBE, "direction.2", TT_DTYPE_F32, 2, 0, 8, 1, "direction.2"),
	TENSOR(PROBE, "direction.2", TT_DTYPE_F32, 0, 0, 0, 1, "direction.2"),
	TENSOR(PROBE, "direction.4", TT_DTYPE_F32, 2, 1, 8, 1, "direction.4 does not belong"),
	TENSOR(PROBE, "target.2", TT_DTYPE_F32, 1, 1, 0, 1, "target.2 does not belong"),
	TENSOR(PROBE, "gate.fc1.weight", TT_DTYPE_F32, 1, 1, 0, 1, "gate.fc1.weight does not belong"),
	TENSOR(ALWAYS, "gate.w", TT_DTYPE_F32, 1, 8, 0, 1, "gate.w does not belong"),
	TENSOR(PROBE, "gate.w", TT_DTYPE_F32, 1, 15, 0, 1, "gate.w"),
	TENSOR(PROBE, "gate.w", TT_DTYPE_F32, 1, 16, 0, NAN, "gate.w"),
	TENSOR(PROBE, "gate.w", TT_DTYPE_F32, 9, 0, 0, 0, "gate.w"),
	TENSOR(PROBE, "gate.b", TT_DTYPE_F32, 1, 1, 0, INFINITY, "gate.b"),
	TENSOR(PROBE, "gate.b", TT_DTYPE_F32, 1, 2, 0, 1, "gate.b"),
	TENSOR(CLAMP, "target.1", TT_DTYPE_F32, 1, 2, 0, 1, "target.1"),
	TENSOR(CLAMP, "target.1", TT_DTYPE_F32, 1, 3, 0, NAN, "target.1"),
	TENSOR(CLAMP, "direction.1", TT_DTYPE_F32, 2, 3, 8, 1, "direction.1 row 1 depends"),
	META(CLAMP, "trimtab.op", "add", "target.1 does not belong"),
	TENSOR(ONE_SIDED, "target.1", TT_DTYPE_F32, 1, 1, 0, 1, "target.1 does not belong"),
	TENSOR(AFFINE, "affine.1.W", TT_DTYPE_F32, 9, 0, 0, 0, "affine.1.W is missing"),
	TENSOR(AFFINE, "affine.1.W", TT_DTYPE_F32, 2, 3, 7, 1, "affine.1.W must have shape [3, 8]"),
	TENSOR(AFFINE, "affine.1.W", TT_DTYPE_F32, 1, 24, 0, 1, "affine.1.W must have shape [3, 8]"),
	TENSOR(AFFINE, "affine.1.W", TT_DTYPE_I32, 2, 3, 8, 1, "affine.1.W must be F32"),
	TENSOR(AFFINE, "affine.1.W", TT_DTYPE_F32, 2, 3, 8, NAN, "affine.1.W holds a number that is not finite"),
	TENSOR(AFFINE, "affine.2.b", TT_DTYPE_F32, 9, 0, 0, 0, "affine.2.b is missing"),
	TENSOR(AFFINE, "affine.2.b", TT_DTYPE_F32, 1, 2, 0, 1, "affine.2.b must have shape [3]"),
	TENSOR(AFFINE, "affine.2.b", TT_DTYPE_F32, 1, 3, 0, INFINITY, "affine.2.b holds a number"),
	TENSOR(AFFINE, "affine.3.b", TT_DTYPE_F32, 1, 3, 0, 1, "affine.3.b does not belong"),
	TENSOR(AFFINE, "target.1", TT_DTYPE_F32, 1, 3, 0, 1, "target.1 does not belong"),
	TENSOR(PROBE, "affine.2.b", TT_DTYPE_F32, 1, 1, 0, 1, "affine.2.b does not belong"),
	TENSOR(MLP, "gate.fc1.weight", TT_DTYPE_F32, 9, 0, 0, 0, "gate.fc1.weight is missing"),
	TENSOR(MLP, "gate.fc1.weight", TT_DTYPE_F32, 1, 12 * 24, 0, 1, "gate.fc1.weight must have shape [n, 24]"),
	TENSOR(MLP, "gate.fc1.weight", TT_DTYPE_F32, 2, 0, 24, 1, "gate.fc1.weight must have shape [n, 24]"),
	TENSOR(MLP, "gate.fc1.weight", TT_DTYPE_F32, 2, 12, 25, 1, "gate.fc1.weight must have shape [12, 24]"),
	TENSOR(MLP, "gate.fc1.weight", TT_DTYPE_F32, 2, 11, 24, 1, "gate.fc1.bias must have shape [11]"),
	TENSOR(MLP, "gate.fc1.weight", TT_DTYPE_F32, 2, 12, 24, NAN, "gate.fc1.weight holds a number"),
	TENSOR(MLP, "gate.fc1.bias", TT_DTYPE_F32, 9, 0, 0, 0, "gate.fc1.bias is missing"),
	TENSOR(MLP, "gate.fc1.bias", TT_DTYPE_F32, 1, 12, 0, NAN, "gate.fc1.bias holds a number"),
	TENSOR(MLP, "gate.fc2.weight", TT_DTYPE_F32, 2, 6, 12, 1, "gate.fc2.weight must have shape [7, 12]"),
	TENSOR(MLP, "gate.fc2.weight", TT_DTYPE_I32, 2, 7, 12, 1, "gate.fc2.weight must be F32"),
	TENSOR(MLP, "gate.fc2.weight", TT_DTYPE_F32, 2, 7, 12, INFINITY, "gate.fc2.weight holds a number"),
	TENSOR(MLP, "gate.fc2.bias", TT_DTYPE_F32, 1, 6, 0, 1, "gate.fc2.bias must have shape [7]"),
	TENSOR(MLP, "gate.fc2.bias", TT_DTYPE_F32, 1, 7, 0, NAN, "gate.fc2.bias holds a number"),
	TENSOR(MLP, "gate.w", TT_DTYPE_F32, 1, 24, 0, 1, "gate.w does not belong"),
	TENSOR(ALWAYS, "gate.fc2.bias", TT_DTYPE_F32, 1, 7, 0, 1, "gate.fc2.bias does not belong"),
};

static void write_changed(const struct change *c, const char *path)
{
	struct tt_safetensors *file = NULL;
	struct tt_st_tensor tensors[16];
	struct tt_st_pair pairs[24];
	size_t n_tensors = 0, n_pairs = 0;
	struct tt_error err = {0};
	float data[65 * 8];
	for (size_t i = 0; i < 65 * 8; i++)
		data[i] = c->fill;
	cr_assert_eq(tt_safetensors_open(&file, c->source, &err), TT_OK, "%s", err.message);
	for (size_t i = 0; i < file->n_metadata; i++)
		if (!c->key || strcmp(file->metadata[i].key, c->key))
			pairs[n_pairs++] = file->metadata[i];
	if (c->value)
		pairs[n_pairs++] = (struct tt_st_pair){c->key, c->value};
	for (size_t i = 0; i < file->n_tensors; i++)
		if (!c->tensor || strcmp(file->tensors[i].name, c->tensor))
			tensors[n_tensors++] = file->tensors[i];
	if (c->tensor && c->n_dims != 9)
		tensors[n_tensors++] = (struct tt_st_tensor){.name = c->tensor,
			.dtype = c->dtype,
			.n_dims = c->n_dims,
			.shape = {c->shape[0], c->shape[1]},
			.data = data};
	cr_assert_eq(tt_safetensors_write(path, tensors, n_tensors, pairs, n_pairs, &err), TT_OK, "%s", err.message);
	tt_safetensors_close(file);
}

Test(policy, every_change_that_breaks_it_is_refused_by_name)
{
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		const struct change *c = &changes[i];
		struct tt_policy *p = NULL;
		struct tt_error err = {0};
		char label[160];
		snprintf(label, sizeof label, "change %zu (%s %s)", i, c->key ? c->key : c->tensor,
			c->value ? c->value : "");
		write_changed(c, path);
		expect_refused(tt_policy_load(&p, path, &err), &err, label, path, c->expected);
		cr_expect_null(p);
		tt_policy_free(p);
	}
	scratch_remove(&s, FILES, 1);
}

Test(policy, a_gate_that_reads_nothing_has_no_pool)
{
	struct scratch s;
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	scratch_make(&s);
	char third[sizeof s.path];
	snprintf(third, sizeof third, "%s", scratch_write(&s, FILES[0], "", 0));
	const char *path = scratch_write(&s, FILES[1], "", 0);
	const struct change newer = META(ALWAYS, "trimtab.format", "3", ""),
			    pool = META(third, "trimtab.gate.pool", "mean", "");
	write_changed(&newer, third);
	cr_assert_eq(tt_policy_load(&p, third, &err), TT_OK, "%s", err.message);
	p->pool = TT_POOL_MEAN;
	cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "observes no layer, so it cannot pool mean"), "%s", err.message);
	tt_policy_free(p);
	write_changed(&pool, path);
	expect_refused(tt_policy_load(&p, path, &err), &err, "pool", path,
		"trimtab.gate.pool belongs to a gate, but trimtab.gate is always");
	scratch_remove(&s, FILES, 2);
}

Test(policy, other_formats_are_refused_by_their_name)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *expected;
	} files[] = {
		{"PK\003\004archive/data.pkl", 20, "pickle"},
		{"\x80\002}q\000.", 6, "pickle"},
		{"\x80\004\x95\x10\0\0\0\0\0\0\0}\x94.", 14, "pickle"},
		{"GGUF\003\0\0\0", 8, "counts run past the end"},
		{"", 0, ""},
		{"\0", 1, ""},
		{"\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, ""},
		{"\x02\0\0\0\0\0\0\0{}", 10, "trimtab.format"},
		{"#!/bin/sh\nexit 0\n", 17, ""},
	};
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct tt_policy *p = NULL;
		struct tt_error err = {0};
		const char *path = scratch_write(&s, FILES[0], files[i].bytes, files[i].n);
		expect_refused(tt_policy_load(&p, path, &err), &err, files[i].expected, path, files[i].expected);
	}
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	cr_expect_eq(tt_policy_load(&p, "no/such/file", &err), TT_ERR_IO);
	scratch_remove(&s, FILES, 1);
}

/* Loads the probe's file with another value under a key: n bytes, which begin with `begin` and are 'x' from there
 * on. */
static int load_with_text(
	const char *path, const char *key, const char *begin, size_t n, struct tt_policy **out, struct tt_error *err)
{
	char *value = calloc(n + 1, 1);
	const struct change c = META(PROBE, key, value, "");
	memset(value, 'x', n);
	memcpy(value, begin, strlen(begin) < n ? strlen(begin) : n);
	write_changed(&c, path);
	int status = tt_policy_load(out, path, err);
	free(value);
	return status;
}

/* A text of exactly its limit is read in full. One byte more, or twice the limit, is refused with the name of the
 * key. */
Test(policy, texts_are_read_up_to_their_limit_and_no_further)
{
	static const struct {
		const char *key;
		size_t limit;
		const char *refused_by;
	} texts[] = {
		{"trimtab.name", TT_MAX_POLICY_NAME, "name is longer than 200 bytes"},
		{"trimtab.fingerprint", TT_MAX_POLICY_TEXT, "trimtab.fingerprint is longer than 1048576 bytes"},
		{"trimtab.weights_digest", TT_MAX_POLICY_TEXT, "trimtab.weights_digest is longer than 1048576 bytes"},
		{"trimtab.created", TT_MAX_POLICY_TEXT, "trimtab.created is longer than 1048576 bytes"},
		{"trimtab.version", TT_MAX_POLICY_TEXT, "trimtab.version is longer than 1048576 bytes"},
	};
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		const size_t over[] = {texts[i].limit + 1, 2 * texts[i].limit};
		struct tt_policy *p = NULL;
		struct tt_error err = {0};
		cr_assert_eq(load_with_text(path, texts[i].key, "<", texts[i].limit, &p, &err), TT_OK, "%s: %s",
			texts[i].key, err.message);
		const char *const fields[] = {p->name, p->fingerprint, p->weights_digest, p->created, p->version};
		cr_expect_eq(strlen(fields[i]), texts[i].limit, "%s", texts[i].key);
		cr_expect(fields[i][0] == '<' && fields[i][texts[i].limit - 1] == 'x', "%s", texts[i].key);
		tt_policy_free(p);
		for (size_t k = 0; k < 2; k++) {
			int status = load_with_text(path, texts[i].key, "<", over[k], &p, &err);
			expect_refused(status, &err, texts[i].key, path, texts[i].refused_by);
			cr_expect_null(p);
		}
	}
	scratch_remove(&s, FILES, 1);
}

/* A header length that begins with 0x80 0x02 (640) looks like the start of a pickle, but the file is not one. */
Test(policy, a_header_of_640_bytes_is_no_pickle)
{
	struct scratch s;
	struct tt_error err = {0};
	struct tt_policy *p = load(POLICY("always")), *again = NULL;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	bool met = false;
	for (int n = 1; n < 200 && !met; n++) {
		char name[201] = {0};
		memset(name, 'n', (size_t)n);
		cr_assert_eq(tt_policy_set_text(&p->name, name, &err), TT_OK);
		for (int k = 0; k < 6 && !met; k++) {
			uint8_t head[2];
			cr_assert_eq(tt_policy_set_text(&p->version, k ? "0.1.0-abcdefg" : "0.1.0", &err), TT_OK);
			cr_assert_eq(tt_policy_save(p, path, &err), TT_OK, "%s", err.message);
			FILE *file = fopen(path, "rb");
			cr_assert_eq(fread(head, 1, 2, file), 2);
			fclose(file);
			met = head[0] == 0x80 && head[1] <= 5;
		}
	}
	cr_assert(met, "no header of 640, 896 or 1152 bytes was made");
	cr_expect_eq(tt_policy_load(&again, path, &err), TT_OK, "%s", err.message);
	tt_policy_free(p);
	tt_policy_free(again);
	scratch_remove(&s, FILES, 1);
}

Test(policy, truncated_and_damaged_files_are_refused_or_still_a_policy)
{
	struct scratch s;
	struct tt_buffer bytes = {0};
	struct tt_error err = {0};
	uint64_t random = 11;
	scratch_make(&s);
	cr_assert_eq(tt_file_read(&bytes, POLICY("probe"), 1 << 20, &err), TT_OK);
	for (size_t n = 0; n < bytes.len; n += n < 64 ? 1 : 13) {
		struct tt_policy *p = NULL;
		const char *path = scratch_write(&s, FILES[0], bytes.data, n);
		expect_refused(tt_policy_load(&p, path, &err), &err, "truncated", path, "");
	}
	for (int i = 0; i < 3000; i++) {
		struct tt_policy *p = NULL;
		size_t at = next_random(&random) % bytes.len;
		char old = bytes.data[at];
		bytes.data[at] = (char)next_random(&random);
		const char *path = scratch_write(&s, FILES[0], bytes.data, bytes.len);
		int status = tt_policy_load(&p, path, &err);
		cr_expect_eq(status == TT_OK, p != NULL);
		if (p)
			cr_expect_eq(tt_policy_finish(p, &err), TT_OK, "%s", err.message);
		tt_policy_free(p);
		bytes.data[at] = old;
	}
	tt_buffer_free(&bytes);
	scratch_remove(&s, FILES, 1);
}

Test(policy, sizes_are_checked_before_anything_is_allocated)
{
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	cr_expect_eq(tt_policy_new(&p, 0, 8, 1, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_policy_new(&p, 4, 0, 1, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_policy_new(&p, 4, 8, 65, &err), TT_ERR_FORMAT);
	cr_expect_eq(tt_policy_new(&p, 512, 1 << 17, 64, &err), TT_ERR_LIMIT);
	cr_expect_null(p);
	static const uint32_t observed[4] = {0, 1, 2, 3};
	cr_assert_eq(tt_policy_new(&p, 4, 1 << 17, 1, &err), TT_OK);
	const struct {
		uint32_t n_observed, n_units;
		enum tt_gate_pool pool;
		int status;
	} mlps[] = {
		{4, 0, TT_POOL_LAST, TT_ERR_FORMAT},
		{4, TT_MAX_UNITS + 1, TT_POOL_LAST, TT_ERR_FORMAT},
		{4, TT_MAX_UNITS, TT_POOL_LAST, TT_ERR_LIMIT},
		{5, 8, TT_POOL_LAST, TT_ERR_FORMAT},
		{0, 8, TT_POOL_LAST, TT_ERR_FORMAT},
		{4, 513, TT_POOL_LAST, TT_ERR_LIMIT},
		{4, 257, TT_POOL_LAST_MEAN, TT_ERR_LIMIT},
		{4, 8, (enum tt_gate_pool)3, TT_ERR_UNSUPPORTED},
	};
	for (size_t i = 0; i < sizeof mlps / sizeof *mlps; i++) {
		const struct tt_gate_choice choice = {.gate = TT_GATE_MLP,
			.pool = mlps[i].pool,
			.observed = observed,
			.n_observed = mlps[i].n_observed,
			.n_units = mlps[i].n_units};
		cr_expect_eq(tt_policy_set_gate(p, &choice, &err), mlps[i].status, "%zu: %s", i, err.message);
	}
	cr_expect(p->gate == TT_GATE_ALWAYS && !p->fc1_weight);
	tt_policy_free(p);
}

/* The kernels use W - R, and the difference of two finite numbers may not be finite. */
Test(policy, an_affine_map_that_overflows_is_refused)
{
	struct tt_policy *p = load(AFFINE);
	struct tt_error err = {0};
	p->affine[24] = 3e38f;
	p->directions[24] = -3e38f;
	cr_expect_eq(tt_policy_finish(p, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "affine.1.W"), "%s", err.message);
	tt_policy_free(p);
}

Test(policy, a_policy_that_could_not_be_read_is_not_written)
{
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_policy_new(&p, 2, 4, 1, &err), TT_OK);
	cr_expect_eq(tt_policy_save(p, "never.safetensors", &err), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_policy_set_text(&p->name, "n", &err), TT_OK);
	cr_assert_eq(tt_policy_set_text(&p->fingerprint, "f", &err), TT_OK);
	cr_expect_eq(tt_policy_save(p, "never.safetensors", &err), TT_ERR_ARGUMENT);
	cr_expect(!tt_file_exists("never.safetensors"));
	tt_policy_free(p);
}

/* Loads a policy that has the first n_rows axes as the directions of its only layer. */
static int load_rows(const char *path, uint64_t n_rows, struct tt_policy **out, struct tt_error *err)
{
	enum { WIDTH = 80 };
	static const struct tt_st_pair metadata[] = {{"trimtab.format", "1"}, {"trimtab.name", "axes"},
		{"trimtab.fingerprint", "f"}, {"trimtab.op", "ablate"}, {"trimtab.when", "all"},
		{"trimtab.layers", "0"}, {"trimtab.alpha", "1"}, {"trimtab.gate", "always"}};
	static float rows[WIDTH * WIDTH];
	const float weight = 1;
	for (int i = 0; i < WIDTH; i++)
		rows[i * WIDTH + i] = 1;
	const struct tt_st_tensor tensors[] = {
		{.name = "direction.0", .dtype = TT_DTYPE_F32, .n_dims = 2, .shape = {n_rows, WIDTH}, .data = rows},
		{.name = "weight", .dtype = TT_DTYPE_F32, .n_dims = 1, .shape = {1}, .data = &weight}};
	cr_assert_eq(tt_safetensors_write(path, tensors, 2, metadata, sizeof metadata / sizeof *metadata, err), TT_OK,
		"%s", err->message);
	return tt_policy_load(out, path, err);
}

Test(policy, a_layer_has_at_most_64_directions)
{
	struct scratch s;
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	cr_assert_eq(load_rows(path, 64, &p, &err), TT_OK, "%s", err.message);
	cr_expect_eq(p->n_directions, 64);
	tt_policy_free(p);
	expect_refused(
		load_rows(path, 65, &p, &err), &err, "65 rows", path, "tensor direction.0: 65 rows, must be 1 to 64");
	cr_expect_null(p);
	scratch_remove(&s, FILES, 1);
}
