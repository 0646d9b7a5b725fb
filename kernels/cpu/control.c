/* The gates: from the captured rows x_c, the controller's scalar s, and with it the row of coefficients. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/cpu.h"

/* A dot product in double: there are at most a few million terms, once a prompt, so exactness is cheap. Eight partial
 * sums do not wait for each other. */
static double wide_dot(const float *a, const float *b, size_t n)
{
	enum { LANES = 8 };
	double lanes[LANES] = {0}, sum = 0;
	size_t k = 0;
	for (; k + LANES <= n; k += LANES)
		for (size_t j = 0; j < LANES; j++)
			lanes[j] += (double)a[k + j] * (double)b[k + j];
	for (; k < n; k++)
		lanes[k % LANES] += (double)a[k] * (double)b[k];
	for (size_t j = 0; j < LANES; j++)
		sum += lanes[j];
	return sum;
}

/* A decision and the gate that makes it. */
struct decision {
	const struct tt_control_args *args;
	const struct tt_decision_plan *plan;
	const struct tt_steer_slot *slot;
	uint32_t n_vectors; /* of x_c */
};

/* Vector i of x_c, [hidden]. */
static const float *input_vector(const struct decision *d, uint32_t i)
{
	const struct tt_steer_slot *slot = d->slot;
	bool mean = tt_gate_vector_is_mean(slot->pool, slot->n_observed, i);
	size_t row = mean ? d->plan->mean_capture : d->plan->capture, layer = slot->observed[i % slot->n_observed];
	return d->args->captured + (row * d->args->config->n_layers + layer) * d->args->config->hidden_size;
}

/* w . x_c + bias for one row of weights, with the vectors in their order. */
static double read_out(const struct decision *d, const float *w, float bias)
{
	size_t hidden = d->args->config->hidden_size;
	double sum = (double)bias;
	for (uint32_t i = 0; i < d->n_vectors; i++)
		sum += wide_dot(w + i * hidden, input_vector(d, i), hidden);
	return sum;
}

/* x.v, v.v and x.x, where x is x_c, and v is the condition vector w or, element by element, tanh(share * w). Of a
 * rule's condition x is 0 where w is. */
struct cosine_sums {
	double xv, vv, xx;
};

static struct cosine_sums sum_cosine(const struct decision *d, const float *weight, bool projected, double share)
{
	bool whole = d->slot->gate != TT_GATE_RULE;
	size_t hidden = d->args->config->hidden_size;
	struct cosine_sums sums = {0};
	for (uint32_t i = 0; i < d->n_vectors; i++) {
		const float *w = weight + i * hidden, *x = input_vector(d, i);
		for (size_t k = 0; k < hidden; k++) {
			double v = projected ? tanh(share * (double)w[k]) : (double)w[k];
			sums.xv += (double)x[k] * v;
			sums.vv += v * v;
			sums.xx += whole || w[k] != 0 ? (double)x[k] * (double)x[k] : 0;
		}
	}
	return sums;
}

static double similarity(const struct decision *d, const float *weight)
{
	struct cosine_sums given = sum_cosine(d, weight, false, 0);
	struct cosine_sums projected = sum_cosine(d, weight, true, given.xv / given.vv);
	return tt_steer_cosine(projected.xv, projected.vv, projected.xx);
}

/* Which conditions hold, a bit each; NaN if a similarity is. */
static double held(const struct decision *d)
{
	const struct tt_steer_slot *slot = d->slot;
	size_t n_in = (size_t)d->n_vectors * d->args->config->hidden_size;
	double sum = 0;
	for (uint32_t k = 0; k < slot->n_conditions; k++) {
		float p = (float)similarity(d, slot->gate_weight + k * n_in);
		if (isnan(p))
			return NAN;
		sum += tt_steer_opens(slot->below >> k & 1, p, slot->thresholds[k]) ? 1u << k : 0;
	}
	return sum;
}

static double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

/* Hidden units in one job of fc1. Each unit reads a row of weights as long as x_c. */
enum { UNITS_A_JOB = 16 };

struct fc1_job {
	const struct decision *decision;
	double *units; // [n_units]
};

static void fc1(void *context, uint32_t job, uint32_t thread)
{
	const struct fc1_job *all = context;
	const struct decision *d = all->decision;
	const struct tt_steer_slot *slot = d->slot;
	size_t n_in = (size_t)d->n_vectors * d->args->config->hidden_size;
	(void)thread;
	for (uint32_t u = job * UNITS_A_JOB; u < slot->n_units && u < (job + 1) * UNITS_A_JOB; u++) {
		double z = read_out(d, slot->fc1_weight + u * n_in, slot->fc1_bias[u]);
		all->units[u] = z <= 0 ? 0 : z; /* a NaN passes through */
	}
}

/* Output 0 has its part in s, and output 1 + l is that of the factor of w[l]. */
static double fc2(const struct tt_steer_slot *slot, const double *units, size_t output)
{
	const float *w = slot->fc2_weight + output * slot->n_units;
	double sum = (double)slot->fc2_bias[output];
	for (size_t u = 0; u < slot->n_units; u++)
		sum += (double)w[u] * units[u];
	return sum;
}

static int run_fc1(struct tt_cpu *cpu, const struct decision *d, double **units, struct tt_error *err)
{
	uint32_t n_units = d->slot->n_units;
	uint64_t n_mul_adds = (uint64_t)n_units * d->n_vectors * d->args->config->hidden_size;
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_Y, n_units, sizeof **units, units, err));
	struct fc1_job job = {d, *units};
	tt_threads_run(tt_cpu_threads_for(cpu, n_mul_adds), (n_units + UNITS_A_JOB - 1) / UNITS_A_JOB, fc1, &job);
	return TT_OK;
}

/* What the gate compares or makes s of, in double: a probability, a similarity, or the output of a network. A gate
 * without a case here gives NaN, which steers nothing. */
static int read_gate(struct tt_cpu *cpu, const struct decision *d, double *gate, double **units, struct tt_error *err)
{
	const struct tt_steer_slot *slot = d->slot;
	*gate = NAN;
	*units = NULL;
	switch (slot->gate) {
	case TT_GATE_ALWAYS:
		*gate = 1;
		break;
	case TT_GATE_PROBE:
		*gate = sigmoid(read_out(d, slot->gate_weight, slot->gate_bias));
		break;
	case TT_GATE_COSINE:
		*gate = similarity(d, slot->gate_weight);
		break;
	case TT_GATE_MLP:
		TT_TRY(run_fc1(cpu, d, units, err));
		*gate = fc2(slot, *units, 0);
		break;
	case TT_GATE_PROBE_MLP:
		TT_TRY(run_fc1(cpu, d, units, err));
		*gate = sigmoid(read_out(d, slot->gate_weight, slot->gate_bias) + fc2(slot, *units, 0));
		break;
	case TT_GATE_RULE:
		*gate = held(d);
		break;
	}
	return TT_OK;
}

static float scalar(const struct tt_steer_slot *slot, double gate)
{
	float s = 0;
	switch (slot->gate) {
	case TT_GATE_ALWAYS:
		s = 1;
		break;
	case TT_GATE_PROBE:
	case TT_GATE_COSINE:
	case TT_GATE_PROBE_MLP:
		s = tt_steer_opens(tt_gate_opens_below(slot->gate, slot->gate_form), (float)gate, slot->threshold);
		break;
	case TT_GATE_MLP:
		s = slot->gate_form ? (float)gate : (float)sigmoid(gate);
		break;
	case TT_GATE_RULE:
		s = !isnan(gate) && tt_steer_rule(slot->table, (uint32_t)gate);
		break;
	}
	return isfinite(s) ? s : 0;
}

static int run_decision(struct tt_cpu *cpu, const struct tt_control_args *args, uint32_t index, struct tt_error *err)
{
	const struct tt_decision_plan *plan = &tt_step_decisions(args->step)[index];
	const struct tt_steer_slot *slot = &args->slots[plan->slot];
	const struct decision d = {args, plan, slot, tt_gate_vectors(slot->pool, slot->n_observed)};
	uint32_t n_layers = args->config->n_layers;
	float *coef = args->coef + (size_t)plan->row * n_layers;
	double gate, *units;
	TT_TRY(read_gate(cpu, &d, &gate, &units, err));
	float s = scalar(slot, gate);
	args->results[index] = (struct tt_decision_result){s, (float)gate};
	for (uint32_t l = 0; l < n_layers; l++) {
		float w = slot->weights[l];
		if (w != 0 && tt_gate_learns_layers(slot->gate, slot->gate_form))
			w *= (float)sigmoid(fc2(slot, units, 1 + l));
		coef[l] = tt_steer_coefficient(plan->scale, slot->alpha, s, w);
	}
	memcpy(args->decided + (size_t)index * n_layers, coef, n_layers * sizeof *coef);
	return TT_OK;
}

/* A row still holds the coefficients of its former owner, and in a step that both decides and steers, the layers up to
 * the decision read them. */
static void clear_rows(const struct tt_control_args *args)
{
	const struct tt_decision_plan *decisions = tt_step_decisions(args->step);
	for (uint32_t i = 0; i < args->step->n_decisions; i++)
		memset(args->coef + (size_t)decisions[i].row * args->config->n_layers, 0,
			args->config->n_layers * sizeof(float));
}

int tt_cpu_control(struct tt_backend *backend, const struct tt_control_args *args, struct tt_error *err)
{
	const struct tt_decision_plan *decisions = tt_step_decisions(args->step);
	if (args->layer_index < 0)
		clear_rows(args);
	for (uint32_t i = 0; i < args->step->n_decisions; i++)
		if (decisions[i].after_layer == args->layer_index)
			TT_TRY(run_decision((struct tt_cpu *)backend, args, i, err));
	return TT_OK;
}
