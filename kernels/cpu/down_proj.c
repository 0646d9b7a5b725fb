/* h = steer(h + ffn * w_down^T + bias), and the capture of what comes out. */
#include <omp.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/cpu.h"

static void capture_token(const struct tt_down_proj_args *args, uint32_t token)
{
	size_t hidden = args->config->hidden_size;
	int32_t row = tt_step_captures(args->step)[token];
	if (args->captured && row >= 0)
		memcpy(args->captured + ((size_t)row * args->config->n_layers + args->layer_index) * hidden,
			args->h + token * hidden, hidden * sizeof *args->h);
}

int tt_cpu_down_proj(struct tt_backend *backend, const struct tt_down_proj_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_matrix *w = &args->layer->w_down;
	uint32_t n = args->step->n_tokens;
	const float *x;
	TT_TRY(tt_cpu_pad(cpu, args->ffn, n, w->n_in, &x, err));
	struct tt_cpu_product product = {
		w, args->layer->b_down, x, tt_cpu_padded(w->n_in), n, args->h, w->n_out, TT_CPU_ADD};
	struct tt_cpu_jobs jobs = {.products = {&product}, .n_products = 1};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, args->config->hidden_size, err));
#pragma omp parallel num_threads(jobs.n_threads)
	{
		float *own = jobs.scratch + (size_t)omp_get_thread_num() * jobs.scratch_stride;
		tt_cpu_jobs_run(cpu, &jobs);
#pragma omp for schedule(static)
		for (uint32_t t = 0; t < n; t++) {
			tt_cpu_steer(cpu->body, args, t, own);
			capture_token(args, t);
		}
	}
	return TT_OK;
}
