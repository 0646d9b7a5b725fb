/* The mean of h over a span of positions: each page has a record, the sum over its own tokens, and the mean comes from
 * the records. */
#include "base/fail.h"
#include "kernels/cpu/cpu.h"

enum { COLUMNS = 128 }; /* of a job */

struct pool_job {
	const struct tt_pool_args *args;
	uint32_t jobs_a_pool;
	bool means; /* the records are complete */
};

/* The columns of one layer that a job works on. */
struct columns {
	const struct tt_pool_args *args;
	const struct tt_pool_plan *pool;
	uint32_t record;
	size_t first, n;
};

static float *record_of(const struct columns *c, uint32_t position)
{
	const struct tt_step_plan *step = c->args->step;
	const int32_t *pages = tt_step_pages(step) + (size_t)c->pool->seq * step->max_pages;
	size_t page = (size_t)pages[position / TT_PAGE_TOKENS];
	return c->args->sums + (page * TT_MAX_POOLED + c->record) * c->args->config->hidden_size + c->first;
}

static void add_tokens(const struct columns *c)
{
	const struct tt_pool_plan *pool = c->pool;
	for (uint32_t i = 0; i < pool->n_tokens; i++) {
		uint32_t token = pool->first_token + i, position = (uint32_t)tt_step_positions(c->args->step)[token];
		const float *h = c->args->h + (size_t)token * c->args->config->hidden_size + c->first;
		float *record = record_of(c, position);
		bool begins = position % TT_PAGE_TOKENS == 0 || position == pool->from;
		for (size_t k = 0; k < c->n; k++)
			record[k] = (begins ? 0 : record[k]) + h[k];
	}
}

static void write_mean(const struct columns *c)
{
	const struct tt_pool_args *args = c->args;
	const struct tt_pool_plan *pool = c->pool;
	double sum[COLUMNS] = {0};
	float *out =
		args->captured +
		((size_t)pool->mean_capture * args->config->n_layers + args->layer_index) * args->config->hidden_size +
		c->first;
	for (uint32_t at = pool->from / TT_PAGE_TOKENS * TT_PAGE_TOKENS; at < pool->to; at += TT_PAGE_TOKENS) {
		const float *record = record_of(c, at);
		for (size_t k = 0; k < c->n; k++)
			sum[k] += (double)record[k];
	}
	for (size_t k = 0; k < c->n; k++)
		out[k] = (float)(sum[k] / (double)(pool->to - pool->from));
}

static void pool_columns(void *context, uint32_t job, uint32_t thread)
{
	const struct pool_job *all = context;
	struct columns c = {.args = all->args, .pool = tt_step_pools(all->args->step) + job / all->jobs_a_pool};
	(void)thread;
	if (!tt_pool_reads(c.pool, c.args->layer_index, &c.record))
		return;
	c.first = (size_t)(job % all->jobs_a_pool) * COLUMNS;
	c.n = c.args->config->hidden_size - c.first;
	c.n = c.n < COLUMNS ? c.n : COLUMNS;
	if (!all->means)
		add_tokens(&c);
	else if (c.pool->mean_capture >= 0)
		write_mean(&c);
}

int tt_cpu_pool(struct tt_backend *backend, const struct tt_pool_args *args, struct tt_error *err)
{
	const struct tt_cpu *cpu = (const struct tt_cpu *)backend;
	uint32_t hidden = args->config->hidden_size, n_pools = args->step->n_pools;
	struct pool_job all = {args, (hidden + COLUMNS - 1) / COLUMNS, false};
	uint64_t n_tokens = 0, n_pages = 0;
	(void)err;
	for (uint32_t i = 0; i < n_pools; i++) {
		const struct tt_pool_plan *pool = &tt_step_pools(args->step)[i];
		n_tokens += pool->n_tokens;
		n_pages += pool->mean_capture >= 0 ? (pool->to - pool->from) / TT_PAGE_TOKENS + 1 : 0;
	}
	tt_threads_run(tt_cpu_threads_for(cpu, n_tokens * hidden), n_pools * all.jobs_a_pool, pool_columns, &all);
	all.means = true;
	if (n_pages > 0)
		tt_threads_run(
			tt_cpu_threads_for(cpu, n_pages * hidden), n_pools * all.jobs_a_pool, pool_columns, &all);
	return TT_OK;
}
