/* Answers that need no model: JSON, and errors in OpenAI's form. */
#ifndef RUNTIME_SERVE_REPLY_H
#define RUNTIME_SERVE_REPLY_H

#include <jansson.h>

#include "runtime/serve/connection.h"

struct tt_problem {
	int status;                         /* of HTTP */
	const char *message, *param, *code; /* param and code may be NULL */
};

/* To whom the operators' port says nothing: who has no key of the store, and whose key's roles are others. */
extern const struct tt_problem tt_no_key, tt_no_right;
/* {"error": ...} as a text (free()); NULL if memory runs out. */
char *tt_problem_text(const struct tt_problem *problem);
void tt_reply_problem(struct tt_connection *c, const struct tt_problem *problem);
/* The same; of 429 and 503 with when to come again, in milliseconds. */
void tt_reply_retry(struct tt_connection *c, const struct tt_problem *problem, uint64_t milliseconds);
/* Takes over value. */
void tt_reply_json(struct tt_connection *c, int status, json_t *value);
/* Reads a request's body as JSON that does not nest too deep. *out is a new reference. */
int tt_body_parse(json_t **out, const struct tt_buffer *text, struct tt_error *err);
/* OpenAI's word for a kind of error. */
const char *tt_problem_type(int status);
/* The words of an HTTP status. */
const char *tt_status_words(int status);

#endif
