/* A time line of an engine's steps on a CPU: when each op began and ended, and how much it had to compute and read. */
#ifndef RUNTIME_ENGINE_TIMELINE_H
#define RUNTIME_ENGINE_TIMELINE_H

#include <jansson.h>

#include "runtime/trimtab.h"

struct tt_timeline_event {
	const char *op; /* "step" covers the ops of one and what the engine does between them */
	int32_t layer;  /* -1: of no layer */
	uint32_t n_tokens, n_samples;
	double from, to; /* as tt_now counts */
	/* Of products and attention: two a multiply-add; the bytes of weights, keys and values that it reads, once a
	 * step. 0 of other ops. */
	double flops, bytes;
};

struct tt_timeline;

/* Records every op of the engine from now on until tt_timeline_close, which must come before the engine's. One engine
 * at a time. TT_ERR_UNSUPPORTED on a GPU, where an op's call only queues it. */
int tt_timeline_open(struct tt_timeline **out, struct tt_engine *engine, struct tt_error *err);
void tt_timeline_close(struct tt_timeline *timeline); /* NULL is fine */

/* What was recorded so far, in the order of the ends. An op that could not be recorded is an error here. */
int tt_timeline_events(
	const struct tt_timeline *timeline, const struct tt_timeline_event **out, size_t *n, struct tt_error *err);

/* The events as a trace that chrome://tracing and Perfetto open: a new reference. */
int tt_timeline_trace(const struct tt_timeline *timeline, json_t **out, struct tt_error *err);

#endif
