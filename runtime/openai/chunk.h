/* A streamed answer: the events of a server-sent event stream, `data: {...}` and an empty line, in OpenAI's form. The
 * texts and log-probabilities of a choice's chunks, put together, are those of the whole answer. */
#ifndef RUNTIME_OPENAI_CHUNK_H
#define RUNTIME_OPENAI_CHUNK_H

#include "runtime/openai/response.h"

/* What all chunks of an answer share. Zero-initialise it. */
struct tt_chunks {
	const struct tt_api_request *body;
	struct tt_buffer head; /* of each event, up to the list of choices */
};

/* model: its name in the answer; id: without the endpoint's prefix. */
int tt_chunks_open(struct tt_chunks *out, const struct tt_engine *engine, const struct tt_api_request *body,
	const char *model, const char *id, int64_t created, struct tt_error *err);
void tt_chunks_close(struct tt_chunks *chunks);

struct tt_chunk {
	uint32_t index;   /* of the choice */
	bool first;       /* of its choice: in a chat it says who speaks */
	const char *text; // [n_text] whole code points
	size_t n_text;
	const json_t *logprobs;       /* as in struct tt_choice, of this chunk alone; or NULL */
	enum tt_finish finish;        /* TT_RUNNING: more follow */
	const json_t *facts;          /* keys beside the choices; or NULL */
	size_t n_prompt, n_generated; /* tokens so far, for bodies that want to know with each chunk */
};

/* Adds the event to out. */
int tt_chunk_add(
	struct tt_buffer *out, const struct tt_chunks *chunks, const struct tt_chunk *chunk, struct tt_error *err);
/* The event after the last choice, without choices. */
int tt_chunk_add_usage(struct tt_buffer *out, const struct tt_chunks *chunks, size_t n_prompt, size_t n_generated,
	const json_t *facts, struct tt_error *err);

/* Adds n bytes of UTF-8 as a JSON string. */
int tt_add_quoted(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err);

#endif
