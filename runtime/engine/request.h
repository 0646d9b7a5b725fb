/* One request: the sequence that the scheduler sees, and what is kept of the answer. */
#ifndef RUNTIME_ENGINE_REQUEST_H
#define RUNTIME_ENGINE_REQUEST_H

#include "runtime/engine/engine.h"
#include "runtime/engine/stop_strings.h"

struct tt_request {
	struct tt_sequence sequence; /* must be first: the scheduler's hooks get a pointer to it */
	struct tt_engine *engine;
	bool own;                           /* from tt_request_submit_own: never in the list of finished requests */
	struct tt_request_options options;  /* pointers to lists are NULL: the request has its own copies, below */
	float *weights;                     // [n_steering][L]
	struct tt_request *previous, *next; /* in the list of finished requests */

	uint64_t *keep_layers;          // [(L + 63) / 64]
	float *scores, *norms, *logits; /* see trimtab.h; NULL if not asked for */
	float *hidden;                  // [n_kept layers][n_ids - keep_from][d]
	/* Of the scored ids, which are those after position sequence.score_from. */
	uint32_t *score_n_top;  // [n_scored]
	int32_t *score_top_ids; // [n_scored][score_top]
	float *score_top_logprobs;
	float *logprobs;  // [max_tokens]
	int32_t *top_ids; // [max_tokens][n_top]
	float *top_logprobs;
	uint32_t *n_top;    // [max_tokens]
	size_t n_telemetry; /* positions that the telemetry callback was called for */

	int32_t *stop_ids; // [n_stop_ids]
	size_t n_stop_ids;
	struct tt_stop_strings reply;
	size_t n_taken; /* generated tokens that tt_request_next handed out */
	double started; /* when a step first ran it, as tt_now counts; 0: none has */
};

/* tt_request_submit, but tt_engine_next never gives the request out, so other users of the engine do not see it. */
int tt_request_submit_own(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options,
	struct tt_error *err);

/* What tt_request_submit checks of the options, but for the policies. */
int tt_request_check(const struct tt_engine *engine, const struct tt_request_options *options, struct tt_error *err);

/* Whether a request may be steered in this way. */
int tt_request_check_steering(struct tt_engine *engine, const struct tt_steering *steering, uint32_t n,
	enum tt_policy_when when, struct tt_error *err);

/* When a step first ran it, as tt_now counts; 0: none has. */
double tt_request_started(const struct tt_request *request);

static inline bool tt_layer_is_kept(const uint64_t *keep_layers, uint32_t layer)
{
	return keep_layers[layer / 64] >> (layer % 64) & 1;
}

/* Positions [from, to) of a prompt. */
struct tt_positions {
	size_t from, to;
};

/* What gates take a mean over, by mean_from, mean_to and n_prompt of a request. The whole prompt is then all but its
 * first token: models rest their attention on that one, whichever it is, and its h is far longer than any other (after
 * layer 12 of SmolLM2-135M 24,410, of other tokens about 190), so that a mean with it tells how many tokens there are,
 * and hardly anything else. */
static inline struct tt_positions tt_mean_span(size_t from, size_t to, size_t n_prompt)
{
	return to ? (struct tt_positions){from, to} : (struct tt_positions){n_prompt > 1, n_prompt};
}

/* Removes the request from the list of finished requests, if it is there. The lock is held. */
void tt_request_unlist(struct tt_request *r);
/* Whether id is one of the model's end tokens. */
bool tt_request_is_eos(const struct tt_engine *engine, int32_t id);

#endif
