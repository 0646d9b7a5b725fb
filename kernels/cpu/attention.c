/* Attention. Contiguous tokens of a sequence and the heads of one key head make a block that reads keys and values
 * once. A block's splits run one after the other or, when there are too few blocks for the threads, in parallel with
 * the results merged in the same order: the bits are the same. */
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/exchange.h"

enum { JOBS_A_THREAD = 4 };

struct block {
	uint32_t first, n_tokens;
	uint32_t first_split, n_splits; /* the splits that any of its tokens sees */
	uint32_t partial;               /* index of its first split in the list of all splits */
};

struct plan {
	struct block *blocks; // [n_blocks]
	uint32_t n_blocks, group, most_rows;
	uint32_t n_partials; /* splits of all blocks, for one key head */
	size_t width;
	uint64_t n_mul_adds;
};

static int plan_blocks(
	struct tt_cpu *cpu, const struct tt_attention_args *args, struct plan *plan, struct tt_error *err)
{
	const struct tt_config *c = args->config;
	const int32_t *seqs = tt_step_seqs(args->step), *positions = tt_step_positions(args->step);
	uint32_t n = args->step->n_tokens;
	plan->group = c->n_heads / c->n_kv_heads;
	plan->width = tt_cpu_padded(c->head_dim);
	uint32_t most = plan->group < TT_CPU_QUERY_ROWS ? TT_CPU_QUERY_ROWS / plan->group : 1;
	plan->n_blocks = 0;
	plan->n_partials = 0;
	plan->n_mul_adds = 0;
	plan->most_rows = most * plan->group;
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_BLOCKS, n, sizeof *plan->blocks, &plan->blocks, err));
	for (uint32_t t = 0; t < n;) {
		struct block *block = &plan->blocks[plan->n_blocks++];
		uint32_t count = 1, window = tt_config_window(c, args->layer_index), first = (uint32_t)positions[t];
		while (count < most && t + count < n && seqs[t + count] == seqs[t])
			count++;
		block->first = t;
		block->n_tokens = count;
		block->first_split = window && first >= window ? (first - window + 1) / TT_SPLIT_KEYS : 0;
		block->n_splits = (uint32_t)positions[t + count - 1] / TT_SPLIT_KEYS + 1 - block->first_split;
		block->partial = plan->n_partials;
		plan->n_partials += block->n_splits;
		plan->n_mul_adds += (uint64_t)count * c->n_heads * c->head_dim * 2 *
				    ((uint32_t)positions[t + count - 1] + 1 - block->first_split * TT_SPLIT_KEYS);
		t += count;
	}
	return TT_OK;
}

static struct tt_cpu_queries block_queries(
	const struct tt_attention_args *args, const struct plan *plan, const struct block *block, uint32_t kv_head)
{
	const struct tt_config *c = args->config;
	const struct tt_step_plan *step = args->step;
	size_t q_stride = (size_t)c->n_heads * c->head_dim;
	uint32_t seq = (uint32_t)tt_step_seqs(step)[block->first];
	return (struct tt_cpu_queries){
		.kv = args->kv,
		.pages = tt_step_pages(step) + (size_t)seq * step->max_pages,
		.positions = tt_step_positions(step) + block->first,
		.q = (const float *)args->q + block->first * q_stride + (size_t)kv_head * plan->group * c->head_dim,
		.q_stride = q_stride,
		.page_base = (size_t)args->layer_index * args->kv->n_pages * 2 * c->n_kv_heads * TT_PAGE_TOKENS *
			     c->head_dim,
		.split = block->first_split,
		.n_tokens = block->n_tokens,
		.group = plan->group,
		.n_kv_heads = c->n_kv_heads,
		.kv_head = kv_head,
		.head_dim = c->head_dim,
		.window = tt_config_window(c, args->layer_index),
		.scale = tt_config_attention_scale(c),
		.soft_cap = c->attention_soft_cap,
	};
}

/* memory: [n_rows] max, [n_rows] sum, [n_rows][width] acc */
static struct tt_cpu_partial partial_at(float *memory, uint32_t n_rows)
{
	return (struct tt_cpu_partial){memory, memory + n_rows, memory + 2 * (size_t)n_rows};
}

struct attention_job {
	const struct tt_cpu_body *body;
	const struct tt_attention_args *args;
	struct plan plan;
	float *out; // of this rank's first head, [n_tokens][out_stride]
	size_t out_stride;
	float *partials; // [splits of all blocks][n_kv_heads][partial_size], or NULL
	float *scratch;  // [n_threads][stride]
	size_t partial_size, stride;
	uint32_t n_threads;
};

static void write_block(const struct attention_job *all, const struct block *block, uint32_t kv_head,
	const struct tt_cpu_partial *result)
{
	const struct plan *plan = &all->plan;
	size_t hd = all->args->config->head_dim;
	for (uint32_t r = 0; r < block->n_tokens * plan->group; r++) {
		size_t head = (size_t)kv_head * plan->group + r % plan->group;
		float *out = all->out + (block->first + r / plan->group) * all->out_stride + head * hd;
		for (size_t i = 0; i < hd; i++)
			out[i] = result->acc[r * plan->width + i] / result->sum[r];
		tt_cpu_keep(all->body, out, hd);
	}
}

/* The block that a thread will most likely run after job: the other threads take those in between. */
static bool next_block(const struct attention_job *all, uint32_t job, struct tt_cpu_queries *next)
{
	uint32_t n_kv_heads = all->args->config->n_kv_heads;
	job += all->n_threads;
	if (job >= all->plan.n_blocks * n_kv_heads)
		return false;
	*next = block_queries(all->args, &all->plan, &all->plan.blocks[job / n_kv_heads], job % n_kv_heads);
	return true;
}

/* One block and key head, its splits in order. */
static void run_block(void *context, uint32_t job, uint32_t thread)
{
	const struct attention_job *all = context;
	const struct plan *plan = &all->plan;
	uint32_t n_kv_heads = all->args->config->n_kv_heads;
	const struct block *block = &plan->blocks[job / n_kv_heads];
	uint32_t kv_head = job % n_kv_heads, n_rows = block->n_tokens * plan->group;
	float *scratch = all->scratch + thread * all->stride, *rest = scratch + 2 * all->partial_size;
	struct tt_cpu_queries queries = block_queries(all->args, plan, block, kv_head);
	struct tt_cpu_partial result = partial_at(scratch, n_rows);
	struct tt_cpu_partial part = partial_at(scratch + all->partial_size, n_rows);
	for (uint32_t s = 0; s < block->n_splits; s++) {
		struct tt_cpu_queries next = queries;
		next.split++;
		bool more = s + 1 < block->n_splits || next_block(all, job, &next);
		all->body->attention_split(&queries, more ? &next : NULL, s ? &part : &result, rest);
		if (s)
			all->body->attention_merge(&result, &part, n_rows, plan->width);
		queries.split++;
	}
	write_block(all, block, kv_head, &result);
}

/* The queries of a job of run_split; returns their block. */
static const struct block *split_queries(const struct attention_job *all, uint32_t job, struct tt_cpu_queries *queries)
{
	uint32_t n_kv_heads = all->args->config->n_kv_heads, split = job / n_kv_heads;
	const struct block *block = all->plan.blocks;
	while (split >= block->partial + block->n_splits)
		block++;
	*queries = block_queries(all->args, &all->plan, block, job % n_kv_heads);
	queries->split += split - block->partial;
	return block;
}

/* One split and key head; the result stays in partials. */
static void run_split(void *context, uint32_t job, uint32_t thread)
{
	const struct attention_job *all = context;
	struct tt_cpu_queries queries, next;
	const struct block *block = split_queries(all, job, &queries);
	bool more = job + all->n_threads < all->plan.n_partials * all->args->config->n_kv_heads;
	if (more)
		split_queries(all, job + all->n_threads, &next);
	struct tt_cpu_partial out =
		partial_at(all->partials + job * all->partial_size, block->n_tokens * all->plan.group);
	all->body->attention_split(&queries, more ? &next : NULL, &out, all->scratch + thread * all->stride);
}

static void merge_splits(void *context, uint32_t job, uint32_t thread)
{
	const struct attention_job *all = context;
	uint32_t n_kv_heads = all->args->config->n_kv_heads, kv_head = job % n_kv_heads;
	const struct block *block = &all->plan.blocks[job / n_kv_heads];
	uint32_t n_rows = block->n_tokens * all->plan.group;
	float *first = all->partials + ((size_t)block->partial * n_kv_heads + kv_head) * all->partial_size;
	struct tt_cpu_partial result = partial_at(first, n_rows);
	(void)thread;
	for (uint32_t s = 1; s < block->n_splits; s++) {
		struct tt_cpu_partial next = partial_at(first + s * n_kv_heads * all->partial_size, n_rows);
		all->body->attention_merge(&result, &next, n_rows, all->plan.width);
	}
	write_block(all, block, kv_head, &result);
}

int tt_cpu_attention(struct tt_backend *backend, const struct tt_attention_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	struct attention_job all = {.body = cpu->body, .args = args, .n_threads = cpu->n_threads};
	uint32_t n_kv_heads = args->config->n_kv_heads, columns = args->config->n_heads * args->config->head_dim;
	struct tt_cut own = {cpu->shard.rank * columns, columns};
	all.out = (float *)args->attention + own.first;
	all.out_stride = (size_t)columns * cpu->shard.n_ranks;
	TT_TRY(plan_blocks(cpu, args, &all.plan, err));
	const struct plan *plan = &all.plan;
	all.partial_size = plan->most_rows * (plan->width + 2);
	TT_TRY(tt_cpu_thread_scratch(cpu,
		2 * all.partial_size + tt_cpu_attention_scratch(args->config->head_dim, plan->most_rows), &all.scratch,
		&all.stride, err));
	uint32_t n_jobs = plan->n_blocks * n_kv_heads;
	struct tt_threads *threads = tt_cpu_threads_for(cpu, plan->n_mul_adds);
	if (threads && cpu->n_threads > 1 && n_jobs < cpu->n_threads * JOBS_A_THREAD &&
		plan->n_partials > plan->n_blocks) {
		uint32_t n_partials = plan->n_partials * n_kv_heads;
		TT_TRY(tt_cpu_scratch(
			cpu, TT_CPU_SCRATCH_PARTIAL, n_partials, all.partial_size * sizeof(float), &all.partials, err));
		tt_threads_run(threads, n_partials, run_split, &all);
		tt_threads_run(threads, n_jobs, merge_splits, &all);
	} else {
		tt_threads_run(threads, n_jobs, run_block, &all);
	}
	return tt_cpu_exchange(cpu, args->attention, all.out_stride, args->step->n_tokens, own, err);
}
