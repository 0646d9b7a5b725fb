/* The engine, as the files of this folder share it. What each of them offers the others is in its own header.
 *
 * Threads and locks, for all of runtime/engine:
 *
 *   lock    guards the engine, its scheduler and its requests. It is recursive, because callbacks run under it and may
 *           call the public functions, which take it again.
 *   launch  is held from when a step is planned until it is queued on the device. The kill switch takes it, to wait
 *           for a launch under way.
 *
 * Order: lock before launch. A thread that holds launch without lock (it is in tt_forward_submit) does not take lock;
 * the kill switch takes launch alone or, in a callback, under lock.
 *
 * Only one thread steps at a time: the engine's own after tt_engine_start, else the caller of tt_engine_step.
 * `stepping` refuses a second one. That thread gives lock up while it launches a step and while it waits for one, and
 * still uses the ranks and the steps in flight. So these belong to the thread that steps: others reach
 * them only through tt_on_owner, between two calls of tt_step_once.
 *
 * With lock held: tt_scheduler_* and its hooks, tt_policy_slot, tt_policy_slots_sweep, tt_request_unlist, tt_step_due,
 * and what tt_on_owner runs. Held exactly once, since it gives the lock up for a while and waiting releases one level
 * only: tt_engine_advance. Not held, since they step or wait: tt_step_once, tt_step_drain, tt_on_owner, tt_pump_run.
 * lock_depth counts the levels, so that tt_engine_advance, tt_on_owner and tt_engine_stop refuse to wait under two.
 *
 * The callbacks of a request run with lock held, on the thread that steps; notify also on a thread that cancels. They
 * may submit, cancel, read requests and use the kill switch. They must not wait: tt_request_wait, tt_engine_next,
 * tt_engine_stop and, on a thread that cancels, what tt_on_owner serves return an error instead. */
#ifndef RUNTIME_ENGINE_ENGINE_H
#define RUNTIME_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/engine/policy_slots.h"
#include "runtime/engine/rank.h"
#include "runtime/schedule/scheduler.h"
#include "runtime/trimtab.h"
#include "weights/model.h"

/* Work that another thread hands to the engine's own thread and waits for (tt_on_owner). */
struct tt_owner_call {
	int (*run)(struct tt_engine *engine, void *argument, struct tt_error *err);
	void *argument;
	int status;
	struct tt_error *err;
	bool done;
	struct tt_owner_call *next;
};

struct tt_engine {
	struct tt_engine_options options;
	struct tt_model *model;
	struct tt_text *text;
	struct tt_error device_note; /* why "auto" is not a GPU */
	struct tt_model_info info;
	char *name, *path, *fingerprint; /* path: the resolved path of the model */
	int32_t eos[TT_MAX_EOS + 1];     // [n_eos] the configuration's end tokens and the tokenizer's
	uint32_t n_eos;

	struct tt_rank rank;    /* the first one, whose results are told */
	struct tt_group *group; /* with the others' processes, where n_ranks is above 1; else NULL */
	uint32_t n_ranks;
	struct tt_loaded_policy *policies; // [TT_MAX_SLOTS]
	uint32_t n_removed;                /* policies that were removed and are still loaded, since steps use them */
	struct tt_scheduler scheduler;
	double seconds;                                    /* time spent inside steps */
	struct tt_device_counters counters;                /* the backend's, as of the last step */
	struct tt_request *first_finished, *last_finished; /* the list of those tt_engine_next has not given out */

	pthread_mutex_t lock, launch; /* see above */
	uint32_t lock_depth;          /* how often the thread that holds lock has taken it */
	pthread_cond_t changed;       /* broadcast when there is new work, and when a step or a call is done */
	atomic_bool killed;           /* the kill switch is on */
	bool synchronised;            /* lock, launch and changed exist */
	bool started, stopping;       /* the engine has its own thread; it is being ended */
	bool serving;                 /* that thread is in its loop; once it has left, its id may be another thread's */
	bool stepping;                /* a step is under way */
	double beat;                  /* when a step was last begun or ended, or the first request came */
	pthread_t stepper;            /* who steps, while stepping */
	pthread_t owner;              /* the engine's own thread, once started */
	struct tt_owner_call *owner_calls;
	/* The first step that failed on the engine's own thread, cleared by the next start; or what ended the ranks. */
	struct tt_error failure;
};

/* tt_engine_open on a backend that is open already. The engine takes the backend over, and closes it even if this
 * fails. backend NULL: the device that the options name. */
int tt_engine_open_on(struct tt_engine **out, struct tt_backend *backend, const char *model_path,
	const struct tt_engine_options *options, struct tt_error *err);

#endif
