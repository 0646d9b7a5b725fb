/* The end of attention and of the feed-forward part: a product that is added to the residual, normalised first in some
 * models. */
#include <math.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/exchange.h"
#include "kernels/cpu/jobs.h"

struct add_job {
	const struct tt_cpu_body *body;
	const struct tt_cpu_residual *r;
	float *y; // [n_rows][hidden padded]
};

static void add_rows(void *context, uint32_t job, uint32_t thread)
{
	const struct add_job *all = context;
	const struct tt_cpu_residual *r = all->r;
	uint32_t n = r->hidden, first = job * TT_CPU_ROWS_A_JOB, left = r->n_rows - first;
	uint32_t end = first + (left < TT_CPU_ROWS_A_JOB ? left : TT_CPU_ROWS_A_JOB);
	(void)thread;
	for (uint32_t row = first; row < end; row++) {
		float *y = all->y + row * tt_cpu_padded(n), *h = r->h + (size_t)row * n;
		/* as the body's rmsnorm, but that the twin of CUDA rounds nothing here: no product reads it */
		float scale = 1.0f / sqrtf(all->body->dot(y, y, n) / (float)n + r->eps);
		for (uint32_t i = 0; i < n; i++)
			h[i] += r->post_norm[i] * (y[i] * scale);
	}
}

int tt_cpu_add_residual(struct tt_cpu *cpu, const struct tt_cpu_residual *r, struct tt_error *err)
{
	const struct tt_matrix *m = r->matrix;
	size_t width = tt_cpu_padded(r->hidden), n_y;
	struct add_job add = {.body = cpu->body, .r = r};
	const float *x;
	struct tt_cut own = cpu->shard.hidden;
	TT_TRY(tt_cpu_pad(cpu, r->x, r->n_rows, m->n_in, &x, err));
	struct tt_cpu_product product = {
		m, r->bias, x, tt_cpu_padded(m->n_in), r->n_rows, r->h + own.first, r->hidden, TT_CPU_ADD};
	if (r->post_norm) {
		if (!tt_mul_size(r->n_rows, width, &n_y))
			return tt_fail(err, TT_ERR_MEMORY, "a step of %u tokens does not fit", r->n_rows);
		TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_Y, n_y, sizeof *add.y, &add.y, err));
		product.out = add.y + own.first;
		product.out_stride = width;
		product.epilogue = TT_CPU_STORE;
	}
	struct tt_cpu_jobs jobs = {.products = {&product}, .n_products = 1, .after = r->after};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, 0, err));
	tt_cpu_jobs_run(&jobs);
	if (!r->post_norm)
		return tt_cpu_exchange(cpu, r->h, r->hidden, r->n_rows, own, err);
	TT_TRY(tt_cpu_exchange(cpu, add.y, width, r->n_rows, own, err));
	tt_threads_run(cpu->threads, (r->n_rows + TT_CPU_ROWS_A_JOB - 1) / TT_CPU_ROWS_A_JOB, add_rows, &add);
	return TT_OK;
}
