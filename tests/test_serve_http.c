/* Requests as bytes, without a socket: what is refused, at which byte, and that it does not matter how the bytes come.
 * tests/cli/serve_wire.py has more of them, for a whole server. */
#include "golden.h"
#include "runtime/serve/http.h"

#define HOST "Host: a\r\n"
#define POST "POST /v1/completions HTTP/1.1\r\n" HOST

/* `good` bytes are no reason to refuse; with the byte after them it is one. */
static const struct {
	const char *good, *bad;
	int status;
} refused[] = {
	{"GET / HTTP/1.1\r\n" HOST "A: b", "\n", 400},
	{"GET / HTTP/1.1\r\n" HOST "A: b\r", "C", 400},
	{"GET / HTTP/1.1\r\n" HOST "A: b", "\x01", 400},
	{"GET / HTTP/1.1\r\n" HOST "A: b", "\x7f", 400},
	{"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r", "\n", 400},
	{"GET / HTTP/1.1\r\n" HOST "A\r", "\n", 400},
	{"GET / HTTP/1.1\r\n" HOST ": b\r", "\n", 400},
	{"GET / HTTP/1.1\r\n" HOST "A : b\r", "\n", 400},
	{"GET / HTTP/1.1\r\n" HOST "Host: a\r", "\n", 400},
	{"GET / HTTP/1.1\r\nHost: a/b\r", "\n", 400},
	{"GET / HTTP/1.1\r\nHost: \r", "\n", 400},
	{"GET / HTTP/1.1\r\nA: b\r\n\r", "\n", 400},
	{"GET /\r", "\n", 400},
	{"GET  / HTTP/1.1\r", "\n", 400},
	{"GET /  HTTP/1.1\r", "\n", 400},
	{"GET / HTTP/1.1 \r", "\n", 400},
	{"GET / HTTP/2.0\r", "\n", 505},
	{"GET / HTTP/1.2\r", "\n", 505},
	{"GET a HTTP/1.1\r", "\n", 400},
	{"GET http://a HTTP/1.1\r", "\n", 400},
	{"GET http://b/ HTTP/1.1\r\n" HOST "\r", "\n", 400},
	{"CONNECT a:1 HTTP/1.1\r", "\n", 400},
	{"\r", "\n", 400},
	{POST "Content-Length: 1\r\nContent-Length: 1\r", "\n", 400},
	{POST "Content-Length: +1\r", "\n", 400},
	{POST "Content-Length: 1 1\r", "\n", 400},
	{POST "Content-Length: 16777217\r\n\r", "\n", 413},
	{POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r", "\n", 400},
	{POST "Transfer-Encoding: gzip, chunked\r", "\n", 400},
	{POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r", "\n", 400},
	{"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r", "\n", 400},
	{POST "Expect: more\r\n\r", "\n", 417},
	{POST "Transfer-Encoding: chunked\r\n\r\n1", "\n", 400},
	{POST "Transfer-Encoding: chunked\r\n\r\n", "x", 400},
	{POST "Transfer-Encoding: chunked\r\n\r\n1\r\na", "b", 400},
	{POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "\n", 400},
	{POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "A", 400},
	{POST "Transfer-Encoding: chunked\r\n\r\n1000001\r", "\n", 413},
};

static enum tt_http_state feed(struct tt_http *http, const char *data, size_t n, size_t *used)
{
	size_t all = 0;
	enum tt_http_state state = http->state;
	do {
		state = tt_http_feed(http, data + all, n - all, used);
		cr_assert(*used > 0 && *used <= n - all);
		all += *used;
	} while (all < n && state < TT_HTTP_WHOLE);
	*used = all;
	return state;
}

Test(serve_http, refuses_at_the_first_wrong_byte)
{
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		struct tt_http http = {0};
		size_t used;
		tt_http_begin(&http);
		enum tt_http_state state = feed(&http, refused[i].good, strlen(refused[i].good), &used);
		cr_expect(state < TT_HTTP_WHOLE, "%zu: refused too early: %s", i, http.reason);
		state = feed(&http, refused[i].bad, strlen(refused[i].bad), &used);
		cr_expect(state == TT_HTTP_REFUSED, "%zu: not refused: %s", i, refused[i].good);
		cr_expect_eq(http.status, refused[i].status, "%zu: %d", i, http.status);
		cr_expect(http.reason && *http.reason);
		tt_http_free(&http);
	}
}

static bool is_text(struct tt_span span, const char *text)
{
	return span.len == strlen(text) && memcmp(span.data, text, span.len) == 0;
}

/* In two pieces, cut anywhere, and byte by byte. */
Test(serve_http, reads_the_same_however_it_comes)
{
	static const char text[] = "POST http://A.b:80/v1/x?y=/z HTTP/1.1\r\nHOST:\ta.B:80 \r\nEmpty:\r\n"
				   "Transfer-Encoding: Chunked\r\nX-Host: c\r\n\r\n"
				   "3;a=b\r\nab\r\r\n00002\r\n\nc\r\n"
				   "0\r\n\r\nGET";
	const size_t n = sizeof text - 1;
	for (size_t cut = 0; cut <= n; cut++) {
		struct tt_http http = {0};
		size_t first = 0, used = 0;
		tt_http_begin(&http);
		for (size_t i = 0; cut == 0 && i < n - 3; i++)
			feed(&http, text + i, 1, &used);
		if (cut)
			feed(&http, text, cut, &first);
		if (cut && first == cut && cut < n - 3)
			feed(&http, text + cut, n - cut, &used);
		cr_assert_eq(http.state, TT_HTTP_WHOLE, "cut at %zu: %s", cut, http.reason);
		if (cut)
			cr_expect_eq(
				cut < n - 3 ? first + used : first, n - 3, "cut at %zu: what follows was taken", cut);
		cr_expect(is_text(tt_http_method(&http), "POST") && is_text(tt_http_path(&http), "/v1/x"));
		cr_expect(is_text(tt_http_field(&http, "host"), "a.B:80"));
		cr_expect(is_text(tt_http_field(&http, "Empty"), "") && tt_http_field(&http, "Empty").data);
		cr_expect(!tt_http_field(&http, "Hos").data && !tt_http_field(&http, "c").data);
		cr_expect(http.keep_alive && !http.expects);
		cr_expect(http.body.len == 5 && memcmp(http.body.data, "ab\r\ncd", 5) == 0);
		tt_http_free(&http);
	}
}

/* A second request begins from nothing. */
Test(serve_http, begins_again)
{
	static const char first[] = POST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
			  second[] = "GET /a HTTP/1.0\r\n" HOST "\r\n";
	struct tt_http http = {0};
	size_t used;
	tt_http_begin(&http);
	cr_assert_eq(feed(&http, first, sizeof first - 1, &used), TT_HTTP_WHOLE);
	cr_expect(http.expects && http.keep_alive && http.body.len == 2);
	tt_http_begin(&http);
	cr_assert_eq(feed(&http, second, sizeof second - 1, &used), TT_HTTP_WHOLE);
	cr_expect(!http.expects && !http.keep_alive && http.body.len == 0 && http.scan.old);
	cr_expect(is_text(tt_http_path(&http), "/a"));
	tt_http_free(&http);
}

/* The bounds, to the byte. */
Test(serve_http, has_bounds)
{
	static char text[TT_MAX_BLOCK + 100];
	static const char begin[] = "GET / HTTP/1.1\r\n" HOST "A: ";
	for (size_t over = 0; over < 2; over++) {
		struct tt_http http = {0};
		size_t used, n = TT_MAX_BLOCK + over;
		memset(text, 'b', n);
		memcpy(text, begin, sizeof begin - 1);
		memcpy(text + n - 4, "\r\n\r\n", 4);
		tt_http_begin(&http);
		cr_expect_eq(feed(&http, text, n, &used), over ? TT_HTTP_REFUSED : TT_HTTP_WHOLE);
		cr_expect_eq(http.status, over ? 431 : 0);
		tt_http_begin(&http);
		n = (size_t)snprintf(
			text, sizeof text, "GET /%0*d HTTP/1.1\r\n" HOST "\r\n", (int)(TT_MAX_TARGET - 1 + over), 0);
		cr_expect_eq(feed(&http, text, n, &used), over ? TT_HTTP_REFUSED : TT_HTTP_WHOLE);
		cr_expect_eq(http.status, over ? 414 : 0);
		tt_http_begin(&http);
		n = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST);
		for (size_t i = 1; i < TT_MAX_FIELDS + over; i++)
			n += (size_t)snprintf(text + n, sizeof text - n, "A: b\r\n");
		n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
		cr_expect_eq(feed(&http, text, n, &used), over ? TT_HTTP_REFUSED : TT_HTTP_WHOLE);
		cr_expect_eq(http.status, over ? 431 : 0);
		tt_http_free(&http);
	}
}
