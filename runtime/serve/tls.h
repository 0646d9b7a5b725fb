/* TLS for a connection: records come in and go out as bytes, so the loop reads and writes as it does without. It knows
 * no socket. From 1.2 on, HTTP/1.1 by ALPN, no resumption, no renegotiation (a client that begins one is refused), no
 * certificates of clients. Of a program that was built without libssl no_tls.c stands for it. */
#ifndef RUNTIME_SERVE_TLS_H
#define RUNTIME_SERVE_TLS_H

#include "base/memory.h"

/* A certificate with its key, and how it is spoken with. */
struct tt_certificate;
/* One connection's. */
struct tt_tls;

enum tt_tls_state {
	TT_TLS_GOES_ON, /* all that came was taken */
	TT_TLS_GAVE,    /* it gave bytes, and there may be more */
	TT_TLS_LEFT,    /* the client says that it has no more to say */
	TT_TLS_REFUSED, /* these are no records that belong here */
};

/* Reads the chain and its key, both PEM. TT_ERR_UNSUPPORTED in a program without libssl. */
int tt_certificate_load(struct tt_certificate **out, const char *chain, const char *key, struct tt_error *err);
/* Connections that began with it go on. NULL is fine. */
void tt_certificate_free(struct tt_certificate *certificate);

/* A new connection. What is to be sent goes to the end of wire, which stays the caller's and in its place. */
int tt_tls_begin(struct tt_tls **out, struct tt_certificate *certificate, struct tt_buffer *wire, struct tt_error *err);
void tt_tls_free(struct tt_tls *tls); /* NULL is fine */
/* Gives it bytes of the wire, which must stay until tt_tls_read has not said TT_TLS_GAVE. */
void tt_tls_feed(struct tt_tls *tls, const char *data, size_t n);
/* Takes what the client said, *n bytes of at most size. What this adds to wire it bounds: a client that makes it say
 * more than it takes is refused. */
enum tt_tls_state tt_tls_read(struct tt_tls *tls, char *out, size_t size, size_t *n);
/* Whether the handshake is over: nothing can be said before. */
bool tt_tls_is_open(const struct tt_tls *tls);
/* Says n bytes. */
int tt_tls_write(struct tt_tls *tls, const char *data, size_t n);
/* Says that nothing follows. */
void tt_tls_close(struct tt_tls *tls);

#endif
