/* The limits that an engine sets for a backend, and the results of a step. */
#ifndef KERNELS_RESULTS_H
#define KERNELS_RESULTS_H

#include "base/tt_enums.h"
#include "kernels/step_plan.h"
#include "weights/config.h"

/* The most that an engine will ask of a backend, so that a device sizes its buffers once. */
struct tt_limits {
	uint32_t max_tokens, max_seqs, max_samples; /* of a step */
	uint32_t n_rows;                            /* of the coefficient table */
	uint32_t context;                           /* positions of a sequence */
	uint32_t n_inline_captures;                 /* captured rows that come in one copy with the other results */
	uint32_t max_seen;                          /* ids of a step that penalties apply to: 0, or above context */
	size_t plan_bytes;                          /* of the largest step plan */
	uint32_t n_ranks;                           /* of more than one, results have a word to agree on */
	bool fast;                                  /* kernels that do not promise strict's bits are allowed */
	enum tt_compute compute;                    /* what products are computed in, where the backend has it */
};

/* The results of a step: in the backend's memory as the ops write them, in the host's as finish returns them. All but
 * logits (and captured rows when there are more than n_inline_captures) lie in one block in this order, so that they
 * leave a device in one copy. */
struct tt_results {
	float *decided;                       // [n_decisions][n_layers] coefficient rows
	struct tt_decision_result *decisions; // [n_decisions]
	uint32_t *agreed; /* of a device's ranks: a hash of what all must have made of the step; NULL for one rank */
	struct tt_sample_result *samples; // [n_samples]
	float *norms;                     // [n_tokens][n_layers][2], NULL unless wanted
	float *captured;                  // [n_captures][n_layers][hidden], NULL unless wanted
	float *logits;                    // [n_samples][vocab], NULL unless wanted
	uint64_t word;                    /* of several ranks, once finished: that hash */
};

/* How many captured rows the block has room for: 4 MiB of them, at most 64. */
uint32_t tt_limits_inline_captures(const struct tt_config *config);

/* Points results into block (logits is left alone) and returns the block's size in bytes; pass block NULL to ask for
 * the size. */
size_t tt_results_layout(
	struct tt_results *results, void *block, const struct tt_config *config, const struct tt_limits *limits);

/* The part of the block, in bytes, that a step fills and the host reads. */
struct tt_results_part {
	size_t first, n_bytes;
};
struct tt_results_part tt_results_span(
	const struct tt_step_plan *step, const struct tt_config *config, const struct tt_limits *limits);

/* The word of a step whose results and h, [n_tokens][hidden], are in the host's memory: over the sampled tokens, the
 * decided rows, and h of as many rows as there are samples, whose bits have in them all that steered them. */
uint64_t tt_results_word(const struct tt_results *results, const float *h, const struct tt_step_plan *step,
	const struct tt_config *config);

#endif
