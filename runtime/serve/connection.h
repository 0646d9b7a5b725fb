/* A client's connection: reads requests one after the other, hands each to a route, and writes its answer. All of it
 * runs on the loop's thread. */
#ifndef RUNTIME_SERVE_CONNECTION_H
#define RUNTIME_SERVE_CONNECTION_H

#include <uv.h>

#include "runtime/serve/http.h"
#include "runtime/serve/tls.h"

struct tt_server;
struct tt_job;
struct tt_key;
struct tt_task;

enum { TT_UNSENT_PAUSE = 64 << 10 }; /* bytes unsent from which on tokens stay in the engine */

enum tt_connection_state {
	TT_CONNECTION_READING, /* a request, or waiting for one */
	TT_CONNECTION_BUSY,    /* a whole request is being answered */
	TT_CONNECTION_LEAVING, /* the last answer is written; what the client still sends is dropped */
	TT_CONNECTION_CLOSED,
};

struct tt_connection {
	union {
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	};
	struct tt_server *server;
	struct tt_connection *previous, *next; /* of all connections */
	struct tt_connection *next_dirty;      /* of those with something to write at the end of this turn */
	bool dirty, broken;                    /* broken: to be closed then */
	enum tt_connection_state state;
	uint8_t address[16];
	bool is_admin; /* it came by the admin listener */
	bool is_local; /* by a socket in the file system */

	struct tt_http http;
	struct tt_buffer ahead; /* what came after the request that is being answered */
	uint64_t deadline;      /* of what is being read, in the loop's milliseconds */
	uint64_t body_begun;    /* when its body began; 0: it has not */

	/* Whose request it is, while a route is asked for it; NULL: nobody's. It is looked up once, since a key may
	 * expire from one look to the next, and no key may do all where none is needed. */
	const struct tt_key *key;
	struct tt_job *job; /* what answers the request; NULL: nothing that takes time */
	struct tt_task *task;
	bool served;   /* it has had an answer */
	bool answered; /* all of the answer is in out */
	bool streams;  /* in chunks, or until the end of the connection (HTTP/1.0) */
	bool closes;   /* after this answer */
	struct tt_buffer out;
	struct tt_tls *tls;    /* NULL: it is spoken without */
	struct tt_buffer wire; /* what TLS has made of out, and says itself */
	size_t n_shaken;       /* bytes that came before it was agreed on; 0: it is */
	uv_write_t write;
	struct tt_buffer writing; /* what libuv is writing; empty: nothing */
	uint64_t moved;           /* when the client last took something, or had nothing to take */
	size_t queued;            /* of writing, when that was */
};

/* Takes a connection of the listener: this file, or with -1 the next one. */
void tt_connection_take(struct tt_server *server, uv_stream_t *listener, int file);
/* Writes what was added in this turn. */
void tt_connection_flush(struct tt_connection *c);
/* Looks at the deadlines; now: the loop's milliseconds. */
void tt_connection_tick(struct tt_connection *c, uint64_t now);
/* Closes it at once; its job is told, and may be no more. */
void tt_connection_drop(struct tt_connection *c);
/* Closes it at the end of this turn. For a job that adds to it, and for what is called by one. */
void tt_connection_break(struct tt_connection *c);
/* Closes it if it waits for a further request. (A new one may have sent its first.) */
void tt_connection_drop_idle(struct tt_connection *c);

/* The bytes that the client has not taken. */
size_t tt_connection_unsent(const struct tt_connection *c);

/* ---- Answers. If memory runs out, the connection breaks. */

/* A whole answer; fields: further header fields, each with its end, or "". */
void tt_connection_answer(
	struct tt_connection *c, int status, const char *type, const char *fields, const char *text, size_t n);
/* An answer whose body comes in pieces, and its end. */
void tt_connection_begin(struct tt_connection *c, const char *type, const char *fields);
void tt_connection_add(struct tt_connection *c, const char *data, size_t n);
void tt_connection_end(struct tt_connection *c);

#endif
