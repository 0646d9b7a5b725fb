/* h = steer(h + ffn * w_down^T + bias), the product normalised where the layer has a norm for it; then the output is
 * captured. */
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/jobs.h"

static void capture_token(const struct tt_down_proj_args *args, uint32_t token)
{
	size_t hidden = args->config->hidden_size;
	int32_t row = tt_step_captures(args->step)[token];
	if (args->captured && row >= 0)
		memcpy(args->captured + ((size_t)row * args->config->n_layers + args->layer_index) * hidden,
			args->h + token * hidden, hidden * sizeof *args->h);
}

struct steer_job {
	const struct tt_cpu_body *body;
	const struct tt_down_proj_args *args;
	float *scratch; // [n_threads][stride]
	size_t stride;
};

static void steer_rows(void *context, uint32_t job, uint32_t thread)
{
	const struct steer_job *all = context;
	uint32_t first = job * TT_CPU_ROWS_A_JOB, left = all->args->step->n_tokens - first;
	uint32_t end = first + (left < TT_CPU_ROWS_A_JOB ? left : TT_CPU_ROWS_A_JOB);
	for (uint32_t t = first; t < end; t++) {
		tt_cpu_steer(all->body, all->args, t, all->scratch + thread * all->stride);
		capture_token(all->args, t);
	}
}

/* Whether any token is steered, captured or asked for norms. In an unsteered step none is, and no thread need be
 * woken. */
static bool steers(const struct tt_down_proj_args *args)
{
	const uint16_t *rows = tt_step_coef_rows(args->step);
	const int32_t *captures = tt_step_captures(args->step);
	bool any = args->norms != NULL;
	for (size_t i = 0; i < (size_t)args->step->n_tokens * TT_STACK; i++)
		any |= rows[i] != 0;
	for (size_t t = 0; t < args->step->n_tokens && args->captured; t++)
		any |= captures[t] >= 0;
	return any;
}

/* What the op after this one reads: of the next layer, or the logits'. */
static const struct tt_matrix *matrix_after(const struct tt_cpu *cpu, uint32_t layer)
{
	const struct tt_model *model = cpu->model;
	return !model ? NULL : layer + 1 < cpu->config.n_layers ? &model->layers[layer + 1].wq : &model->output;
}

int tt_cpu_down_proj(struct tt_backend *backend, const struct tt_down_proj_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_layer *layer = args->layer;
	uint32_t n = args->step->n_tokens;
	struct tt_cpu_residual residual = {&layer->w_down, layer->b_down, args->ffn, layer->ffn_post_norm,
		args->config->rms_norm_eps, n, args->config->hidden_size, args->h,
		matrix_after(cpu, args->layer_index)};
	struct steer_job steer = {.body = cpu->body, .args = args};
	TT_TRY(tt_cpu_add_residual(cpu, &residual, err));
	if (!steers(args))
		return TT_OK;
	TT_TRY(tt_cpu_thread_scratch(cpu, args->config->hidden_size, &steer.scratch, &steer.stride, err));
	tt_threads_run(cpu->threads, (n + TT_CPU_ROWS_A_JOB - 1) / TT_CPU_ROWS_A_JOB, steer_rows, &steer);
	return TT_OK;
}
