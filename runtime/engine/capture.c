/* tt_capture: writes all logits, block outputs and coefficients of one sequence into a safetensors file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/outputs.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/outputs.h"
#include "runtime/engine/pump.h"
#include "runtime/engine/request.h"
#include "weights/model.h"
#include "weights/safetensors.h"

static int run(struct tt_request **out, struct tt_engine *engine, const int32_t *ids, size_t n_ids,
	const struct tt_steering *steering, uint32_t n_steering, struct tt_error *err)
{
	struct tt_request_options options;
	uint64_t every_layer[(TT_MAX_LAYERS + 63) / 64];
	memset(every_layer, 0xff, sizeof every_layer);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n_ids;
	options.keep_logits = true;
	options.keep_layers = every_layer;
	options.n_steering = n_steering;
	for (uint32_t i = 0; i < n_steering && i < TT_MAX_STACK; i++)
		options.steering[i] = steering[i];
	TT_TRY(tt_request_submit_own(out, engine, &options, err));
	return tt_request_wait(*out, err);
}

/* coef [n_ids][n_layers]: for each token, the sum of the policies' coefficients that acted on it. */
static void sum_coefficients(const struct tt_request *request, float *coef, size_t n_ids, uint32_t n_layers)
{
	for (uint32_t i = 0; i < request->options.n_steering; i++)
		for (size_t t = 0; t < n_ids; t++) {
			const float *acted = tt_request_coefficients(request, i, t);
			for (uint32_t l = 0; acted && l < n_layers; l++)
				coef[t * n_layers + l] += acted[l];
		}
}

static int write(const struct tt_request *request, const struct tt_engine *engine, const int32_t *ids, size_t n_ids,
	float *coef, struct tt_st_tensor *tensors, char (*names)[24], const char *path, struct tt_error *err)
{
	uint32_t n_layers = engine->info.n_layers, n = 0;
	sum_coefficients(request, coef, n_ids, n_layers);
	tensors[n++] = (struct tt_st_tensor){"ids", TT_DTYPE_I32, 1, {n_ids}, n_ids, ids, 0};
	tensors[n++] = (struct tt_st_tensor){
		"logits", TT_DTYPE_F32, 2, {n_ids, engine->info.vocab_size}, 0, tt_request_logits(request), 0};
	tensors[n++] = (struct tt_st_tensor){"coef", TT_DTYPE_F32, 2, {n_ids, n_layers}, 0, coef, 0};
	for (uint32_t l = 0; l < n_layers; l++) {
		snprintf(names[l], sizeof names[l], "hidden.%u", l);
		tensors[n++] = (struct tt_st_tensor){names[l], TT_DTYPE_F32, 2, {n_ids, engine->info.hidden_size}, 0,
			tt_request_hidden(request, l), 0};
	}
	struct tt_st_pair metadata[] = {
		{"trimtab.format", "capture 1"},
		{"trimtab.model", engine->info.fingerprint},
		{"trimtab.weights_digest", engine->info.weights_digest},
		{"trimtab.version", TT_VERSION},
	};
	return tt_safetensors_write(path, tensors, n, metadata, sizeof metadata / sizeof *metadata, err);
}

int tt_capture(struct tt_engine *engine, const int32_t *ids, size_t n_ids, const struct tt_steering *steering,
	uint32_t n_steering, const char *path, struct tt_error *err)
{
	struct tt_request *request = NULL;
	struct tt_st_tensor *tensors = NULL;
	char(*names)[24] = NULL;
	float *coef = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need_list(steering, n_steering, "steering", err));
	TT_TRY(tt_need(path, "path", err));
	uint32_t n_layers = engine->info.n_layers;
	const struct tt_file_use output = {path, "the output"};
	TT_TRY(tt_engine_check_outputs(engine, NULL, 0, &output, 1, err));
	int status = run(&request, engine, ids, n_ids, steering, n_steering, err);
	if (status == TT_OK)
		status = tt_alloc(&tensors, n_layers + 3, sizeof *tensors, err);
	if (status == TT_OK)
		status = tt_alloc(&names, n_layers, sizeof *names, err);
	if (status == TT_OK)
		status = tt_alloc(&coef, n_ids, n_layers * sizeof *coef, err);
	if (status == TT_OK)
		status = write(request, engine, ids, n_ids, coef, tensors, names, path, err);
	tt_request_free(request);
	free(tensors);
	free(names);
	free(coef);
	return status;
}
