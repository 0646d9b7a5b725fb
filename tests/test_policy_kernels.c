/* Policy files that the safetensors library wrote, run by the CPU's kernels and compared with PyTorch in float64. */
#include "controller/policy/policy.h"
#include "golden.h"
#include "kernels/cpu/cpu.h"

#define POLICY(name) GOLDEN("policy/" name ".safetensors")

enum { LAYERS = 6, HIDDEN = 8, N = 6, N_DECISIONS = 5 };

/* f32 numbers of a few units are compared with float64, which the file has rounded to f32. */
#define POLICY_TOLERANCE 5e-7

static void expect_same_bits(const float *got, const float *want, size_t n, const char *what)
{
	cr_assert_eq(memcmp(got, want, n * sizeof *got), 0, "%s: bits differ", what);
}

static struct tt_step_plan *make_step(struct tt_step_plan counts)
{
	enum { CAPACITY = 1 << 12 };
	struct tt_step_plan *step = calloc(1, CAPACITY);
	*step = counts;
	must(tt_step_layout(step, CAPACITY, err));
	return step;
}

static struct tt_policy *load(const char *path)
{
	struct tt_policy *p = NULL;
	must(tt_policy_load(&p, path, err));
	cr_assert(p->n_layers == LAYERS && p->hidden_size == HIDDEN);
	return p;
}

/* The slot that tt_engine_add_policy makes of the policy. readers has room for W - R. */
static struct tt_steer_slot slot_of(const struct tt_policy *p, float *readers)
{
	for (size_t i = 0; p->affine && i < (size_t)LAYERS * p->n_directions * HIDDEN; i++)
		readers[i] = p->affine[i] - p->directions[i];
	return (struct tt_steer_slot){.op = p->op,
		.form = p->form,
		.n_directions = p->n_directions,
		.directions = p->directions,
		.readers = p->affine ? readers : NULL,
		.targets = p->targets,
		.weights = p->weights,
		.alpha = p->alpha,
		.gate = p->gate,
		.pool = p->pool,
		.n_observed = p->n_observed,
		.observed = p->observed,
		.gate_weight = p->gate_weight,
		.gate_bias = p->gate_bias,
		.threshold = p->threshold,
		.n_units = p->n_units,
		.gate_form = p->gate_form,
		.n_conditions = p->rule.n,
		.below = p->rule.below,
		.table = p->rule.table,
		.thresholds = p->thresholds,
		.fc1_weight = p->fc1_weight,
		.fc1_bias = p->fc1_bias,
		.fc2_weight = p->fc2_weight,
		.fc2_bias = p->fc2_bias};
}

/* Steers row i of the file's h by coefficient i, and compares. */
static void check_operation(const char *path, const char *name)
{
	struct tt_safetensors *golden = golden_open(POLICY("operations_expected"));
	struct tt_policy *p = load(path);
	size_t n_h, n_coef, n_want;
	float readers[LAYERS * 3 * HIDDEN], scratch[HIDDEN], table[(N + 1) * LAYERS] = {0};
	struct tt_steer_slot slot = slot_of(p, readers);
	struct tt_config config = {.n_layers = LAYERS, .hidden_size = HIDDEN};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = N, .n_rows = N + 1});
	float *h = golden_floats(golden, "h", &n_h), *coef = golden_floats(golden, "coef", &n_coef), got[N * HIDDEN];
	struct tt_backend *backend;
	must(tt_cpu_open(&backend, 1, err));
	cr_assert(n_h == N * HIDDEN && n_coef == N && coef[N - 1] == 0);
	for (uint32_t layer = 1; layer <= 2; layer++) {
		char key[32];
		snprintf(key, sizeof key, "%s.%u", name, layer);
		float *want = golden_floats(golden, key, &n_want);
		struct tt_down_proj_args args = {
			.config = &config, .step = step, .layer_index = layer, .h = got, .slots = &slot, .coef = table};
		memcpy(got, h, sizeof got);
		for (uint32_t t = 0; t < N; t++) {
			tt_step_coef_rows(step)[t * TT_STACK] = (uint16_t)(t + 1);
			table[(t + 1) * LAYERS + layer] = coef[t];
			tt_cpu_steer(((struct tt_cpu *)backend)->body, &args, t, scratch);
		}
		double error = relative_error(got, want, n_want);
		cr_assert(error <= POLICY_TOLERANCE, "%s is %g off", key, error);
		expect_same_bits(got + (N - 1) * HIDDEN, h + (N - 1) * HIDDEN, HIDDEN, "coefficient 0");
		free(want);
	}
	backend->close(backend);
	tt_safetensors_close(golden);
	tt_policy_free(p);
	free(step);
	free(h);
	free(coef);
}

Test(policy_kernels, affine_equals_pytorch)
{
	check_operation(POLICY("affine"), "affine");
}

Test(policy_kernels, one_sided_equals_pytorch)
{
	check_operation(POLICY("one_sided"), "one_sided");
}

Test(policy_kernels, an_add_that_keeps_the_length_equals_pytorch)
{
	check_operation(POLICY("keep"), "keep");
}

Test(policy_kernels, rotate_equals_pytorch)
{
	check_operation(POLICY("rotate"), "rotate");
}

Test(policy_kernels, adaptive_rotate_equals_pytorch)
{
	check_operation(POLICY("rotate_adaptive"), "rotate_adaptive");
}

/* ---- The mlp ---- */

struct decided {
	struct tt_decision_result results[N_DECISIONS];
	float coef[(N_DECISIONS + 1) * LAYERS], rows[N_DECISIONS * LAYERS];
};

/* Makes decision i on captured row i, and on the means of row 9 - i, for every i from first on. */
static struct decided decide(
	const struct tt_policy *p, float *captured, const float *scale, uint32_t first, uint32_t n, uint32_t n_threads)
{
	struct decided out;
	struct tt_steer_slot slot = slot_of(p, (float[LAYERS * 3 * HIDDEN]){0});
	struct tt_config config = {.n_layers = LAYERS, .hidden_size = HIDDEN};
	struct tt_step_plan *step =
		make_step((struct tt_step_plan){.n_tokens = 1, .n_rows = N_DECISIONS + 1, .n_decisions = n});
	struct tt_backend *backend;
	must(tt_cpu_open(&backend, n_threads, err));
	memset(&out, 0x7f, sizeof out);
	for (uint32_t i = 0; i < n; i++)
		tt_step_decisions(step)[i] = (struct tt_decision_plan){.row = first + i + 1,
			.after_layer = 3,
			.capture = first + i,
			.mean_capture = 2 * N_DECISIONS - 1 - (first + i),
			.scale = scale[first + i]};
	struct tt_control_args args = {.config = &config,
		.step = step,
		.layer_index = 3,
		.slots = &slot,
		.captured = captured,
		.coef = out.coef,
		.results = out.results + first,
		.decided = out.rows + (size_t)first * LAYERS,
		.max_units = p->n_units};
	must(backend->control(backend, &args, err));
	backend->close(backend);
	free(step);
	return out;
}

static void check_mlp(const char *path, const char *key)
{
	struct tt_safetensors *golden = golden_open(POLICY("mlp_expected"));
	struct tt_policy *p = load(path);
	size_t n;
	float *captured = golden_floats(golden, "captured", &n), *scale = golden_floats(golden, "scale", &n);
	float *z = golden_floats(golden, "z", &n), *s = golden_floats(golden, p->gate_form ? "z" : "s", &n);
	float *coef = golden_floats(golden, key, &n);
	struct decided got = decide(p, captured, scale, 0, N_DECISIONS, 2);
	cr_assert_eq(n, N_DECISIONS * LAYERS);
	for (uint32_t i = 0; i < N_DECISIONS; i++) {
		/* Both are double, rounded once. */
		cr_assert_float_eq(got.results[i].gate, z[i], 1e-7 * fabsf(z[i]), "%u", i);
		cr_assert_float_eq(got.results[i].s, s[i], 1e-7 * fabsf(s[i]), "%u", i);
		struct decided alone = decide(p, captured, scale, i, 1, 1);
		expect_same_bits(alone.rows + i * LAYERS, got.rows + i * LAYERS, LAYERS, "alone and together");
	}
	double error = relative_error(got.rows, coef, n);
	cr_assert(error <= POLICY_TOLERANCE, "coefficients are %g off", error);
	expect_same_bits(got.coef + LAYERS, got.rows, N_DECISIONS * LAYERS, "table and report");
	for (uint32_t i = 0; i < n; i++)
		cr_assert(coef[i] != 0 || (got.rows[i] == 0 && !signbit(got.rows[i])));
	tt_safetensors_close(golden);
	tt_policy_free(p);
	float *all[] = {captured, scale, z, s, coef};
	for (int i = 0; i < 5; i++)
		free(all[i]);
}

Test(policy_kernels, mlp_equals_pytorch)
{
	check_mlp(POLICY("mlp"), "coef");
}

Test(policy_kernels, unbounded_mlp_equals_pytorch)
{
	check_mlp(POLICY("mlp_unbounded"), "coef_unbounded");
}

/* ---- The similarity ---- */

static void check_cosine(const char *path, const char *name)
{
	struct tt_safetensors *golden = golden_open(POLICY("cosine_expected"));
	struct tt_policy *p = load(path);
	size_t n;
	char key[32];
	float *captured = golden_floats(golden, "captured", &n), *scale = golden_floats(golden, "scale", &n);
	float *similarity = golden_floats(golden, "similarity", &n);
	snprintf(key, sizeof key, "%s.s", name);
	float *s = golden_floats(golden, key, &n);
	snprintf(key, sizeof key, "%s.coef", name);
	float *coef = golden_floats(golden, key, &n);
	cr_assert_eq(n, N_DECISIONS * LAYERS);
	struct decided got = decide(p, captured, scale, 0, N_DECISIONS, 2);
	for (uint32_t i = 0; i < N_DECISIONS; i++) {
		/* Both are double, rounded once. */
		cr_assert_float_eq(got.results[i].gate, similarity[i], 1e-7, "%u", i);
		cr_assert_eq(got.results[i].s, s[i], "%u", i);
		struct decided alone = decide(p, captured, scale, i, 1, 1);
		expect_same_bits(alone.rows + i * LAYERS, got.rows + i * LAYERS, LAYERS, "alone and together");
	}
	double error = relative_error(got.rows, coef, n);
	cr_assert(error <= POLICY_TOLERANCE, "coefficients are %g off", error);
	tt_safetensors_close(golden);
	tt_policy_free(p);
	float *all[] = {captured, scale, similarity, s, coef};
	for (int i = 0; i < 5; i++)
		free(all[i]);
}

Test(policy_kernels, cosine_equals_pytorch)
{
	check_cosine(POLICY("cosine"), "cosine");
	check_cosine(POLICY("cosine_below"), "cosine_below");
}

/* A NaN opens neither side. A stream of zeros, or at a right angle to the condition, has similarity 0. A similarity
 * equal to the threshold opens neither side. */
Test(policy_kernels, a_similarity_at_the_edge)
{
	for (int below = 0; below < 2; below++) {
		struct tt_policy *p = load(below ? POLICY("cosine_below") : POLICY("cosine"));
		float captured[N_DECISIONS * LAYERS * HIDDEN] = {0}, scale[N_DECISIONS] = {1, 1, 1, 1, 1};
		captured[2 * HIDDEN + 3] = NAN;                          /* layer 2 of row 0 */
		captured[(2 * LAYERS + 0) * HIDDEN] = p->gate_weight[1]; /* row 2: at a right angle */
		captured[(2 * LAYERS + 0) * HIDDEN + 1] = -p->gate_weight[0];
		captured[3 * LAYERS * HIDDEN] = INFINITY;
		struct decided got = decide(p, captured, scale, 0, N_DECISIONS, 1);
		for (int i = 0; i < N_DECISIONS; i++) {
			bool number = i != 0 && i != 3;
			cr_expect(number ? got.results[i].gate == 0 : isnan(got.results[i].gate), "%d", i);
			cr_expect_eq(got.results[i].s, number && below, "%d", i);
		}
		p->threshold = 0;
		got = decide(p, captured, scale, 0, N_DECISIONS, 1);
		for (int i = 0; i < N_DECISIONS; i++)
			cr_expect_eq(got.results[i].s, 0, "%d", i);
		tt_policy_free(p);
	}
}

/* ---- The probe with a network, and means ---- */

/* The decisions of a gate whose parts the golden has under its name. */
static void check_gate(const char *expected, const char *path, const char *name)
{
	struct tt_safetensors *golden = golden_open(expected);
	struct tt_policy *p = load(path);
	static const char *const parts[] = {"gate", "s", "coef"};
	float *want[3];
	size_t n;
	for (int i = 0; i < 3; i++) {
		char key[48];
		snprintf(key, sizeof key, "%s.%s", name, parts[i]);
		want[i] = golden_floats(golden, key, &n);
	}
	cr_assert_eq(n, N_DECISIONS * LAYERS);
	float *captured = golden_floats(golden, "captured", &n), *scale = golden_floats(golden, "scale", &n);
	struct decided got = decide(p, captured, scale, 0, N_DECISIONS, 2);
	for (uint32_t i = 0; i < N_DECISIONS; i++) {
		/* Both are double, rounded once. */
		cr_assert_float_eq(got.results[i].gate, want[0][i], 1e-7 * (1 + fabsf(want[0][i])), "%s %u", name, i);
		cr_assert_float_eq(got.results[i].s, want[1][i], 1e-7, "%s %u", name, i);
		struct decided alone = decide(p, captured, scale, i, 1, 1);
		expect_same_bits(alone.rows + i * LAYERS, got.rows + i * LAYERS, LAYERS, "alone and together");
	}
	double error = relative_error(got.rows, want[2], N_DECISIONS * LAYERS);
	cr_assert(error <= POLICY_TOLERANCE, "%s: coefficients are %g off", name, error);
	for (uint32_t i = 0; i < N_DECISIONS * LAYERS; i++)
		cr_assert(want[2][i] != 0 || (got.rows[i] == 0 && !signbit(got.rows[i])));
	tt_safetensors_close(golden);
	tt_policy_free(p);
	float *all[] = {captured, scale, want[0], want[1], want[2]};
	for (int i = 0; i < 5; i++)
		free(all[i]);
}

static void check_pooled(const char *path, const char *name)
{
	check_gate(POLICY("pooled_expected"), path, name);
}

Test(policy_kernels, a_probe_with_a_network_equals_pytorch)
{
	check_pooled(POLICY("probe_mlp"), "probe_mlp");
	check_pooled(POLICY("probe_mlp_learned"), "probe_mlp_learned");
}

Test(policy_kernels, gates_that_read_means_equal_pytorch)
{
	check_pooled(POLICY("probe_mlp_mean"), "probe_mlp_mean");
	check_pooled(POLICY("probe_mlp_learned_pooled"), "probe_mlp_learned_pooled");
	check_pooled(POLICY("probe_pooled"), "probe_pooled");
	check_pooled(POLICY("mlp_mean"), "mlp_mean");
	check_pooled(POLICY("cosine_pooled"), "cosine_pooled");
}

/* ---- Rules ---- */

Test(policy_kernels, rules_equal_pytorch_and_python)
{
	check_gate(POLICY("rule_expected"), POLICY("rule"), "rule");
	check_gate(POLICY("rule_expected"), POLICY("rule_pooled"), "rule_pooled");
}

/* A NaN in what any condition reads closes the gate, also where the rule says `not`, which a condition that does not
 * hold would open. At its threshold a condition holds on neither side. */
Test(policy_kernels, a_rule_at_the_edge)
{
	struct tt_policy *p = load(POLICY("rule"));
	float captured[2 * N_DECISIONS * LAYERS * HIDDEN] = {0}, scale[N_DECISIONS] = {1, 1, 1, 1, 1};
	p->rule.table = 1; /* none of them */
	for (uint32_t k = 0; k < 3; k++)
		p->thresholds[k] = 0;
	struct decided got = decide(p, captured, scale, 0, N_DECISIONS, 1);
	cr_expect(got.results[0].gate == 0 && got.results[0].s == 1, "%g", (double)got.results[0].gate);
	for (uint32_t k = 0; k < 3; k++)
		p->thresholds[k] = 0.01f;
	got = decide(p, captured, scale, 0, N_DECISIONS, 1);
	cr_expect(got.results[0].gate == 2 && got.results[0].s == 0, "%g", (double)got.results[0].gate);
	p->rule.table = 0xff;
	captured[3 * HIDDEN + 1] = NAN; /* layer 3 of row 0, which the last condition reads */
	got = decide(p, captured, scale, 0, N_DECISIONS, 1);
	cr_expect(isnan(got.results[0].gate) && got.results[0].s == 0);
	cr_expect(got.results[1].s == 1);
	tt_policy_free(p);
}

/* ---- NaN ---- */

/* A NaN in the stream must not become a coefficient, and must not vanish in the rectifier. */
Test(policy_kernels, a_network_of_nan_does_not_steer)
{
	static const float zeros[LAYERS];
	static const char *const paths[] = {
		POLICY("mlp"), POLICY("mlp_unbounded"), POLICY("probe_mlp"), POLICY("probe_mlp_learned")};
	float captured[N_DECISIONS * LAYERS * HIDDEN], scale[N_DECISIONS] = {1, 1, 1, 1, 1};
	for (size_t i = 0; i < sizeof captured / sizeof *captured; i++)
		captured[i] = (float)(i % 7) - 3;
	captured[(LAYERS + 2) * HIDDEN + 3] = NAN; /* layer 2 of row 1 */
	for (int k = 0; k < 4; k++) {
		struct tt_policy *p = load(paths[k]);
		p->threshold = 0; /* a probe's opens, but for the NaN */
		struct decided got = decide(p, captured, scale, 0, N_DECISIONS, 2);
		cr_assert(isnan(got.results[1].gate));
		cr_assert_eq(got.results[1].s, 0);
		expect_same_bits(got.rows + LAYERS, zeros, LAYERS, "coefficients");
		cr_assert_neq(got.rows[1], 0);
		tt_policy_free(p);
	}
}
