#include "runtime/batch/seal.h"

#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"

static const char begin[] = ",\"check\":\"", end[] = "\"}";

static int digest(char check[TT_SEAL + 1], const char *before, const char *line, size_t n, struct tt_error *err)
{
	struct tt_buffer text = {0};
	char sha256[65];
	int status = tt_buffer_print(&text, err, "%s", before);
	if (status == TT_OK)
		status = tt_buffer_add(&text, line, n, err);
	if (status == TT_OK)
		status = tt_sha256(sha256, text.data, text.len, err);
	tt_buffer_free(&text);
	TT_TRY(status);
	memcpy(check, sha256, TT_SEAL);
	check[TT_SEAL] = 0;
	return TT_OK;
}

int tt_seal(struct tt_buffer *line, const char *before, char check[TT_SEAL + 1], struct tt_error *err)
{
	char own[TT_SEAL + 1];
	TT_TRY(digest(own, before, line->data, line->len, err));
	TT_TRY(tt_buffer_print(line, err, "%s%s%s\n", begin, own, end));
	memcpy(check, own, sizeof own);
	return TT_OK;
}

bool tt_sealed(const char *line, size_t n, const char *before, char check[TT_SEAL + 1])
{
	enum { BEGIN = sizeof begin - 1, END = sizeof end - 1, TAIL = BEGIN + TT_SEAL + END };
	char own[TT_SEAL + 1];
	if (n < TAIL || digest(own, before, line, n - TAIL, NULL) != TT_OK)
		return false;
	const char *tail = line + n - TAIL;
	if (memcmp(tail, begin, BEGIN) != 0 || memcmp(tail + BEGIN, own, TT_SEAL) != 0 ||
		memcmp(tail + BEGIN + TT_SEAL, end, END) != 0)
		return false;
	memcpy(check, own, sizeof own);
	return true;
}
