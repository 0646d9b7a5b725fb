/* From logits to a token and its log-probability.
 *
 * Penalties come first, then temperature, then top-k, top-p and min-p, in Hugging Face's order: top-p is a share of
 * what top-k left. The log-probabilities are the model's own: of the logits as they came, with nothing cut. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

void tt_cpu_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k0 = key[0], k1 = key[1];
	for (int round = 0; round < 10; round++) {
		uint64_t first = (uint64_t)0xd2511f53 * a, second = (uint64_t)0xcd9e8d57 * c;
		a = (uint32_t)(second >> 32) ^ b ^ k0;
		b = (uint32_t)second;
		c = (uint32_t)(first >> 32) ^ d ^ k1;
		d = (uint32_t)first;
		k0 += 0x9e3779b9;
		k1 += 0xbb67ae85;
	}
	out[0] = a;
	out[1] = b;
	out[2] = c;
	out[3] = d;
}

/* A number in [0, 1) with 53 bits, from nothing but the seed and the counter. */
static double uniform(uint64_t seed, uint64_t counter)
{
	const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	const uint32_t at[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
	uint32_t words[4];
	tt_cpu_philox(at, key, words);
	return (double)(((uint64_t)words[1] << 32 | words[0]) >> 11) * 0x1p-53;
}

/* The n_top largest, by value and then by id. NaN is left out. */
static void top(const float *logits, uint32_t n, uint32_t n_top, double log_sum, struct tt_sample_result *out)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < n && n_top; i++) {
		if (isnan(logits[i]) || (count == n_top && !(logits[i] > logits[out->top_tokens[count - 1]])))
			continue;
		uint32_t at = count < n_top ? count++ : count - 1;
		for (; at && logits[i] > logits[out->top_tokens[at - 1]]; at--)
			out->top_tokens[at] = out->top_tokens[at - 1];
		out->top_tokens[at] = (int32_t)i;
	}
	out->n_top = count;
	for (uint32_t i = 0; i < count; i++)
		out->top_logprobs[i] = (float)((double)logits[out->top_tokens[i]] - log_sum);
}

/* The logits that are chosen by, in out where penalties change any. */
static const float *penalise(
	const struct tt_sample_plan *plan, const struct tt_seen *seen, const float *logits, uint32_t n, float *out)
{
	const struct tt_penalties *p = &plan->penalties;
	if (plan->n_seen == 0)
		return logits;
	memcpy(out, logits, n * sizeof *out);
	for (uint32_t i = 0; i < plan->n_seen; i++) {
		float *x = &out[seen[i].id];
		*x = *x < 0 ? *x * p->repetition : *x / p->repetition;
		if (seen[i].n_generated > 0)
			*x = *x - (float)seen[i].n_generated * p->frequency - p->presence;
	}
	return out;
}

static void sample_row(const struct tt_cpu *cpu, const struct tt_sample_plan *plan, const struct tt_seen *seen,
	const float *logits, uint32_t n, float *weights, struct tt_cpu_candidate *candidates,
	struct tt_sample_result *out)
{
	uint32_t best = cpu->body->largest(logits, n);
	double log_sum = (double)logits[best] + log(cpu->body->exp_sum(logits, logits[best], 1, n, weights));
	const float *drawn = penalise(plan, seen, logits, n, (float *)(void *)(candidates + n));
	uint32_t chosen = drawn == logits ? best : cpu->body->largest(drawn, n);
	float sharpness = 1 / plan->sampling.temperature, max = drawn[chosen];
	if (plan->sampling.temperature > 0 && isfinite(sharpness) && isfinite(max)) {
		cpu->body->exp_sum(drawn, max, sharpness, n, weights);
		chosen = tt_cpu_draw(plan, weights, n, uniform(plan->sampling.seed, plan->counter), candidates);
	}
	*out = (struct tt_sample_result){.token = (int32_t)chosen};
	out->logprob = (float)((double)logits[chosen] - log_sum);
	if (plan->target >= 0 && (uint32_t)plan->target < n)
		out->target_logprob = (float)((double)logits[plan->target] - log_sum);
	top(logits, n, plan->n_top < TT_MAX_TOP ? plan->n_top : TT_MAX_TOP, log_sum, out);
}

struct sample_job {
	const struct tt_cpu *cpu;
	const struct tt_sample_args *args;
	float *scratch; // [n_threads][stride]
	size_t stride;
};

static void sample_job(void *context, uint32_t job, uint32_t thread)
{
	const struct sample_job *all = context;
	uint32_t vocab = all->args->config->vocab_size;
	float *weights = all->scratch + thread * all->stride;
	const struct tt_sample_plan *plan = &tt_step_samples(all->args->step)[job];
	sample_row(all->cpu, plan, tt_step_seen(all->args->step) + plan->first_seen,
		all->args->logits + (size_t)job * vocab, vocab, weights,
		(struct tt_cpu_candidate *)(void *)(weights + vocab), &all->args->results[job]);
}

int tt_cpu_sample(struct tt_backend *backend, const struct tt_sample_args *args, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	struct sample_job all = {.cpu = cpu, .args = args};
	size_t floats;
	/* Weights, and a candidate of two words for each; the logits with penalties. */
	if (!tt_mul_size(args->config->vocab_size, args->step->n_seen ? 4 : 3, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "a vocabulary of %u does not fit", args->config->vocab_size);
	TT_TRY(tt_cpu_thread_scratch(cpu, floats, &all.scratch, &all.stride, err));
	tt_threads_run(cpu->threads, args->step->n_samples, sample_job, &all);
	return TT_OK;
}
