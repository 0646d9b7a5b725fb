/* One HTTP request from bytes: the scan of its header block, then llhttp, which takes the body apart. It knows no
 * socket. */
#ifndef RUNTIME_SERVE_HTTP_H
#define RUNTIME_SERVE_HTTP_H

#include <llhttp.h>

#include "base/memory.h"
#include "runtime/serve/scan.h"
#include "runtime/serve/span.h"

enum { TT_MAX_BODY = 16 << 20 };

enum tt_http_state {
	TT_HTTP_HEAD,    /* in the header block, or before it */
	TT_HTTP_BODY,    /* in the body */
	TT_HTTP_WHOLE,   /* all of the request is here */
	TT_HTTP_REFUSED, /* status and reason say why; nothing after it can be trusted to be a request */
};

/* Zero-initialise it, then tt_http_begin. */
struct tt_http {
	enum tt_http_state state;
	int status;
	const char *reason;

	struct tt_scan scan;
	struct tt_buffer block; /* the header block, and nothing more */
	struct tt_buffer body;
	const char *framing; /* of a chunked body: what was looked at of the bytes at hand */
	bool after_cr;       /* the last byte between chunks was a CR */
	uint64_t n_wire;     /* bytes of the body as they came, framing included */
	bool keep_alive;     /* known when the request is whole */
	bool expects;        /* the client waits for "100 Continue" before it sends the body */
	llhttp_t parser;
};

/* Gets ready for the next request. */
void tt_http_begin(struct tt_http *http);
/* Takes bytes; *used says how many of them belong to this request. */
enum tt_http_state tt_http_feed(struct tt_http *http, const char *data, size_t n, size_t *used);
/* Frees the memory of the request. */
void tt_http_free(struct tt_http *http);

/* Of a header that was taken, as long as it is not freed: the method, the path, and a field's value (NULL data: there
 * is no such field; of several the first). */
struct tt_span tt_http_method(const struct tt_http *http);
struct tt_span tt_http_path(const struct tt_http *http);
struct tt_span tt_http_field(const struct tt_http *http, const char *name);

#endif
