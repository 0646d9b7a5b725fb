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

/* w . x_c + bias for one row of weights, with the observed layers in their order. */
static double read_out(const struct tt_control_args *args, const struct tt_steer_slot *slot, uint32_t capture,
	const float *w, float bias)
{
	size_t hidden = args->config->hidden_size, n_layers = args->config->n_layers;
	double sum = (double)bias;
	for (size_t i = 0; i < slot->n_observed; i++)
		sum += wide_dot(
			w + i * hidden, args->captured + (capture * n_layers + slot->observed[i]) * hidden, hidden);
	return sum;
}

/* x.v, v.v and x.x, where x is x_c, and v is the condition vector w or, element by element, tanh(share * w). */
struct cosine_sums {
	double xv, vv, xx;
};

static struct cosine_sums sum_cosine(const struct tt_control_args *args, const struct tt_steer_slot *slot,
	uint32_t capture, bool projected, double share)
{
	size_t hidden = args->config->hidden_size, n_layers = args->config->n_layers;
	struct cosine_sums sums = {0};
	for (size_t i = 0; i < slot->n_observed; i++) {
		const float *w = slot->gate_weight + i * hidden,
			    *x = args->captured + (capture * n_layers + slot->observed[i]) * hidden;
		for (size_t k = 0; k < hidden; k++) {
			double v = projected ? tanh(share * (double)w[k]) : (double)w[k];
			sums.xv += (double)x[k] * v;
			sums.vv += v * v;
			sums.xx += (double)x[k] * (double)x[k];
		}
	}
	return sums;
}

static double similarity(const struct tt_control_args *args, const struct tt_steer_slot *slot, uint32_t capture)
{
	struct cosine_sums given = sum_cosine(args, slot, capture, false, 0);
	struct cosine_sums projected = sum_cosine(args, slot, capture, true, given.xv / given.vv);
	return tt_steer_cosine(projected.xv, projected.vv, projected.xx);
}

static double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

/* Hidden units in one job of fc1. Each unit reads a row of weights as long as x_c. */
enum { UNITS_A_JOB = 16 };

struct fc1_job {
	const struct tt_control_args *args;
	const struct tt_steer_slot *slot;
	uint32_t capture;
	double *units; // [n_units]
};

static void fc1(void *context, uint32_t job, uint32_t thread)
{
	const struct fc1_job *all = context;
	const struct tt_steer_slot *slot = all->slot;
	size_t n_in = (size_t)slot->n_observed * all->args->config->hidden_size;
	(void)thread;
	for (uint32_t u = job * UNITS_A_JOB; u < slot->n_units && u < (job + 1) * UNITS_A_JOB; u++) {
		double z = read_out(all->args, slot, all->capture, slot->fc1_weight + u * n_in, slot->fc1_bias[u]);
		all->units[u] = z <= 0 ? 0 : z; /* a NaN passes through */
	}
}

/* Output 0 gives s, and output 1 + l the factor of w[l]. */
static double fc2(const struct tt_steer_slot *slot, const double *units, size_t output)
{
	const float *w = slot->fc2_weight + output * slot->n_units;
	double sum = (double)slot->fc2_bias[output];
	for (size_t u = 0; u < slot->n_units; u++)
		sum += (double)w[u] * units[u];
	return sum;
}

static int run_fc1(struct tt_cpu *cpu, const struct tt_control_args *args, const struct tt_steer_slot *slot,
	uint32_t capture, double **units, struct tt_error *err)
{
	uint64_t n_mul_adds = (uint64_t)slot->n_units * slot->n_observed * args->config->hidden_size;
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_Y, slot->n_units, sizeof **units, units, err));
	struct fc1_job job = {args, slot, capture, *units};
	tt_threads_run(tt_cpu_threads_for(cpu, n_mul_adds), (slot->n_units + UNITS_A_JOB - 1) / UNITS_A_JOB, fc1, &job);
	return TT_OK;
}

/* Makes the scalar, and for an mlp the units that its layer weights come from (NULL for other gates). */
static int decide(struct tt_cpu *cpu, const struct tt_control_args *args, const struct tt_decision_plan *d,
	struct tt_decision_result *result, double **units, struct tt_error *err)
{
	const struct tt_steer_slot *slot = &args->slots[d->slot];
	*result = (struct tt_decision_result){1, 1};
	*units = NULL;
	if (slot->gate == TT_GATE_PROBE) {
		result->gate = (float)sigmoid(read_out(args, slot, d->capture, slot->gate_weight, slot->gate_bias));
		result->s = tt_steer_opens(false, result->gate, slot->threshold);
	}
	if (slot->gate == TT_GATE_COSINE) {
		result->gate = (float)similarity(args, slot, d->capture);
		result->s = tt_steer_opens(slot->gate_form != 0, result->gate, slot->threshold);
	}
	if (slot->gate == TT_GATE_MLP) {
		TT_TRY(run_fc1(cpu, args, slot, d->capture, units, err));
		double z = fc2(slot, *units, 0);
		result->gate = (float)z;
		result->s = slot->gate_form ? result->gate : (float)sigmoid(z);
		if (!isfinite(result->s))
			result->s = 0;
	}
	return TT_OK;
}

static int run_decision(struct tt_cpu *cpu, const struct tt_control_args *args, uint32_t index, struct tt_error *err)
{
	const struct tt_decision_plan *d = &tt_step_decisions(args->step)[index];
	const struct tt_steer_slot *slot = &args->slots[d->slot];
	struct tt_decision_result *result = &args->results[index];
	uint32_t n_layers = args->config->n_layers;
	float *coef = args->coef + (size_t)d->row * n_layers;
	double *units;
	TT_TRY(decide(cpu, args, d, result, &units, err));
	for (uint32_t l = 0; l < n_layers; l++) {
		float w = slot->weights[l];
		if (units && w != 0)
			w *= (float)sigmoid(fc2(slot, units, 1 + l));
		coef[l] = tt_steer_coefficient(d->scale, slot->alpha, result->s, w);
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
