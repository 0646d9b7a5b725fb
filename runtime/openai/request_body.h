/* Reads the body of a request to OpenAI's API into the engine's options. docs/formats.md has the table of what is
 * honoured and what is refused. */
#ifndef RUNTIME_OPENAI_REQUEST_BODY_H
#define RUNTIME_OPENAI_REQUEST_BODY_H

#include <jansson.h>

#include "runtime/openai/policy_names.h"

enum { TT_MAX_CHOICES = 128, TT_MAX_STOP = 4 };

enum tt_endpoint { TT_CHAT_COMPLETIONS, TT_COMPLETIONS };

/* What a body is read with. */
struct tt_api_context {
	const struct tt_text *text;
	const struct tt_named_policies *policies;
	uint32_t max_tokens;         /* for bodies that do not say */
	struct tt_sampling sampling; /* for bodies that do not say */
	int64_t now;                 /* the Unix time that a chat template sees as the date */
};

struct tt_api_request {
	enum tt_endpoint endpoint;
	struct tt_request_options options; /* its ids and stop point to the members below */
	int32_t *ids;
	const char *stop[TT_MAX_STOP]; /* borrowed from the JSON */
	uint32_t n_stop;
	uint32_t n;                      /* how many choices are asked for */
	bool logprobs;                   /* report log-probabilities, with options.n_top alternatives each */
	const char *names[TT_MAX_STACK]; /* of its policies, borrowed from the context */
};

/* Finds the endpoint of a URL; returns false if there is no such endpoint. */
bool tt_endpoint_parse(const char *url, enum tt_endpoint *out);

/* The result points into body, which must stay. Nothing needs to be freed if this fails. */
int tt_api_request_parse(struct tt_api_request *out, const json_t *body, enum tt_endpoint endpoint,
	const struct tt_api_context *context, struct tt_error *err);
void tt_api_request_free(struct tt_api_request *body);

/* Steers a request without steering by one policy. */
void tt_api_request_steer(struct tt_api_request *body, const struct tt_named_policy *policy, float scale);

#endif
