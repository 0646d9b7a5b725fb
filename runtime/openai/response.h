/* The answer to a request: its choices, and the body of OpenAI's response. */
#ifndef RUNTIME_OPENAI_RESPONSE_H
#define RUNTIME_OPENAI_RESPONSE_H

#include "base/memory.h"
#include "runtime/openai/request_body.h"

/* How answers are written: 9 digits are enough for every float to be the same again. */
#define TT_ANSWER_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(9))

struct tt_choice {
	uint32_t index;
	struct tt_request *request; /* NULL until it is finished */
	struct tt_buffer text;
	json_t *logprobs; /* in the endpoint's form; NULL if not asked for */
	size_t offset;    /* code points of text so far */
};

/* Whether the engine takes the requests of all of the body's prompts. */
int tt_api_request_check(struct tt_engine *engine, const struct tt_api_request *body, struct tt_error *err);
/* Submits the request of choice `index` of a body. trace: with norms. The caller owns *request. */
int tt_choice_submit(struct tt_choice *out, struct tt_request **request, struct tt_engine *engine,
	const struct tt_api_request *body, uint32_t index, bool trace, struct tt_error *err);
/* Takes the tokens of the choice's request, which is finished and belongs to the choice from now on. */
int tt_choice_collect(struct tt_choice *choice, struct tt_request *request, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err);
void tt_choice_free(struct tt_choice *choice);
/* The same in pieces, for an answer that is told while it is made: what stands before the tokens, once the prompt has
 * run; a token; and the choice emptied of what was told, but for the offset. */
int tt_choice_begin(
	struct tt_choice *choice, const struct tt_api_request *body, const struct tt_text *text, struct tt_error *err);
int tt_choice_add(struct tt_choice *choice, const struct tt_token *token, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err);
void tt_choice_clear(struct tt_choice *choice);

/* A token as text. If its bytes are not whole code points, it is written as OpenAI does: bytes:\xe2\x80. */
json_t *tt_piece_json(const char *piece, size_t n);
/* Adds a token to the lists of a completion's log-probabilities, at the choice's offset; nulls where no number is
 * told. */
int tt_add_completion_logprob(struct tt_choice *choice, const struct tt_text *text, const struct tt_token *token,
	bool told, struct tt_error *err);

/* What steered a request: a list with an entry for each policy; null if no policy steers it. A new reference, or NULL
 * if memory runs out. */
json_t *tt_decisions_json(const struct tt_request *request, const struct tt_api_request *body, uint32_t n_layers);
/* The same of its shadows. */
json_t *tt_shadows_json(const struct tt_request *request, const struct tt_api_request *body, uint32_t n_layers);
/* OpenAI has a word for every end of an answer but a full context, which is "length" too. */
const char *tt_finish_word(enum tt_finish finish);

/* Makes the body of the response from choices [tt_api_n_choices(body)], all of which are finished. id is without the
 * endpoint's prefix. *out is a new reference. */
int tt_answer_json(json_t **out, const struct tt_engine *engine, const struct tt_api_request *body,
	const struct tt_choice *choices, const char *id, int64_t created, struct tt_error *err);

#endif
