#include "controller/runner.h"

#include <string.h>

#include "base/fail.h"

/* Twice the engine's usual batch: the next ones are ready when a batch ends, and kept states stay bounded. */
enum { WINDOW = 64 };

static const int64_t fixed_date = 1735689600; /* 1 January 2025 */

static int report(const struct tt_progress *p, struct tt_error *err)
{
	if (p->fn && p->fn(p->user, p->stage, p->done, p->total))
		return tt_fail(err, TT_ERR_LIMIT, "stopped at %s, %llu of %llu", p->stage, (unsigned long long)p->done,
			(unsigned long long)p->total);
	return TT_OK;
}

int tt_progress_begin(struct tt_progress *progress, const char *stage, uint64_t total, struct tt_error *err)
{
	progress->stage = stage;
	progress->done = 0;
	progress->total = total;
	return report(progress, err);
}

int tt_progress_step(struct tt_progress *progress, struct tt_error *err)
{
	if (progress->done < progress->total)
		progress->done++;
	return report(progress, err);
}

/* Requests [n_taken, n_submitted) of a run; request i lies at i % WINDOW. */
struct window {
	struct tt_request *requests[WINDOW];
	size_t n_taken, n_submitted;
};

static int submit_some(struct window *w, struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_error *err)
{
	while (w->n_submitted < n && w->n_submitted - w->n_taken < WINDOW) {
		TT_TRY(tt_request_submit(&w->requests[w->n_submitted % WINDOW], engine, &options[w->n_submitted], err));
		w->n_submitted++;
	}
	return TT_OK;
}

static int take_some(struct window *w, tt_take_fn take, void *user, struct tt_progress *progress, struct tt_error *err)
{
	while (w->n_taken < w->n_submitted) {
		struct tt_request *request = w->requests[w->n_taken % WINDOW];
		if (tt_request_finish(request) == TT_RUNNING)
			return TT_OK;
		int status = take(user, w->n_taken, request, err);
		tt_request_free(request);
		w->n_taken++;
		TT_TRY(status);
		TT_TRY(tt_progress_step(progress, err));
	}
	return TT_OK;
}

int tt_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n, tt_take_fn take, void *user,
	struct tt_progress *progress, struct tt_error *err)
{
	struct window w = {.n_taken = 0};
	int status = TT_OK;
	while (status == TT_OK && w.n_taken < n) {
		status = submit_some(&w, engine, options, n, err);
		if (status == TT_OK)
			status = tt_engine_step(engine, err);
		if (status == TT_OK)
			status = take_some(&w, take, user, progress, err);
	}
	for (; w.n_taken < w.n_submitted; w.n_taken++)
		tt_request_free(w.requests[w.n_taken % WINDOW]);
	return status;
}

int tt_encode_prompt(struct tt_engine *engine, const char *prompt, const char *what, size_t room, int32_t **ids,
	size_t *n_ids, struct tt_error *err)
{
	const struct tt_text *text = tt_engine_text(engine);
	const struct tt_chat_options options = {.now = fixed_date};
	char *messages = NULL;
	int status;
	*ids = NULL;
	if (!tt_text_has_tokenizer(text))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the model has no tokenizer");
	if (!tt_text_has_template(text)) {
		status = tt_text_encode(text, prompt, strlen(prompt), TT_TEXT_BOS, ids, n_ids, err);
	} else {
		TT_TRY(tt_text_user_message(prompt, strlen(prompt), NULL, &messages, err));
		status = tt_text_encode_chat(text, messages, &options, ids, n_ids, err);
		tt_free(messages);
	}
	uint32_t context = tt_engine_info(engine)->context;
	if (status == TT_OK && (room > context || *n_ids > context - room)) {
		status = tt_fail(err, TT_ERR_LIMIT, "%zu tokens and %zu behind them do not fit the context of %u",
			*n_ids, room, context);
		tt_free(*ids);
		*ids = NULL;
	}
	return status == TT_OK ? TT_OK : tt_fail_within(err, what);
}
