/* ffn = silu(gate) * up of the normalised h. A job makes the same outputs of both, so that gate is still near when up
 * needs it. */
#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

int tt_cpu_gate_up(struct tt_backend *backend, const struct tt_gate_up_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	const struct tt_layer *layer = args->layer;
	uint32_t n = args->step->n_tokens, hidden = c->hidden_size;
	size_t width = tt_cpu_padded(hidden), n_x;
	float *x;
	if (!tt_mul_size(n, width, &n_x))
		return tt_fail(err, TT_ERR_MEMORY, "a step of %u tokens does not fit", n);
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_X, n_x, sizeof *x, &x, err));
	struct tt_cpu_product gate = {&layer->w_gate, layer->b_gate, x, width, n, args->ffn, c->ffn_size, TT_CPU_STORE};
	struct tt_cpu_product up = {&layer->w_up, layer->b_up, x, width, n, args->ffn, c->ffn_size, TT_CPU_SILU_UP};
	struct tt_cpu_jobs jobs = {.products = {&gate}, .then = {&up}, .n_products = 1};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, 0, err));
#pragma omp parallel num_threads(jobs.n_threads)
	{
#pragma omp for schedule(static)
		for (uint32_t t = 0; t < n; t++)
			cpu->body->rmsnorm(
				args->h + (size_t)t * hidden, layer->ffn_norm, c->rms_norm_eps, hidden, x + t * width);
		tt_cpu_jobs_run(cpu, &jobs);
	}
	return TT_OK;
}
