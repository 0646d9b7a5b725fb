/* A request's header block, looked at before anything parses it. Two programs in a row (a proxy and this server) that
 * read one block differently can be made to see different requests in one stream of bytes. What could be read in two
 * ways is therefore refused here, whether or not the parser would take it. docs/serve.md lists the rules. */
#ifndef RUNTIME_SERVE_SCAN_H
#define RUNTIME_SERVE_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum { TT_MAX_BLOCK = 16 << 10, TT_MAX_FIELDS = 100, TT_MAX_TARGET = 4 << 10 };

/* A part of the block. */
struct tt_slice {
	size_t at, n;
};

/* Zero-initialise it. */
struct tt_scan {
	size_t seen;                /* bytes that were looked at */
	size_t line;                /* where the line begins that is not whole yet */
	bool has_request_line, old; /* old: HTTP/1.0 */
	unsigned n_fields, n_hosts, n_lengths, n_encodings;
	struct tt_slice authority, path, host; /* authority: of an absolute target; path: without the query */

	int status; /* of the refusal: 400, 414, 431 or 505 */
	const char *reason;
};

enum tt_scan_result { TT_SCAN_MORE, TT_SCAN_WHOLE, TT_SCAN_REFUSED };

/* Looks at what has come of the block since the last call: block [n] is all of it, from the request's first byte on. A
 * line is judged as soon as it is whole, and a byte that no line may have at once, so that nothing wrong waits for
 * more. TT_SCAN_WHOLE: the block is its first `seen` bytes. */
enum tt_scan_result tt_scan(struct tt_scan *scan, const char *block, size_t n);

#endif
