/* Two sequences whose hidden states are pooled, in steps that cut their prompts in some way, for the suites of the op
 * on a CPU and on the emulator. */
#ifndef TESTS_POOL_WORLD_H
#define TESTS_POOL_WORLD_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/ops.h"
#ifdef __cplusplus
}
#endif

enum { POOL_LAYERS = 3, POOL_SEQS = 2, POOL_PROMPT = 75, POOL_TABLE = 6, POOL_PAGES = 11, POOL_STEP_BYTES = 1 << 14 };

/* What a sequence pools: the span begins and ends inside of pages, or at their edges. */
struct pool_span {
	uint32_t from, to, n_layers, layers[TT_MAX_POOLED];
};
static const struct pool_span POOL_SPANS[POOL_SEQS] = {{5, 70, 2, {0, 2}}, {16, 64, 1, {2}}};

struct pool_world {
	uint32_t hidden;
	float *sums;     // [POOL_PAGES][TT_MAX_POOLED][hidden]
	float *captured; // [POOL_SEQS][POOL_LAYERS][hidden]: the means of each sequence
};

/* Runs the op over memory of the host. */
typedef void pool_run(const struct tt_pool_args *args);

/* A number that depends on where it is alone, so that every way of cutting meets the same. */
static float pool_h(uint32_t seq, uint32_t layer, uint32_t position, uint32_t column)
{
	uint32_t x = ((seq * POOL_LAYERS + layer) * POOL_PROMPT + position) * 8191 + column;
	x = (x ^ x >> 15) * 0x2c1b3c6du;
	x = (x ^ x >> 12) * 0x297a2d39u;
	return (float)(x ^ x >> 15) * 0x1p-31f - 0.9f;
}

/* Pages in no order, none of them shared. */
static int32_t pool_page(uint32_t seq, uint32_t i)
{
	return (int32_t)((seq * 5 + i * 7 + 3) % POOL_PAGES);
}

static struct pool_world pool_open(uint32_t hidden)
{
	struct pool_world w = {hidden, NULL, NULL};
	size_t n_sums = (size_t)POOL_PAGES * TT_MAX_POOLED * hidden, n_means = (size_t)POOL_SEQS * POOL_LAYERS * hidden;
	w.sums = (float *)malloc(n_sums * sizeof(float));
	w.captured = (float *)malloc(n_means * sizeof(float));
	for (size_t i = 0; i < n_sums; i++)
		w.sums[i] = NAN; /* what another sequence left there */
	for (size_t i = 0; i < n_means; i++)
		w.captured[i] = NAN;
	return w;
}

static void pool_close(struct pool_world *w)
{
	free(w->sums);
	free(w->captured);
}

/* One step with positions [first[s], end[s]) of each sequence. A sequence decides where its prompt ends. */
static struct tt_step_plan *pool_step(const uint32_t *first, const uint32_t *end)
{
	struct tt_step_plan *step = (struct tt_step_plan *)calloc(1, POOL_STEP_BYTES);
	uint32_t t = 0;
	struct tt_error err;
	step->n_seqs = step->n_pools = step->n_captures = POOL_SEQS;
	step->max_pages = POOL_TABLE;
	for (uint32_t s = 0; s < POOL_SEQS; s++)
		step->n_tokens += end[s] - first[s];
	if (tt_step_layout(step, POOL_STEP_BYTES, &err) != TT_OK)
		abort();
	for (uint32_t s = 0; s < POOL_SEQS; s++) {
		const struct pool_span *span = &POOL_SPANS[s];
		struct tt_pool_plan *pool = tt_step_pools(step) + s;
		uint32_t from = first[s] > span->from ? first[s] : span->from,
			 to = end[s] < span->to ? end[s] : span->to;
		pool->seq = s;
		pool->first_token = from < to ? t + from - first[s] : 0;
		pool->n_tokens = from < to ? to - from : 0;
		pool->from = span->from;
		pool->to = span->to;
		pool->mean_capture = end[s] == POOL_PROMPT && first[s] < end[s] ? (int32_t)s : -1;
		pool->n_layers = span->n_layers;
		memcpy(pool->layers, span->layers, sizeof pool->layers);
		for (uint32_t i = 0; i < POOL_TABLE; i++)
			tt_step_pages(step)[s * POOL_TABLE + i] = pool_page(s, i);
		for (uint32_t position = first[s]; position < end[s]; position++, t++) {
			tt_step_positions(step)[t] = (int32_t)position;
			tt_step_seqs(step)[t] = (int32_t)s;
		}
	}
	return step;
}

static void pool_run_step(struct pool_world *w, const struct tt_step_plan *step, pool_run *run)
{
	struct tt_config config;
	memset(&config, 0, sizeof config);
	config.hidden_size = w->hidden;
	config.n_layers = POOL_LAYERS;
	float *h = (float *)malloc((step->n_tokens + 1) * w->hidden * sizeof *h);
	for (uint32_t l = 0; l < POOL_LAYERS; l++) {
		for (uint32_t t = 0; t < step->n_tokens; t++)
			for (uint32_t k = 0; k < w->hidden; k++)
				h[(size_t)t * w->hidden + k] = pool_h(
					(uint32_t)tt_step_seqs(step)[t], l, (uint32_t)tt_step_positions(step)[t], k);
		const struct tt_pool_args args = {&config, step, l, h, w->sums, w->captured};
		run(&args);
	}
	free(h);
}

/* Runs both prompts, in steps of so many tokens of each; the second one starts a step later. */
static void pool_run_cut(struct pool_world *w, const uint32_t *chunks, pool_run *run)
{
	uint32_t first[POOL_SEQS] = {0, 0}, end[POOL_SEQS];
	for (uint32_t n = 0; first[0] < POOL_PROMPT || first[1] < POOL_PROMPT; n++) {
		for (uint32_t s = 0; s < POOL_SEQS; s++) {
			end[s] = first[s] + (n >= s ? chunks[s] : 0);
			if (end[s] > POOL_PROMPT)
				end[s] = POOL_PROMPT;
		}
		struct tt_step_plan *step = pool_step(first, end);
		pool_run_step(w, step, run);
		free(step);
		memcpy(first, end, sizeof first);
	}
}

/* The largest error of the means against a plain sum in double. NaN if something is not there, or if the op wrote a
 * layer that is not pooled. */
static double pool_error(const struct pool_world *w)
{
	double worst = 0;
	for (uint32_t s = 0; s < POOL_SEQS; s++)
		for (uint32_t l = 0; l < POOL_LAYERS; l++) {
			const struct pool_span *span = &POOL_SPANS[s];
			const float *mean = w->captured + (size_t)(s * POOL_LAYERS + l) * w->hidden;
			bool pooled = false;
			for (uint32_t j = 0; j < span->n_layers; j++)
				pooled |= span->layers[j] == l;
			for (uint32_t k = 0; k < w->hidden; k++) {
				double sum = 0;
				for (uint32_t p = span->from; p < span->to; p++)
					sum += (double)pool_h(s, l, p, k);
				double error = fabs((double)mean[k] - sum / (span->to - span->from));
				if (pooled ? isnan(error) : !isnan(mean[k]))
					return (double)NAN;
				worst = pooled && error > worst ? error : worst;
			}
		}
	return worst;
}

#endif
