/* What an answer says of the prompt: its text and log-probabilities before the answer's (echo), and its
 * log-probabilities in vLLM's form. */
#ifndef RUNTIME_OPENAI_PROMPT_LOGPROBS_H
#define RUNTIME_OPENAI_PROMPT_LOGPROBS_H

#include "runtime/openai/response.h"

/* Puts the prompt before the choice's text and, where they are asked for, its tokens before the choice's. */
int tt_choice_echo(
	struct tt_choice *choice, const struct tt_api_request *body, const struct tt_text *text, struct tt_error *err);

/* A list with an object for each token of the prompt, {id: {"logprob", "rank", "decoded_token"}} for itself and the
 * likeliest; null for the first and those before prompt_logprobs_from. A new reference. rank is null for a token that
 * is not among the likeliest. */
int tt_prompt_logprobs_json(json_t **out, const struct tt_choice *choice, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err);

#endif
