/* What a body says of steering, beside what its context says: the default stack, what is mandatory, shadows. */
#ifndef RUNTIME_OPENAI_API_STEERING_H
#define RUNTIME_OPENAI_API_STEERING_H

#include "runtime/openai/request_body.h"

/* Reads body.steering. Absent: what the context says, if anything; false: nothing steers, but for what is mandatory,
 * which stands first whatever the body says. */
int tt_api_read_steering(
	struct tt_api_request *out, const json_t *body, const struct tt_api_context *context, struct tt_error *err);

#endif
