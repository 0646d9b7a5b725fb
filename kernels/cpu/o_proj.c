/* h += attention * wo^T + bo */
#include "base/fail.h"
#include "kernels/cpu/cpu.h"

int tt_cpu_o_proj(struct tt_backend *backend, const struct tt_o_proj_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_matrix *wo = &args->layer->wo;
	uint32_t n = args->step->n_tokens;
	const float *x;
	TT_TRY(tt_cpu_pad(cpu, args->attention, n, wo->n_in, &x, err));
	struct tt_cpu_product product = {
		wo, args->layer->bo, x, tt_cpu_padded(wo->n_in), n, args->h, wo->n_out, TT_CPU_ADD};
	struct tt_cpu_jobs jobs = {.products = {&product}, .n_products = 1};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, 0, err));
	tt_cpu_jobs_run(&jobs);
	return TT_OK;
}
