/* The step plan: everything that the kernels need to know of one step, in one packed block, so that it reaches a device
 * in one copy. The host makes all decisions; kernels make none. The block is a header of counts and byte offsets, then
 * the arrays. */
#ifndef KERNELS_STEP_PLAN_H
#define KERNELS_STEP_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"
#include "base/tt_sampling.h"
#include "kernels/steer_slot.h"

enum {
	TT_PAGE_TOKENS = 16, /* positions in a KV page */
	TT_STACK = 4,        /* policies that may steer one token */
};

/* What becomes of the logits x of ids that the row's sequence has, before anything is chosen. First x / repetition, or
 * x * repetition below 0, whether the prompt or the answer has the id (Hugging Face's); then, of an id that was
 * generated c > 0 times, x - c * frequency - presence (OpenAI's). */
struct tt_penalties {
	float repetition, presence, frequency;
};

/* An id that a sequence has. */
struct tt_seen {
	int32_t id;
	uint32_t n_generated; /* how often behind the prompt */
};

/* One row of logits to be computed and sampled from. */
struct tt_sample_plan {
	uint32_t token; /* index into the step's tokens */
	int32_t target; /* report this id's log-probability, or -1 */
	uint32_t n_top; /* alternatives to report, at most TT_MAX_TOP */
	/* The ids that penalties apply to: seen[first_seen, first_seen + n_seen) of the step, each once. None, but on a
	 * backend that has penalties. */
	uint32_t first_seen, n_seen;
	struct tt_penalties penalties;
	struct tt_sampling sampling; /* a row's draw depends on its seed and counter, and on nothing else */
	uint64_t counter;            /* index of the generated token */
};

/* One gate to run, or one row to set, in this step. */
struct tt_decision_plan {
	uint32_t row;  /* of the coefficient table */
	uint32_t slot; /* the policy */
	/* run when this layer's output is ready; -1: before the first layer (a gate that observes nothing) */
	int32_t after_layer;
	uint32_t capture; /* capture row of the last prompt token, unused where after_layer is -1 */
	/* capture row that holds the means over the last user message; unused by a gate that reads none */
	uint32_t mean_capture;
	float scale; /* the request's own scale */
};

/* One sequence whose gates read means, in a step that runs tokens of its span or decides. */
struct tt_pool_plan {
	uint32_t seq;                   /* whose page table has the pages of the span */
	uint32_t first_token, n_tokens; /* the span's tokens in this step */
	uint32_t from, to;              /* the span: positions [from, to) */
	int32_t mean_capture;           /* capture row for the means, in a step that decides; else -1 */
	uint32_t n_layers;
	uint32_t layers[TT_MAX_POOLED]; // [n_layers] whose outputs are summed; layers[j] is record j of a page
};

/* What the host will read of a step besides its samples and decisions. */
enum { TT_WANT_NORMS = 1, TT_WANT_CAPTURED = 2, TT_WANT_LOGITS = 4 };

/* Offsets count bytes from the start of the header; every array is aligned to 8. */
struct tt_step_plan {
	uint32_t n_bytes; /* of the whole block */
	uint32_t n_tokens, n_seqs, n_samples, n_decisions, n_pools, n_captures, n_seen;
	uint32_t n_rows;    /* of the coefficient table, row 0 included */
	uint32_t max_pages; /* columns of the page tables */
	uint32_t tokens;    // int32 [n_tokens] token ids; -1 - i: the token that sample i of the previous step chose
	uint32_t positions; // int32 [n_tokens] absolute; the tokens of one sequence are contiguous, ascending
	uint32_t seqs;      // int32 [n_tokens] which page table
	uint32_t captures;  // int32 [n_tokens] capture row, or -1
	uint32_t coef_rows; // uint16 [n_tokens][TT_STACK] rows that steer the token, in the request's order; 0: none
	uint32_t row_slots; // uint16 [n_rows] policy slot of each row; row 0 has none
	uint32_t pages;     // int32 [n_seqs][max_pages]
	uint32_t samples;   // struct tt_sample_plan [n_samples]
	uint32_t decisions; // struct tt_decision_plan [n_decisions]
	uint32_t pools;     // struct tt_pool_plan [n_pools]
	uint32_t seen;      // struct tt_seen [n_seen]
	uint32_t wants;     /* TT_WANT_ bits */
	/* 1: the operation of some row needs a whole row of h; 0: all of them add, or there are no rows */
	uint32_t row_steering;
	uint32_t n_layers; /* the first so many run: all of the model's, or those that the sequences of the step need */
};

/* The arrays of a step, wherever its block lies. */
#define TT_STEP_ARRAY(name, type)                                                                                      \
	static inline type *tt_step_##name(const struct tt_step_plan *step)                                            \
	{                                                                                                              \
		return (type *)((char *)(uintptr_t)step + (size_t)step->name);                                         \
	}
TT_STEP_ARRAY(tokens, int32_t)
TT_STEP_ARRAY(positions, int32_t)
TT_STEP_ARRAY(seqs, int32_t)
TT_STEP_ARRAY(captures, int32_t)
TT_STEP_ARRAY(coef_rows, uint16_t)
TT_STEP_ARRAY(row_slots, uint16_t)
TT_STEP_ARRAY(pages, int32_t)
TT_STEP_ARRAY(samples, struct tt_sample_plan)
TT_STEP_ARRAY(decisions, struct tt_decision_plan)
TT_STEP_ARRAY(pools, struct tt_pool_plan)
TT_STEP_ARRAY(seen, struct tt_seen)
#undef TT_STEP_ARRAY

/* Whether the pool sums the outputs of that layer, and in which record of a page. */
bool tt_pool_reads(const struct tt_pool_plan *pool, uint32_t layer, uint32_t *record);

/* Lays the arrays out after the header from its counts (which the caller has set) and fills n_bytes and the offsets.
 * TT_ERR_LIMIT when the block would not fit in capacity bytes. */
int tt_step_layout(struct tt_step_plan *step, size_t capacity, struct tt_error *err);

/* Writes the tokens of step that are needed after the attention's keys of the layer are stored (those that sample, are
 * captured, or that a pool sums at this layer) to out, as a step of their own without decisions, and with the pools of
 * this layer alone; out has room for step->n_bytes. kept[i] is the index of token i in step, ascending; place is
 * scratch. */
int tt_step_narrow(const struct tt_step_plan *step, uint32_t layer, struct tt_step_plan *out,
	uint32_t *kept,  // out [n_tokens of step]
	uint32_t *place, // [n_tokens of step]
	struct tt_error *err);

/* The result of one sampled row. */
struct tt_sample_result {
	int32_t token;
	float logprob;        /* of token, under the model's own distribution (temperature 1, nothing cut) */
	float target_logprob; /* of the plan's target; 0 without one */
	uint32_t n_top;
	int32_t top_tokens[TT_MAX_TOP]; /* likeliest first */
	float top_logprobs[TT_MAX_TOP];
};

/* The result of one gate. The coefficients themselves are in the table's row. */
struct tt_decision_result {
	float s; /* the controller's scalar */
	/* what s was computed from: a probe's probability, an mlp's output before its sigmoid, 1 for always */
	float gate;
};

#endif
