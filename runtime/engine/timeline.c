#include "runtime/engine/timeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"
#include "runtime/engine/engine.h"
#include "weights/quant.h"

struct tt_timeline {
	struct tt_backend *backend, ops; /* ops: the backend as it was */
	double step_from;
	int32_t layer;                    /* that runs; -1: none */
	struct tt_timeline_event *events; // [n]
	size_t n, capacity;
	int status; /* of recording */
	struct tt_error err;
};

/* An op is given its backend and nothing else. */
static struct tt_timeline *recording;

static void record(struct tt_timeline_event event)
{
	struct tt_timeline *t = recording;
	event.to = tt_now();
	if (t->status == TT_OK)
		t->status = tt_grow(&t->events, &t->capacity, t->n + 1, sizeof *t->events, &t->err);
	if (t->status == TT_OK)
		t->events[t->n++] = event;
}

/* ---- What an op computes and reads */

static void add_product(struct tt_timeline_event *event, const struct tt_matrix *m, uint32_t n_rows)
{
	event->flops += 2.0 * n_rows * m->n_out * m->n_in;
	event->bytes += (double)m->n_out * (double)tt_type_row_bytes(m->type, m->n_in);
}

static void add_gate_up(struct tt_timeline_event *event, const struct tt_layer *layer)
{
	add_product(event, &layer->w_gate, event->n_tokens);
	add_product(event, &layer->w_up, event->n_tokens);
}

static uint32_t first_key(uint32_t position, uint32_t window)
{
	return window && position + 1 > window ? position + 1 - window : 0;
}

/* Keys and values of a sequence are read once for all of its tokens in the step, as far as memory is concerned: from
 * the first that its first token sees to its last token's. */
static void add_attention(struct tt_timeline_event *event, const struct tt_attention_args *args)
{
	const struct tt_config *c = args->config;
	const struct tt_step_plan *step = args->step;
	uint32_t window = tt_config_window(c, args->layer_index), from = 0;
	for (uint32_t t = 0; t < step->n_tokens; t++) {
		uint32_t position = (uint32_t)tt_step_positions(step)[t], first = first_key(position, window);
		int32_t seq = tt_step_seqs(step)[t];
		event->flops += 4.0 * (position + 1 - first) * c->head_dim * c->n_heads;
		if (t == 0 || tt_step_seqs(step)[t - 1] != seq)
			from = first;
		if (t + 1 == step->n_tokens || tt_step_seqs(step)[t + 1] != seq)
			event->bytes += 2.0 * (position + 1 - from) *
					(double)tt_kv_position_bytes(args->kv->type, 1, c->n_kv_heads, c->head_dim);
	}
}

static struct tt_timeline_event begin(const char *op, const struct tt_step_plan *step)
{
	return (struct tt_timeline_event){.op = op,
		.layer = recording->layer,
		.n_tokens = step->n_tokens,
		.n_samples = step->n_samples,
		.from = tt_now()};
}

/* ---- The ops that stand in for the backend's */

#define TT_OP(op, work)                                                                                                \
	static int op##_op(struct tt_backend *b, const struct tt_##op##_args *args, struct tt_error *err)              \
	{                                                                                                              \
		struct tt_timeline_event event = begin(#op, args->step);                                               \
		int status = recording->ops.op(b, args, err);                                                          \
		work;                                                                                                  \
		record(event);                                                                                         \
		return status;                                                                                         \
	}
TT_OP(embed, (void)0)
TT_OP(narrow, (void)0)
TT_OP(attention, add_attention(&event, args))
TT_OP(o_proj, add_product(&event, &args->layer->wo, event.n_tokens))
TT_OP(gate_up, add_gate_up(&event, args->layer))
TT_OP(down_proj, add_product(&event, &args->layer->w_down, event.n_tokens))
TT_OP(pool, (void)0)
TT_OP(control, (void)0)
TT_OP(logits, add_product(&event, args->output, event.n_samples))
TT_OP(sample, (void)0)
#undef TT_OP

static int qkv_op(struct tt_backend *b, const struct tt_qkv_args *args, struct tt_error *err)
{
	recording->layer = (int32_t)args->layer_index;
	struct tt_timeline_event event = begin("qkv", args->step);
	int status = recording->ops.qkv(b, args, err);
	add_product(&event, &args->layer->wq, event.n_tokens);
	add_product(&event, &args->layer->wk, event.n_tokens);
	add_product(&event, &args->layer->wv, event.n_tokens);
	record(event);
	return status;
}

static int begin_op(struct tt_backend *b, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	recording->step_from = tt_now();
	recording->layer = -1;
	return recording->ops.begin(b, step, recorded, err);
}

/* The step's ops are over; what follows is the engine's own. */
static int end_op(
	struct tt_backend *b, const struct tt_step_plan *step, const struct tt_results *outputs, struct tt_error *err)
{
	int status = recording->ops.end(b, step, outputs, err);
	recording->layer = -1;
	struct tt_timeline_event event = begin("step", step);
	event.from = recording->step_from;
	record(event);
	return status;
}

static void stand_in(struct tt_backend *b)
{
	b->begin = begin_op;
	b->embed = embed_op;
	b->qkv = qkv_op;
	b->narrow = b->narrow ? narrow_op : NULL;
	b->attention = attention_op;
	b->o_proj = o_proj_op;
	b->gate_up = gate_up_op;
	b->down_proj = down_proj_op;
	b->pool = pool_op;
	b->control = control_op;
	b->logits = logits_op;
	b->sample = sample_op;
	b->end = end_op;
}

int tt_timeline_open(struct tt_timeline **out, struct tt_engine *engine, struct tt_error *err)
{
	*out = NULL;
	if (recording)
		return tt_fail(err, TT_ERR_ARGUMENT, "another time line is being recorded");
	struct tt_backend *backend = engine->rank.backend;
	if (engine->n_ranks > 1)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "a time line needs a model that is not divided");
	if (strcmp(backend->name, "cpu") != 0)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "a time line needs the CPU: on a GPU take Nsight Systems");
	TT_TRY(tt_alloc(out, 1, sizeof **out, err));
	**out = (struct tt_timeline){.backend = backend, .ops = *backend, .layer = -1};
	recording = *out;
	stand_in(backend);
	return TT_OK;
}

void tt_timeline_close(struct tt_timeline *t)
{
	if (!t)
		return;
	struct tt_backend *b = t->backend;
	const struct tt_backend *ops = &t->ops;
	b->begin = ops->begin;
	b->embed = ops->embed;
	b->qkv = ops->qkv;
	b->narrow = ops->narrow;
	b->attention = ops->attention;
	b->o_proj = ops->o_proj;
	b->gate_up = ops->gate_up;
	b->down_proj = ops->down_proj;
	b->pool = ops->pool;
	b->control = ops->control;
	b->logits = ops->logits;
	b->sample = ops->sample;
	b->end = ops->end;
	recording = NULL;
	free(t->events);
	free(t);
}

int tt_timeline_events(
	const struct tt_timeline *t, const struct tt_timeline_event **out, size_t *n, struct tt_error *err)
{
	*out = t->events;
	*n = t->n;
	return t->status == TT_OK ? TT_OK : tt_fail(err, t->status, "%s", t->err.message);
}

/* ---- The trace: complete events of one thread, in microseconds from the first */

static json_t *event_json(const struct tt_timeline_event *event, double origin)
{
	json_t *args =
		json_pack("{s:I, s:I}", "tokens", (json_int_t)event->n_tokens, "samples", (json_int_t)event->n_samples);
	if (event->layer >= 0)
		json_object_set_new(args, "layer", json_integer(event->layer));
	if (event->flops > 0) {
		json_object_set_new(args, "flops", json_real(event->flops));
		json_object_set_new(args, "bytes", json_real(event->bytes));
	}
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:o}", "name", event->op, "cat", "op", "ph", "X", "pid",
		1, "tid", 1, "ts", (event->from - origin) * 1e6, "dur", (event->to - event->from) * 1e6, "args", args);
}

int tt_timeline_trace(const struct tt_timeline *t, json_t **out, struct tt_error *err)
{
	json_t *events = json_array();
	double origin = t->n ? t->events[0].from : 0;
	for (size_t i = 0; i < t->n; i++)
		origin = t->events[i].from < origin ? t->events[i].from : origin;
	for (size_t i = 0; i < t->n; i++)
		json_array_append_new(events, event_json(&t->events[i], origin));
	*out = json_pack("{s:o, s:s}", "traceEvents", events, "displayTimeUnit", "ms");
	return *out ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "out of memory");
}
