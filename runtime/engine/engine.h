/* The engine and its requests, as the files of runtime/ share them. */
#ifndef RUNTIME_ENGINE_ENGINE_H
#define RUNTIME_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "controller/policy/policy.h"
#include "runtime/engine/forward.h"
#include "runtime/engine/kv_memory.h"
#include "runtime/engine/stop_strings.h"
#include "runtime/schedule/scheduler.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "runtime/trimtab.h"

/* A policy that was added. Its index is its slot in the kernels' table. */
struct tt_loaded_policy {
	bool loaded;
	struct tt_policy *policy;    /* NULL: the slot is free, or its policy was removed while requests still use it */
	uint32_t n_users;            /* requests not finished */
	uint64_t last_step;          /* that may name it, of those whose requests are finished */
	struct tt_steer_slot slot;   /* what the kernels' table holds: pointers to the backend's copies */
	struct tt_page_key identity; /* of the operation and its directions */
};

/* Work for the thread that owns the model, which waits for it. */
struct tt_job {
	int (*run)(struct tt_engine *engine, void *argument, struct tt_error *err);
	void *argument;
	int status;
	struct tt_error *err;
	bool done;
	struct tt_job *next;
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

	struct tt_state state;
	struct tt_kv kv;
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
	struct tt_job *jobs;
	struct tt_error failure; /* of the first step that failed on it */
};

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
	struct tt_reply reply;
	size_t n_taken; /* generated tokens handed out */
};

/* tt_engine_open on an opened backend, which the engine takes over, also where it fails; NULL: the
 * options' device. */
int tt_engine_open_on(struct tt_engine **out, struct tt_backend *backend, const char *model_path,
	const struct tt_engine_options *options, struct tt_error *err);

/* outputs.c: tt_check_outputs, where the files of the model and of every policy that was added are read as well. */
struct tt_file_use;
int tt_engine_check_outputs(struct tt_engine *engine, const struct tt_file_use *reads, size_t n_reads,
	const struct tt_file_use *writes, size_t n_writes, struct tt_error *err);

/* The tokenizer behind a text (NULL for a template alone). */
const struct tt_tokenizer *tt_text_tokenizer(const struct tt_text *text);
/* From an open model, sharing nothing with it. */
int tt_text_from_model(struct tt_text **out, const struct tt_model *model, struct tt_error *err);

/* policies.c: false when the policy was not added. tt_policies_sweep unloads those removed that no step names any more. */
bool tt_policy_slot(const struct tt_engine *engine, const struct tt_policy *policy, uint16_t *slot);
void tt_policies_sweep(struct tt_engine *engine);
void tt_policies_close(struct tt_engine *engine);

/* report.c: the scheduler's hooks. */
struct tt_scheduler_hooks tt_report_hooks(struct tt_engine *engine);

/* step.c: begins a step if there is something to run, and finishes those that must be over. */
int tt_step_once(struct tt_engine *engine, struct tt_error *err);
int tt_step_drain(struct tt_engine *engine, struct tt_error *err); /* finishes what is in flight */
bool tt_step_due(const struct tt_engine *engine);                  /* something waits, runs or is in flight */

/* service.c */
int tt_service_open(struct tt_engine *engine, struct tt_error *err);
void tt_service_close(struct tt_engine *engine);
void tt_lock(struct tt_engine *engine);
void tt_unlock(struct tt_engine *engine);
/* One step or, where the engine has its thread, the wait for something to change, until deadline (of tt_now; 0: none). The lock is
 * held, once. */
int tt_engine_advance(struct tt_engine *engine, double deadline, struct tt_error *err);
/* On the thread that owns the model, between two steps. */
int tt_on_owner(struct tt_engine *engine, int (*run)(struct tt_engine *, void *, struct tt_error *), void *argument,
	struct tt_error *err);

/* request.c. unlist: out of the list of the finished, if it is there. */
void tt_request_unlist(struct tt_request *r);
bool tt_request_is_eos(const struct tt_engine *engine, int32_t id);
#endif
