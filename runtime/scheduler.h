/* The scheduling decisions: who runs, on which pages and coefficient rows, what is shared, who gives way. Nothing here
 * knows an engine, a backend or a clock: a step goes out as a struct tt_step and comes back as results, the time is
 * handed in. tests/sim/scheduler_sim.c drives it with a made-up model.
 *
 * A step's life: tt_scheduler_plan makes it, the caller runs it, tt_scheduler_collect takes what it gave. Up to
 * TT_MAX_IN_FLIGHT steps may be planned and not collected: tokens that are not known yet are then read where they are
 * sampled. Steps run in the order in which they were planned, so that a page or row that one gives up may be written by
 * the next. */
#ifndef RUNTIME_SCHEDULER_H
#define RUNTIME_SCHEDULER_H

#include "runtime/plan.h"

enum { TT_MAX_IN_FLIGHT = 2 };

/* What the scheduler tells its owner. */
struct tt_scheduler_hooks {
	void *user;
	/* Positions [p->position, p->valid) of p->sequence have run for good. */
	void (*ran)(
		void *user, const struct tt_planned *p, const struct tt_step *step, const struct tt_results *results);
	/* Sample `index` of the step, made at `position`; with generates its token is on the sequence already. The owner may
	 * set q->finish. */
	void (*sampled)(void *user, struct tt_sequence *q, size_t position, uint32_t index, bool generates,
		const struct tt_results *results);
	void (*finished)(void *user, struct tt_sequence *q); /* it holds nothing any more */
};

struct tt_scheduler {
	struct tt_limits limits;
	uint32_t n_layers;
	struct tt_scheduler_hooks hooks;
	struct tt_page_pool pool;
	uint16_t *free_rows; // [n_rows - 1] coefficient rows that nobody owns
	uint32_t n_free_rows;
	uint16_t *row_slots; // [n_rows]

	/* By arrival, and all that wait arrived later than all that run: admission takes the first that waits, pre-emption
	 * the last that runs. So the oldest always goes on, and nobody waits for ever. */
	struct tt_sequence *waiting, *waiting_last;
	struct tt_sequence **running; // [max_seqs]
	uint32_t n_waiting, n_running;
	uint64_t n_arrivals;
	double next_deadline; /* the earliest, 0: none */
	bool killed;          /* nothing that is planned is steered */
	bool preempted;       /* in the plan that is being made */

	struct tt_plan plans[TT_MAX_IN_FLIGHT]; /* step n is in plans[n % TT_MAX_IN_FLIGHT] */
	uint64_t n_planned, n_collected;        /* steps */
	uint64_t n_prefill_tokens, n_decode_tokens, n_reruns, n_shared, n_preemptions,
		n_wasted; /* see tt_engine_stats */
};

int tt_scheduler_open(struct tt_scheduler *s, const struct tt_limits *limits, uint32_t n_pages, uint32_t n_layers,
	bool shares, const struct tt_scheduler_hooks *hooks, struct tt_error *err);
void tt_scheduler_close(struct tt_scheduler *s);

void tt_scheduler_add(struct tt_scheduler *s, struct tt_sequence *q);
/* Ends it, wherever it is: it gives back all it holds. Nothing happens to one that has ended. */
void tt_scheduler_finish(struct tt_scheduler *s, struct tt_sequence *q, enum tt_finish finish);

/* Ends those whose deadline has come. */
void tt_scheduler_expire(struct tt_scheduler *s, double now);
/* The next step; (*plan)->step->n_tokens is 0 when nothing can run, and then there is nothing to collect. */
int tt_scheduler_plan(struct tt_scheduler *s, const struct tt_plan **plan, struct tt_error *err);
/* The oldest step planned has run. */
void tt_scheduler_collect(struct tt_scheduler *s, const struct tt_results *results);
/* The steps planned failed, and what the pages hold is unknown: all that ran wait to run again. */
void tt_scheduler_abandon(struct tt_scheduler *s);

/* For the plan in the making. reserve: every running sequence gets the page of its next position, if need be from the
 * youngest. admit: the first that waits runs, as the last of running; false when it must wait on. */
void tt_scheduler_reserve(struct tt_scheduler *s);
bool tt_scheduler_admit(struct tt_scheduler *s, struct tt_plan *plan);

#endif
