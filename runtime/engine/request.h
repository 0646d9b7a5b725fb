/* A request: its sequence for the scheduler, and what is kept of the answer. */
#ifndef RUNTIME_ENGINE_REQUEST_H
#define RUNTIME_ENGINE_REQUEST_H

#include "runtime/engine/engine.h"
#include "runtime/engine/stop_strings.h"

/* One request: its sequence for the scheduler, what is kept of the answer. */
struct tt_request {
	struct tt_sequence sequence; /* first: the scheduler's hooks are given this */
	struct tt_engine *engine;
	bool own;                           /* of tt_request_submit_own: never in the list of the finished */
	struct tt_request_options options;  /* its pointers are NULLed but for the callbacks; what they held is below */
	float *weights;                     // [n_steering][L]
	struct tt_request *before, *behind; /* in the list of the finished */

	uint64_t *keep_layers;
	float *scores, *norms, *logits; /* see trimtab.h; NULL when not asked for */
	float *hidden;                  // [n_kept layers][n_ids - keep_from][d]
	float *logprobs;                // [max_tokens]
	int32_t *top_ids;               // [max_tokens][n_top]
	float *top_logprobs;
	uint32_t *n_top; // [max_tokens]
	size_t n_told;   /* positions that telemetry was called for */

	int32_t *stop_ids; // [n_stop_ids]
	size_t n_stop_ids;
	struct tt_stop_strings reply;
	size_t n_taken; /* generated tokens handed out */
};

/* tt_request_submit of a request that tt_engine_next never gives out: whoever else uses the engine does not see it. */
int tt_request_submit_own(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options,
	struct tt_error *err);

/* Whether a request may be steered so. */
int tt_request_check_steering(struct tt_engine *engine, const struct tt_steering *steering, uint32_t n,
	enum tt_policy_when when, struct tt_error *err);

/* Out of the list of the finished, if it is there. */
void tt_request_unlist(struct tt_request *r);
bool tt_request_is_eos(const struct tt_engine *engine, int32_t id);

#endif
