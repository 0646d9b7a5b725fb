/* One request as the scheduler sees it. */
#ifndef RUNTIME_SCHEDULE_SEQUENCE_H
#define RUNTIME_SCHEDULE_SEQUENCE_H

#include "base/tt_enums.h"
#include "runtime/schedule/page_pool.h"

/* One policy on one sequence. */
struct tt_sequence_policy {
	uint16_t slot, row;
	enum tt_policy_when when;
	int32_t after_layer; /* where its gate runs; -1: it observes nothing */
	float scale;
	bool whole_rows;             /* its operation needs a whole row of h */
	struct tt_page_key identity; /* of the operation and its directions */

	float s, gate;          /* what the gate said */
	bool acts;              /* some coefficient is not 0 */
	struct tt_page_key key; /* of identity and coefficients */
};

enum tt_sequence_place { TT_NOWHERE, TT_WAITING, TT_RUNS };

struct tt_sequence {
	/* Given when it is added. */
	int32_t *tokens; // [last_position + 1] given ids, behind them what was generated
	size_t n_ids;
	size_t n_prompt;      /* the decision is made at position n_prompt - 1 */
	size_t last_position; /* no token is generated behind it */
	uint32_t max_tokens;
	struct tt_sampling sampling; /* of generated tokens */
	uint32_t n_top;              /* alternatives to report with a generated token */
	uint32_t n_policies;
	struct tt_sequence_policy policies[TT_STACK];
	float *coef;            // [n_policies][n_layers] the record, once decided or known
	int32_t observe_last;   /* the deepest layer that any of its gates reads, -1 for none */
	uint32_t first_steered; /* the first layer that steers prompt tokens */
	bool known;             /* no gate reads anything: coefficients and keys are there from the start */
	bool scores, keeps_logits, traces;
	size_t keep_from;   /* hidden states of ids from here on are kept; SIZE_MAX: none */
	size_t report_from; /* positions from here on must run, since they are reported; SIZE_MAX: none */
	double deadline;    /* 0: none */

	/* How far it is. */
	struct tt_sequence *next; /* in the waiting list */
	uint64_t arrival;
	enum tt_sequence_place place;
	enum tt_finish finish;
	size_t n_tokens;         /* known */
	uint32_t n_pending;      /* more that steps in flight are sampling */
	uint32_t pending_sample; /* index of the last of these in its step */
	size_t n_fed;            /* positions whose KV is written, or will be by the steps in flight */
	size_t n_reported;       /* positions below it have been reported */
	bool decided;            /* the gates have run */
	bool deciding;           /* they run in a step in flight; nothing else runs until they have */
	bool same_pass;          /* and steer that same pass */
	size_t killed_from;      /* no step steers positions from here on; SIZE_MAX */
	/* The same in what was reported. It is more than killed_from where tokens that ran steered are run again after a
	 * pre-emption: what was reported of them stays. */
	size_t reported_killed_from;

	int32_t *pages; // [n_pages]
	uint32_t n_pages;
	struct tt_page_key *keys; // [n_keys] of its full pages
	uint32_t n_keys;
	uint32_t n_published; /* pages below it came from the index or were offered to it */
};

/* For a last_position: its memory. The rest of the first part is the caller's to fill; what may be
 * SIZE_MAX is. */
int tt_sequence_open(struct tt_sequence *q, const int32_t *ids, size_t n_ids, size_t last_position, uint32_t n_policies,
	uint32_t n_layers, struct tt_error *err);
void tt_sequence_close(struct tt_sequence *q);

/* Tokens known or being sampled. */
static inline size_t tt_sequence_length(const struct tt_sequence *q)
{
	return q->n_tokens + q->n_pending;
}

/* Positions below it may run now. */
size_t tt_sequence_end(const struct tt_sequence *q);

/* Whether a step that is planned now steers the token at a position by the policy, if its decision says so. */
bool tt_sequence_steers(const struct tt_sequence *q, uint32_t policy, size_t position);

/* The policy's coefficients that acted on the token at a position that was reported, [n_layers], or NULL: it did nothing there.
 * All reports of what steered go by this. */
const float *tt_sequence_coefficients(const struct tt_sequence *q, uint32_t policy, size_t position, uint32_t n_layers);
/* Whether it could act on some token before the kill switch came. */
bool tt_sequence_began(const struct tt_sequence *q, uint32_t policy);

/* From the next position that runs on, nothing steers it any more. */
void tt_sequence_kill(struct tt_sequence *q);

/* Whether what is decided in a step that runs the prompt from position first on may steer it: every observed layer lies
 * before every steered one, and all the tokens that the decision steers are in the step. */
bool tt_sequence_same_pass(const struct tt_sequence *q, size_t first);

/* Whether its hidden state, or its logits, at a position are kept and not reported yet. */
bool tt_sequence_keeps_hidden(const struct tt_sequence *q, size_t position);
bool tt_sequence_keeps_logits(const struct tt_sequence *q, size_t position);
/* Whether the position needs logits: it is kept or scored, or it is the last of length and more is to be generated. */
bool tt_sequence_wants_logits(const struct tt_sequence *q, size_t position, size_t length);
/* Whether its next position is a generated token. */
bool tt_sequence_decodes(const struct tt_sequence *q);

/* Gives back its pages but for the first `keep`. */
void tt_sequence_give_pages(struct tt_sequence *q, struct tt_page_pool *pool, uint32_t keep);

#endif
