#include "runtime/batch/telemetry.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"

/* One policy's part of a line that is the same for every token. */
struct steer {
	struct tt_decision decision;
	struct tt_buffer weights; /* "[...]" */
};

static int add_number(struct tt_buffer *out, double value, struct tt_error *err)
{
	return isfinite(value) ? tt_buffer_print(out, err, "%.9g", value) : tt_buffer_print(out, err, "null");
}

/* Prints every step-th value as "[a,b]"; zeros if values is NULL. */
static int add_list(struct tt_buffer *out, const float *values, uint32_t n, uint32_t step, struct tt_error *err)
{
	for (uint32_t i = 0; i < n; i++) {
		TT_TRY(tt_buffer_add(out, i ? "," : "[", 1, err));
		TT_TRY(add_number(out, values ? (double)values[i * step] : 0, err));
	}
	return tt_buffer_add(out, "]", 1, err);
}

/* What the gates said, which is the same for every token of an answer. */
static int write_gates(struct tt_buffer *out, const struct steer *steers, uint32_t n, struct tt_error *err)
{
	const char *const keys[] = {"s", "gate"};
	for (int k = 0; k < 2; k++) {
		TT_TRY(tt_buffer_print(out, err, ",\"%s\":[", keys[k]));
		for (uint32_t i = 0; i < n; i++) {
			TT_TRY(tt_buffer_add(out, ",", i > 0, err));
			TT_TRY(add_number(out, (double)(k ? steers[i].decision.gate : steers[i].decision.s), err));
		}
		TT_TRY(tt_buffer_add(out, "]", 1, err));
	}
	return TT_OK;
}

static int write_dense(struct tt_buffer *out, const struct steer *steers, const float *const *coef, uint32_t n,
	const float *norms, uint32_t n_layers, struct tt_error *err)
{
	TT_TRY(write_gates(out, steers, n, err));
	TT_TRY(tt_buffer_print(out, err, ",\"w\":["));
	for (uint32_t i = 0; i < n; i++) {
		TT_TRY(tt_buffer_add(out, ",", i > 0, err));
		TT_TRY(tt_buffer_add(out, steers[i].weights.data, steers[i].weights.len, err));
	}
	TT_TRY(tt_buffer_print(out, err, "],\"coef\":["));
	for (uint32_t i = 0; i < n; i++) {
		TT_TRY(tt_buffer_add(out, ",", i > 0, err));
		TT_TRY(add_list(out, coef[i], n_layers, 1, err));
	}
	TT_TRY(tt_buffer_print(out, err, "],\"norm_before\":"));
	TT_TRY(add_list(out, norms, n_layers, 2, err));
	TT_TRY(tt_buffer_print(out, err, ",\"norm_after\":"));
	TT_TRY(add_list(out, norms + 1, n_layers, 2, err));
	return tt_buffer_print(out, err, "}\n");
}

/* Whether one of the n policies acted on the token in that layer; coef[i] is NULL where policy i did nothing. */
static bool acted(const float *const *coef, uint32_t n, uint32_t layer)
{
	for (uint32_t i = 0; i < n; i++)
		if (coef[i] && coef[i][layer] != 0)
			return true;
	return false;
}

/* Prints every step-th value as {"layer":value}, of the layers in which one of the n policies acted. */
static int add_layers(struct tt_buffer *out, const float *values, uint32_t step, const float *const *coef, uint32_t n,
	uint32_t n_layers, struct tt_error *err)
{
	const char *before = "";
	TT_TRY(tt_buffer_add(out, "{", 1, err));
	for (uint32_t l = 0; l < n_layers; l++) {
		if (!acted(coef, n, l))
			continue;
		TT_TRY(tt_buffer_print(out, err, "%s\"%u\":", before, l));
		TT_TRY(add_number(out, (double)values[l * step], err));
		before = ",";
	}
	return tt_buffer_add(out, "}", 1, err);
}

/* The layers that were steered alone; of a token that nothing acted on what the gates said, if there are any. */
static int write_sparse(struct tt_buffer *out, const struct steer *steers, const float *const *coef, uint32_t n,
	const float *norms, uint32_t n_layers, struct tt_error *err)
{
	uint32_t n_quiet = 0;
	if (n > 0)
		TT_TRY(write_gates(out, steers, n, err));
	while (n_quiet < n_layers && !acted(coef, n, n_quiet))
		n_quiet++;
	if (n_quiet == n_layers)
		return tt_buffer_print(out, err, "}\n");
	TT_TRY(tt_buffer_print(out, err, ",\"coef\":["));
	for (uint32_t i = 0; i < n; i++) {
		TT_TRY(tt_buffer_add(out, ",", i > 0, err));
		TT_TRY(add_layers(out, coef[i], 1, &coef[i], 1, n_layers, err));
	}
	TT_TRY(tt_buffer_print(out, err, "],\"norm_before\":"));
	TT_TRY(add_layers(out, norms, 2, coef, n, n_layers, err));
	TT_TRY(tt_buffer_print(out, err, ",\"norm_after\":"));
	TT_TRY(add_layers(out, norms + 1, 2, coef, n, n_layers, err));
	return tt_buffer_print(out, err, "}\n");
}

static int write_tokens(struct tt_buffer *out, const char *custom_id, const struct tt_api_request *body, uint32_t index,
	const struct tt_choice *choice, const struct steer *steers, uint32_t n_layers, bool dense, struct tt_error *err)
{
	const struct tt_api_prompt *prompt = tt_api_prompt_of(body, index);
	size_t n_positions;
	const float *norms = tt_request_norms(choice->request, &n_positions);
	const int32_t *generated = tt_request_generated(choice->request);
	for (size_t t = 0; norms && t < n_positions; t++) {
		int32_t id = t < prompt->n_ids ? prompt->ids[t] : generated[t - prompt->n_ids];
		TT_TRY(tt_buffer_print(
			out, err, "{\"custom_id\":%s,\"index\":%u,\"pos\":%zu,\"token\":%d", custom_id, index, t, id));
		const float *coef[TT_MAX_STACK]; /* each takes the engine's lock, so once a token */
		for (uint32_t i = 0; i < body->options.n_steering; i++)
			coef[i] = tt_request_coefficients(choice->request, i, t);
		TT_TRY((dense ? write_dense : write_sparse)(
			out, steers, coef, body->options.n_steering, norms + t * 2 * n_layers, n_layers, err));
	}
	return TT_OK;
}

int tt_telemetry_write(struct tt_buffer *out, const char *custom_id, const struct tt_api_request *body, uint32_t index,
	const struct tt_choice *choice, uint32_t n_layers, bool dense, struct tt_error *err)
{
	struct steer steers[TT_MAX_STACK] = {0};
	int status = TT_OK;
	for (uint32_t i = 0; status == TT_OK && i < body->options.n_steering; i++) {
		struct tt_policy_info info;
		tt_policy_describe(body->options.steering[i].policy, &info);
		status = add_list(&steers[i].weights, info.weights, n_layers, 1, err);
		if (status == TT_OK && !tt_request_decision(choice->request, i, &steers[i].decision))
			status = tt_fail(err, TT_ERR_ARGUMENT, "a finished request has no decision");
	}
	if (status == TT_OK)
		status = write_tokens(out, custom_id, body, index, choice, steers, n_layers, dense, err);
	for (uint32_t i = 0; i < body->options.n_steering; i++)
		tt_buffer_free(&steers[i].weights);
	return status;
}
