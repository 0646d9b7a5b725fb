/* Many requests through one engine: what fit and eval are made of. */
#ifndef CONTROLLER_RUNNER_H
#define CONTROLLER_RUNNER_H

#include "runtime/trimtab.h"

/* Where a long job stands. One stage may take several tt_run calls. */
struct tt_progress {
	tt_progress_fn fn; /* or NULL */
	void *user;
	const char *stage;
	uint64_t done, total;
};

/* Begins a stage and reports it. */
int tt_progress_begin(struct tt_progress *progress, const char *stage, uint64_t total, struct tt_error *err);
/* One unit more. TT_ERR_LIMIT when the caller wants to stop. */
int tt_progress_step(struct tt_progress *progress, struct tt_error *err);

/* Takes what it wants from a finished request, which is freed behind it. */
typedef int (*tt_take_fn)(void *user, size_t index, struct tt_request *request, struct tt_error *err);

/* Runs n requests, a window of them in flight, and hands them to take in their own order, so that sums over them do not
 * depend on how they were batched. */
int tt_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n, tt_take_fn take, void *user,
	struct tt_progress *progress, struct tt_error *err);

/* The ids of one user message as the model's chat template puts it, or of the bare text when there is no template. The
 * template sees a fixed date, so that a fit and an eval can be repeated. what names the prompt in messages; room is how
 * many tokens must fit behind it. *ids is released with tt_free. */
int tt_encode_prompt(struct tt_engine *engine, const char *prompt, const char *what, size_t room, int32_t **ids,
	size_t *n_ids, struct tt_error *err);

#endif
