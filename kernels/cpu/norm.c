/* The norm before a product, for all rows of a step. */
#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/jobs.h"

struct norm_job {
	const struct tt_cpu_norm *norm;
	const struct tt_cpu_body *body;
};

static void norm_rows(void *context, uint32_t job, uint32_t thread)
{
	const struct norm_job *all = context;
	const struct tt_cpu_norm *n = all->norm;
	uint32_t first = job * TT_CPU_ROWS_A_JOB, left = n->n_rows - first;
	uint32_t end = first + (left < TT_CPU_ROWS_A_JOB ? left : TT_CPU_ROWS_A_JOB);
	(void)thread;
	for (uint32_t i = first; i < end; i++) {
		size_t row = n->samples ? n->samples[i].token : i;
		all->body->rmsnorm(
			n->h + row * n->hidden, n->weight, n->eps, n->hidden, n->x + i * tt_cpu_padded(n->hidden));
	}
}

int tt_cpu_norm(struct tt_cpu *cpu, struct tt_cpu_norm *norm, struct tt_error *err)
{
	struct norm_job job = {norm, cpu->body};
	size_t n;
	if (!tt_mul_size(norm->n_rows, tt_cpu_padded(norm->hidden), &n))
		return tt_fail(err, TT_ERR_MEMORY, "a step of %u rows does not fit", norm->n_rows);
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_X, n, sizeof *norm->x, &norm->x, err));
	tt_threads_run(cpu->threads, (norm->n_rows + TT_CPU_ROWS_A_JOB - 1) / TT_CPU_ROWS_A_JOB, norm_rows, &job);
	return TT_OK;
}
