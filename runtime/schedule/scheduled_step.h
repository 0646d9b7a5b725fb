/* A step as the scheduler made it: the packed plan that a device reads, and the sequences whose positions are in it. */
#ifndef RUNTIME_SCHEDULE_SCHEDULED_STEP_H
#define RUNTIME_SCHEDULE_SCHEDULED_STEP_H

#include "kernels/results.h"
#include "runtime/schedule/sequence.h"

/* One sequence's share of the step. */
struct tt_planned {
	struct tt_sequence *sequence; /* NULL: it ended while the step was in flight */
	size_t position;              /* of its first token here */
	size_t length;                /* tokens known or pending when this was planned */
	size_t valid;                 /* set when collected: positions from here on run again, and report nothing yet */
	uint32_t first_token, n_tokens, first_sample, n_samples, first_capture, n_captures, first_decision, first_pool;
	uint32_t first_seen, n_seen; /* the ids that penalties of the token to generate apply to */
	uint32_t decision_capture;   /* the capture that holds the hidden states its gates read */
	uint32_t mean_capture;       /* the capture that the means are written to, after those of its tokens */
	bool pools;                  /* it sums hidden states for its gates, or takes their mean */
	uint32_t fed_by;             /* if its last token is not known yet: index of that sample in the previous step */
	bool generates;              /* its last sample is appended to the sequence; the others are only reported */
	bool decides;                /* its gates run in this step */
	bool same_pass;              /* what they decide steers this same pass */
	bool killed;                 /* it is unsteered, because of the kill switch */
};

/* A coefficient row that must be written before the step: its sequence was decided, then pre-empted, and is admitted
 * again in this step. */
struct tt_restore {
	uint16_t row;
	const float *coef; // [n_layers]
};

struct tt_scheduled_step {
	struct tt_step_plan *step;
	struct tt_planned *planned; // [max_seqs]
	uint32_t n_planned;
	struct tt_restore *restores; // [n_rows]
	uint32_t n_restores;
};

int tt_scheduled_step_open(struct tt_scheduled_step *plan, const struct tt_limits *limits, struct tt_error *err);
void tt_scheduled_step_close(struct tt_scheduled_step *plan);

#endif
