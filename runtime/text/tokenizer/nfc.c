/* Normalisation form C with utf8proc's tables. utf8proc's own decomposition reorders marks in quadratic time, so a
 * prompt of combining marks could take hours; here runs of marks are sorted by counting. */
#include "base/utf8.h"
#include "runtime/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"

/* The longest canonical decomposition of one code point is 4 in Unicode 15. */
enum { MAX_DECOMPOSITION = 32, N_CLASSES = 256 };

/* Marks (and a pair that composes, U+11930 and its composite) that `tokenizers` does not know, since its tables are
 * those of Unicode 9. It leaves them in place, and reorders or composes nothing across them. */
static const uint32_t unknown[][2] = {
	{0x7fd, 0x7fd},
	{0x898, 0x89f},
	{0x8ca, 0x8d3},
	{0x9fe, 0x9fe},
	{0xc3c, 0xc3c},
	{0xd3b, 0xd3c},
	{0xeba, 0xeba},
	{0x1715, 0x1715},
	{0x1abf, 0x1ace},
	{0x1df6, 0x1dfa},
	{0xa82c, 0xa82c},
	{0x10d24, 0x10d27},
	{0x10eab, 0x10eac},
	{0x10efd, 0x10eff},
	{0x10f46, 0x10f50},
	{0x10f82, 0x10f85},
	{0x11070, 0x11070},
	{0x1133b, 0x1133b},
	{0x1145e, 0x1145e},
	{0x11839, 0x1183a},
	{0x11930, 0x11930},
	{0x11938, 0x11938},
	{0x1193d, 0x1193e},
	{0x11943, 0x11943},
	{0x119e0, 0x119e0},
	{0x11a34, 0x11a34},
	{0x11a47, 0x11a47},
	{0x11a99, 0x11a99},
	{0x11d42, 0x11d42},
	{0x11d44, 0x11d45},
	{0x11d97, 0x11d97},
	{0x11f41, 0x11f42},
	{0x16ff0, 0x16ff1},
	{0x1e08f, 0x1e08f},
	{0x1e130, 0x1e136},
	{0x1e2ae, 0x1e2ae},
	{0x1e2ec, 0x1e2ef},
	{0x1e4ec, 0x1e4ef},
};

static bool is_unknown(uint32_t c)
{
	size_t low = 0, high = sizeof unknown / sizeof *unknown;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (c > unknown[middle][1])
			low = middle + 1;
		else if (c < unknown[middle][0])
			high = middle;
		else
			return true;
	}
	return false;
}

struct points {
	int32_t *data;
	size_t len, capacity;
};

/* Decomposes text up to its first unknown code point, and sets *n_used to the number of bytes before that. */
static int decompose(struct points *points, const char *text, size_t n, size_t *n_used, struct tt_error *err)
{
	size_t i = 0;
	points->len = 0;
	while (i < n) {
		uint32_t c;
		int boundary = 0;
		size_t used = tt_utf8_decode(text + i, n - i, &c);
		if (!used)
			return tt_fail(err, TT_ERR_FORMAT, "invalid UTF-8 at byte %zu", i);
		if (is_unknown(c))
			break;
		i += used;
		TT_TRY(tt_grow(
			&points->data, &points->capacity, points->len + MAX_DECOMPOSITION, sizeof *points->data, err));
		utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)c, points->data + points->len,
			MAX_DECOMPOSITION, UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
		if (got < 0 || got > MAX_DECOMPOSITION)
			return tt_fail(err, TT_ERR_FORMAT, "cannot decompose U+%04X", (unsigned)c);
		points->len += (size_t)got;
	}
	*n_used = i;
	/* Room for one more: utf8proc_reencode writes a 0 at the end. */
	return tt_grow(&points->data, &points->capacity, points->len + 1, sizeof *points->data, err);
}

static unsigned combining_class(int32_t c)
{
	return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class & (N_CLASSES - 1);
}

/* Sorts by combining class, and keeps the order of marks of the same class. */
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

static int normalise_run(
	struct tt_buffer *out, struct points *points, const char *text, size_t n, size_t *n_used, struct tt_error *err)
{
	TT_TRY(decompose(points, text, n, n_used, err));
	TT_TRY(order_marks(points->data, points->len, err));
	utf8proc_ssize_t len =
		utf8proc_reencode(points->data, (utf8proc_ssize_t)points->len, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	if (len < 0)
		return tt_fail(err, TT_ERR_FORMAT, "cannot normalise text");
	return tt_buffer_add(out, points->data, (size_t)len, err);
}

int tt_unicode_nfc(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err)
{
	struct points points = {0};
	int status = TT_OK;
	while (status == TT_OK && n) {
		size_t used = 0;
		uint32_t c;
		status = normalise_run(out, &points, text, n, &used, err);
		text += used;
		n -= used;
		if (status == TT_OK && n) {
			used = tt_utf8_decode(text, n, &c);
			status = tt_buffer_add(out, text, used, err);
			text += used;
			n -= used;
		}
	}
	free(points.data);
	return status;
}
