#include "runtime/serve/transcript.h"

#include <string.h>

#include "base/fail.h"
#include "runtime/engine/request.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ids and floats are committed to as they lie in memory");

static int add_size(struct tt_buffer *out, uint64_t n, struct tt_error *err)
{
	return tt_buffer_add(out, &n, sizeof n, err);
}

int tt_transcript_ids(struct tt_buffer *out, const struct tt_api_request *body, struct tt_error *err)
{
	for (uint32_t i = 0; i < body->n_prompts; i++) {
		const struct tt_api_prompt *prompt = &body->prompts[i];
		TT_TRY(add_size(out, prompt->n_ids, err));
		TT_TRY(tt_buffer_add(out, prompt->ids, prompt->n_ids * sizeof *prompt->ids, err));
		TT_TRY(add_size(out, prompt->mean_from, err));
		TT_TRY(add_size(out, prompt->mean_to, err));
	}
	return TT_OK;
}

static int add_decision(struct tt_buffer *out, const struct tt_request *request, uint32_t index, uint32_t n_layers,
	struct tt_error *err)
{
	struct tt_decision decision;
	bool decided = request && tt_request_decision(request, index, &decision);
	TT_TRY(add_size(out, decided ? n_layers : 0, err));
	if (decided)
		TT_TRY(tt_buffer_add(out, decision.coef, n_layers * sizeof *decision.coef, err));
	return add_size(out, decided ? decision.killed_from : UINT64_MAX, err);
}

int tt_transcript_choice(struct tt_buffer *out, const struct tt_request *request, size_t most, uint32_t n_steering,
	uint32_t n_layers, struct tt_error *err)
{
	size_t n = request ? tt_request_n_generated(request) : 0;
	n = n < most ? n : most;
	TT_TRY(add_size(out, n, err));
	if (n) {
		TT_TRY(tt_buffer_add(out, tt_request_generated(request), n * sizeof(int32_t), err));
		TT_TRY(tt_buffer_add(out, request->logprobs, n * sizeof *request->logprobs, err));
	}
	TT_TRY(add_size(out, n_steering, err));
	for (uint32_t i = 0; i < n_steering; i++)
		TT_TRY(add_decision(out, request, i, n_layers, err));
	return TT_OK;
}

int tt_transcript_commit(
	char out[65], const uint8_t open[TT_SECRET], const char *what, const void *data, size_t n, struct tt_error *err)
{
	struct tt_commitment commitment;
	tt_commitment_begin(&commitment, open, what);
	tt_commitment_add(&commitment, data, n);
	return tt_commitment_end(&commitment, out, err);
}
