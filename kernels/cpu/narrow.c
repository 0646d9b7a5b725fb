/* Moves the rows that are still needed after the last layer's keys and values to the front. */
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/cpu.h"

static void gather(float *rows, const uint32_t *kept, uint32_t n, size_t width)
{
	for (uint32_t i = 0; i < n; i++) /* ascending, so that no row is overwritten before it has moved */
		memmove(rows + i * width, rows + kept[i] * width, width * sizeof *rows);
}

int tt_cpu_narrow(struct tt_backend *backend, const struct tt_narrow_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	uint32_t n = args->step->n_tokens, *kept;
	struct tt_step_plan *step;
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_STEP, args->step->n_bytes, 1, &step, err));
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_KEPT, n, 2 * sizeof *kept, &kept, err));
	TT_TRY(tt_step_narrow(args->step, args->step->n_layers - 1, step, kept, kept + n, err));
	gather(args->h, kept, step->n_tokens, c->hidden_size);
	gather(args->q, kept, step->n_tokens, (size_t)c->n_heads * c->head_dim);
	*args->narrowed = step;
	return TT_OK;
}
