/* The mean of h over a span of positions: each page has a record, the sum over its own tokens, and the mean comes from
 * the records, in a kernel of its own. A block sums some columns of one page, a thread four columns of at most a
 * page's tokens, so pages are summed side by side in the order that a CPU has. */
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/step.cuh"

enum { POOL_THREADS = 128, POOL_COLUMNS = 4 * POOL_THREADS };
/* Records that a thread asks for before it adds the first, so that their latencies overlap. */
static const uint32_t RECORDS = 8;

struct pool_args {
	const struct tt_step_plan *plan; // device
	const float *h;                  // [n_tokens][hidden]
	float *sums;                     // [n_pages][TT_MAX_POOLED][hidden]
	float *captured;                 // [n_captures][n_layers][hidden]
	uint32_t hidden, n_layers, layer_index;
};

/* One pool, the same in all threads of a block. */
struct pool {
	uint32_t seq, first_token, n_tokens, from, to, record;
	int32_t mean_capture;
};

/* Returns false if the pool does not read this layer. */
TT_DEVICE bool pool_load(const struct pool_args &a, uint32_t index, struct pool *p)
{
	const struct tt_pool_plan *plan = (const struct tt_pool_plan *)step_array(a.plan, &a.plan->pools) + index;
	uint32_t n_layers = tt_load_4(&plan->n_layers, TT_TRAFFIC_PLAN);
	p->record = 0;
	while (p->record < n_layers && tt_load_4(&plan->layers[p->record], TT_TRAFFIC_PLAN) != a.layer_index)
		p->record++;
	p->seq = tt_load_4(&plan->seq, TT_TRAFFIC_PLAN);
	p->first_token = tt_load_4(&plan->first_token, TT_TRAFFIC_PLAN);
	p->n_tokens = tt_load_4(&plan->n_tokens, TT_TRAFFIC_PLAN);
	p->from = tt_load_4(&plan->from, TT_TRAFFIC_PLAN);
	p->to = tt_load_4(&plan->to, TT_TRAFFIC_PLAN);
	p->mean_capture = (int32_t)tt_load_4(&plan->mean_capture, TT_TRAFFIC_PLAN);
	return p->record < n_layers;
}

/* The pool's record of the page that holds position at * TT_PAGE_TOKENS of its sequence. */
TT_DEVICE float *pool_record(const struct pool_args &a, const struct pool &p, uint32_t at)
{
	uint32_t max_pages = tt_load_4(&a.plan->max_pages, TT_TRAFFIC_PLAN);
	size_t page = step_word(a.plan, &a.plan->pages, p.seq * max_pages + at);
	return a.sums + (page * TT_MAX_POOLED + p.record) * a.hidden;
}

static __global__ void __launch_bounds__(POOL_THREADS) pool_sum_kernel(const __grid_constant__ struct pool_args a)
{
	uint32_t column = blockIdx.x * POOL_COLUMNS + 4 * threadIdx.x;
	struct pool p;
	tt_grid_launch_dependents();
	tt_grid_wait();
	if (!pool_load(a, blockIdx.z, &p) || p.n_tokens == 0 || column >= a.hidden)
		return;
	uint32_t start = step_word(a.plan, &a.plan->positions, p.first_token), at = start / TT_PAGE_TOKENS + blockIdx.y;
	uint32_t first = at * TT_PAGE_TOKENS, end = first + TT_PAGE_TOKENS;
	first = first > start ? first : start;
	end = end < start + p.n_tokens ? end : start + p.n_tokens;
	if (first >= end)
		return;
	float *record = pool_record(a, p, at) + column;
	const float *h = a.h + (size_t)(p.first_token + first - start) * a.hidden + column;
	float4 sum = make_float4(0, 0, 0, 0), row[TT_PAGE_TOKENS];
	if (first % TT_PAGE_TOKENS && first != p.from)
		sum = tt_load_f32x4(record, TT_TRAFFIC_DIRECTION);
	TT_UNROLL
	for (uint32_t i = 0; i < TT_PAGE_TOKENS; i++)
		if (i < end - first)
			row[i] = tt_load_f32x4(h + (size_t)i * a.hidden, TT_TRAFFIC_ACTIVATION);
	TT_UNROLL
	for (uint32_t i = 0; i < TT_PAGE_TOKENS; i++)
		if (i < end - first)
			sum = make_float4(sum.x + row[i].x, sum.y + row[i].y, sum.z + row[i].z, sum.w + row[i].w);
	tt_store_f32x4(record, sum, TT_TRAFFIC_DIRECTION);
}

static __global__ void __launch_bounds__(POOL_THREADS) pool_mean_kernel(const __grid_constant__ struct pool_args a)
{
	uint32_t column = blockIdx.x * POOL_COLUMNS + 4 * threadIdx.x;
	struct pool p;
	tt_grid_launch_dependents();
	tt_grid_wait();
	if (!pool_load(a, blockIdx.y, &p) || p.mean_capture < 0 || column >= a.hidden)
		return;
	uint32_t end = (p.to + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS;
	double x = 0, y = 0, z = 0, w = 0, n = (double)(p.to - p.from);
	for (uint32_t at = p.from / TT_PAGE_TOKENS; at < end; at += RECORDS) {
		float4 record[RECORDS];
		TT_UNROLL
		for (uint32_t i = 0; i < RECORDS; i++)
			if (at + i < end)
				record[i] = tt_load_f32x4(pool_record(a, p, at + i) + column, TT_TRAFFIC_DIRECTION);
		TT_UNROLL
		for (uint32_t i = 0; i < RECORDS; i++) {
			if (at + i >= end)
				continue;
			x += (double)record[i].x;
			y += (double)record[i].y;
			z += (double)record[i].z;
			w += (double)record[i].w;
		}
	}
	float *out = a.captured + ((size_t)p.mean_capture * a.n_layers + a.layer_index) * a.hidden + column;
	tt_store_f32x4(
		out, make_float4((float)(x / n), (float)(y / n), (float)(z / n), (float)(w / n)), TT_TRAFFIC_RESULT);
}

/* What the step has for the pools of a layer. */
struct pool_work {
	uint32_t n_pages; /* that the largest pool touches in the step */
	uint64_t n_tokens, n_records;
};

static struct pool_work pool_work_of(const struct tt_pool_args *args)
{
	struct pool_work work = {0, 0, 0};
	uint32_t record;
	for (uint32_t i = 0; i < args->step->n_pools; i++) {
		const struct tt_pool_plan *p = &tt_step_pools(args->step)[i];
		if (!tt_pool_reads(p, args->layer_index, &record))
			continue;
		uint32_t start = p->n_tokens ? (uint32_t)tt_step_positions(args->step)[p->first_token] : 0;
		uint32_t n_pages = (start % TT_PAGE_TOKENS + p->n_tokens + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS;
		work.n_pages = n_pages > work.n_pages ? n_pages : work.n_pages;
		work.n_tokens += p->n_tokens;
		if (p->mean_capture >= 0)
			work.n_records += (p->to - 1) / TT_PAGE_TOKENS - p->from / TT_PAGE_TOKENS + 1;
	}
	return work;
}

int tt_cuda_pool(struct tt_backend *backend, const struct tt_pool_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t hidden = args->config->hidden_size, n_pools = args->step->n_pools;
	struct pool_work work = pool_work_of(args);
	struct pool_args a = {
		cuda->plan, args->h, args->sums, args->captured, hidden, args->config->n_layers, args->layer_index};
	void *kernel_args[] = {&a};
	uint32_t chunks = (hidden + POOL_COLUMNS - 1) / POOL_COLUMNS;
	struct tt_launch sum = {"pool_sum", dim3(chunks, work.n_pages, n_pools), dim3(POOL_THREADS), 0, cuda->stream,
		work.n_tokens * hidden * 4 + (uint64_t)work.n_pages * hidden * 4, work.n_tokens * hidden,
		cuda->dependent, &cuda->counters};
	struct tt_launch mean = {"pool_mean", dim3(chunks, n_pools), dim3(POOL_THREADS), 0, cuda->stream,
		(work.n_records + 1) * hidden * 4, work.n_records * hidden, cuda->dependent, &cuda->counters};
	if (hidden % TT_CUDA_GRANULE)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pool: a hidden size of %u is not a multiple of %d", hidden,
			TT_CUDA_GRANULE);
	if (work.n_pages > 0)
		TT_TRY(tt_cuda_launch(cuda, &sum, TT_KERNEL(pool_sum_kernel), kernel_args, err));
	return work.n_records ? tt_cuda_launch(cuda, &mean, TT_KERNEL(pool_mean_kernel), kernel_args, err) : TT_OK;
}
