/* The gates on the emulator, compared with the formula in double and with the CPU twin. */
#include "tests/emu/op_case.h"

extern "C" {
#include "controller/policy/gates.h"
}

enum { HIDDEN = 2 * 1024 + 16, LAYERS = 5, ROWS = 120, CAPTURES = 3, SLOTS = 15, MANY = 105 };
enum { MAX_UNITS = 150 }; /* fills a grid of blocks, the last one by half; 37 units are fewer than a small grid has */

/* The gates of the slots. after: the layer of their decisions. Those with near read mostly that captured row (or mean),
 * and so open on it. */
static const struct gate_kind {
	enum tt_policy_gate gate;
	uint32_t form;
	enum tt_gate_pool pool;
	uint32_t n_observed, observed[2], n_units;
	int32_t after;
	int near;
	float bias;
} kinds[SLOTS] = {
	{TT_GATE_ALWAYS, 0, TT_POOL_LAST, 0, {0, 0}, 0, -1, -1, 0.1f},
	{TT_GATE_PROBE, 0, TT_POOL_LAST, 2, {1, 3}, 0, 3, 1, -8},
	{TT_GATE_PROBE, 0, TT_POOL_LAST, 1, {0, 0}, 0, 0, 0, -4},
	{TT_GATE_ALWAYS, 0, TT_POOL_LAST, 0, {0, 0}, 0, -1, -1, 0.1f}, /* with a weight of 0 and an infinite alpha */
	{TT_GATE_MLP, 0, TT_POOL_LAST, 2, {1, 3}, MAX_UNITS, 3, -1, 0.1f},
	{TT_GATE_MLP, 1, TT_POOL_LAST, 1, {0, 0}, 37, 0, -1, 0.1f},
	{TT_GATE_COSINE, 0, TT_POOL_LAST, 2, {1, 3}, 0, 3, 2, 0.1f},
	{TT_GATE_COSINE, 1, TT_POOL_LAST, 1, {0, 0}, 0, 0, 0, 0.1f},
	{TT_GATE_PROBE_MLP, 0, TT_POOL_LAST, 1, {0, 0}, 37, 0, 2, -4},
	{TT_GATE_PROBE_MLP, 1, TT_POOL_LAST_MEAN, 2, {1, 3}, 38, 3, 1, -8},
	{TT_GATE_PROBE, 0, TT_POOL_MEAN, 2, {1, 3}, 0, 3, 1, -8},
	{TT_GATE_MLP, 0, TT_POOL_LAST_MEAN, 1, {0, 0}, 37, 0, -1, 0.1f},
	{TT_GATE_COSINE, 0, TT_POOL_MEAN, 1, {0, 0}, 0, 0, 1, 0.1f},
	{TT_GATE_RULE, 0, TT_POOL_LAST, 2, {1, 3}, 0, 3, 2, 0.1f},
	{TT_GATE_RULE, 0, TT_POOL_LAST_MEAN, 1, {0, 0}, 0, 0, 1, 0.1f},
};

/* Of the slots with a rule: "a and not b", and "not a and b" where b holds below. a reads the first vector, b the
 * second. A similarity over both vectors would be below a's threshold, and b's lies
 * between the two thresholds where it is near. */
enum { CONDITIONS = 2 };
static const float thresholds[CONDITIONS] = {0.8f, 0.25f};

static bool has_rule(uint32_t slot)
{
	return kinds[slot].gate == TT_GATE_RULE;
}

static const struct tt_config *config(void)
{
	static struct tt_config c;
	c.n_layers = LAYERS;
	c.hidden_size = HIDDEN;
	return &c;
}

struct gates {
	float fc1_weight[SLOTS][MAX_UNITS * 2 * HIDDEN], fc1_bias[SLOTS][MAX_UNITS],
		fc2_weight[SLOTS][(1 + LAYERS) * MAX_UNITS], fc2_bias[SLOTS][1 + LAYERS];
	float weights[SLOTS][LAYERS], gate_weight[SLOTS][CONDITIONS * 4 * HIDDEN], captured[CAPTURES * LAYERS * HIDDEN];
	struct tt_steer_slot host[SLOTS];
};

static const float *fill(float *p, size_t n, float scale, uint64_t *state)
{
	for (size_t i = 0; i < n; i++)
		p[i] = scale * op_random_float(state);
	return p;
}

/* How many vectors the gate of a slot reads. */
static uint32_t vectors(uint32_t slot)
{
	return kinds[slot].n_observed * (kinds[slot].pool == TT_POOL_LAST_MEAN ? 2 : 1);
}

/* Adds a share of the near row to the last vectors of the gate's weights, those of the means if it reads any. A vector
 * adds some 7 to the sum of a probe then. */
static void lean(struct gates *g, uint32_t slot)
{
	const struct gate_kind *kind = &kinds[slot];
	float share = kind->gate == TT_GATE_COSINE ? 1 : 0.01f;
	for (uint32_t i = 0; i < kind->n_observed; i++)
		for (uint32_t k = 0; k < HIDDEN; k++)
			g->gate_weight[slot][(vectors(slot) - kind->n_observed + i) * HIDDEN + k] +=
				share * g->captured[(kind->near * LAYERS + kind->observed[i]) * HIDDEN + k];
}

/* The condition vectors: mostly the near row for a, the one after it for b, and 0 on what they do not read. */
static void set_rule(struct gates *g, uint32_t slot)
{
	const struct gate_kind *kind = &kinds[slot];
	for (uint32_t c = 0; c < CONDITIONS; c++) {
		float *w = g->gate_weight[slot] + c * vectors(slot) * HIDDEN;
		uint32_t row = (kind->near + c) % CAPTURES, layer = kind->observed[c % kind->n_observed];
		for (uint32_t k = 0; k < HIDDEN; k++) {
			w[(1 - c) * HIDDEN + k] = 0;
			w[c * HIDDEN + k] += (c ? 0.04f : 1.0f) * g->captured[(row * LAYERS + layer) * HIDDEN + k];
		}
	}
	g->host[slot].n_conditions = CONDITIONS;
	g->host[slot].thresholds = thresholds;
	g->host[slot].below = slot == 13 ? 0 : 2;
	g->host[slot].table = slot == 13 ? 1 << 1 : 1 << 2;
}

static struct gates *make_gates(void)
{
	struct gates *g = (struct gates *)calloc(1, sizeof *g);
	uint64_t state = 5;
	cr_assert(g);
	fill(g->captured, CAPTURES * LAYERS * HIDDEN, 1, &state);
	for (uint32_t s = 0; s < SLOTS; s++) {
		const struct gate_kind *kind = &kinds[s];
		fill(g->gate_weight[s], (has_rule(s) ? CONDITIONS : 1) * vectors(s) * HIDDEN, 0.05f, &state);
		for (uint32_t l = 0; l < LAYERS; l++)
			g->weights[s][l] = l == 2 ? 0 : 0.5f + 0.1f * (float)l;
		struct tt_steer_slot *slot = &g->host[s];
		slot->weights = g->weights[s];
		slot->observed = kind->observed;
		slot->gate_weight = g->gate_weight[s];
		slot->alpha = s == 3 ? INFINITY : 1.5f;
		slot->gate = kind->gate;
		slot->gate_form = kind->form;
		slot->pool = kind->pool;
		slot->n_observed = kind->n_observed;
		slot->gate_bias = kind->bias;
		slot->threshold = 0.5f;
		slot->n_units = kind->n_units;
		slot->fc1_weight = fill(g->fc1_weight[s], kind->n_units * vectors(s) * HIDDEN, 0.03f, &state);
		slot->fc1_bias = fill(g->fc1_bias[s], kind->n_units, 0.2f, &state);
		slot->fc2_weight = fill(g->fc2_weight[s], (1 + LAYERS) * kind->n_units, 0.2f, &state);
		slot->fc2_bias = fill(g->fc2_bias[s], 1 + LAYERS, 0.2f, &state);
		if (has_rule(s))
			set_rule(g, s);
		else if (kind->near >= 0)
			lean(g, s);
	}
	return g;
}

/* x_c: the last token of every observed layer, then the mean of every one. Returns how many numbers it has. */
static uint32_t gather(const struct gates *g, const struct tt_decision_plan *d, double *x)
{
	const struct gate_kind *kind = &kinds[d->slot];
	uint32_t n = 0;
	for (uint32_t i = 0; kind->pool != TT_POOL_MEAN && i < kind->n_observed; i++)
		for (uint32_t k = 0; k < HIDDEN; k++)
			x[n++] = g->captured[(d->capture * LAYERS + kind->observed[i]) * HIDDEN + k];
	for (uint32_t i = 0; kind->pool != TT_POOL_LAST && i < kind->n_observed; i++)
		for (uint32_t k = 0; k < HIDDEN; k++)
			x[n++] = g->captured[(d->mean_capture * LAYERS + kind->observed[i]) * HIDDEN + k];
	return n;
}

/* weight . x + bias, summed in double by ascending index. */
static double reference_dot(const double *x, uint32_t n, const float *weight, float bias)
{
	double sum = (double)bias;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)weight[i] * x[i];
	return sum;
}

static double reference_cosine(const double *x, uint32_t n, const float *w)
{
	double ww = 0, xx = 0, vv = 0, xv = 0, wx = reference_dot(x, n, w, 0);
	for (uint32_t i = 0; i < n; i++)
		ww += (double)w[i] * (double)w[i];
	for (uint32_t i = 0; i < n; i++) {
		double v = tanh(wx / ww * w[i]);
		xx += x[i] * x[i];
		vv += v * v;
		xv += x[i] * v;
	}
	return xv / sqrt(xx * vv);
}

/* Which conditions hold. Each reads one vector. */
static uint32_t reference_rule(const struct tt_steer_slot *slot, const double *x, uint32_t n)
{
	uint32_t held = 0;
	for (uint32_t c = 0; c < CONDITIONS; c++) {
		double p = reference_cosine(x + c * HIDDEN, HIDDEN, slot->gate_weight + c * n + c * HIDDEN);
		held |= (slot->below >> c & 1 ? p < thresholds[c] : p > thresholds[c]) ? 1u << c : 0;
	}
	return held;
}

static double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

/* By the formulas of kernels/steer.h: s, the number that it was made from, and the layer weights of the gate. */
struct reference {
	double s, gate, w[LAYERS];
};

/* z = fc2 relu(fc1 x + b1) + b2. */
static void reference_network(const struct tt_steer_slot *slot, const double *x, uint32_t n, double z[1 + LAYERS])
{
	double units[MAX_UNITS];
	for (uint32_t u = 0; u < slot->n_units; u++)
		units[u] = fmax(0, reference_dot(x, n, slot->fc1_weight + (size_t)u * n, slot->fc1_bias[u]));
	for (uint32_t o = 0; o < 1 + LAYERS; o++)
		z[o] = reference_dot(units, slot->n_units, slot->fc2_weight + o * slot->n_units, slot->fc2_bias[o]);
}

static struct reference reference_decision(const struct gates *g, const struct tt_decision_plan *d)
{
	const struct tt_steer_slot *slot = &g->host[d->slot];
	const struct gate_kind *kind = &kinds[d->slot];
	struct reference r = {1, 1, {1, 1, 1, 1, 1}};
	double x[4 * HIDDEN], z[1 + LAYERS];
	uint32_t n = gather(g, d, x);
	reference_network(slot, x, n, z);
	if (kind->gate == TT_GATE_PROBE)
		r.gate = sigmoid(reference_dot(x, n, slot->gate_weight, slot->gate_bias));
	if (kind->gate == TT_GATE_COSINE)
		r.gate = reference_cosine(x, n, slot->gate_weight);
	if (kind->gate == TT_GATE_RULE)
		r.gate = reference_rule(slot, x, n);
	if (kind->gate == TT_GATE_MLP)
		r.gate = z[0];
	if (kind->gate == TT_GATE_PROBE_MLP)
		r.gate = sigmoid(reference_dot(x, n, slot->gate_weight, slot->gate_bias) + z[0]);
	if (kind->gate == TT_GATE_MLP)
		r.s = kind->form ? z[0] : sigmoid(z[0]);
	else if (kind->gate == TT_GATE_RULE)
		r.s = r.gate == (d->slot == 13 ? 1 : 2);
	else if (kind->gate != TT_GATE_ALWAYS)
		r.s = kind->gate == TT_GATE_COSINE && kind->form ? r.gate < 0.5 : r.gate > 0.5;
	bool learned = kind->gate == TT_GATE_MLP || (kind->gate == TT_GATE_PROBE_MLP && kind->form);
	for (uint32_t l = 0; learned && l < LAYERS; l++)
		r.w[l] = sigmoid(z[1 + l]);
	return r;
}

static struct tt_step_plan *make_decisions(void)
{
	struct tt_step_plan counts = {};
	counts.n_tokens = counts.n_seqs = 1;
	counts.n_decisions = MANY;
	counts.n_captures = CAPTURES;
	counts.n_rows = ROWS;
	struct tt_step_plan *step = op_step(counts);
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t slot = i % SLOTS, round = i / SLOTS;
		struct tt_decision_plan d = {3 + i, slot, kinds[slot].after, (slot + round) % CAPTURES,
			(slot + 2 * round + 1) % CAPTURES, i % 7 == 6 && slot != 3 ? 0 : 1.25f};
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
	memset(o, 0x7f, sizeof *o); /* stands for what the former owner of each row has left */
}

static void on_cpu(
	const struct gates *g, const struct tt_step_plan *step, const int32_t *layers, uint32_t n, struct outcome *o)
{
	struct tt_backend *cpu;
	poison(o);
	OP_OK(tt_cpu_open(&cpu, 1, &op_error));
	for (uint32_t i = 0; i < n; i++) {
		struct tt_control_args args = {config(), step, layers[i], g->host, g->captured, o->coef[0], o->results,
			o->decided[0], MAX_UNITS};
		OP_OK(cpu->control(cpu, &args, &op_error));
	}
	cpu->close(cpu);
}

static void upload_slots(const struct gates *g, struct tt_steer_slot slots[SLOTS])
{
	for (uint32_t s = 0; s < SLOTS; s++) {
		slots[s] = g->host[s];
		slots[s].weights = op_upload(g->weights[s], LAYERS);
		slots[s].observed = op_upload(kinds[s].observed, 2);
		slots[s].gate_weight = op_upload(g->gate_weight[s], CONDITIONS * 4 * HIDDEN);
		slots[s].thresholds = op_upload(thresholds, CONDITIONS);
		if (!kinds[s].n_units)
			continue;
		bool fixed = kinds[s].gate == TT_GATE_PROBE_MLP && kinds[s].form == 0;
		uint32_t n_units = kinds[s].n_units, n_outputs = fixed ? 1 : 1 + LAYERS;
		slots[s].fc1_weight = op_upload(g->fc1_weight[s], (size_t)n_units * vectors(s) * HIDDEN);
		slots[s].fc1_bias = op_upload(g->fc1_bias[s], n_units);
		slots[s].fc2_weight = op_upload(g->fc2_weight[s], n_outputs * n_units);
		slots[s].fc2_bias = op_upload(g->fc2_bias[s], n_outputs);
	}
}

static void on_emulator(
	const struct gates *g, const struct tt_step_plan *step, const int32_t *layers, uint32_t n, struct outcome *o)
{
	struct tt_steer_slot slots[SLOTS];
	uint64_t launches = op_cuda.counters.launches;
	upload_slots(g, slots);
	poison(o);
	op_begin(step, 1, 0);
	struct tt_control_args args = {config(), step, 0, op_upload(slots, SLOTS),
		op_upload(g->captured, CAPTURES * LAYERS * HIDDEN), op_upload(o->coef[0], ROWS * LAYERS),
		op_upload(o->results, MANY), op_upload(o->decided[0], MANY * LAYERS), MAX_UNITS};
	for (uint32_t i = 0; i < n; i++) {
		args.layer_index = layers[i];
		OP_OK(tt_cuda_control(&op_cuda.base, &args, &op_error));
	}
	op_download(o->coef[0], args.coef, ROWS * LAYERS);
	op_download(o->decided[0], args.decided, MANY * LAYERS);
	op_download(o->results, args.results, MANY);
	cr_assert_eq(op_cuda.counters.launches, launches + n); /* one launch an op */
}

/* After each layer, and after all in every order, the values are those of the formula, and the bits are those of the
 * CPU twin. (The two sum in different orders, which changes a sum by some 1e-16 of its terms; the rounding of the gate
 * to f32 hides that here.) */
Test(emu_control, gates_and_rows)
{
	static const int32_t layers[] = {-1, 0, 1, 3};
	struct gates *g = make_gates();
	struct tt_step_plan *step = make_decisions();
	struct outcome *got = (struct outcome *)malloc(sizeof *got), *twin = (struct outcome *)malloc(sizeof *twin);
	uint32_t opened[SLOTS] = {};
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		for (uint32_t n = order == TT_EMU_FORWARD ? 1 : 4; n <= 4; n++) {
			op_open((enum tt_emu_order)order, 3, MANY * MAX_UNITS * sizeof(double));
			on_cpu(g, step, layers, n, twin);
			on_emulator(g, step, layers, n, got);
			cr_assert_eq(memcmp(got, twin, sizeof *got), 0, "order %d, %u layers", order, n);
		}
	}
	for (uint32_t i = 0; i < MANY; i++) {
		const struct tt_decision_plan *d = &tt_step_decisions(step)[i];
		struct reference r = reference_decision(g, d);
		double bound = 1e-7 * (1 + fabs(r.gate)); /* the rounding of f32 */
		cr_assert_float_eq(
			got->results[i].gate, r.gate, bound, "%u: %g, not %g", i, got->results[i].gate, r.gate);
		cr_assert_float_eq(got->results[i].s, r.s, bound);
		opened[d->slot] += r.s != 0;
		for (uint32_t l = 0; l < LAYERS; l++) {
			float c = (float)(d->scale * r.s * r.w[l] * g->weights[d->slot][l] *
					  (d->slot == 3 ? INFINITY : 1.5));
			bool zero = d->scale == 0 || r.s == 0 || l == 2;
			float is = got->coef[d->row][l];
			cr_assert(is == (zero ? 0 : c) || fabsf(is - c) < 1e-6f, "%u, layer %u: %g", i, l, is);
			cr_assert_not(zero && signbit(is));
		}
	}
	for (uint32_t s = 1; s < SLOTS; s++)
		if (kinds[s].gate != TT_GATE_ALWAYS && kinds[s].gate != TT_GATE_MLP) /* both outcomes were seen */
			cr_assert(opened[s] > 0 && opened[s] < MANY / SLOTS, "slot %u opened %u times", s, opened[s]);
	free(g);
	free(step);
	free(got);
	free(twin);
}

/* The rows of the step's decisions are cleared before the first layer, and all others stay. Without decisions nothing
 * changes. */
Test(emu_control, clears_only_its_rows)
{
	static const int32_t first = -1, seventh = 7;
	struct gates *g = make_gates();
	struct tt_step_plan *step = make_decisions();
	struct outcome *got = (struct outcome *)malloc(sizeof *got), *before = (struct outcome *)malloc(sizeof *before);
	poison(before);
	op_open(TT_EMU_RANDOM, 9, MANY * MAX_UNITS * sizeof(double));
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

/* Makes n decisions and returns the last, which is the same in all the steps below. 256 others before it are more than
 * a block finds at a time. */
static void decide_many(const struct gates *g, uint32_t n, uint32_t slot, uint32_t grid_units, float row[LAYERS],
	struct tt_decision_result *result)
{
	struct tt_step_plan counts = {};
	counts.n_tokens = counts.n_seqs = 1;
	counts.n_decisions = n;
	counts.n_captures = CAPTURES;
	counts.n_rows = n + 1;
	struct tt_step_plan *step = op_step(counts);
	for (uint32_t i = 0; i < n; i++) {
		struct tt_decision_plan others = {1 + i, i % 8 ? 0 : slot, i % 8 ? -1 : 3, i % 2, i % 3, 1};
		struct tt_decision_plan last = {1 + i, slot, 3, 2, 1, 1.25f};
		tt_step_decisions(step)[i] = i + 1 == n ? last : others;
	}
	op_open(TT_EMU_RANDOM, n, n * grid_units * sizeof(double));
	op_begin(step, 1, 0);
	struct tt_steer_slot slots[SLOTS];
	upload_slots(g, slots);
	struct tt_decision_result *results = op_device<struct tt_decision_result>(n);
	float *decided = op_device<float>(n * LAYERS);
	struct tt_control_args args = {config(), step, 3, op_upload(slots, SLOTS),
		op_upload(g->captured, CAPTURES * LAYERS * HIDDEN), op_device<float>((n + 1) * LAYERS), results,
		decided, grid_units};
	OP_OK(tt_cuda_control(&op_cuda.base, &args, &op_error));
	op_download(row, decided + (n - 1) * LAYERS, LAYERS);
	op_download(result, results + n - 1, 1);
	uint32_t arrivals[300];
	op_download(arrivals, op_cuda.arrivals, n);
	for (uint32_t i = 0; i < n; i++)
		cr_assert_eq(arrivals[i], 0, "counter %u", i);
	free(step);
}

/* The bits of a decision depend only on its prompt and its gate, not on how many decisions share the step, nor on how
 * wide another policy makes the grid. */
Test(emu_control, a_decision_keeps_its_bits_in_any_company)
{
	static const uint32_t counts[] = {1, 9, 258};
	struct gates *g = make_gates();
	uint32_t seen = 0;
	for (uint32_t slot = 4; slot < SLOTS; slot++) {
		float alone[LAYERS], row[LAYERS];
		struct tt_decision_result first, result;
		decide_many(g, 1, slot, kinds[slot].n_units, alone, &first);
		cr_assert_neq(alone[0], 0);
		for (uint32_t n : counts) {
			if (n > 9 && seen & 1u << kinds[slot].gate) /* how decisions are found depends on no form */
				continue;
			decide_many(g, n, slot, 400, row, &result);
			cr_assert_eq(memcmp(row, alone, sizeof row), 0, "slot %u among %u", slot, n);
			cr_assert_eq(memcmp(&result, &first, sizeof result), 0, "slot %u among %u", slot, n);
		}
		seen |= 1u << kinds[slot].gate;
	}
	free(g);
}

/* The slots above have every gate of the table. One that is in no row, which has no case in the kernel, does not
 * steer. */
Test(emu_control, a_gate_without_a_case_does_not_steer)
{
	static const float zeros[LAYERS] = {};
	struct gates *g = make_gates();
	uint32_t seen = 0;
	for (uint32_t s = 0; s < SLOTS; s++)
		seen |= 1u << kinds[s].gate;
	cr_assert_eq(seen, (1u << tt_n_gates()) - 1, "a gate of the table is in none of the slots");
	g->host[10].gate = (enum tt_policy_gate)tt_n_gates(); /* the slot of a probe that would open */
	float row[LAYERS];
	struct tt_decision_result result;
	decide_many(g, 1, 10, 0, row, &result);
	cr_assert(isnan(result.gate));
	cr_assert_eq(result.s, 0);
	cr_assert_eq(memcmp(row, zeros, sizeof row), 0);
	free(g);
}

/* As on the CPU, a NaN passes through the rectifier and then steers nothing. */
Test(emu_control, a_network_or_a_rule_of_nan_does_not_steer)
{
	static const uint32_t slots[] = {5, 8, 9, 14};
	static const float zeros[LAYERS] = {};
	struct gates *g = make_gates();
	g->captured[2 * LAYERS * HIDDEN + 7] = NAN;      /* layer 0 of row 2, which slots 5, 8 and 14 read */
	g->captured[(LAYERS + 3) * HIDDEN + 2000] = NAN; /* layer 3 of the means, which slot 9 reads */
	for (uint32_t slot : slots) {
		float row[LAYERS];
		struct tt_decision_result result;
		decide_many(g, 1, slot, kinds[slot].n_units, row, &result);
		cr_assert(isnan(result.gate));
		cr_assert_eq(result.s, 0);
		cr_assert_eq(memcmp(row, zeros, sizeof row), 0);
	}
	free(g);
}

/* Weights are read once, in whole sectors, 16 bytes a thread. */
Test(emu_control, an_mlp_reads_its_weights_once)
{
	struct gates *g = make_gates();
	float row[LAYERS];
	struct tt_decision_result result;
	uint64_t fc1 = (uint64_t)MAX_UNITS * 2 * HIDDEN * sizeof(float);
	decide_many(g, 1, 4, MAX_UNITS, row, &result);
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	/* Counted in the sectors that warps touch. Besides the matrix there are the words of the slot, once a warp, and
	 * the padding of the last block. */
	const struct tt_emu_traffic *read = &tt_emu_counted()->loads[TT_TRAFFIC_DIRECTION];
	cr_assert_geq(32 * read->sectors, fc1);
	cr_assert_leq(
		32 * read->sectors, fc1 + fc1 / 10, "%zu bytes for %zu", (size_t)(32 * read->sectors), (size_t)fc1);
	free(g);
}
