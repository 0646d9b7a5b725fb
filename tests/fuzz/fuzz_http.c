/* Requests on one connection, in pieces: the first byte says how large. What is taken must be what the same bytes give
 * in one piece. */
#include <stdlib.h>
#include <string.h>

#include "runtime/serve/http.h"
#include "target.h"

struct outcome {
	enum tt_http_state state;
	int status;
	size_t used;
	struct tt_http http;
};

static void take(struct outcome *out, const char *data, size_t n, size_t piece)
{
	memset(out, 0, sizeof *out);
	tt_http_begin(&out->http);
	out->state = TT_HTTP_HEAD;
	while (out->used < n && out->state < TT_HTTP_WHOLE) {
		size_t used, some = n - out->used < piece ? n - out->used : piece;
		out->state = tt_http_feed(&out->http, data + out->used, some, &used);
		if (used > some || (used == 0 && out->state < TT_HTTP_WHOLE))
			abort();
		out->used += used;
	}
	out->status = out->http.status;
}

/* Of a request that was taken. */
static void check(const struct tt_http *http)
{
	static const char *const names[] = {"host", "content-type", "authorization", "x"};
	struct tt_span path = tt_http_path(http), method = tt_http_method(http);
	size_t n = path.len + method.len;
	if (path.len == 0 || path.data[0] != '/' || method.len == 0 || http->body.len > TT_MAX_BODY)
		abort();
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		n += tt_http_field(http, names[i]).len;
	if (n > 5 * http->block.len || !tt_http_field(http, "host").len || memchr(http->block.data, 0, http->block.len))
		abort();
}

void fuzz_one(const uint8_t *data, size_t size)
{
	if (size == 0)
		return;
	size_t piece = 1 + data[0] % 16, n = size - 1;
	const char *text = (const char *)data + 1;
	for (bool more = true; more && n > 0;) {
		struct outcome whole, parts;
		take(&whole, text, n, n);
		take(&parts, text, n, piece);
		/* Pieces can end before the byte that the whole was refused for is seen, never the other way round. */
		if (whole.state != parts.state || whole.status != parts.status ||
			(whole.state == TT_HTTP_WHOLE &&
				(whole.used != parts.used || whole.http.body.len != parts.http.body.len ||
					whole.http.keep_alive != parts.http.keep_alive)))
			abort();
		if (whole.http.body.len && memcmp(whole.http.body.data, parts.http.body.data, parts.http.body.len) != 0)
			abort();
		more = whole.state == TT_HTTP_WHOLE;
		if (more)
			check(&whole.http);
		text += whole.used;
		n -= whole.used;
		tt_http_free(&whole.http);
		tt_http_free(&parts.http);
	}
}
