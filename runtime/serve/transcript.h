/* What the audit log is committed to, as bytes: the ids of a request's prompts, and its result. Both who records and
 * who replays make them here. */
#ifndef RUNTIME_SERVE_TRANSCRIPT_H
#define RUNTIME_SERVE_TRANSCRIPT_H

#include "controller/govern/commitment.h"
#include "runtime/openai/response.h"

/* The names of commitments. */
#define TT_COMMIT_BODY "trimtab-body-1"
#define TT_COMMIT_IDS "trimtab-ids-1"
#define TT_COMMIT_RESULT "trimtab-result-1"
#define TT_COMMIT_ANSWER "trimtab-answer-1"

/* Numbers are little-endian, and lengths have 8 bytes. Of each prompt: how many ids, the ids, and the span over which
 * gates take a mean. */
int tt_transcript_ids(struct tt_buffer *out, const struct tt_api_request *body, struct tt_error *err);
/* Adds a choice, of its tokens at most `most`: how many; their ids; the bits of their log-probabilities; how many
 * policies; of each how many layers, the bits of its coefficients, and the position from which the kill switch was on
 * (all ones: none). request may be NULL: it was never run. What the engine may still change is read under its lock,
 * which the caller holds if it runs. */
int tt_transcript_choice(struct tt_buffer *out, const struct tt_request *request, size_t most, uint32_t n_steering,
	uint32_t n_layers, struct tt_error *err);
/* The commitment of all of some bytes. */
int tt_transcript_commit(char out[65], const uint8_t open[TT_SECRET], const char *what, const void *data, size_t n,
	struct tt_error *err);

#endif
