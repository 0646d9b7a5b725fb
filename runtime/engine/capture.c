/* tt_capture: writes all logits, block outputs and coefficients of one sequence into a safetensors file. */
#include "runtime/engine/capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/outputs.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/outputs.h"
#include "runtime/engine/pump.h"
#include "runtime/engine/request.h"
#include "weights/model.h"
#include "weights/safetensors.h"

static int run(
	struct tt_request **out, struct tt_engine *engine, const struct tt_capture_options *o, struct tt_error *err)
{
	struct tt_request_options options;
	uint64_t every_layer[(TT_MAX_LAYERS + 63) / 64];
	memset(every_layer, 0xff, sizeof every_layer);
	tt_request_options_default(&options);
	options.ids = o->ids;
	options.n_ids = o->n_ids;
	options.mean_from = o->mean_from;
	options.mean_to = o->mean_to;
	options.keep_logits = true;
	options.keep_layers = every_layer;
	options.n_steering = o->n_steering;
	for (uint32_t i = 0; i < o->n_steering && i < TT_MAX_STACK; i++)
		options.steering[i] = o->steering[i];
	TT_TRY(tt_request_submit_own(out, engine, &options, err));
	return tt_request_wait(*out, err);
}

void tt_capture_coefficients(const struct tt_request *request, size_t from, size_t to, uint32_t n_layers, float *out)
{
	memset(out, 0, (to - from) * n_layers * sizeof *out);
	for (uint32_t i = 0; i < request->options.n_steering; i++)
		for (size_t t = from; t < to; t++) {
			const float *acted = tt_request_coefficients(request, i, t);
			for (uint32_t l = 0; acted && l < n_layers; l++)
				out[(t - from) * n_layers + l] += acted[l];
		}
}

/* out [d]: the mean of rows h [n_ids][d] over ids [from, to), summed as gates sum it (struct tt_pool_args). */
static void take_mean(const float *h, size_t from, size_t to, size_t d, float *out)
{
	for (size_t k = 0; k < d; k++) {
		double sum = 0;
		float record = 0;
		for (size_t p = from; p < to; p++) {
			record = (p % TT_PAGE_TOKENS == 0 ? 0 : record) + h[p * d + k];
			if (p + 1 == to || (p + 1) % TT_PAGE_TOKENS == 0)
				sum += (double)record;
		}
		out[k] = (float)(sum / (double)(to - from));
	}
}

/* What the file has beside the ids, and what the tensors point to. */
struct contents {
	struct tt_st_tensor *tensors; // [3 + 2 * L]
	char (*names)[24];            // [2 * L]
	float *coef;                  // [n_ids][L]
	float *means;                 // [L][d]
};

static int open_contents(struct contents *c, uint32_t n_layers, uint32_t d, size_t n_ids, struct tt_error *err)
{
	TT_TRY(tt_alloc(&c->tensors, 2 * n_layers + 3, sizeof *c->tensors, err));
	TT_TRY(tt_alloc(&c->names, 2 * n_layers, sizeof *c->names, err));
	TT_TRY(tt_alloc(&c->means, n_layers, d * sizeof *c->means, err));
	return tt_alloc(&c->coef, n_ids, n_layers * sizeof *c->coef, err);
}

static void close_contents(struct contents *c)
{
	free(c->tensors);
	free(c->names);
	free(c->means);
	free(c->coef);
}

static int write(const struct tt_request *request, const struct tt_engine *engine, const struct tt_capture_options *o,
	struct contents *c, const char *path, struct tt_error *err)
{
	uint32_t n_layers = engine->info.n_layers, d = engine->info.hidden_size, n = 0;
	size_t n_ids = o->n_ids;
	const struct tt_positions span = tt_mean_span(o->mean_from, o->mean_to, n_ids);
	tt_capture_coefficients(request, 0, n_ids, n_layers, c->coef);
	c->tensors[n++] = (struct tt_st_tensor){"ids", TT_DTYPE_I32, 1, {n_ids}, n_ids, o->ids, 0};
	c->tensors[n++] = (struct tt_st_tensor){
		"logits", TT_DTYPE_F32, 2, {n_ids, engine->info.vocab_size}, 0, tt_request_logits(request), 0};
	c->tensors[n++] = (struct tt_st_tensor){"coef", TT_DTYPE_F32, 2, {n_ids, n_layers}, 0, c->coef, 0};
	for (uint32_t l = 0; l < n_layers; l++) {
		const float *h = tt_request_hidden(request, l);
		snprintf(c->names[l], sizeof c->names[l], "hidden.%u", l);
		c->tensors[n++] = (struct tt_st_tensor){c->names[l], TT_DTYPE_F32, 2, {n_ids, d}, 0, h, 0};
	}
	for (uint32_t l = 0; o->mean && l < n_layers; l++) {
		char *name = c->names[n_layers + l];
		float *mean = c->means + (size_t)l * d;
		snprintf(name, sizeof c->names[l], "mean.%u", l);
		take_mean(tt_request_hidden(request, l), span.from, span.to, d, mean);
		c->tensors[n++] = (struct tt_st_tensor){name, TT_DTYPE_F32, 1, {d}, 0, mean, 0};
	}
	struct tt_st_pair metadata[] = {
		{"trimtab.format", "capture 1"},
		{"trimtab.model", engine->info.fingerprint},
		{"trimtab.weights_digest", engine->info.weights_digest},
		{"trimtab.version", TT_VERSION},
		{"trimtab.compute", tt_engine_compute(engine)},
	};
	size_t n_metadata = sizeof metadata / sizeof *metadata - (engine->options.compute == TT_COMPUTE_F32);
	return tt_safetensors_write(path, c->tensors, n, metadata, n_metadata, err);
}

int tt_capture(
	struct tt_engine *engine, const struct tt_capture_options *options, const char *path, struct tt_error *err)
{
	struct tt_request *request = NULL;
	struct contents contents = {0};
	struct tt_capture_options o = {0};
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_capture_options", err));
	TT_TRY(tt_need_list(o.steering, o.n_steering, "steering", err));
	TT_TRY(tt_need(path, "path", err));
	const struct tt_file_use output = {path, "the output"};
	TT_TRY(tt_engine_check_outputs(engine, NULL, 0, &output, 1, err));
	int status = run(&request, engine, &o, err);
	if (status == TT_OK)
		status = open_contents(&contents, engine->info.n_layers, engine->info.hidden_size, o.n_ids, err);
	if (status == TT_OK)
		status = write(request, engine, &o, &contents, path, err);
	tt_request_free(request);
	close_contents(&contents);
	return status;
}
