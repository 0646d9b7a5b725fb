/* logits = rmsnorm(h) * output^T, for the rows that sample. */
#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

int tt_cpu_logits(struct tt_backend *backend, const struct tt_logits_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	const struct tt_sample_plan *samples = tt_step_samples(args->step);
	uint32_t n = args->step->n_samples, hidden = c->hidden_size;
	size_t width = tt_cpu_padded(hidden), n_x;
	float *x;
	if (!tt_mul_size(n, width, &n_x))
		return tt_fail(err, TT_ERR_MEMORY, "%u rows of logits do not fit", n);
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_X, n_x, sizeof *x, &x, err));
	struct tt_cpu_product product = {
		args->output, NULL, x, width, n, args->logits, args->output->n_out, TT_CPU_STORE};
	struct tt_cpu_jobs jobs = {.products = {&product}, .n_products = 1};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, 0, err));
#pragma omp parallel num_threads(jobs.n_threads)
	{
#pragma omp for schedule(static)
		for (uint32_t i = 0; i < n; i++)
			cpu->body->rmsnorm(args->h + (size_t)samples[i].token * hidden, args->output_norm,
				c->rms_norm_eps, hidden, x + i * width);
		tt_cpu_jobs_run(cpu, &jobs);
	}
	return TT_OK;
}
