/* q, k, v: norm, projection, bias, norm of heads, rotation, and k and v into their pages. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/jobs.h"
#include "kernels/cpu/kv_rows.h"

struct rotate_job {
	const struct tt_cpu_body *body;
	const struct tt_qkv_args *args;
	float *q, *k, *v;      // [n_tokens][n_heads or n_kv_heads][head_dim], as the products left them
	float *rotated;        // [n_tokens][n_heads][head_dim] args->q
	const float *rotation; // [n_tokens][2][head_dim / 2]
	float *scratch;        // [n_threads][stride]
	size_t stride;
};

/* Divides one head by its root mean square and multiplies it by weight, in place. */
static void norm_head(const struct tt_cpu_body *body, const float *weight, float eps, float *x, uint32_t n)
{
	float scale = 1.0f / sqrtf(body->dot(x, x, n) / (float)n + eps);
	for (uint32_t i = 0; i < n; i++)
		x[i] = weight[i] * (x[i] * scale);
}

/* row may be rounded in place. */
static void append(const struct tt_cpu_body *body, const struct tt_qkv_args *args, size_t at, float *row)
{
	uint32_t head_dim = args->config->head_dim;
	tt_cpu_keep(body, row, head_dim);
	tt_cpu_kv_write(body, args->kv, at, row, head_dim);
}

/* Prefetches the places of a token's keys and values: they are seldom in the cache, and the query's heads are rotated
 * meanwhile. */
static void fetch_rows(const struct tt_qkv_args *args, size_t at, size_t page_size)
{
	size_t n_bytes = tt_kv_bytes(args->kv->type, args->config->head_dim);
	for (uint32_t i = 0; i < 2 * args->config->n_kv_heads; i++) {
		size_t head = at + i / 2 * TT_PAGE_TOKENS * args->config->head_dim + i % 2 * page_size;
		for (size_t byte = 0; byte < n_bytes; byte += 64)
			__builtin_prefetch((const char *)args->kv->data + tt_kv_bytes(args->kv->type, head) + byte, 1);
	}
}

static void rotate_token(const struct rotate_job *rows, uint32_t t, float *head)
{
	const struct tt_qkv_args *args = rows->args;
	const struct tt_config *c = args->config;
	const struct tt_step_plan *step = args->step;
	uint32_t n_pairs = c->head_dim / 2, position = (uint32_t)tt_step_positions(step)[t];
	size_t hd = c->head_dim, page_size = (size_t)c->n_kv_heads * TT_PAGE_TOKENS * hd;
	const int32_t *pages = tt_step_pages(step) + (size_t)tt_step_seqs(step)[t] * step->max_pages;
	size_t page = (size_t)args->layer_index * args->kv->n_pages + (size_t)pages[position / TT_PAGE_TOKENS];
	const float *rotation = rows->rotation + (size_t)t * n_pairs * 2;
	size_t first_row = page * 2 * page_size + position % TT_PAGE_TOKENS * hd;
	fetch_rows(args, first_row, page_size);
	for (uint32_t i = 0; i < c->n_heads; i++) {
		size_t at = ((size_t)t * c->n_heads + i) * hd;
		if (args->layer->q_norm)
			norm_head(rows->body, args->layer->q_norm, c->rms_norm_eps, rows->q + at, c->head_dim);
		rows->body->rotate(rows->q + at, rotation, n_pairs, c->rope_interleaved, rows->rotated + at);
		tt_cpu_keep(rows->body, rows->rotated + at, hd);
	}
	for (uint32_t i = 0; i < c->n_kv_heads; i++) {
		size_t from = ((size_t)t * c->n_kv_heads + i) * hd;
		size_t to = first_row + (size_t)i * TT_PAGE_TOKENS * hd;
		if (args->layer->k_norm)
			norm_head(rows->body, args->layer->k_norm, c->rms_norm_eps, rows->k + from, c->head_dim);
		rows->body->rotate(rows->k + from, rotation, n_pairs, c->rope_interleaved, head);
		append(rows->body, args, to, head);
		append(rows->body, args, to + page_size, rows->v + from);
	}
}

static void rotate_rows(void *context, uint32_t job, uint32_t thread)
{
	const struct rotate_job *rows = context;
	uint32_t first = job * TT_CPU_ROWS_A_JOB, left = rows->args->step->n_tokens - first;
	uint32_t end = first + (left < TT_CPU_ROWS_A_JOB ? left : TT_CPU_ROWS_A_JOB);
	for (uint32_t t = first; t < end; t++)
		rotate_token(rows, t, rows->scratch + thread * rows->stride);
}

int tt_cpu_qkv(struct tt_backend *backend, const struct tt_qkv_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	const struct tt_layer *layer = args->layer;
	uint32_t n = args->step->n_tokens;
	size_t width = tt_cpu_padded(c->hidden_size), q_width = (size_t)c->n_heads * c->head_dim;
	size_t kv_width = (size_t)c->n_kv_heads * c->head_dim, n_y;
	float *y;
	struct rotate_job rows = {.body = cpu->body, .args = args, .rotated = args->q};
	struct tt_cpu_norm norm = {.h = args->h,
		.weight = layer->attn_norm,
		.eps = c->rms_norm_eps,
		.hidden = c->hidden_size,
		.n_rows = n};
	if (c->head_dim % 2)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "head_dim %u is odd: rotation needs pairs", c->head_dim);
	if (!tt_mul_size(n, q_width + 2 * kv_width, &n_y))
		return tt_fail(err, TT_ERR_MEMORY, "a step of %u tokens does not fit", n);
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_Y, n_y, sizeof *y, &y, err));
	TT_TRY(tt_cpu_rotation(cpu, args->step, args->inverse_frequencies, c->head_dim / 2, &rows.rotation, err));
	TT_TRY(tt_cpu_norm(cpu, &norm, err));
	float *k = y + n * q_width, *v = k + n * kv_width;
	struct tt_cpu_product q_product = {&layer->wq, layer->bq, norm.x, width, n, y, q_width, TT_CPU_STORE};
	struct tt_cpu_product k_product = {&layer->wk, layer->bk, norm.x, width, n, k, kv_width, TT_CPU_STORE};
	struct tt_cpu_product v_product = {&layer->wv, layer->bv, norm.x, width, n, v, kv_width, TT_CPU_STORE};
	struct tt_cpu_jobs jobs = {
		.products = {&q_product, &k_product, &v_product}, .n_products = 3, .after = &layer->wo};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, c->head_dim, err));
	tt_cpu_jobs_run(&jobs);
	rows.q = y;
	rows.k = k;
	rows.v = v;
	rows.scratch = jobs.scratch;
	rows.stride = jobs.scratch_stride;
	tt_threads_run(cpu->threads, (n + TT_CPU_ROWS_A_JOB - 1) / TT_CPU_ROWS_A_JOB, rotate_rows, &rows);
	return TT_OK;
}
