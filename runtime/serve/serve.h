/* trimtab serve: an OpenAI server over HTTP. A part of the program, not of the library, which has no socket. */
#ifndef RUNTIME_SERVE_SERVE_H
#define RUNTIME_SERVE_SERVE_H

#include "runtime/trimtab.h"

/* Zero-initialise it but for what has a default. */
struct tt_serve_options {
	const char *
		host; /* an address, another than loopback only with TLS and keys or behind_proxy; or unix:PATH, fd:N */
	uint32_t port;       /* 0: one that is free, which the note says */
	uint32_t admin_port; /* on loopback; likewise */
	bool public_metrics; /* /metrics on the clients' listener too */
	bool tokenizer_info; /* /tokenizer_info is there */
	bool list_policies;  /* MODEL:POLICY is a model too, one that the policy steers */
	bool lenient;        /* keys of a body that nobody knows are passed over, and named in the answer's header */
	bool behind_proxy;
	const char *tls_chain, *tls_key; /* PEM files of a certificate and its key, with which TLS is spoken; or NULL */
	const struct tt_batch_policy *policies; // [n_policies] that requests may name
	size_t n_policies;
	const float *scales;        // [n_policies] at which they steer what says nothing of steering; NULL: 1
	const char *const *shadows; // [n_shadows] names of policies whose gates speak on every request, and no more
	size_t n_shadows;
	const char *const *model_names; // [n_model_names] the first is what answers say instead of the model's own
	size_t n_model_names;
	const char *keys;         /* the file of keys; NULL: nobody needs one */
	uint32_t key_requests;    /* that a key may have at once; 0: any */
	const char *state;        /* folder of the store and its audit log, made where it is missing; NULL: none */
	const char *audit_name;   /* of the log; NULL: the one it has, or one that no other log has */
	const char *audit_anchor; /* folder that gets a copy of each checkpoint; or NULL */
	bool audit_serve;         /* goes on when the log cannot be written, and says later what is missing */
	int audit_sync;           /* enum tt_audit_sync of controller/govern/recorder.h */
	bool keep_text;           /* bodies and results are kept beside the log */
	uint32_t max_batch;       /* the max_batch with which the engine was opened */
	/* Seconds: of a request, whatever it says; of running requests after SIGTERM; of a header and a body from their
	 * first byte on; of a connection without a request; of a stream without a token, until it gets a comment. */
	float request_timeout, drain_seconds, header_seconds, body_seconds, idle_seconds, ping_seconds;
	void (*note)(void *user, const char *line); /* gets what a person should know, a line each */
	void *user;
};

/* Whether this program has a server: it is built only where libuv, llhttp and SQLite were found. */
bool tt_serve_is_built(void);
/* Serves until SIGTERM or SIGINT. The engine is started, and stopped again. TT_ERR_UNSUPPORTED where there is no
 * server. */
int tt_serve(struct tt_engine *engine, const struct tt_serve_options *options, struct tt_error *err);

#endif
