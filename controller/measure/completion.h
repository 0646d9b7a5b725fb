/* A completion, and what is measured about it: whether it refuses, how repetitive it is, and how plausible the
 * unsteered model finds it. */
#ifndef CONTROLLER_MEASURE_COMPLETION_H
#define CONTROLLER_MEASURE_COMPLETION_H

#include "controller/measure/refusal.h"
#include "runtime/engine/pump.h"

struct tt_completion {
	int32_t *ids; // [n_ids] generated, an end token included
	size_t n_ids;
	char *text;
	bool refused;            /* tt_refuses */
	bool refused_by_phrases; /* tt_refuses_by_phrases */
	enum tt_verdict verdict; /* from the judgements of an evaluation */
	bool flagged;            /* some policy's gate gave a scalar above a half */
	bool decided;            /* the first policy's gate gave these */
	float s, gate;           /* 0 without one */
	bool greedy;             /* after tt_completions_score_steered: each id was the likeliest */
	size_t n_fourgrams, n_repeated;
	/* Sum over ids: under the model that wrote them, after tt_completions_score under the unsteered model. */
	double logprob;
};

/* Counts the 4-grams of a list of ids, and those of them that occur earlier in the list. */
int tt_count_fourgrams(const int32_t *ids, size_t n_ids, size_t *n_fourgrams, size_t *n_repeated, struct tt_error *err);

/* Runs n requests and fills out [n], which must be empty before. */
int tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err);

/* Sets logprob to the log-probability that the unsteered model gives the completions after the prompts of options,
 * whose steering is ignored. */
int tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err);

/* The same under the steering of options. */
int tt_completions_score_steered(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err);

bool tt_completions_equal(const struct tt_completion *a, const struct tt_completion *b);
int tt_completion_copy(struct tt_completion *out, const struct tt_completion *from, struct tt_error *err);
void tt_completion_free(struct tt_completion *completion);

/* Sums over completions. */
struct tt_tally {
	size_t n, n_refused, n_refused_by_phrases, n_flagged, n_tokens, n_fourgrams, n_repeated;
	size_t n_judged, n_judged_refused; /* with a verdict */
	double logprob;
};
void tt_tally_add(struct tt_tally *tally, const struct tt_completion *completion);
/* All are 0 for an empty tally. */
double tt_tally_refused(const struct tt_tally *tally);  /* share of the completions */
double tt_tally_repeated(const struct tt_tally *tally); /* share of the 4-grams */
double tt_tally_nll(const struct tt_tally *tally);      /* nats a token */

#endif
