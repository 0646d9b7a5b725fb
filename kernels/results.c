#include "kernels/results.h"

#include <string.h>

enum { RIDING_BYTES = 4 << 20, MAX_RIDING = 64, ALIGNMENT = 256, AGREED_BYTES = 16 };

uint32_t tt_limits_inline_captures(const struct tt_config *config)
{
	size_t n = RIDING_BYTES / ((size_t)config->n_layers * config->hidden_size * sizeof(float));
	return n > MAX_RIDING ? MAX_RIDING : (uint32_t)n;
}

/* Byte offset of each part, and of the end of the block. */
struct offsets {
	size_t decided, decisions, agreed, samples, norms, captured, end;
};

static size_t part_end(size_t at, size_t count, size_t size)
{
	return (at + count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static struct offsets offsets_of(const struct tt_config *config, const struct tt_limits *limits)
{
	size_t layer_floats = config->n_layers * sizeof(float);
	struct offsets o = {0};
	o.decisions = part_end(o.decided, limits->n_rows, layer_floats);
	o.samples = part_end(o.decisions, limits->n_rows, sizeof(struct tt_decision_result));
	o.agreed = o.samples;
	if (limits->n_ranks > 1) { /* right before the samples, so that it comes with them */
		o.samples += ALIGNMENT;
		o.agreed = o.samples - AGREED_BYTES;
	}
	o.norms = part_end(o.samples, limits->max_samples, sizeof(struct tt_sample_result));
	o.captured = part_end(o.norms, limits->max_tokens, 2 * layer_floats);
	o.end = part_end(o.captured, limits->n_inline_captures, config->hidden_size * layer_floats);
	return o;
}

size_t tt_results_layout(
	struct tt_results *results, void *block, const struct tt_config *config, const struct tt_limits *limits)
{
	struct offsets o = offsets_of(config, limits);
	char *at = block;
	if (!block)
		return o.end;
	results->decided = (float *)(void *)(at + o.decided);
	results->decisions = (struct tt_decision_result *)(void *)(at + o.decisions);
	results->agreed = limits->n_ranks > 1 ? (uint32_t *)(void *)(at + o.agreed) : NULL;
	results->samples = (struct tt_sample_result *)(void *)(at + o.samples);
	results->norms = (float *)(void *)(at + o.norms);
	results->captured = (float *)(void *)(at + o.captured);
	return o.end;
}

struct tt_results_part tt_results_span(
	const struct tt_step_plan *step, const struct tt_config *config, const struct tt_limits *limits)
{
	struct offsets o = offsets_of(config, limits);
	size_t layer_floats = config->n_layers * sizeof(float), end = o.samples;
	struct tt_results_part span = {step->n_decisions ? o.decided : o.agreed, 0};
	end += step->n_samples * sizeof(struct tt_sample_result);
	if (step->wants & TT_WANT_NORMS)
		end = o.norms + step->n_tokens * 2 * layer_floats;
	if (step->wants & TT_WANT_CAPTURED && step->n_captures <= limits->n_inline_captures)
		end = o.captured + step->n_captures * config->hidden_size * layer_floats;
	span.n_bytes = end - span.first;
	return span;
}

/* FNV-1a, by words: it need not withstand anyone. */
static uint64_t add_word(uint64_t hash, uint32_t word)
{
	return (hash ^ word) * 0x100000001b3u;
}

static uint64_t add_floats(uint64_t hash, const float *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &values[i], sizeof bits);
		hash = add_word(hash, bits);
	}
	return hash;
}

uint64_t tt_results_word(const struct tt_results *results, const float *h, const struct tt_step_plan *step,
	const struct tt_config *config)
{
	size_t n_rows = step->n_samples ? step->n_samples : 1;
	uint64_t hash = 0xcbf29ce484222325u;
	for (uint32_t i = 0; i < step->n_samples; i++)
		hash = add_word(hash, (uint32_t)results->samples[i].token);
	hash = add_floats(hash, results->decided, (size_t)step->n_decisions * config->n_layers);
	return add_floats(hash, h, n_rows * config->hidden_size);
}
