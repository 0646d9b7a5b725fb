#include "base/sampling.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sha256.h"

/* Written so that NaN is refused too. */
int tt_sampling_check(const struct tt_sampling *sampling, struct tt_error *err)
{
	if (!(sampling->temperature >= 0 && sampling->temperature <= 100))
		return tt_fail(err, TT_ERR_ARGUMENT, "temperature must be from 0 to 100");
	if (!(sampling->top_p > 0 && sampling->top_p <= 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "top_p must be above 0 and at most 1");
	if (!(sampling->min_p >= 0 && sampling->min_p <= 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "min_p must be from 0 to 1");
	if (sampling->top_k > TT_MAX_TOP_K)
		return tt_fail(err, TT_ERR_ARGUMENT, "top_k must be from 0 to %d", TT_MAX_TOP_K);
	return TT_OK;
}

int tt_penalties_check(float repetition, float presence, float frequency, struct tt_error *err)
{
	if (!(repetition > 0 && repetition <= 100))
		return tt_fail(err, TT_ERR_ARGUMENT, "repetition_penalty must be above 0 and at most 100");
	if (!(presence >= -2 && presence <= 2))
		return tt_fail(err, TT_ERR_ARGUMENT, "presence_penalty must be from -2 to 2");
	if (!(frequency >= -2 && frequency <= 2))
		return tt_fail(err, TT_ERR_ARGUMENT, "frequency_penalty must be from -2 to 2");
	return TT_OK;
}

int tt_row_seed(uint64_t *out, uint64_t seed, const char *line, size_t n, struct tt_error *err)
{
	struct tt_buffer text = {0};
	char digest[65];
	int status = tt_buffer_print(&text, err, "%llu\n", (unsigned long long)seed);
	if (status == TT_OK)
		status = tt_buffer_add(&text, line, n, err);
	if (status == TT_OK)
		status = tt_sha256(digest, text.data, text.len, err);
	tt_buffer_free(&text);
	TT_TRY(status);
	digest[16] = 0;
	*out = strtoull(digest, NULL, 16);
	return TT_OK;
}
