/* q, k, v: norm, projection, bias, rotation, and k and v into their pages. */
#include <omp.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

/* One head rotated: pairs (i, i + n_pairs) out, from the same or, in a GGUF's order of rows, from neighbours. */
static void rotate_head(const float *in, float *out, const float *rotation, uint32_t n_pairs, bool interleaved)
{
	for (uint32_t i = 0; i < n_pairs; i++) {
		float a = interleaved ? in[2 * i] : in[i];
		float b = interleaved ? in[2 * i + 1] : in[i + n_pairs];
		float cosine = rotation[2 * i], sine = rotation[2 * i + 1];
		out[i] = a * cosine - b * sine;
		out[i + n_pairs] = b * cosine + a * sine;
	}
}

struct rows {
	const float *q, *k, *v; // [n_tokens][n_heads or n_kv_heads][head_dim], as the products left them
	const float *rotation;  // [n_tokens][head_dim / 2][2]
};

static void append(const struct tt_cpu *cpu, const struct tt_qkv_args *args, size_t at, const float *row)
{
	uint32_t head_dim = args->config->head_dim;
	if (args->kv->type == TT_KV_F16)
		cpu->body->to_f16(row, (uint16_t *)args->kv->data + at, head_dim);
	else
		for (uint32_t i = 0; i < head_dim; i++)
			((float *)args->kv->data)[at + i] = row[i];
}

static void rotate_token(
	const struct tt_cpu *cpu, const struct tt_qkv_args *args, const struct rows *rows, uint32_t t, float *head)
{
	const struct tt_config *c = args->config;
	const struct tt_step *step = args->step;
	uint32_t n_pairs = c->head_dim / 2, position = (uint32_t)tt_step_positions(step)[t];
	size_t hd = c->head_dim, page_size = (size_t)c->n_kv_heads * TT_PAGE_TOKENS * hd;
	const int32_t *pages = tt_step_pages(step) + (size_t)tt_step_seqs(step)[t] * step->max_pages;
	size_t page = (size_t)args->layer_index * args->kv->n_pages + (size_t)pages[position / TT_PAGE_TOKENS];
	const float *rotation = rows->rotation + (size_t)t * n_pairs * 2;
	for (uint32_t i = 0; i < c->n_heads; i++) {
		size_t at = ((size_t)t * c->n_heads + i) * hd;
		rotate_head(rows->q + at, args->q + at, rotation, n_pairs, c->rope_interleaved);
	}
	for (uint32_t i = 0; i < c->n_kv_heads; i++) {
		size_t from = ((size_t)t * c->n_kv_heads + i) * hd;
		size_t to = page * 2 * page_size + ((size_t)i * TT_PAGE_TOKENS + position % TT_PAGE_TOKENS) * hd;
		rotate_head(rows->k + from, head, rotation, n_pairs, c->rope_interleaved);
		append(cpu, args, to, head);
		append(cpu, args, to + page_size, rows->v + from);
	}
}

int tt_cpu_qkv(struct tt_backend *backend, const struct tt_qkv_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	const struct tt_config *c = args->config;
	const struct tt_layer *layer = args->layer;
	uint32_t n = args->step->n_tokens, hidden = c->hidden_size;
	size_t width = tt_cpu_padded(hidden), q_width = (size_t)c->n_heads * c->head_dim;
	size_t kv_width = (size_t)c->n_kv_heads * c->head_dim, n_x, n_y;
	float *x, *y;
	struct rows rows;
	if (c->head_dim % 2)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "head_dim %u is odd: rotation needs pairs", c->head_dim);
	if (!tt_mul_size(n, width, &n_x) || !tt_mul_size(n, q_width + 2 * kv_width, &n_y))
		return tt_fail(err, TT_ERR_MEMORY, "a step of %u tokens does not fit", n);
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_X, n_x, sizeof *x, &x, err));
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_Y, n_y, sizeof *y, &y, err));
	TT_TRY(tt_cpu_rotation(cpu, args->step, args->inverse_frequencies, c->head_dim / 2, &rows.rotation, err));
	float *k = y + n * q_width, *v = k + n * kv_width;
	struct tt_cpu_product q_product = {&layer->wq, layer->bq, x, width, n, y, q_width, TT_CPU_STORE};
	struct tt_cpu_product k_product = {&layer->wk, layer->bk, x, width, n, k, kv_width, TT_CPU_STORE};
	struct tt_cpu_product v_product = {&layer->wv, layer->bv, x, width, n, v, kv_width, TT_CPU_STORE};
	struct tt_cpu_jobs jobs = {.products = {&q_product, &k_product, &v_product}, .n_products = 3};
	TT_TRY(tt_cpu_jobs_plan(cpu, &jobs, c->head_dim, err));
	rows.q = y;
	rows.k = k;
	rows.v = v;
#pragma omp parallel num_threads(jobs.n_threads)
	{
#pragma omp for schedule(static)
		for (uint32_t t = 0; t < n; t++)
			cpu->body->rmsnorm(
				args->h + (size_t)t * hidden, layer->attn_norm, c->rms_norm_eps, hidden, x + t * width);
		tt_cpu_jobs_run(cpu, &jobs);
#pragma omp for schedule(static)
		for (uint32_t t = 0; t < n; t++)
			rotate_token(
				cpu, args, &rows, t, jobs.scratch + (size_t)omp_get_thread_num() * jobs.scratch_stride);
	}
	return TT_OK;
}
