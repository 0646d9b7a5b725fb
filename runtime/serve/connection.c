#include "runtime/serve/connection.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "runtime/serve/job.h"
#include "runtime/serve/reply.h"
#include "runtime/serve/routes.h"
#include "runtime/serve/server.h"
#include "runtime/serve/task.h"

enum {
	BODY_GRACE = 5000,  /* milliseconds before a body's speed is looked at */
	BODY_SPEED = 16,    /* bytes a millisecond, at least */
	WRITE_TIME = 30000, /* milliseconds without the client taking anything */
	LEAVE_TIME = 1000,
	MAX_AHEAD = 16 << 10,  /* bytes that a client may send before it has its answer */
	MAX_SHAKEN = 16 << 10, /* bytes that it may send before TLS is agreed on */
	RECORD = 16 << 10,     /* bytes in a record of TLS, at most */
	KEPT = 1024,           /* capacity that an idle buffer may keep */
};

static uint64_t now_of(const struct tt_connection *c)
{
	return uv_now(&c->server->loop);
}

static uint64_t in_seconds(const struct tt_connection *c, float seconds)
{
	return now_of(c) + (uint64_t)(1000 * (double)seconds);
}

static uv_stream_t *stream_of(struct tt_connection *c)
{
	return (uv_stream_t *)&c->tcp;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer);

static void give_input(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
	struct tt_connection *c = handle->data;
	(void)wanted;
	*out = uv_buf_init(c->server->input, sizeof c->server->input);
}

/* ---- Its end */

static void on_closed(uv_handle_t *handle)
{
	struct tt_connection *c = handle->data;
	tt_http_free(&c->http);
	tt_buffer_free(&c->ahead);
	tt_tls_free(c->tls);
	tt_buffer_free(&c->out);
	tt_buffer_free(&c->wire);
	tt_buffer_free(&c->writing);
	free(c);
}

/* Sends what TLS has said last, as far as the client takes it at once. */
static void send_last(struct tt_connection *c)
{
	uv_buf_t part = uv_buf_init(c->wire.data, (unsigned)c->wire.len);
	if (c->wire.len && !c->writing.len)
		uv_try_write(stream_of(c), &part, 1);
	c->wire.len = 0;
}

/* Says by TLS that nothing follows, so that the client can tell an end from a cut. For what was answered in full. */
static void say_end(struct tt_connection *c)
{
	if (!c->tls || c->n_shaken)
		return;
	tt_tls_close(c->tls);
	send_last(c);
}

void tt_connection_drop(struct tt_connection *c)
{
	struct tt_server *server = c->server;
	struct tt_job *job = c->job;
	if (c->state == TT_CONNECTION_CLOSED)
		return;
	c->state = TT_CONNECTION_CLOSED;
	c->job = NULL;
	*(c->previous ? &c->previous->next : &server->connections) = c->next;
	if (c->next)
		c->next->previous = c->previous;
	for (struct tt_connection **at = &server->dirty; c->dirty && *at; at = &(*at)->next_dirty) {
		if (*at == c) {
			*at = c->next_dirty;
			break;
		}
	}
	server->n_connections--;
	uv_close((uv_handle_t *)&c->tcp, on_closed);
	if (c->task) {
		c->task->connection = NULL;
		uv_cancel((uv_req_t *)&c->task->work); /* unless a thread has it already */
		if (c->task->left)
			c->task->left(c->task);
	}
	if (job)
		tt_job_abandon(job);
}

void tt_connection_break(struct tt_connection *c)
{
	c->broken = true;
	tt_server_mark(c->server, c);
}

void tt_connection_drop_idle(struct tt_connection *c)
{
	if (c->state == TT_CONNECTION_READING && c->served && c->http.block.len == 0) {
		say_end(c);
		tt_connection_drop(c);
	}
}

static void on_shut(uv_shutdown_t *request, int status)
{
	(void)status;
	free(request);
}

/* Closes for writing, and drops what still comes for a while: a close with unread bytes would be a reset, which can
 * overtake the answer. */
static void leave(struct tt_connection *c)
{
	uv_shutdown_t *request;
	say_end(c);
	c->state = TT_CONNECTION_LEAVING;
	c->deadline = now_of(c) + LEAVE_TIME;
	if (tt_alloc(&request, 1, sizeof *request, NULL) != TT_OK) {
		tt_connection_drop(c);
		return;
	}
	if (uv_shutdown(request, stream_of(c), on_shut) < 0) {
		free(request);
		tt_connection_drop(c);
		return;
	}
	uv_read_start(stream_of(c), give_input, on_read);
}

/* ---- Reading */

static void refuse(struct tt_connection *c, int status, const char *message)
{
	const struct tt_problem problem = {.status = status, .message = message};
	c->state = TT_CONNECTION_BUSY;
	c->closes = true;
	tt_reply_problem(c, &problem);
}

static void take_request(struct tt_connection *c)
{
	c->state = TT_CONNECTION_BUSY;
	c->closes = !c->http.keep_alive || c->http.scan.old || c->server->draining;
	c->deadline = 0;
	tt_route(c);
}

/* The header is here, and a body follows. Nobody sends one for nothing, if that can be told from the header. */
static void begin_body(struct tt_connection *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	c->body_begun = now_of(c);
	c->deadline = in_seconds(c, c->server->options->body_seconds);
	c->closes = true;
	if (tt_route_refuse(c)) {
		c->state = TT_CONNECTION_BUSY;
		return;
	}
	if (c->http.expects && c->http.n_wire == 0 && tt_buffer_add(&c->out, go_on, sizeof go_on - 1, NULL) == TT_OK)
		tt_server_mark(c->server, c);
}

/* Takes bytes of a request; what follows it stays in c->ahead. */
static void take(struct tt_connection *c, const char *data, size_t n)
{
	size_t used;
	bool first = c->http.block.len == 0;
	enum tt_http_state before = c->http.state, state = tt_http_feed(&c->http, data, n, &used);
	if (first && state == TT_HTTP_HEAD)
		c->deadline = in_seconds(c, c->server->options->header_seconds);
	if (state == TT_HTTP_REFUSED) {
		refuse(c, c->http.status, c->http.reason);
		return;
	}
	if (state == TT_HTTP_BODY && before == TT_HTTP_HEAD)
		begin_body(c);
	if (used < n && tt_buffer_add(&c->ahead, data + used, n - used, NULL) != TT_OK) {
		tt_connection_drop(c);
		return;
	}
	if (state == TT_HTTP_WHOLE)
		take_request(c);
}

/* Takes bytes of the client; while it leaves they are dropped. */
static void take_bytes(struct tt_connection *c, const char *data, size_t n)
{
	if (c->state == TT_CONNECTION_READING) {
		take(c, data, n);
	} else if (c->state == TT_CONNECTION_BUSY) {
		/* Reading goes on to see the client go, so what comes must be kept, up to a bound. */
		if (tt_buffer_add(&c->ahead, data, n, NULL) != TT_OK)
			tt_connection_drop(c);
		else if (c->ahead.len > MAX_AHEAD)
			uv_read_stop(stream_of(c));
	}
}

/* What came is not TLS as it is spoken here. TLS says why, if there is something to say. */
static void refuse_records(struct tt_connection *c)
{
	c->server->metrics.n_tls_refused++;
	send_last(c);
	c->n_shaken = MAX_SHAKEN; /* nothing more can be said */
	if (c->state == TT_CONNECTION_READING)
		leave(c);
	else
		tt_connection_drop(c);
}

static void take_records(struct tt_connection *c, const char *data, size_t n)
{
	char plain[RECORD];
	size_t n_plain;
	enum tt_tls_state state;
	tt_tls_feed(c->tls, data, n);
	while ((state = tt_tls_read(c->tls, plain, sizeof plain, &n_plain)) == TT_TLS_GAVE)
		take_bytes(c, plain, n_plain);
	tt_tls_feed(c->tls, NULL, 0);
	if (c->state == TT_CONNECTION_CLOSED)
		return;
	if (c->n_shaken)
		c->n_shaken = tt_tls_is_open(c->tls) ? 0 : c->n_shaken + n;
	if (state == TT_TLS_REFUSED || c->n_shaken > MAX_SHAKEN) {
		refuse_records(c);
	} else if (state == TT_TLS_LEFT) {
		/* What was answered at once is said, as without TLS, where the loop sees the end in its next turn. */
		if (c->out.len)
			tt_connection_flush(c);
		tt_connection_drop(c);
	} else if (c->wire.len) {
		tt_server_mark(c->server, c);
	}
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct tt_connection *c = stream->data;
	if (n == 0 || c->state == TT_CONNECTION_CLOSED || (n > 0 && c->state == TT_CONNECTION_LEAVING))
		return;
	if (n < 0) /* the client has gone, or says that it has no more to say, which is taken for the same */
		tt_connection_drop(c);
	else if (c->tls)
		take_records(c, buffer->base, (size_t)n);
	else
		take_bytes(c, buffer->base, (size_t)n);
}

/* The answer is with the client: on to the next request. */
static void go_on(struct tt_connection *c)
{
	struct tt_buffer ahead = c->ahead;
	c->answered = c->streams = false;
	c->served = true;
	c->body_begun = 0;
	tt_http_free(&c->http);
	if (c->out.capacity > KEPT)
		tt_buffer_free(&c->out);
	if (c->closes || c->server->draining) {
		leave(c);
		return;
	}
	tt_http_begin(&c->http);
	c->state = TT_CONNECTION_READING;
	c->deadline = in_seconds(c, c->server->options->idle_seconds);
	c->ahead = (struct tt_buffer){0};
	uv_read_start(stream_of(c), give_input, on_read);
	if (ahead.len)
		take(c, ahead.data, ahead.len);
	tt_buffer_free(&ahead);
}

/* ---- Writing */

size_t tt_connection_unsent(const struct tt_connection *c)
{
	return c->out.len + c->wire.len +
	       (c->writing.len ? uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) : 0);
}

/* All of out has gone to the kernel. */
static void written(struct tt_connection *c)
{
	c->moved = now_of(c);
	if (c->answered)
		go_on(c);
	else if (c->job)
		tt_job_resume(c->job);
}

static void on_written(uv_write_t *write, int status)
{
	struct tt_connection *c = write->data;
	tt_buffer_free(&c->writing);
	if (c->state == TT_CONNECTION_CLOSED)
		return;
	if (status < 0) {
		tt_connection_drop(c);
		return;
	}
	if (c->out.len || c->wire.len)
		tt_server_mark(c->server, c);
	else
		written(c);
}

static void shrink(struct tt_buffer *buffer)
{
	buffer->len = 0;
	if (buffer->capacity > KEPT)
		tt_buffer_free(buffer);
}

/* What the kernel is to have: the answer, or the records that it becomes. NULL: there was no memory for these. */
static struct tt_buffer *to_send(struct tt_connection *c)
{
	if (!c->tls)
		return &c->out;
	if (c->out.len && tt_tls_write(c->tls, c->out.data, c->out.len) != TT_OK)
		return NULL;
	shrink(&c->out);
	return &c->wire;
}

void tt_connection_flush(struct tt_connection *c)
{
	struct tt_buffer *bytes = NULL;
	if (c->state == TT_CONNECTION_CLOSED || (c->writing.len && !c->broken))
		return;
	if (!c->broken)
		bytes = to_send(c);
	if (!bytes) {
		tt_connection_drop(c);
		return;
	}
	if (bytes->len == 0) {
		written(c);
		return;
	}
	uv_buf_t part = uv_buf_init(bytes->data, (unsigned)bytes->len);
	int n = uv_try_write(stream_of(c), &part, 1);
	if (n < 0 && n != UV_EAGAIN) {
		tt_connection_drop(c);
		return;
	}
	size_t done = n > 0 ? (size_t)n : 0;
	if (n > 0)
		c->moved = now_of(c);
	if (done == bytes->len) {
		shrink(bytes);
		written(c);
		return;
	}
	c->writing = *bytes;
	*bytes = (struct tt_buffer){0};
	part = uv_buf_init(c->writing.data + done, (unsigned)(c->writing.len - done));
	c->queued = part.len;
	if (uv_write(&c->write, stream_of(c), &part, 1, on_written) < 0)
		tt_connection_drop(c);
}

static void add(struct tt_connection *c, const char *data, size_t n)
{
	if (c->state == TT_CONNECTION_CLOSED)
		return;
	if (tt_connection_unsent(c) == 0)
		c->moved = now_of(c);
	if (tt_buffer_add(&c->out, data, n, NULL) == TT_OK)
		tt_server_mark(c->server, c);
	else
		tt_connection_break(c);
}

static void add_head(struct tt_connection *c, int status, const char *type, const char *fields, const char *framing)
{
	struct tt_buffer head = {0};
	int failed = tt_buffer_print(&head, NULL,
		"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
		"%s%s%s\r\n",
		status, tt_status_words(status), type, fields, framing, c->closes ? "Connection: close\r\n" : "");
	if (failed)
		tt_connection_break(c);
	else
		add(c, head.data, head.len);
	tt_buffer_free(&head);
}

static bool is_head(const struct tt_connection *c)
{
	return c->http.state == TT_HTTP_WHOLE && tt_span_is(tt_http_method(&c->http), "HEAD");
}

void tt_connection_answer(
	struct tt_connection *c, int status, const char *type, const char *fields, const char *text, size_t n)
{
	char framing[48];
	c->server->metrics.n_refused[status < 600 ? status : 0]++;
	if (c->server->recorder && (status == 429 || status == 503))
		tt_recorder_refused(c->server->recorder, status);
	snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", n);
	add_head(c, status, type, fields, framing);
	if (!is_head(c))
		add(c, text, n);
	c->answered = true;
}

void tt_connection_begin(struct tt_connection *c, const char *type, const char *fields)
{
	c->streams = true;
	add_head(c, 200, type, fields, c->http.scan.old ? "" : "Transfer-Encoding: chunked\r\n");
}

void tt_connection_add(struct tt_connection *c, const char *data, size_t n)
{
	char size[24];
	if (c->http.scan.old) {
		add(c, data, n);
		return;
	}
	int n_size = snprintf(size, sizeof size, "%zx\r\n", n);
	add(c, size, (size_t)n_size);
	add(c, data, n);
	add(c, "\r\n", 2);
}

void tt_connection_end(struct tt_connection *c)
{
	if (!c->http.scan.old)
		add(c, "0\r\n\r\n", 5);
	c->answered = true;
	if (c->state != TT_CONNECTION_CLOSED)
		tt_server_mark(c->server, c);
}

/* ---- Deadlines */

static void tick_reading(struct tt_connection *c, uint64_t now)
{
	uint64_t took = c->body_begun ? now - c->body_begun : 0;
	bool slow = took > BODY_GRACE && c->http.n_wire < BODY_SPEED * (took - BODY_GRACE);
	if (now < c->deadline && !slow)
		return;
	c->server->metrics.n_slow += c->http.block.len > 0 || c->n_shaken > 1;
	if (c->http.block.len == 0) {
		say_end(c);
		tt_connection_drop(c);
	} else {
		refuse(c, 408, c->body_begun ? "the body took too long" : "the header took too long");
	}
}

void tt_connection_tick(struct tt_connection *c, uint64_t now)
{
	if (c->state == TT_CONNECTION_READING) {
		tick_reading(c, now);
	} else if (c->state == TT_CONNECTION_LEAVING) {
		if (now >= c->deadline)
			tt_connection_drop(c);
	} else if (c->writing.len) {
		size_t queued = uv_stream_get_write_queue_size(stream_of(c));
		if (queued < c->queued)
			c->moved = now;
		c->queued = queued;
		if (now - c->moved < WRITE_TIME)
			return;
		c->server->metrics.n_slow++;
		tt_connection_drop(c);
	}
}

/* ---- Its beginning */

static void drop_new(uv_handle_t *handle)
{
	free(handle);
}

/* The address, of IPv4 as IPv6 maps it. */
static void read_address(struct tt_connection *c)
{
	struct sockaddr_storage name;
	int n = sizeof name;
	if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&name, &n) < 0)
		return;
	if (name.ss_family == AF_INET6) {
		memcpy(c->address, &((struct sockaddr_in6 *)&name)->sin6_addr, 16);
	} else {
		c->address[10] = c->address[11] = 0xFF;
		memcpy(c->address + 12, &((struct sockaddr_in *)&name)->sin_addr, 4);
	}
}

static bool is_one_too_many(const struct tt_connection *c)
{
	const struct tt_server *server = c->server;
	unsigned n = 0;
	if (server->n_connections >= TT_MAX_CONNECTIONS)
		return true;
	if (c->is_local || server->options->behind_proxy)
		return false;
	for (const struct tt_connection *k = server->connections; k; k = k->next)
		n += memcmp(k->address, c->address, sizeof c->address) == 0;
	return n >= TT_MAX_PER_ADDRESS;
}

/* file: that of the connection, or -1 for the next one of the listener. */
static int open_stream(struct tt_connection *c, uv_stream_t *listener, int file)
{
	if (file < 0)
		return uv_accept(listener, stream_of(c));
	int status = c->is_local ? uv_pipe_open(&c->pipe, file) : uv_tcp_open(&c->tcp, file);
	if (status < 0)
		close(file);
	return status;
}

/* There is no memory for a connection. libuv listens on for none until the one that it has is taken. */
static void put_off(struct tt_server *server, int file)
{
	if (file >= 0)
		close(file);
	else
		server->owes = true;
}

void tt_connection_take(struct tt_server *server, uv_stream_t *listener, int file)
{
	struct tt_connection *c;
	if (tt_alloc(&c, 1, sizeof *c, NULL) != TT_OK) {
		put_off(server, file);
		return;
	}
	c->server = server;
	c->is_admin = listener == (uv_stream_t *)&server->admin;
	c->is_local = listener == (uv_stream_t *)&server->socket;
	if (c->is_local ? uv_pipe_init(&server->loop, &c->pipe, 0) < 0 : uv_tcp_init(&server->loop, &c->tcp) < 0) {
		put_off(server, file);
		free(c);
		return;
	}
	c->tcp.data = c->write.data = c;
	if (open_stream(c, listener, file) < 0) {
		uv_close((uv_handle_t *)&c->tcp, drop_new);
		return;
	}
	if (!c->is_local)
		read_address(c);
	if (is_one_too_many(c)) {
		uv_close((uv_handle_t *)&c->tcp, drop_new);
		return;
	}
	if (!c->is_local)
		uv_tcp_nodelay(&c->tcp, 1);
	if (server->certificate && !c->is_local) {
		c->n_shaken = 1;
		if (tt_tls_begin(&c->tls, server->certificate, &c->wire, NULL) != TT_OK) {
			uv_close((uv_handle_t *)&c->tcp, drop_new);
			return;
		}
	}
	tt_http_begin(&c->http);
	c->deadline = in_seconds(c, c->server->options->header_seconds);
	c->next = server->connections;
	if (c->next)
		c->next->previous = c;
	server->connections = c;
	server->n_connections++;
	if (uv_read_start(stream_of(c), give_input, on_read) < 0)
		tt_connection_drop(c);
}
