/* From the running requests to one step plan: who runs which positions, what is sampled, which gates run, and which
 * coefficient rows steer each token. */
#ifndef RUNTIME_PLAN_H
#define RUNTIME_PLAN_H

#include "runtime/engine.h"

/* What the step holds of one request. */
struct tt_planned {
	struct tt_request *request;
	uint32_t first_token, n_tokens; /* in the step */
	uint32_t n_samples, n_captures;
	bool decides;   /* its gates run in this step */
	bool same_pass; /* and what they decide steers this same pass */
	uint32_t first_decision, first_capture, decision_capture;
};

/* Whose sample a row of logits is. */
struct tt_sample_owner {
	struct tt_request *request;
	size_t position;
	bool generates; /* its token goes on the sequence; else it is only scored */
};

struct tt_plan {
	struct tt_step *step;
	size_t capacity;            /* bytes of step */
	struct tt_planned *planned; // [max_batch]
	uint32_t n_planned;
	struct tt_sample_owner *owners; // [max_samples]
};

int tt_plan_open(struct tt_plan **out, const struct tt_engine *engine, struct tt_error *err);
void tt_plan_close(struct tt_plan *plan); /* NULL is fine */

/* Fills engine->plan for the next step. n_tokens is 0 when nothing can run. */
int tt_plan_build(struct tt_engine *engine, struct tt_error *err);

#endif
