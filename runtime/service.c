/* The model's own thread, and what waits for it. */
#include "base/fail.h"
#include "runtime/engine.h"

int tt_engine_start(struct tt_engine *engine, struct tt_error *err)
{
	(void)engine;
	return tt_fail(err, TT_ERR_UNSUPPORTED, "an engine has no thread of its own yet");
}

int tt_engine_stop(struct tt_engine *engine, struct tt_error *err)
{
	(void)engine;
	(void)err;
	return TT_OK;
}

void tt_request_cancel(struct tt_request *request)
{
	if (request->finish != TT_RUNNING)
		return;
	request->finish = TT_FINISH_CANCELLED;
	tt_scheduler_drop(request->engine, request);
}
