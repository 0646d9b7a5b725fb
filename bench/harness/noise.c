#include "bench/harness/noise.h"

#include <math.h>
#include <stdio.h>

#include "base/fail.h"
#include "bench/harness/harness.h"
#include "controller/policy/policy.h"

enum { N_OBSERVED = 3, N_UNITS = 64, AFFINE_ROWS = 4 };

/* Of a gate: small beside its bias, so that the gate is open whatever it reads. */
#define FAINT 1e-6f
#define OPEN 20

static void fill(float *values, size_t n, float size, uint64_t *state)
{
	for (size_t i = 0; values && i < n; i++)
		values[i] = (tt_bench_draw(state) & 1 ? size : -size) *
			    (0.5f + (float)(tt_bench_draw(state) >> 40) * 0x1p-24f);
}

/* Each direction [d] gets unit length. */
static void normalise(float *directions, size_t n, size_t d)
{
	for (size_t row = 0; row < n; row++, directions += d) {
		double squares = 0;
		for (size_t i = 0; i < d; i++)
			squares += (double)directions[i] * directions[i];
		for (size_t i = 0; i < d; i++)
			directions[i] = (float)(directions[i] / sqrt(squares));
	}
}

static int set_operation(struct tt_policy *p, const struct tt_noise *noise, uint64_t *state, struct tt_error *err)
{
	TT_TRY(tt_policy_set_operation(p, noise->op, err));
	p->form = noise->form;
	const struct tt_policy_row *row = &tt_operation_of(noise->op)->row;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		fill(tt_tensor_values(p, &row->tensors[i]), tt_tensor_size(p, row->tensors[i].shape),
			1 / sqrtf((float)p->hidden_size), state);
	normalise(p->directions, (size_t)p->n_layers * p->n_directions, p->hidden_size);
	return TT_OK;
}

static int set_gate(struct tt_policy *p, const struct tt_noise *noise, uint64_t *state, struct tt_error *err)
{
	const struct tt_gate *gate = tt_gate_of(noise->gate);
	uint32_t observed[N_OBSERVED], n = 0;
	for (uint32_t l = p->n_layers / 3; n < N_OBSERVED && l < p->n_layers; l += p->n_layers / 6 + 1)
		observed[n++] = l;
	const struct tt_gate_choice choice = {.gate = noise->gate,
		.pool = gate->observes ? TT_POOL_LAST_MEAN : TT_POOL_LAST,
		.observed = observed,
		.n_observed = gate->observes ? n : 0,
		.n_units = gate->units ? N_UNITS : 0,
		.rule = gate->rule ? "a or b" : NULL};
	TT_TRY(tt_policy_set_gate(p, &choice, err));
	for (uint32_t i = 0; i < gate->row.n_tensors; i++)
		fill(tt_tensor_values(p, &gate->row.tensors[i]), tt_tensor_size(p, gate->row.tensors[i].shape), FAINT,
			state);
	p->gate_bias = OPEN;
	if (p->fc2_bias)
		p->fc2_bias[0] = OPEN;
	p->threshold = gate->least;
	for (uint32_t k = 0; p->thresholds && k < p->rule.n; k++)
		p->thresholds[k] = gate->least;
	return TT_OK;
}

static int make(
	struct tt_policy *p, const struct tt_model_info *info, const struct tt_noise *noise, struct tt_error *err)
{
	uint64_t seed = noise->seed, state = tt_bench_draw(&seed);
	TT_TRY(set_operation(p, noise, &state, err));
	TT_TRY(set_gate(p, noise, &state, err));
	uint32_t first = noise->first_layer;
	if (noise->behind_gate && p->n_observed && p->observed[p->n_observed - 1] + 1 < p->n_layers)
		first = p->observed[p->n_observed - 1] + 1;
	for (uint32_t l = first; l < p->n_layers; l++)
		if (noise->n_layers == 0 || l - first < noise->n_layers)
			p->weights[l] = 1;
	p->when = TT_WHEN_ALL;
	TT_TRY(tt_policy_set_text(&p->name, "noise", err));
	TT_TRY(tt_policy_set_text(&p->fingerprint, info->fingerprint, err));
	TT_TRY(tt_policy_set_text(&p->weights_digest, info->weights_digest, err));
	return tt_policy_finish(p, err);
}

int tt_noise_policy(
	struct tt_policy **out, const struct tt_model_info *info, const struct tt_noise *noise, struct tt_error *err)
{
	const struct tt_operation *op = tt_operation_of(noise->op);
	uint32_t n_rows = op->max_rows < AFFINE_ROWS ? op->max_rows : AFFINE_ROWS;
	struct tt_policy *p = NULL;
	*out = NULL;
	if (noise->op != TT_OP_AFFINE)
		n_rows = op->min_rows;
	int status = tt_policy_new(&p, info->n_layers, info->hidden_size, n_rows, err);
	if (status == TT_OK)
		status = make(p, info, noise, err);
	if (status == TT_OK)
		*out = p;
	else
		tt_policy_free(p);
	return status;
}

int tt_bench_synthetic_policy(
	struct tt_policy **out, const struct tt_model_info *info, int layer, uint64_t seed, struct tt_error *err)
{
	const struct tt_noise noise = {
		.first_layer = layer < 0 ? 0 : (uint32_t)layer, .n_layers = layer >= 0, .seed = seed};
	return tt_noise_policy(out, info, &noise, err);
}
