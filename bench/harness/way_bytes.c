#include "bench/harness/way_bytes.h"

#include "bench/harness/engine_cases.h"
#include "controller/policy/policy.h"

static double passes_of(uint32_t n_tokens, uint32_t n_batch)
{
	return n_batch ? (double)((n_tokens + n_batch - 1) / n_batch) : 1;
}

/* What each step reads of a policy: the tensors of the layers that it steers. */
static double operation_bytes(const struct tt_policy *p)
{
	const struct tt_policy_row *row = &tt_operation_of(p->op)->row;
	double n_steered = 0, floats = 0;
	for (uint32_t l = 0; l < p->n_layers; l++)
		n_steered += p->weights[l] != 0;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		floats += (double)tt_tensor_part(p, row->tensors[i].shape) *
			  (tt_tensor_is_layered(row->tensors[i].shape) ? n_steered : 1);
	return floats * sizeof(float);
}

static double gate_bytes(const struct tt_policy *p)
{
	const struct tt_policy_row *row = &tt_gate_of(p->gate)->row;
	double floats = 0;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		floats += (double)tt_tensor_size(p, row->tensors[i].shape);
	return floats * sizeof(float);
}

double tt_token_way_extra(
	const struct tt_token_lab *lab, const struct tt_token_way *way, const struct tt_token_test *test)
{
	const struct tt_model_info *info = tt_engine_info(lab->engine);
	double step = tt_lab_step_bytes(info), extra = 0;
	double prompt_passes = test->n_prompt ? passes_of(test->n_prompt, lab->n_batch) : 1;
	double n_passes = test->n_gen + (test->n_prompt ? prompt_passes : 0);
	uint32_t n_policies = way->by_row ? way->size : way->n_steering;
	for (uint32_t i = 0; i < n_policies; i++) {
		const struct tt_policy *p = way->by_row ? way->by_row[i] : way->steering[i].policy;
		extra += n_passes * operation_bytes(p) + (test->n_given ? 0 : gate_bytes(p));
	}
	if (way->captures && !test->n_given) {
		double n_kept = (double)(test->n_prompt ? test->n_prompt : 1) * (lab->n_rows ? lab->n_rows : 1);
		extra += n_kept * info->n_layers * info->hidden_size * sizeof(float);
	}
	/* A prompt of several passes is not steered in the pass that decides. */
	if (!test->n_given && (way->runs_again || (way->has_gate && prompt_passes > 1)))
		extra += prompt_passes * step;
	return extra / (n_passes * step);
}
