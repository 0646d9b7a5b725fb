/* ffn = silu(gate) * up, or gelu(gate) * up, of the normalised h. A job computes the same outputs of both products, so
 * that gate is still in the cache when up needs it. */
#include "base/fail.h"
#include "kernels/cpu/exchange.h"
#include "kernels/cpu/jobs.h"

int tt_cpu_gate_up(struct tt_backend *backend, const struct tt_gate_up_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	const struct tt_layer *layer = args->layer;
	uint32_t n = args->step->n_tokens;
	size_t width = tt_cpu_padded(c->hidden_size);
	float *ffn = (float *)args->ffn + cpu->shard.ffn.first;
	struct tt_cpu_norm norm = {
		.h = args->h, .weight = layer->ffn_norm, .eps = c->rms_norm_eps, .hidden = c->hidden_size, .n_rows = n};
	TT_TRY(tt_cpu_norm(cpu, &norm, err));
	struct tt_cpu_product gate = {&layer->w_gate, layer->b_gate, norm.x, width, n, ffn, c->ffn_size, TT_CPU_STORE};
	struct tt_cpu_product up = {&layer->w_up, layer->b_up, norm.x, width, n, ffn, c->ffn_size,
		c->activation == TT_GELU_TANH ? TT_CPU_GELU_UP : TT_CPU_SILU_UP};
	struct tt_cpu_jobs jobs = {.products = {&gate}, .then = {&up}, .n_products = 1, .after = &layer->w_down};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, 0, err));
	tt_cpu_jobs_run(&jobs);
	return tt_cpu_exchange(cpu, args->ffn, c->ffn_size, n, cpu->shard.ffn, err);
}
