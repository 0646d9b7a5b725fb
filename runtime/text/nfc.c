/* Normalisation form C over utf8proc's tables. utf8proc's own decomposition reorders marks in quadratic time, which a
 * prompt of combining marks would turn into hours; here runs are sorted by counting. */
#include "runtime/text/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"

/* The longest canonical decomposition of one code point is 4 in Unicode 15. */
enum { MAX_DECOMPOSITION = 32, N_CLASSES = 256 };

static int decompose(int32_t **points, size_t *n_points, const char *text, size_t n, struct tt_error *err)
{
	size_t capacity = 0, len = 0, i = 0;
	TT_TRY(tt_grow(points, &capacity, n + MAX_DECOMPOSITION, sizeof **points, err));
	while (i < n) {
		uint32_t c;
		int boundary = 0;
		size_t used = tt_utf8_decode(text + i, n - i, &c);
		if (!used)
			return tt_fail(err, TT_ERR_FORMAT, "invalid UTF-8 at byte %zu", i);
		i += used;
		TT_TRY(tt_grow(points, &capacity, len + MAX_DECOMPOSITION, sizeof **points, err));
		utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)c, *points + len, MAX_DECOMPOSITION,
			UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
		if (got < 0 || got > MAX_DECOMPOSITION)
			return tt_fail(err, TT_ERR_FORMAT, "cannot decompose U+%04X", (unsigned)c);
		len += (size_t)got;
	}
	/* The encoder ends what it writes with a 0. */
	TT_TRY(tt_grow(points, &capacity, len + 1, sizeof **points, err));
	*n_points = len;
	return TT_OK;
}

static unsigned combining_class(int32_t c)
{
	return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class & (N_CLASSES - 1);
}

/* Stable, by combining class. */
static int sort_run(int32_t *run, size_t n, struct tt_error *err)
{
	size_t starts[N_CLASSES + 1] = {0};
	int32_t *sorted = NULL;
	if (n <= 16) {
		for (size_t i = 1; i < n; i++)
			for (size_t j = i; j > 0 && combining_class(run[j - 1]) > combining_class(run[j]); j--) {
				int32_t swap = run[j];
				run[j] = run[j - 1];
				run[j - 1] = swap;
			}
		return TT_OK;
	}
	TT_TRY(tt_alloc(&sorted, n, sizeof *sorted, err));
	for (size_t i = 0; i < n; i++)
		starts[combining_class(run[i]) + 1]++;
	for (size_t i = 0; i < N_CLASSES; i++)
		starts[i + 1] += starts[i];
	for (size_t i = 0; i < n; i++)
		sorted[starts[combining_class(run[i])]++] = run[i];
	memcpy(run, sorted, n * sizeof *run);
	free(sorted);
	return TT_OK;
}

static int order_marks(int32_t *points, size_t n, struct tt_error *err)
{
	for (size_t i = 0; i < n;) {
		size_t end = i;
		while (end < n && combining_class(points[end]))
			end++;
		if (end - i > 1)
			TT_TRY(sort_run(points + i, end - i, err));
		i = end + 1;
	}
	return TT_OK;
}

int tt_utf8_nfc(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err)
{
	int32_t *points = NULL;
	size_t n_points = 0;
	int status = decompose(&points, &n_points, text, n, err);
	if (status == TT_OK)
		status = order_marks(points, n_points, err);
	if (status == TT_OK) {
		utf8proc_ssize_t len =
			utf8proc_reencode(points, (utf8proc_ssize_t)n_points, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
		status = len < 0 ? tt_fail(err, TT_ERR_FORMAT, "cannot normalise text")
				 : tt_buffer_add(out, points, (size_t)len, err);
	}
	free(points);
	return status;
}
