/* What a model wrote, and what is measured of it: refused or not, how repetitive, how plausible to the unsteered model. */
#ifndef CONTROLLER_MEASURE_COMPLETION_H
#define CONTROLLER_MEASURE_COMPLETION_H

#include "runtime/engine/pump.h"

struct tt_completion {
	int32_t *ids; // [n_ids] generated, an end token included
	size_t n_ids;
	char *text;
	bool refused;
	bool flagged;  /* some policy's gate gave a scalar above a half */
	float s, gate; /* of the first policy; 0 without one */
	size_t n_fourgrams, n_repeated;
	double logprob; /* sum over ids, under the model that wrote them, until tt_completions_score */
};

/* True when the text holds one of the 13 refusal phrases of arXiv 2505.20309, any case, typographic apostrophes too. */
bool tt_is_refusal(const char *text);

/* The 4-grams of a list of ids, and how many of them stood before in the same list. */
int tt_count_fourgrams(const int32_t *ids, size_t n_ids, size_t *n_fourgrams, size_t *n_repeated, struct tt_error *err);

/* Runs n requests and fills out[n] (each empty before). */
int tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err);

/* Sets logprob to what the unsteered model gives the completions behind the same prompts. The steering of options is
 * ignored. */
int tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err);

bool tt_completions_equal(const struct tt_completion *a, const struct tt_completion *b);
int tt_completion_copy(struct tt_completion *out, const struct tt_completion *from, struct tt_error *err);
void tt_completion_free(struct tt_completion *completion);

/* Sums over completions. */
struct tt_tally {
	size_t n, n_refused, n_flagged, n_tokens, n_fourgrams, n_repeated;
	double logprob;
};
void tt_tally_add(struct tt_tally *tally, const struct tt_completion *completion);
/* Shares and means; 0 where there is nothing. */
double tt_tally_refused(const struct tt_tally *tally);
double tt_tally_repeated(const struct tt_tally *tally);
double tt_tally_nll(const struct tt_tally *tally); /* a token */

#endif
