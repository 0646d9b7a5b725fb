/* Reads the body of a request to OpenAI's API into the engine's options. docs/formats.md has the table of what is
 * honoured and what is refused. */
#ifndef RUNTIME_OPENAI_REQUEST_BODY_H
#define RUNTIME_OPENAI_REQUEST_BODY_H

#include <jansson.h>

#include "runtime/openai/api_prompt.h"
#include "runtime/openai/policy_names.h"

enum { TT_MAX_CHOICES = 128, TT_MAX_STOP = 4 };

enum tt_endpoint { TT_CHAT_COMPLETIONS, TT_COMPLETIONS };

/* A policy in the place that a body leaves to others. */
struct tt_api_steering {
	const struct tt_named_policy *policy;
	float scale;
};

/* A policy that steers every request, whatever its body says. */
struct tt_api_mandatory {
	const struct tt_named_policy *policy;
	float scale; /* where a body says nothing of it */
	float floor; /* the least that a body may ask for */
};

/* How much of its steering a body may choose. */
enum tt_api_right {
	TT_API_CHOOSES_NOTHING,
	TT_API_CHOOSES_NAMES, /* of the standard label */
	TT_API_CHOOSES_ANY,   /* also other labels, versions, and that nothing steers */
};

/* What a body is read with. */
struct tt_api_context {
	const struct tt_text *text;
	const struct tt_named_policies *policies;
	uint32_t max_tokens;         /* for bodies that do not say */
	struct tt_sampling sampling; /* for bodies that do not say */
	int64_t now;                 /* the Unix time that a chat template sees as the date */

	/* A server's. */
	bool serves; /* bodies may ask for a stream; answers say more of what steered them */
	struct tt_api_steering standing[TT_MAX_STACK]; // [n_standing] steers bodies that say nothing of steering
	uint32_t n_standing;
	struct tt_api_mandatory mandatory[TT_MAX_STACK]; // [n_mandatory] stand first, in this order
	uint32_t n_mandatory;
	enum tt_api_right right;                      /* of who asks */
	struct tt_api_steering shadows[TT_MAX_STACK]; // [n_shadows] whose gates speak on every request, and no more
	uint32_t n_shadows;
	double timeout; /* seconds that a request may take, which a body may shorten; 0: any */
	bool lenient;   /* keys that nobody knows are passed over, and named in the result */
};

struct tt_api_request {
	enum tt_endpoint endpoint;
	struct tt_request_options options; /* without ids, stop and stop_ids, which are the members below */
	struct tt_api_prompt *prompts;     // [n_prompts]
	uint32_t n_prompts;
	const char *stop[TT_MAX_STOP]; /* borrowed from the JSON */
	uint32_t n_stop;
	int32_t stop_ids[TT_MAX_STOPS]; // [n_stop_ids]
	uint32_t n_stop_ids;
	uint32_t n;           /* how many choices are asked for, of each prompt */
	bool logprobs;        /* report log-probabilities, with options.n_top alternatives each */
	bool echo;            /* the prompt's text, and log-probabilities, stand before the answer's */
	bool prompt_logprobs; /* report those of the prompt in vLLM's form, with n_prompt_top alternatives */
	uint32_t n_prompt_top;
	const struct tt_named_policy *policies[TT_MAX_STACK]; // [options.n_steering] borrowed from the context
	uint32_t n_acting; /* the first so many of these; the others are shadows, at scale 0 */
	bool serves;       /* the context's */
	bool stream, include_usage, continuous_usage;

	char ignored[256]; /* keys that were passed over, with ", " between them; those that do not fit are left out */

	/* If reading fails: the key that is at fault, such as "steering.policies[0].name", or "" for the body itself;
	 * and OpenAI's word for it. */
	char param[96];
	const char *code;
	bool forbidden; /* who asks may not */
};

/* Finds the endpoint of a URL; returns false if there is no such endpoint. */
bool tt_endpoint_parse(const char *url, enum tt_endpoint *out);

/* The result points into body, which must stay. If this fails, nothing needs to be freed, and of *out param and code
 * are set. */
int tt_api_request_parse(struct tt_api_request *out, const json_t *body, enum tt_endpoint endpoint,
	const struct tt_api_context *context, struct tt_error *err);
void tt_api_request_free(struct tt_api_request *body);

/* Choice i is choice i % n of prompt i / n. */
uint32_t tt_api_n_choices(const struct tt_api_request *body);
const struct tt_api_prompt *tt_api_prompt_of(const struct tt_api_request *body, uint32_t choice);
size_t tt_api_n_prompt_tokens(const struct tt_api_request *body);
/* Whether log-probabilities of prompts are told. */
bool tt_api_scores(const struct tt_api_request *body);

/* Remembers the key that is at fault, if the status is an error's; the innermost counts. Returns the status. */
int tt_api_at(struct tt_api_request *out, const char *param, int status);
/* Refuses an object with a key that is not in the list, which ends in NULL. */
int tt_api_only_keys(const json_t *object, const char *const *allowed, const char *what, struct tt_error *err);

/* Steers a request without steering by one policy. */
void tt_api_request_steer(struct tt_api_request *body, const struct tt_named_policy *policy, float scale);

#endif
