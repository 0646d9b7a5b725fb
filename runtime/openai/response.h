/* What comes of a request: its choices, and the body of OpenAI's response. */
#ifndef RUNTIME_OPENAI_RESPONSE_H
#define RUNTIME_OPENAI_RESPONSE_H

#include "base/memory.h"
#include "runtime/openai/request_body.h"

struct tt_choice {
	struct tt_request *request; /* once it is finished */
	struct tt_buffer text;
	json_t *logprobs; /* as the endpoint reports them; NULL when nobody asked */
	size_t offset;    /* code points of text so far */
};

/* Submits choice index of a body; trace: with norms. *request is the caller's. */
int tt_choice_submit(struct tt_choice *out, struct tt_request **request, struct tt_engine *engine,
	const struct tt_api_request *body, uint32_t index, bool trace, struct tt_error *err);
/* Takes over its request, which is finished, and takes its tokens. */
int tt_choice_collect(struct tt_choice *choice, struct tt_request *request, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err);
void tt_choice_free(struct tt_choice *choice);

/* What steered a request: a list with an entry for each policy, null where there is none. New; NULL without memory. */
json_t *tt_decisions_json(const struct tt_request *request, const struct tt_api_request *body, uint32_t n_layers);

/* The response's body, when every choice [body->n] is finished. id has no prefix yet. New. */
int tt_answer_json(json_t **out, const struct tt_engine *engine, const struct tt_api_request *body,
	const struct tt_choice *choices, const char *id, int64_t created, struct tt_error *err);

#endif
