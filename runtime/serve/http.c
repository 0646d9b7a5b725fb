#include "runtime/serve/http.h"

#include <string.h>
#include <strings.h>

/* A body in many small chunks may come as this many times its bytes. */
enum { MAX_WIRE = 4 * TT_MAX_BODY };

static enum tt_http_state refuse(struct tt_http *http, int status, const char *reason)
{
	http->status = status;
	http->reason = reason;
	return http->state = TT_HTTP_REFUSED;
}

/* ---- What llhttp calls; -1 ends the parse. */

static struct tt_http *of(llhttp_t *parser)
{
	return parser->data;
}

static int on_headers_complete(llhttp_t *parser)
{
	struct tt_http *http = of(parser);
	if (parser->content_length > TT_MAX_BODY) {
		refuse(http, 413, "the body is longer than 16 MiB");
		return -1;
	}
	http->state = TT_HTTP_BODY;
	return 0;
}

/* The bytes between chunks, up to `end`: CR and LF only together there too, which llhttp does not hold the end of the
 * last chunk to. */
static bool scan_framing(struct tt_http *http, const char *end)
{
	for (; http->framing < end; http->framing++) {
		if ((*http->framing == '\n') != http->after_cr)
			return false;
		http->after_cr = *http->framing == '\r';
	}
	return true;
}

static int on_chunk_header(llhttp_t *parser)
{
	if (parser->content_length <= TT_MAX_BODY)
		return 0;
	refuse(of(parser), 413, "the body is longer than 16 MiB");
	return -1;
}

static int on_body(llhttp_t *parser, const char *data, size_t n)
{
	struct tt_http *http = of(parser);
	if (http->scan.n_encodings && !scan_framing(http, data)) {
		refuse(http, 400, "CR and LF must stand together");
		return -1;
	}
	http->framing = data + n;
	if (n > TT_MAX_BODY - http->body.len) {
		refuse(http, 413, "the body is longer than 16 MiB");
		return -1;
	}
	if (tt_buffer_add(&http->body, data, n, NULL) == TT_OK)
		return 0;
	refuse(http, 503, "there is no memory for the body");
	return -1;
}

/* A field after a chunked body: nothing here reads one, and not everybody drops them. */
static int on_header_field(llhttp_t *parser, const char *data, size_t n)
{
	(void)data;
	if (of(parser)->state != TT_HTTP_BODY || n == 0)
		return 0;
	refuse(of(parser), 400, "a field follows the body");
	return -1;
}

static int on_message_complete(llhttp_t *parser)
{
	of(parser)->state = TT_HTTP_WHOLE;
	of(parser)->keep_alive = llhttp_should_keep_alive(parser);
	return HPE_PAUSED; /* what follows is another request */
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers_complete,
	.on_chunk_header = on_chunk_header,
	.on_body = on_body,
	.on_header_field = on_header_field,
	.on_message_complete = on_message_complete,
};

/* ---- */

void tt_http_begin(struct tt_http *http)
{
	http->state = TT_HTTP_HEAD;
	http->status = 0;
	http->reason = NULL;
	http->scan = (struct tt_scan){0};
	http->block.len = http->body.len = 0;
	http->n_wire = 0;
	http->keep_alive = http->expects = http->after_cr = false;
	llhttp_init(&http->parser, HTTP_REQUEST, (llhttp_settings_t *)(uintptr_t)&settings);
	http->parser.data = http;
}

/* Hands bytes to llhttp; returns how many it took. */
static size_t parse(struct tt_http *http, const char *data, size_t n)
{
	bool good = llhttp_execute(&http->parser, data, n) == HPE_OK;
	if (http->state == TT_HTTP_WHOLE)
		return (size_t)(llhttp_get_error_pos(&http->parser) - data);
	if (!good && http->state != TT_HTTP_REFUSED)
		refuse(http, 400, "not a valid request");
	return n;
}

static size_t parse_body(struct tt_http *http, const char *data, size_t n)
{
	http->framing = data;
	size_t took = parse(http, data, n);
	if (http->state != TT_HTTP_REFUSED && http->scan.n_encodings && !scan_framing(http, data + took))
		refuse(http, 400, "CR and LF must stand together");
	return took;
}

static enum tt_http_state take_block(struct tt_http *http)
{
	const struct tt_span expect = tt_http_field(http, "expect");
	if (expect.data && !http->scan.old && !tt_span_is(expect, "100-continue"))
		return refuse(http, 417, "only 100-continue can be expected");
	http->expects = expect.data && !http->scan.old;
	parse(http, http->block.data, http->block.len);
	if (http->state == TT_HTTP_HEAD)
		return refuse(http, 400, "not a valid request");
	return http->state;
}

static enum tt_http_state feed_head(struct tt_http *http, const char *data, size_t n, size_t *used)
{
	size_t before = http->block.len;
	if (tt_buffer_add(&http->block, data, n, NULL) != TT_OK)
		return refuse(http, 503, "there is no memory for the header");
	enum tt_scan_result result = tt_scan(&http->scan, http->block.data, http->block.len);
	if (result == TT_SCAN_REFUSED)
		return refuse(http, http->scan.status, http->scan.reason);
	if (result == TT_SCAN_MORE)
		return http->state;
	*used = http->scan.seen - before;
	http->block.len = http->scan.seen;
	return take_block(http);
}

enum tt_http_state tt_http_feed(struct tt_http *http, const char *data, size_t n, size_t *used)
{
	size_t at = 0;
	*used = n;
	if (http->state == TT_HTTP_HEAD) {
		if (feed_head(http, data, n, used) != TT_HTTP_BODY)
			return http->state;
		at = *used;
	}
	if (http->state != TT_HTTP_BODY || at == n)
		return http->state;
	size_t took = parse_body(http, data + at, n - at);
	http->n_wire += took;
	*used = at + took;
	if (http->state == TT_HTTP_BODY && http->n_wire > MAX_WIRE)
		return refuse(http, 413, "the body is longer than 16 MiB");
	return http->state;
}

void tt_http_free(struct tt_http *http)
{
	tt_buffer_free(&http->block);
	tt_buffer_free(&http->body);
}

/* ---- */

static struct tt_span part(const struct tt_http *http, struct tt_slice slice)
{
	return (struct tt_span){http->block.data + slice.at, slice.n};
}

struct tt_span tt_http_method(const struct tt_http *http)
{
	const char *end = memchr(http->block.data, ' ', http->block.len);
	return (struct tt_span){http->block.data, end ? (size_t)(end - http->block.data) : 0};
}

struct tt_span tt_http_path(const struct tt_http *http)
{
	return part(http, http->scan.path);
}

struct tt_span tt_http_field(const struct tt_http *http, const char *name)
{
	const char *line = http->block.data, *end = line + http->block.len;
	size_t n = strlen(name);
	while ((line = memchr(line, '\n', (size_t)(end - line))) && (size_t)(end - ++line) > n) {
		const char *stop = memchr(line, '\r', (size_t)(end - line));
		if (line[n] != ':' || strncasecmp(line, name, n) != 0 || !stop)
			continue;
		return tt_span_trim((struct tt_span){line + n + 1, (size_t)(stop - line) - n - 1});
	}
	return (struct tt_span){0};
}
