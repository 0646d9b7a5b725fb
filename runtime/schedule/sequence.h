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
	struct tt_page_key identity; /* a digest of the operation and its directions */

	/* Set when the gates have run. */
	float s, gate;          /* the scalar s of the coefficients; what the gate made it from */
	bool acts;              /* some coefficient is not 0 */
	struct tt_page_key key; /* a digest of identity and coefficients */
};

enum tt_sequence_place { TT_NOWHERE, TT_WAITING, TT_RUNS };

struct tt_sequence {
	/* Given when the sequence is added. */
	int32_t *tokens; // [last_position + 1] the given ids, then the generated tokens
	size_t n_ids;
	size_t n_prompt;      /* the decision is made at position n_prompt - 1 */
	size_t last_position; /* no token is generated after it */
	uint32_t max_tokens;
	struct tt_sampling sampling; /* of generated tokens */
	uint32_t n_top;              /* alternatives to report with a generated token */
	bool penalises;              /* penalties change logits; tt_sequence_penalise sets both */
	struct tt_penalties penalties;
	uint32_t n_policies;
	struct tt_sequence_policy policies[TT_STACK];
	float *coef;            // [n_policies][n_layers] the coefficients, once decided or known at the start
	int32_t observe_last;   /* the deepest layer that any of its gates reads, -1 for none */
	uint32_t first_steered; /* the first layer that steers prompt tokens */
	uint32_t depth;         /* so many layers are run for it: all, or up to the last that is read of it */
	/* Gates that read means: of these layers' outputs, over positions [pool_from, pool_to) of the prompt. */
	uint32_t n_pooled;
	uint32_t pooled[TT_MAX_POOLED]; // [n_pooled] ascending
	size_t pool_from, pool_to;
	/* No gate reads a hidden state, so coef and the policies' keys are filled in from the start. */
	bool coef_known_at_start;
	bool scores;        /* the likelihood of the given ids is reported ... */
	size_t score_from;  /* ... of those after positions from here on ... */
	uint32_t score_top; /* ... with so many alternatives */
	bool keeps_logits;  /* the logits at the given ids are reported ... */
	size_t logits_from; /* ... from here on */
	bool traces;        /* the norms of the hidden states are reported */
	size_t keep_from;   /* hidden states of ids from here on are kept; SIZE_MAX: none */
	size_t report_from; /* positions from here on must run, since they are reported; SIZE_MAX: none */
	double deadline;    /* 0: none */

	/* Its progress, which the scheduler keeps. */
	struct tt_sequence *next; /* in the waiting list */
	uint64_t arrival;
	enum tt_sequence_place place;
	enum tt_finish finish;
	size_t n_tokens;         /* those that are known */
	uint32_t n_pending;      /* further tokens, which steps in flight are sampling */
	uint32_t pending_sample; /* index of the last of these among the samples of its step */
	size_t n_fed;            /* positions whose KV is written, or will be by the steps in flight */
	size_t n_reported;       /* positions below it have been reported */
	size_t pooled_until;     /* of the span, positions below it are in the records of their pages */
	bool decided;            /* the gates have run */
	bool deciding;           /* they run in a step in flight; the sequence runs nothing else until they have */
	bool same_pass;          /* the decision steers the pass in which it is made */
	bool ends_steering;      /* a policy of it was killed: from its next step on nothing steers it */
	size_t killed_from;      /* the kill switch: no step steers positions from here on; SIZE_MAX: none */
	/* The position from which on reports say that nothing steered. It is larger than killed_from if tokens that ran
	 * steered run again unsteered after a pre-emption: what was reported about them stays true. */
	size_t reported_killed_from;

	struct tt_seen *seen; // [n_seen] what its first n_counted tokens are, by id, where it penalises
	uint32_t n_seen;
	size_t n_counted;

	int32_t *pages; // [n_pages]
	uint32_t n_pages;
	struct tt_page_key *keys; // [n_keys] of its full pages
	uint32_t n_keys;
	uint32_t n_published; /* pages below it came from the pool's index or were offered to it */
};

/* Allocates the memory and copies the ids. The caller fills in the rest of the first part; members that may be SIZE_MAX
 * for "none" are set to that. Call tt_sequence_close even if this fails. */
int tt_sequence_open(struct tt_sequence *q, const int32_t *ids, size_t n_ids, size_t last_position, uint32_t n_policies,
	uint32_t n_layers, struct tt_error *err);
void tt_sequence_close(struct tt_sequence *q);

/* Penalties for its generated tokens; those that change nothing are none. */
int tt_sequence_penalise(struct tt_sequence *q, const struct tt_penalties *penalties, struct tt_error *err);
/* Brings seen up to all known tokens. */
void tt_sequence_count_seen(struct tt_sequence *q);

/* Tokens that are known or being sampled. */
static inline size_t tt_sequence_length(const struct tt_sequence *q)
{
	return q->n_tokens + q->n_pending;
}

/* Positions below the result may run now. */
size_t tt_sequence_end(const struct tt_sequence *q);

/* Whether a step that is planned now steers the token at a position by the policy, if the decision is to act. */
bool tt_sequence_steers(const struct tt_sequence *q, uint32_t policy, size_t position);

/* The coefficients [n_layers] with which the policy acted on the token at a reported position, or NULL if it did
 * nothing there. Every report about what steered must be made from this. */
const float *tt_sequence_coefficients(const struct tt_sequence *q, uint32_t policy, size_t position, uint32_t n_layers);
/* Whether the policy could act on some token before the kill switch came. */
bool tt_sequence_began(const struct tt_sequence *q, uint32_t policy);

/* The kill switch: nothing steers the sequence from its next position on. */
void tt_sequence_kill(struct tt_sequence *q);

/* Whether a decision made in a step that runs the prompt from position `first` on may steer that same step: every layer
 * that a gate reads lies before every layer that is steered, and all tokens that the decision steers are in the
 * step. */
bool tt_sequence_same_pass(const struct tt_sequence *q, size_t first);

/* Whether a step that is planned now sums what positions of [first, end) add to the means. */
bool tt_sequence_pools(const struct tt_sequence *q, size_t first, size_t end);

/* Whether the hidden state, or the logits, at a position are to be kept and have not been reported yet. */
bool tt_sequence_keeps_hidden(const struct tt_sequence *q, size_t position);
bool tt_sequence_keeps_logits(const struct tt_sequence *q, size_t position);
/* Whether the likelihood of the id after a position is reported. */
bool tt_sequence_scores(const struct tt_sequence *q, size_t position);
/* Whether the position needs logits: they are kept or scored, or the position is the last of `length` and a token is to
 * be generated from it. */
bool tt_sequence_wants_logits(const struct tt_sequence *q, size_t position, size_t length);
/* Whether its next position is a generated token. */
bool tt_sequence_decodes(const struct tt_sequence *q);

/* Gives back all pages but the first `keep`. */
void tt_sequence_give_pages(struct tt_sequence *q, struct tt_page_pool *pool, uint32_t keep);

#endif
