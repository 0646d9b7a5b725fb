/* The gates on the emulator against the formula in double, and against the CPU twin. */
#include "tests/emu/op_case.h"

enum { HIDDEN = 2 * 1024 + 16, LAYERS = 5, ROWS = 60, CAPTURES = 3, SLOTS = 4, MANY = 40 };

static const struct tt_config *config(void)
{
	static struct tt_config c;
	c.n_layers = LAYERS;
	c.hidden_size = HIDDEN;
	return &c;
}

/* 0: always; 1: a probe of layers 1 and 3; 2: a probe of layer 0; 3: always, with a weight of 0 and an infinite alpha. */
struct gates {
	float weights[SLOTS][LAYERS], gate_weight[SLOTS][2 * HIDDEN], captured[CAPTURES * LAYERS * HIDDEN];
	uint32_t observed[SLOTS][2];
	struct tt_steer_slot host[SLOTS];
};

static struct gates *make_gates(void)
{
	struct gates *g = (struct gates *)calloc(1, sizeof *g);
	uint64_t state = 5;
	cr_assert(g);
	for (size_t i = 0; i < sizeof g->captured / sizeof(float); i++)
		g->captured[i] = op_random_float(&state);
	for (uint32_t s = 0; s < SLOTS; s++) {
		for (uint32_t i = 0; i < 2 * HIDDEN; i++)
			g->gate_weight[s][i] = 0.05f * op_random_float(&state);
		for (uint32_t l = 0; l < LAYERS; l++)
			g->weights[s][l] = l == 2 ? 0 : 0.5f + 0.1f * (float)l;
		struct tt_steer_slot *slot = &g->host[s];
		slot->weights = g->weights[s];
		slot->observed = g->observed[s];
		slot->gate_weight = g->gate_weight[s];
		slot->alpha = s == 3 ? INFINITY : 1.5f;
		slot->gate = s == 1 || s == 2 ? TT_GATE_PROBE : TT_GATE_ALWAYS;
		slot->n_observed = s == 1 ? 2 : s == 2;
		slot->gate_bias = 0.1f;
		slot->threshold = 0.5f;
	}
	g->observed[1][0] = 1;
	g->observed[1][1] = 3;
	return g;
}

/* sigmoid(w . x + b) by ascending index in double. */
static double reference_gate(const struct gates *g, const struct tt_decision_plan *d)
{
	const struct tt_steer_slot *slot = &g->host[d->slot];
	double sum = (double)slot->gate_bias;
	for (uint32_t i = 0; i < slot->n_observed; i++)
		for (uint32_t k = 0; k < HIDDEN; k++)
			sum += (double)slot->gate_weight[i * HIDDEN + k] *
			       (double)g->captured[(d->capture * LAYERS + slot->observed[i]) * HIDDEN + k];
	return slot->gate == TT_GATE_PROBE ? 1 / (1 + exp(-sum)) : 1;
}

static struct tt_step *make_decisions(void)
{
	static const int32_t after[SLOTS] = {-1, 3, 0, -1};
	struct tt_step counts = {};
	counts.n_tokens = counts.n_seqs = 1;
	counts.n_decisions = MANY;
	counts.n_captures = CAPTURES;
	counts.n_rows = ROWS;
	struct tt_step *step = op_step(counts);
	for (uint32_t i = 0; i < MANY; i++) {
		struct tt_decision_plan d = {
			3 + i, i % SLOTS, after[i % SLOTS], i % CAPTURES, i % 7 == 6 && i % SLOTS != 3 ? 0 : 1.25f};
		tt_step_decisions(step)[i] = d;
	}
	return step;
}

struct outcome {
	float coef[ROWS][LAYERS], decided[MANY][LAYERS];
	struct tt_decision_result results[MANY];
};

static void poison(struct outcome *o)
{
	memset(o, 0x7f, sizeof *o); /* what the former owner of each row left */
}

static void on_cpu(
	const struct gates *g, const struct tt_step *step, const int32_t *layers, uint32_t n, struct outcome *o)
{
	struct tt_backend *cpu;
	poison(o);
	OP_OK(tt_cpu_open(&cpu, 1, &op_error));
	for (uint32_t i = 0; i < n; i++) {
		struct tt_control_args args = {
			config(), step, layers[i], g->host, g->captured, o->coef[0], o->results, o->decided[0]};
		OP_OK(cpu->control(cpu, &args, &op_error));
	}
	cpu->close(cpu);
}

static void on_emulator(
	const struct gates *g, const struct tt_step *step, const int32_t *layers, uint32_t n, struct outcome *o)
{
	struct tt_steer_slot slots[SLOTS];
	uint64_t launches = op_cuda.counters.launches;
	for (uint32_t s = 0; s < SLOTS; s++) {
		slots[s] = g->host[s];
		slots[s].weights = op_upload(g->weights[s], LAYERS);
		slots[s].observed = op_upload(g->observed[s], 2);
		slots[s].gate_weight = op_upload(g->gate_weight[s], 2 * HIDDEN);
	}
	poison(o);
	op_begin(step, 1, 0);
	struct tt_control_args args = {config(), step, 0, op_upload(slots, SLOTS),
		op_upload(g->captured, CAPTURES * LAYERS * HIDDEN), op_upload(o->coef[0], ROWS * LAYERS),
		op_upload(o->results, MANY), op_upload(o->decided[0], MANY * LAYERS)};
	for (uint32_t i = 0; i < n; i++) {
		args.layer_index = layers[i];
		OP_OK(tt_cuda_control(&op_cuda.base, &args, &op_error));
	}
	op_download(o->coef[0], args.coef, ROWS * LAYERS);
	op_download(o->decided[0], args.decided, MANY * LAYERS);
	op_download(o->results, args.results, MANY);
	cr_assert_eq(op_cuda.counters.launches, launches + n); /* one an op */
}

/* In every order, after each layer: the formula, and every bit of the CPU twin's. (The sums' orders differ by some 1e-16 of
 * their terms, which the rounding of the gate to f32 hides here.) */
Test(emu_control, gates_and_rows)
{
	static const int32_t layers[] = {-1, 0, 1, 3};
	struct gates *g = make_gates();
	struct tt_step *step = make_decisions();
	struct outcome *got = (struct outcome *)malloc(sizeof *got), *twin = (struct outcome *)malloc(sizeof *twin);
	uint32_t fired = 0;
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		for (uint32_t n = 1; n <= 4; n++) {
			op_open((enum tt_emu_order)order, 3, 64);
			on_cpu(g, step, layers, n, twin);
			on_emulator(g, step, layers, n, got);
			cr_assert_eq(memcmp(got, twin, sizeof *got), 0, "order %d, %u layers", order, n);
		}
	}
	for (uint32_t i = 0; i < MANY; i++) {
		const struct tt_decision_plan *d = &tt_step_decisions(step)[i];
		double gate = reference_gate(g, d), s = g->host[d->slot].gate == TT_GATE_ALWAYS || gate > 0.5;
		cr_assert_float_eq(got->results[i].gate, gate, 1e-7, "%u: %g, not %g", i, got->results[i].gate, gate);
		cr_assert_eq(got->results[i].s, s);
		fired += s != 0 && d->slot != 0 && d->slot != 3;
		for (uint32_t l = 0; l < LAYERS; l++) {
			float c = (float)(d->scale * s * g->weights[d->slot][l] * (d->slot == 3 ? INFINITY : 1.5));
			bool zero = d->scale == 0 || s == 0 || l == 2;
			float is = got->coef[d->row][l];
			cr_assert(is == (zero ? 0 : c) || fabsf(is - c) < 1e-6f, "%u, layer %u: %g", i, l, is);
			cr_assert_not(signbit(is));
		}
	}
	cr_assert_gt(fired, 0);
	cr_assert_lt(fired, MANY / 2); /* both outcomes were seen */
	free(g);
	free(step);
	free(got);
	free(twin);
}

/* Rows of the step's decisions are cleared before the first layer, all others stay; without decisions nothing moves. */
Test(emu_control, clears_only_its_rows)
{
	static const int32_t first = -1, seventh = 7;
	struct gates *g = make_gates();
	struct tt_step *step = make_decisions();
	struct outcome *got = (struct outcome *)malloc(sizeof *got), *before = (struct outcome *)malloc(sizeof *before);
	poison(before);
	op_open(TT_EMU_RANDOM, 9, 64);
	on_emulator(g, step, &first, 1, got);
	for (uint32_t row = 0; row < ROWS; row++) {
		bool decided = row >= 3 && row < 3 + MANY;
		for (uint32_t l = 0; l < LAYERS && decided && tt_step_decisions(step)[row - 3].after_layer >= 0; l++)
			cr_assert_eq(got->coef[row][l], 0.0f);
		if (!decided)
			cr_assert_eq(
				memcmp(got->coef[row], before->coef[row], sizeof before->coef[row]), 0, "row %u", row);
	}
	on_emulator(g, step, &seventh, 1, got);
	cr_assert_eq(memcmp(got, before, sizeof *got), 0);
	step->n_decisions = 0;
	on_emulator(g, step, &first, 1, got);
	cr_assert_eq(memcmp(got, before, sizeof *got), 0);
	free(g);
	free(step);
	free(got);
	free(before);
}
