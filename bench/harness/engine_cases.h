/* Prefill and decode of an engine as cases of the harness, unsteered and steered. */
#ifndef BENCH_ENGINE_CASES_H
#define BENCH_ENGINE_CASES_H

#include "bench/harness/harness.h"
#include "runtime/trimtab.h"

enum {
	TT_LAB_MAX_BATCH = 64,
	TT_LAB_PROMPT = 64,  /* tokens of context before the first decoded one */
	TT_LAB_DECODED = 64, /* tokens decoded after those before the batch restarts */
};

/* What the cases share. Decoding cases keep their sequences from round to round, so the two sides of a comparison need
 * an engine each. The weights are mapped from one file, so both read the same memory. */
struct tt_lab {
	struct tt_engine *engines[2];
	struct tt_policy *policy; /* added to both engines */
	/* [batch] a separate policy for each row instead, each added to both engines; or NULL */
	struct tt_policy *const *by_row;
	bool synthetic; /* the policy has no gate, so every row must be steered */
};

/* Multiply-adds of one token in the matrices of the blocks; and in the output matrix, which only runs for rows that
 * sample. */
double tt_lab_block_macs(const struct tt_model_info *info);
double tt_lab_output_macs(const struct tt_model_info *info);
/* Weight bytes that a step reads: all weights, except that of a separate embedding table only one row a token is
 * read. */
double tt_lab_step_bytes(const struct tt_model_info *info);
/* Random tokens: their text makes no difference to the time. */
void tt_lab_tokens(int32_t *ids, size_t n, uint32_t vocab, uint64_t seed);
/* Whether a coefficient of the request is not 0. Checked, because a row that is not steered would make steering look
 * free. */
bool tt_lab_is_steered(const struct tt_request *request, uint32_t n_layers);

struct tt_prefill_case;
/* Adds "unsteered" and "steered" to a group: n_tokens in, one token out. *out must outlive the run; release it with
 * tt_prefill_free. */
int tt_prefill_add(struct tt_prefill_case **out, struct tt_bench *bench, const struct tt_lab *lab, const char *group,
	uint32_t n_tokens, struct tt_error *err);
void tt_prefill_free(struct tt_prefill_case *prefill); /* NULL is fine */

struct tt_decode_case;
/* Adds the same two cases for n_steps decode steps of batch rows. Each row has its own scale. */
int tt_decode_add(struct tt_decode_case **out, struct tt_bench *bench, const struct tt_lab *lab, const char *group,
	uint32_t batch, uint32_t n_steps, struct tt_error *err);
/* Frees the sequences too, so call it before the lab's engines are closed. NULL is fine. */
void tt_decode_free(struct tt_decode_case *decode);
/* How many rows of the steered side had coefficients that were not all 0, in the last batch. */
uint32_t tt_decode_n_steered(const struct tt_decode_case *decode);

/* The n_steps of tt_decode_add. */
uint32_t tt_decode_n_steps(const struct tt_decode_case *decode);

#endif
