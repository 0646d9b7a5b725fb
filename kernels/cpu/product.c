/* Products cut into jobs: a job is some output rows of one matrix, for all token rows. Neither the thread that takes a
 * job nor its number of rows changes a bit. */
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/jobs.h"

enum {
	KEPT_FLOATS = 1 << 15, /* a job's weights as f32: 128 KiB; with twice as much, 32 rows took 4% longer */
	KEPT_BYTES = 1 << 17,  /* and as bytes, in q8 */
	JOBS_A_THREAD = 4,     /* so that a thread that is delayed does not delay the others */
	/* A job of one row is a thread's share, of at most so many outputs and at least so many weights (4 us of work):
	 * where a job begins, memory has not been asked for anything yet, and behind its end what was fetched ahead is
	 * another thread's. With 4 jobs a thread a token took 1.1 to 1.3 times as long on two cores. */
	ONE_ROW_OUTS = 4096,
	ONE_ROW_WEIGHTS = 1 << 17,
};

/* The multiple of a tile from most / 2 to most that leaves the busiest thread the least to do. */
static uint32_t even_share(uint32_t n_out, uint32_t n_threads, uint32_t most, uint32_t tile)
{
	uint32_t best = 0;
	uint64_t least = UINT64_MAX;
	most = most < tile ? tile : most / tile * tile;
	for (uint32_t count = most; count > 0 && count >= most / 2; count -= tile) {
		uint64_t n_jobs = (n_out - 1) / count + 1, busiest = (n_jobs - 1) / n_threads + 1;
		if (busiest * count >= least)
			continue;
		least = busiest * count;
		best = count;
	}
	return best;
}

static uint32_t outs_a_job(const struct tt_cpu *cpu, const struct tt_matrix *m, uint32_t n_rows, bool q8)
{
	uint32_t n_out = m->n_out, n_in = m->n_in, tile = q8 ? TT_CPU_Q8_TILE : TT_CPU_OUT_TILE;
	bool alone = n_rows == 1 && (!q8 || cpu->q8->one_row); /* else from panels, which are kept */
	uint32_t share = (n_out - 1) / (cpu->n_threads * (alone ? 1 : JOBS_A_THREAD)) + tile;
	uint32_t most = alone ? ONE_ROW_OUTS : (q8 ? KEPT_BYTES : KEPT_FLOATS) / n_in;
	uint32_t least = alone ? ONE_ROW_WEIGHTS / n_in : 0;
	share = share < least ? least : share;
	return even_share(n_out, cpu->n_threads, share > most ? most : share, tile);
}

static bool in_q8(const struct tt_cpu *cpu, const struct tt_cpu_product *p)
{
	return p && cpu->compute == TT_COMPUTE_Q8 && tt_q8_kind(p->matrix->type) != TT_Q8_NONE;
}

int tt_cpu_jobs_plan(struct tt_cpu *cpu, struct tt_cpu_jobs *jobs, size_t n_scratch, struct tt_error *err)
{
	size_t most = n_scratch;
	uint64_t n_mul_adds = 0;
	jobs->total_jobs = 0;
	jobs->q8 = NULL;
	for (uint32_t i = 0; i < jobs->n_products; i++)
		if (in_q8(cpu, jobs->products[i]) || in_q8(cpu, jobs->then[i]))
			jobs->q8 = cpu->q8;
	if (jobs->q8)
		TT_TRY(tt_cpu_quantise(cpu, jobs->products[0], &jobs->x, err));
	for (uint32_t i = 0; i < jobs->n_products; i++) {
		const struct tt_cpu_product *p = jobs->products[i];
		uint32_t count = outs_a_job(cpu, p->matrix, p->n_rows, jobs->q8 != NULL);
		size_t scratch = tt_cpu_product_scratch(p->matrix->n_in, p->n_rows, count);
		size_t in_bytes = jobs->q8 ? tt_cpu_q8_scratch(jobs->q8, &jobs->x, p->n_rows, count) : 0;
		jobs->count[i] = count;
		jobs->n_jobs[i] = p->n_rows ? (p->matrix->n_out + count - 1) / count : 0;
		jobs->total_jobs += jobs->n_jobs[i];
		most = scratch > most ? scratch : most;
		most = in_bytes > most ? in_bytes : most;
		n_mul_adds += (uint64_t)p->n_rows * p->matrix->n_out * p->matrix->n_in;
	}
	if (jobs->after && !jobs->after->data) /* a layer that has only some of its matrices */
		jobs->after = NULL;
	if (jobs->after)
		jobs->after_count = outs_a_job(cpu, jobs->after, jobs->products[0]->n_rows, jobs->q8 != NULL);
	jobs->body = cpu->body;
	jobs->n_threads = cpu->n_threads;
	jobs->threads = tt_cpu_threads_for(cpu, n_mul_adds);
	return tt_cpu_thread_scratch(cpu, most, &jobs->scratch, &jobs->scratch_stride, err);
}

/* A job in q8. Products of matrices of plain numbers are those of f32. */
static void run_q8(const struct tt_cpu_jobs *jobs, const struct tt_cpu_product *p, uint32_t first, uint32_t count,
	const struct tt_cpu_next *next, float *scratch)
{
	if (tt_q8_kind(p->matrix->type) == TT_Q8_NONE)
		jobs->body->product(p, NULL, first, count, next, scratch);
	else
		tt_cpu_q8_product(jobs->q8, jobs->body, p, &jobs->x, first, count, next, scratch);
}

/* The product that a job is part of, and its first output row. */
static uint32_t job_product(const struct tt_cpu_jobs *jobs, uint32_t index, uint32_t *first)
{
	uint32_t i = 0;
	while (index >= jobs->n_jobs[i])
		index -= jobs->n_jobs[i++];
	*first = index * jobs->count[i];
	return i;
}

/* After a job: the other threads take those in between. */
static struct tt_cpu_next next_job(const struct tt_cpu_jobs *jobs, uint32_t index)
{
	struct tt_cpu_next next = {jobs->after, 0};
	index += jobs->threads ? jobs->n_threads : 1;
	if (index < jobs->total_jobs)
		next.matrix = jobs->products[job_product(jobs, index, &next.first)]->matrix;
	else
		next.first = (index - jobs->total_jobs) * jobs->after_count;
	return next;
}

static void run_job(void *context, uint32_t index, uint32_t thread)
{
	const struct tt_cpu_jobs *jobs = context;
	float *scratch = jobs->scratch + (size_t)thread * jobs->scratch_stride;
	uint32_t first, i = job_product(jobs, index, &first), left = jobs->products[i]->matrix->n_out - first;
	uint32_t count = left < jobs->count[i] ? left : jobs->count[i];
	const struct tt_cpu_product *p = jobs->products[i], *then = jobs->then[i];
	struct tt_cpu_next next = next_job(jobs, index), second = {then ? then->matrix : NULL, first};
	if (!jobs->q8) {
		jobs->body->product(p, then, first, count, &next, scratch);
		return;
	}
	run_q8(jobs, p, first, count, then ? &second : &next, scratch);
	if (then)
		run_q8(jobs, then, first, count, &next, scratch);
}

void tt_cpu_jobs_run(struct tt_cpu_jobs *jobs)
{
	tt_threads_run(jobs->threads, jobs->total_jobs, run_job, jobs);
}

int tt_cpu_pad(struct tt_cpu *cpu, const float *x, uint32_t n_rows, uint32_t n, const float **out, struct tt_error *err)
{
	size_t width = tt_cpu_padded(n), floats;
	float *copy;
	*out = x;
	if (width == n)
		return TT_OK;
	if (!tt_mul_size(n_rows, width, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "%u rows of %u numbers do not fit", n_rows, n);
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_X, floats, sizeof *copy, &copy, err));
	for (uint32_t r = 0; r < n_rows; r++) {
		memcpy(copy + r * width, x + (size_t)r * n, n * sizeof *copy);
		memset(copy + r * width + n, 0, (width - n) * sizeof *copy);
	}
	*out = copy;
	return TT_OK;
}
