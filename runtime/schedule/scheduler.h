/* The scheduling decisions: which sequences run, on which pages and coefficient rows, which pages are shared, and who
 * is pre-empted. Nothing here knows an engine, a backend or a clock: a step leaves as a struct tt_step_plan and comes
 * back as results, and the caller passes the time. tests/sim/scheduler_sim.c drives it with a made-up model.
 *
 * The life of a step: tt_scheduler_plan makes it, the caller runs it, tt_scheduler_collect takes its results. Up to
 * TT_MAX_IN_FLIGHT steps may be planned and not collected; a step then reads tokens that are not known yet from the
 * samples of the previous step, on the device. Steps must run in the order in which they were planned, because a step
 * may write a page or row that an earlier one still reads.
 *
 * The scheduler has no lock. Its owner calls all functions from one thread, or under a lock of its own; hooks run
 * inside tt_scheduler_collect, tt_scheduler_finish and tt_scheduler_expire, on the caller's thread. */
#ifndef RUNTIME_SCHEDULE_SCHEDULER_H
#define RUNTIME_SCHEDULE_SCHEDULER_H

#include "runtime/schedule/page_pool.h"
#include "runtime/schedule/scheduled_step.h"

enum { TT_MAX_IN_FLIGHT = 2 };

/* What the scheduler reports to its owner. A hook may call tt_scheduler_finish for any sequence. */
struct tt_scheduler_hooks {
	void *user;
	/* Positions [p->position, p->valid) of p->sequence have run, and their results are final. */
	void (*ran)(void *user, const struct tt_planned *p, const struct tt_step_plan *step,
		const struct tt_results *results);
	/* Sample `index` of the step, made at `position`. If it generates, its token is on the sequence already. The
	 * owner may set q->finish, and the sequence ends with that after this step. */
	void (*sampled)(void *user, struct tt_sequence *q, size_t position, uint32_t index, bool generates,
		const struct tt_results *results);
	/* The sequence has ended and holds no pages and rows any more. */
	void (*finished)(void *user, struct tt_sequence *q);
};

struct tt_scheduler {
	struct tt_limits limits;
	uint32_t n_layers;
	struct tt_scheduler_hooks hooks;
	struct tt_page_pool pool;
	uint16_t *free_rows; // [n_rows - 1] coefficient rows that nobody owns
	uint32_t n_free_rows;
	uint16_t *row_slots; // [n_rows] policy slot of each coefficient row

	/* Both are in order of arrival, and all waiting sequences arrived later than all running ones: admission takes
	 * the first that waits, pre-emption the last that runs. So the oldest always goes on, and nobody waits for
	 * ever. */
	struct tt_sequence *waiting, *waiting_last;
	struct tt_sequence **running; // [max_seqs]
	uint32_t n_waiting, n_running;
	uint64_t n_arrivals;
	double next_deadline; /* the earliest; 0: none */
	bool killed;          /* the kill switch: steps planned from now on are not steered */
	bool preempted;       /* the plan that is being made has pre-empted a sequence, so it admits none */

	struct tt_scheduled_step plans[TT_MAX_IN_FLIGHT]; /* step n is in plans[n % TT_MAX_IN_FLIGHT] */
	uint64_t n_planned, n_collected;                  /* steps */
	uint64_t n_prefill_tokens, n_decode_tokens, n_reruns, n_shared, n_preemptions,
		n_wasted; /* see tt_engine_stats */
};

int tt_scheduler_open(struct tt_scheduler *s, const struct tt_limits *limits, uint32_t n_pages, uint32_t n_layers,
	bool shares, const struct tt_scheduler_hooks *hooks, struct tt_error *err);
void tt_scheduler_close(struct tt_scheduler *s);

/* Appends a sequence to the waiting ones. It stays the caller's, who keeps it until it has ended. */
void tt_scheduler_add(struct tt_scheduler *s, struct tt_sequence *q);
/* Ends the sequence, whether it waits or runs, and frees its pages and rows. Does nothing to one that has ended. */
void tt_scheduler_finish(struct tt_scheduler *s, struct tt_sequence *q, enum tt_finish finish);

/* Ends the sequences whose deadline has come. */
void tt_scheduler_expire(struct tt_scheduler *s, double now);
/* Makes the next step. (*plan)->step->n_tokens is 0 if nothing can run; then there is nothing to collect. */
int tt_scheduler_plan(struct tt_scheduler *s, const struct tt_scheduled_step **plan, struct tt_error *err);
/* Takes the results of the oldest planned step, which has run. */
void tt_scheduler_collect(struct tt_scheduler *s, const struct tt_results *results);
/* For when the planned steps failed, so that the content of the pages is unknown: all running sequences go back to
 * waiting and will run again. */
void tt_scheduler_abandon(struct tt_scheduler *s);

#endif
