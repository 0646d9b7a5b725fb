/* The gates: x_c from the captured rows, the controller's scalar, and the row of coefficients it makes. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* w . x_c + b in double: a few thousand terms once a prompt, so exactness is free. */
static double probe(const struct tt_control_args *args, const struct tt_steer_slot *slot, uint32_t capture)
{
	size_t hidden = args->config->hidden_size, n_layers = args->config->n_layers;
	double sum = (double)slot->gate_bias;
	for (uint32_t i = 0; i < slot->n_observed; i++) {
		const float *x = args->captured + (capture * n_layers + slot->observed[i]) * hidden;
		const float *w = slot->gate_weight + i * hidden;
		for (size_t k = 0; k < hidden; k++)
			sum += (double)w[k] * (double)x[k];
	}
	return sum;
}

static struct tt_decision_result decide(
	const struct tt_control_args *args, const struct tt_steer_slot *slot, uint32_t capture)
{
	struct tt_decision_result result = {1, 1};
	if (slot->gate == TT_GATE_PROBE) {
		result.gate = (float)(1 / (1 + exp(-probe(args, slot, capture))));
		result.s = result.gate > slot->threshold ? 1 : 0;
	}
	return result;
}

/* A row still holds what its former owner left, and in a step that decides and steers the layers up to the decision
 * read it. */
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
	uint32_t n_layers = args->config->n_layers;
	(void)backend;
	(void)err;
	if (args->layer_index < 0)
		clear_rows(args);
	for (uint32_t i = 0; i < args->step->n_decisions; i++) {
		const struct tt_decision_plan *d = &decisions[i];
		if (d->after_layer != args->layer_index)
			continue;
		const struct tt_steer_slot *slot = &args->slots[d->slot];
		float *coef = args->coef + (size_t)d->row * n_layers;
		args->results[i] = decide(args, slot, d->capture);
		for (uint32_t l = 0; l < n_layers; l++) {
			float s = args->results[i].s, w = slot->weights[l], c = d->scale * slot->alpha * s * w;
			coef[l] = s == 0 || w == 0 || c == 0 ? 0.0f : c; /* never -0.0, nor NaN from infinity * 0 */
		}
		memcpy(args->decided + (size_t)i * n_layers, coef, n_layers * sizeof *coef);
	}
	return TT_OK;
}
