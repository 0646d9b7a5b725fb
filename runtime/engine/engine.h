/* The engine, as the files of this folder share it. What each of them offers the others is in its own header. */
#ifndef RUNTIME_ENGINE_ENGINE_H
#define RUNTIME_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/engine/forward.h"
#include "runtime/engine/kv_memory.h"
#include "runtime/engine/policy_slots.h"
#include "runtime/schedule/scheduler.h"
#include "runtime/trimtab.h"
#include "weights/model.h"

/* Work for the thread that owns the model, which waits for it. */
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
	struct tt_backend *backend;
	struct tt_error device_note; /* why "auto" is not a GPU */
	struct tt_model_info info;
	char *name, *path, *fingerprint; /* path: what the model was opened by */
	int32_t eos[TT_MAX_EOS + 1];     /* the configuration's and the tokenizer's */
	uint32_t n_eos;

	struct tt_forward_state state;
	struct tt_kv_memory kv;
	struct tt_loaded_policy *policies; // [TT_MAX_SLOTS]
	uint32_t n_removed;                /* that are still loaded */
	struct tt_scheduler scheduler;
	double seconds;                                    /* inside steps */
	struct tt_device_counters counters;                /* the backend's, as of the last step */
	struct tt_request *first_finished, *last_finished; /* that tt_engine_next has not given out */

	/* lock holds all of the above, and requests, but while a step is launched or waited for. Recursive: callbacks may
	 * call back. launch holds a launch, so that the kill switch can wait for it; where both are taken, lock is first. */
	pthread_mutex_t lock, launch;
	pthread_cond_t changed; /* there is work, or something has come of it */
	atomic_bool killed;
	bool synchronised, started, stopping, stepping; /* synchronised: lock and so on exist */
	pthread_t owner;                                /* of the model, once started */
	pthread_t stepper;                              /* while stepping */
	struct tt_owner_call *jobs;
	struct tt_error failure; /* of the first step that failed on it */
};

/* tt_engine_open on an opened backend, which the engine takes over, also where it fails; NULL: the
 * options' device. */
int tt_engine_open_on(struct tt_engine **out, struct tt_backend *backend, const char *model_path,
	const struct tt_engine_options *options, struct tt_error *err);

#endif
