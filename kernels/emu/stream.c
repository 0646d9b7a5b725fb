/* Streams, events and graphs. Nothing on a stream happens before somebody waits for it, so that a host that reads a
 * result or changes a source too early gets wrong data. A graph is the list of what was captured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/emu/global.h"
#include "kernels/emu/stream.h"

struct tt_emu_stream {
	struct operation *first, **end;
	uint64_t enqueued, done; /* operations */
	bool capturing, after_kernel;
	bool asked;    /* since something was added */
	bool blocking; /* waits for the default stream and makes it wait, as a stream of cudaStreamCreate does */
	/* counts of operations: those of the default stream that this one waits for, and those of this one that the
	 * default stream waits for */
	uint64_t waits_for, waited_for;
	struct tt_emu_stream *next;
};
struct tt_emu_event {
	struct tt_emu_stream *stream; /* NULL: never recorded */
	uint64_t at;
	struct tt_emu_event *next;
};
struct tt_emu_graph {
	struct operation *first;
	size_t n_nodes;
	struct tt_emu_graph *next;
};

static struct tt_emu_stream default_stream, *streams;
static struct tt_emu_event *events;
static struct tt_emu_graph *graphs;
static cudaError_t last_error, sticky_error;
static bool is_stuck;

cudaError_t api_result(cudaError_t error)
{
	if (sticky_error)
		error = sticky_error;
	if (error)
		last_error = error;
	return error;
}

static struct tt_emu_stream *stream_of(cudaStream_t stream)
{
	struct tt_emu_stream *s = stream ? stream : &default_stream;
	if (!s->end)
		s->end = &s->first;
	return s;
}

static void operations_free(struct operation *op)
{
	while (op) {
		struct operation *next = op->next;
		free(op->staged);
		free(op->launch.args);
		free(op);
		op = next;
	}
}

static struct operation *operation_copy(const struct operation *op)
{
	struct operation *copy = calloc(1, sizeof *copy);
	if (!copy)
		return NULL;
	*copy = *op;
	copy->next = NULL;
	if (op->launch.kernel)
		copy->launch.args = arguments_copy(op->launch.kernel, op->launch.args);
	return copy;
}

static cudaError_t append(struct tt_emu_stream *s, const struct operation *op)
{
	struct operation *own = operation_copy(op);
	if (!own)
		return cudaErrorMemoryAllocation;
	s->asked = false;
	*s->end = own;
	s->end = &own->next;
	s->enqueued++;
	return cudaSuccess;
}

static cudaError_t append_wait(struct tt_emu_stream *s, struct tt_emu_stream *other, uint64_t *seen)
{
	struct operation op = {.type = OP_WAIT_EVENT, .stream = other, .at = other->enqueued};
	if (other->done >= other->enqueued || *seen == other->enqueued)
		return cudaSuccess;
	*seen = other->enqueued;
	return append(s, &op);
}

static void keep_collective(const struct operation *op, bool kept)
{
	if (op->type == OP_COLLECTIVE)
		collective_kept(&op->collective, kept);
}

cudaError_t stream_add(cudaStream_t stream, const struct operation *op)
{
	struct tt_emu_stream *s = stream_of(stream);
	cudaError_t error = cudaSuccess;
	if (s->capturing)
		keep_collective(op, true);
	if (s->blocking && !s->capturing)
		error = append_wait(s, stream_of(NULL), &s->waits_for);
	for (struct tt_emu_stream *other = streams; other && s == &default_stream && !error; other = other->next)
		if (other->blocking && !other->capturing)
			error = append_wait(s, other, &other->waited_for);
	return error ? error : append(s, op);
}

bool stream_capturing(cudaStream_t stream)
{
	return stream_of(stream)->capturing;
}

static cudaError_t flush(struct tt_emu_stream *s, uint64_t until);

static cudaError_t operation_run(struct tt_emu_stream *s, const struct operation *op)
{
	bool chained = s->after_kernel;
	s->after_kernel = op->type == OP_LAUNCH;
	switch (op->type) {
	case OP_LAUNCH:
		return launch_run(&op->launch, chained);
	case OP_COPY:
		memcpy(host_address(op->to), op->staged ? op->staged : host_address(op->from), op->n_bytes);
		global_host_wrote(op->to, op->n_bytes);
		return cudaSuccess;
	case OP_SET:
		memset(host_address(op->to), op->value, op->n_bytes);
		global_host_wrote(op->to, op->n_bytes);
		return cudaSuccess;
	case OP_WAIT_EVENT:
		return op->stream == s ? cudaSuccess : flush(op->stream, op->at);
	case OP_COLLECTIVE:
		return collective_run(&op->collective);
	case OP_BOUNDARY:
		break;
	}
	return cudaSuccess;
}

/* Runs what comes first, if that is before until. */
static bool run_first(struct tt_emu_stream *s, uint64_t until)
{
	struct operation *op = s->first;
	if (s->done >= until || !op || sticky_error)
		return false;
	s->first = op->next;
	if (!s->first)
		s->end = &s->first;
	s->done++;
	op->next = NULL;
	sticky_error = operation_run(s, op);
	operations_free(op);
	return true;
}

static void wait_if_stuck(void)
{
	while (is_stuck)
		tt_sleep(1e-3);
}

static cudaError_t flush(struct tt_emu_stream *s, uint64_t until)
{
	wait_if_stuck();
	if (s->done < until && collective_is_open())
		return sticky_error = cudaErrorLaunchFailure;
	while (run_first(s, until))
		wait_if_stuck();
	return sticky_error;
}

/* The first question changes nothing, and each later one lets an operation happen: who asks in a loop waits. */
static cudaError_t query(struct tt_emu_stream *s, uint64_t until)
{
	if (is_stuck)
		return cudaErrorNotReady;
	if (s->done >= until || sticky_error)
		return api_result(cudaSuccess);
	if (collective_is_open())
		return flush(s, until);
	if (s->asked)
		run_first(s, until);
	s->asked = true;
	return cudaErrorNotReady;
}

cudaError_t stream_flush(cudaStream_t stream)
{
	struct tt_emu_stream *s = stream_of(stream);
	return s->capturing ? cudaErrorStreamCaptureUnsupported : flush(s, s->enqueued);
}

cudaError_t stream_flush_all(void)
{
	cudaError_t error = stream_flush(NULL);
	for (struct tt_emu_stream *s = streams; s && !error; s = s->next)
		error = s->capturing ? cudaSuccess : stream_flush(s);
	return error;
}

void stream_reset(void)
{
	operations_free(default_stream.first);
	memset(&default_stream, 0, sizeof default_stream);
	while (streams) {
		struct tt_emu_stream *s = streams;
		streams = s->next;
		operations_free(s->first);
		free(s);
	}
	while (events) {
		struct tt_emu_event *e = events;
		events = e->next;
		free(e);
	}
	while (graphs)
		cudaGraphDestroy(graphs);
	last_error = sticky_error = cudaSuccess;
	is_stuck = false;
}

void stream_stick(void)
{
	is_stuck = true;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t error = last_error;
	last_error = sticky_error;
	return error;
}

cudaError_t cudaPeekAtLastError(void)
{
	return last_error;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
	struct tt_emu_stream *s = calloc(1, sizeof *s);
	*out = s;
	if (!s)
		return api_result(cudaErrorMemoryAllocation);
	s->blocking = !(flags & cudaStreamNonBlocking);
	s->next = streams;
	streams = s;
	return api_result(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
	return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	for (struct tt_emu_stream **at = &streams; *at; at = &(*at)->next) {
		if (*at != stream)
			continue;
		cudaError_t error = stream_flush(stream);
		*at = stream->next;
		operations_free(stream->first);
		free(stream);
		return api_result(error);
	}
	return api_result(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	emu.counters.waits++;
	return api_result(stream_flush(stream));
}

cudaError_t cudaDeviceSynchronize(void)
{
	emu.counters.waits++;
	return api_result(stream_flush_all());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	struct tt_emu_stream *s = stream_of(stream);
	return s->capturing ? api_result(cudaErrorStreamCaptureUnsupported) : query(s, s->enqueued);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
	struct tt_emu_event *e = calloc(1, sizeof *e);
	(void)flags;
	*out = e;
	if (!e)
		return api_result(cudaErrorMemoryAllocation);
	e->next = events;
	events = e;
	return api_result(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
	return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	struct tt_emu_stream *s = stream_of(stream);
	event->stream = s;
	event->at = s->enqueued;
	return api_result(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	emu.counters.waits++;
	return api_result(event->stream ? flush(event->stream, event->at) : cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	return event->stream ? query(event->stream, event->at) : api_result(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
	(void)start, (void)end;
	*milliseconds = 0;
	return api_result(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	for (struct tt_emu_event **at = &events; *at; at = &(*at)->next) {
		if (*at != event)
			continue;
		*at = event->next;
		free(event);
		return api_result(cudaSuccess);
	}
	return api_result(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	struct operation op = {.type = OP_WAIT_EVENT, .stream = event->stream, .at = event->at};
	(void)flags;
	return api_result(event->stream ? stream_add(stream, &op) : cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	struct tt_emu_stream *s = stream_of(stream);
	(void)mode;
	if (s == &default_stream || s->capturing)
		return api_result(cudaErrorStreamCaptureUnsupported);
	cudaError_t error = stream_flush(stream); /* so that the queue holds only what is captured */
	s->capturing = !error;
	return api_result(error);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
	struct tt_emu_stream *s = stream_of(stream);
	struct tt_emu_graph *g = calloc(1, sizeof *g);
	*out = g;
	if (!s->capturing || !g) {
		free(g);
		return api_result(g ? cudaErrorInvalidResourceHandle : cudaErrorMemoryAllocation);
	}
	g->first = s->first;
	g->n_nodes = (size_t)(s->enqueued - s->done);
	s->first = NULL;
	s->end = &s->first;
	s->enqueued = s->done;
	s->capturing = false;
	g->next = graphs;
	graphs = g;
	return api_result(cudaSuccess);
}

static cudaError_t graph_copy(struct tt_emu_graph *to, const struct tt_emu_graph *from)
{
	struct operation **end = &to->first;
	to->n_nodes = from->n_nodes;
	for (const struct operation *op = from->first; op; op = op->next) {
		*end = operation_copy(op);
		if (!*end)
			return cudaErrorMemoryAllocation;
		keep_collective(op, true);
		end = &(*end)->next;
	}
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
	struct tt_emu_graph *g = calloc(1, sizeof *g);
	(void)flags;
	*out = g;
	if (!g)
		return api_result(cudaErrorMemoryAllocation);
	g->next = graphs;
	graphs = g;
	return api_result(graph_copy(g, graph));
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
	struct operation boundary = {.type = OP_BOUNDARY};
	/* the first kernel depends on no earlier one programmatically */
	cudaError_t error = stream_add(stream, &boundary);
	for (const struct operation *op = graph->first; op && !error; op = op->next) {
		if (op->type == OP_COLLECTIVE)
			collective_launched(&op->collective);
		error = stream_add(stream, op);
	}
	if (!error)
		error = stream_add(stream, &boundary);
	emu.counters.graph_launches++;
	return api_result(error);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void *nodes, size_t *n_nodes)
{
	if (nodes)
		return api_result(cudaErrorInvalidValue);
	*n_nodes = graph->n_nodes;
	return api_result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	for (struct tt_emu_graph **at = &graphs; *at; at = &(*at)->next) {
		if (*at != graph)
			continue;
		*at = graph->next;
		for (const struct operation *op = graph->first; op; op = op->next)
			keep_collective(op, false);
		operations_free(graph->first);
		free(graph);
		return api_result(cudaSuccess);
	}
	return api_result(cudaErrorInvalidResourceHandle);
}

static bool points_into(const struct allocation *a, const void *p)
{
	return (uintptr_t)p >= (uintptr_t)a->base && (uintptr_t)p - (uintptr_t)a->base < a->size;
}

/* What a kernel is given are structures: any of their words may be a pointer. */
static bool launch_points_into(const struct launch *launch, const struct allocation *a)
{
	for (size_t i = 0; i < launch->kernel->n_args; i++)
		for (size_t at = 0; at + sizeof(void *) <= launch->kernel->sizes[i]; at += sizeof(void *)) {
			const void *p;
			memcpy(&p, (const char *)launch->args[i] + at, sizeof p);
			if (points_into(a, p))
				return true;
		}
	return false;
}

static bool operation_points_into(const struct operation *op, const struct allocation *a)
{
	const struct collective *c = &op->collective;
	return points_into(a, op->to) || points_into(a, op->from) ||
	       (op->type == OP_COLLECTIVE && (points_into(a, c->from) || points_into(a, c->to))) ||
	       (op->type == OP_LAUNCH && launch_points_into(&op->launch, a));
}

void graph_check_free(const void *memory)
{
	const struct allocation *a = global_find(memory);
	for (const struct tt_emu_graph *g = graphs; a && g; g = g->next)
		for (const struct operation *op = g->first; op; op = op->next)
			if (!*emu.report && operation_points_into(op, a))
				snprintf(emu.report, sizeof emu.report,
					"cudaFree of %zu bytes that a graph points to: %s", a->size,
					op->type == OP_LAUNCH ? op->launch.kernel->name : "a copy or a collective");
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
	return cudaGraphDestroy(graph);
}
