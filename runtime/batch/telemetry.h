/* Writes what steered each token of a request, as JSON lines. */
#ifndef RUNTIME_BATCH_TELEMETRY_H
#define RUNTIME_BATCH_TELEMETRY_H

#include "runtime/openai/response.h"

/* Appends a line for every token that ran; the last generated one never does. custom_id: as quoted JSON. dense: with
 * lists of all layers, and the policies' weights. The request must have been submitted with trace, and be finished. */
int tt_telemetry_write(struct tt_buffer *out, const char *custom_id, const struct tt_api_request *body, uint32_t index,
	const struct tt_choice *choice, uint32_t n_layers, bool dense, struct tt_error *err);

#endif
