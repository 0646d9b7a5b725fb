#include "runtime/engine/forward.h"

#include "base/fail.h"

/* Where a step's operations write. Some fill no norms; some capture more rows than fit beside the other results. */
static struct tt_results outputs_of(const struct tt_forward_state *s, const struct tt_step_plan *step)
{
	struct tt_results outputs = s->outputs;
	if (!(step->wants & TT_WANT_NORMS))
		outputs.norms = NULL;
	if (step->n_captures > s->limits.n_inline_captures)
		outputs.captured = s->captured;
	return outputs;
}

/* Sums the layer's output for the gates that read its mean. */
static int pool(struct tt_forward_state *s, const struct tt_kv_pages *kv, const struct tt_step_plan *step,
	uint32_t layer, const struct tt_results *outputs, struct tt_error *err)
{
	uint32_t record;
	bool due = false;
	for (uint32_t i = 0; i < step->n_pools && !due; i++)
		due = tt_pool_reads(&tt_step_pools(step)[i], layer, &record);
	if (!due)
		return TT_OK;
	return s->backend->pool(s->backend,
		&(struct tt_pool_args){
			&s->model->config, step, layer, s->backend->activations.h, kv->sums, outputs->captured},
		err);
}

/* Runs the gates whose last observed layer this is. They run right after it, so that they can steer the later layers of
 * the same pass. */
static int control(struct tt_forward_state *s, const struct tt_step_plan *step, int32_t layer,
	const struct tt_results *outputs, struct tt_error *err)
{
	const struct tt_decision_plan *plan = tt_step_decisions(step);
	bool due = layer < 0 && step->n_decisions > 0;
	for (uint32_t i = 0; i < step->n_decisions && !due; i++)
		due = plan[i].after_layer == layer;
	if (!due)
		return TT_OK;
	return s->backend->control(s->backend,
		&(struct tt_control_args){&s->model->config, step, layer, s->slots, outputs->captured, s->coef,
			outputs->decisions, outputs->decided, s->max_units},
		err);
}

/* Whether the last layer of a step leaves out the tokens that give no sample, which is all of a prompt but its last
 * token as a rule. That saves a 30th of SmolLM2's prefill, a 16th of a 1B model's. Not if norms are reported, since
 * those are for all tokens. */
static bool narrows(const struct tt_forward_state *s, const struct tt_step_plan *step, uint32_t l)
{
	return l + 1 == step->n_layers && s->backend->narrow && !(step->wants & TT_WANT_NORMS) &&
	       step->n_samples < step->n_tokens;
}

/* One block. In the last layer, *of may be replaced by a plan with only the tokens that are needed after it. */
static int block(struct tt_forward_state *s, const struct tt_kv_pages *kv, const struct tt_step_plan **of, uint32_t l,
	const struct tt_results *outputs, struct tt_error *err)
{
	const struct tt_step_plan *step = *of;
	struct tt_backend *b = s->backend;
	const struct tt_activations *a = &b->activations;
	const struct tt_model *m = s->model;
	const struct tt_config *config = &m->config;
	const struct tt_layer *layer = &m->layers[l];
	const float *next_norm = l + 1 < config->n_layers ? m->layers[l + 1].attn_norm : m->output_norm;

	const float *frequencies =
		s->local_frequencies && tt_config_window(config, l) ? s->local_frequencies : s->inverse_frequencies;

	/* attention norm, q k v, biases, rotation, append to the KV pages */
	TT_TRY(b->qkv(b, &(struct tt_qkv_args){config, step, layer, l, frequencies, a->h, a->q, kv}, err));
	if (narrows(s, step, l))
		TT_TRY(b->narrow(b, &(struct tt_narrow_args){config, step, a->h, a->q, of}, err));
	const struct tt_step_plan *whole = step;
	step = *of;
	if (step->n_tokens == 0)
		return control(s, whole, (int32_t)l, outputs, err);
	/* attention over the pages */
	TT_TRY(b->attention(b, &(struct tt_attention_args){config, step, l, a->q, a->attention, kv}, err));
	/* output projection, perhaps a norm, residual */
	TT_TRY(b->o_proj(b, &(struct tt_o_proj_args){config, step, layer, a->attention, a->h}, err));
	/* feed-forward norm, gate and up, activation */
	TT_TRY(b->gate_up(b, &(struct tt_gate_up_args){config, step, layer, a->h, a->ffn}, err));
	/* down projection, perhaps a norm, residual, steering, capture */
	TT_TRY(b->down_proj(b,
		&(struct tt_down_proj_args){config, step, layer, l, a->ffn, a->h, s->slots, s->coef, outputs->captured,
			outputs->norms, next_norm},
		err));
	TT_TRY(pool(s, kv, step, l, outputs, err));
	return control(s, whole, (int32_t)l, outputs, err);
}

static int ops(struct tt_forward_state *s, const struct tt_kv_pages *kv, const struct tt_step_plan *step,
	const struct tt_results *outputs, struct tt_error *err)
{
	struct tt_backend *b = s->backend;
	const struct tt_model *m = s->model;
	float *h = b->activations.h;

	TT_TRY(control(s, step, -1, outputs, err));
	TT_TRY(b->embed(b,
		&(struct tt_embed_args){&m->config, step, &m->embedding, s->outputs.samples, h, m->layers[0].attn_norm},
		err));
	for (uint32_t l = 0; l < step->n_layers; l++)
		TT_TRY(block(s, kv, &step, l, outputs, err));
	if (step->n_samples == 0)
		return TT_OK;
	/* final norm and logits, only for the rows that sample or are scored */
	TT_TRY(b->logits(
		b, &(struct tt_logits_args){&m->config, step, m->output_norm, &m->output, h, outputs->logits}, err));
	return b->sample(b, &(struct tt_sample_args){&m->config, step, outputs->logits, outputs->samples}, err);
}

int tt_forward_submit(
	struct tt_forward_state *s, const struct tt_kv_pages *kv, const struct tt_step_plan *step, struct tt_error *err)
{
	const struct tt_results outputs = outputs_of(s, step);
	bool recorded = false;
	TT_TRY(s->backend->begin(s->backend, step, &recorded, err));
	if (!recorded)
		TT_TRY(ops(s, kv, step, &outputs, err));
	return s->backend->end(s->backend, step, &outputs, err);
}

int tt_forward_wait(struct tt_forward_state *s, struct tt_results *results, struct tt_error *err)
{
	return s->backend->finish(s->backend, results, err);
}
