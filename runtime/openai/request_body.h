/* The body of a request to OpenAI's API: what of it is honoured, what is refused, and the engine's options for it. The
 * server reads its requests with it as well. docs/formats.md has the table. */
#ifndef RUNTIME_OPENAI_REQUEST_BODY_H
#define RUNTIME_OPENAI_REQUEST_BODY_H

#include <jansson.h>

#include "runtime/openai/policy_names.h"

enum { TT_MAX_CHOICES = 128, TT_MAX_STOP = 4 };

enum tt_endpoint { TT_CHAT_COMPLETIONS, TT_COMPLETIONS };

/* What a body is read against. Defaults are those of bodies that do not say. */
struct tt_api_context {
	const struct tt_text *text;
	const struct tt_named_policies *policies;
	uint32_t max_tokens;
	struct tt_sampling sampling;
	int64_t now; /* what a chat template sees as the date */
};

struct tt_api_request {
	enum tt_endpoint endpoint;
	struct tt_request_options options; /* ids and stop point into what this struct owns */
	int32_t *ids;
	const char *stop[TT_MAX_STOP]; /* borrowed from the JSON */
	uint32_t n_stop;
	uint32_t n;                      /* choices */
	bool logprobs;                   /* report them; options.n_top alternatives each */
	const char *names[TT_MAX_STACK]; /* of its policies, borrowed from the context */
};

/* The endpoint of a url; false when it is none of them. */
bool tt_endpoint_parse(const char *url, enum tt_endpoint *out);

/* body stays referenced by the result. Nothing is left to free when it fails. */
int tt_api_request_parse(struct tt_api_request *out, const json_t *body, enum tt_endpoint endpoint,
	const struct tt_api_context *context, struct tt_error *err);
void tt_api_request_free(struct tt_api_request *body);

/* Puts one policy on a body that has none. */
void tt_api_request_steer(struct tt_api_request *body, const struct tt_named_policy *policy, float scale);

#endif
