/* The prompts of a request to OpenAI's API: messages, a text, a list of ids, or a list of texts or of lists of ids. */
#ifndef RUNTIME_OPENAI_API_PROMPT_H
#define RUNTIME_OPENAI_API_PROMPT_H

#include <jansson.h>

#include "runtime/trimtab.h"

enum { TT_MAX_API_PROMPTS = 1024 };

struct tt_api_prompt {
	int32_t *ids; // [n_ids]
	size_t n_ids;
	size_t mean_from, mean_to; /* the last user message, as a request has it */
	/* What echo shows: the text that was given, or that of the ids; NULL for messages. */
	char *text;
	size_t n_hidden;   /* first ids that the text does not show: what the tokenizer puts in front */
	bool no_special;   /* nor does it show special tokens */
	size_t score_from; /* log-probabilities are told of ids from here on; those before are a context */
};

/* Reads body.messages; now: the Unix time that the template sees. What is in out must be freed also if this fails. */
int tt_api_read_messages(
	struct tt_api_prompt *out, const json_t *body, const struct tt_text *text, int64_t now, struct tt_error *err);
/* Reads body.prompt. *out [*n] is made by this; tt_api_prompts_free releases it, also if this fails. */
int tt_api_read_prompts(
	struct tt_api_prompt **out, uint32_t *n, const json_t *body, const struct tt_text *text, struct tt_error *err);
void tt_api_prompts_free(struct tt_api_prompt *prompts, uint32_t n);

#endif
