/* What all parts of the server share. Five kinds of threads:
 *
 *   the engine's own (tt_engine_start) runs the model; of the server it runs only notify (job.c), which puts a choice
 *     on the list `woken` and wakes the loop;
 *   the loop owns sockets, connections and jobs; of the engine it calls what does not wait for a step;
 *   libuv's pool parses bodies, renders templates, tokenises, and writes whole answers: what a job needs before its
 *     requests are submitted and after they have finished. It has a job to itself while it works on it;
 *   with a state folder the recorder's writes the audit log (controller/govern/recorder.h);
 *   with one the governor's (governor.h) reads and changes the store, and calls of the engine what waits for a step.
 *
 * So nothing here has a lock but the engine's, the recorder's and that by which the governor's thread is woken. */
#ifndef RUNTIME_SERVE_SERVER_H
#define RUNTIME_SERVE_SERVER_H

#include <stdatomic.h>

#include "controller/govern/recorder.h"
#include "runtime/openai/request_body.h"
#include "runtime/serve/catalog.h"
#include "runtime/serve/connection.h"
#include "runtime/serve/governor.h"
#include "runtime/serve/keys.h"
#include "runtime/serve/metrics.h"
#include "runtime/serve/serve.h"

struct tt_job_choice;
struct tt_replay;

enum {
	TT_MAX_CONNECTIONS = 4096,
	TT_MAX_PER_ADDRESS = 256,
	TT_QUEUE_BATCHES = 4, /* requests that may wait, in multiples of the engine's batch */
};

struct tt_server {
	uv_loop_t loop;
	struct tt_engine *engine;
	const struct tt_serve_options *options;
	struct tt_loaded *loaded;   /* a list of all policies on the engine */
	struct tt_catalog *catalog; /* what is in force */
	struct tt_governor governor;
	const char *model;       /* its name in answers */
	struct tt_keys keys;     /* of the file; a store's are in the catalog */
	struct tt_quota *quotas; /* a list, of keys that have limits of tokens and have asked */
	int64_t started;         /* Unix time */

	uv_tcp_t listener, admin; /* admin: for operators; the other for clients, or ... */
	uv_pipe_t socket;         /* ... this one */
	uv_async_t wake;
	uv_timer_t tick;
	uv_prepare_t before_poll;
	uv_check_t after_poll;
	uv_signal_t signals[3];
	struct tt_certificate *certificate; /* NULL: no TLS */
	/* What SIGHUP reads again: a thread of the pool fills it while it reloads. */
	uv_work_t reload;
	struct tt_keys new_keys;
	struct tt_certificate *new_certificate;
	struct tt_error keys_error, certificate_error;
	bool reloading, reload_again; /* reload_again: another SIGHUP came meanwhile */
	char input[64 << 10];         /* what a connection reads into, for as long as it looks at it */

	struct tt_connection *connections, *dirty;
	uint32_t n_connections;
	bool owes; /* a connection has come that there was no memory for, and is to be taken in a later turn */
	struct tt_job *jobs;
	uint32_t n_jobs, n_preparing; /* n_preparing: those whose requests are not submitted */
	uint32_t n_flying;            /* requests that are submitted and not known to have ended in the engine */
	uint32_t n_texts;             /* tasks of /tokenize and /detokenize */
	struct tt_buffer events;      /* of one choice and turn, before they are its connection's */

	_Atomic(struct tt_job_choice *) woken; /* a list; the engine's thread adds, the loop takes all */

	struct tt_recorder *recorder; /* of the audit log; NULL: there is no state folder */
	uv_async_t recorded;          /* records have come back */

	struct tt_metrics metrics;
	bool inherited;        /* the clients' listener is one that another process may have too */
	bool draining, ending; /* no new work; no more work at all */
	bool stopped;          /* the listeners let nobody new in */
	bool maps;             /* a request is being run again for a map */
	struct tt_replay *map; /* that request, while it may run; as is map_stops, under the engine's lock */
	bool map_stops;        /* nobody waits for it any more, or what steers it was stopped */
	uint64_t drain_until;  /* the loop's milliseconds */
};

/* Adds a connection to those that are flushed at the end of the turn. */
void tt_server_mark(struct tt_server *server, struct tt_connection *c);
/* The key of a request, or NULL; and whether there must be one. */
const struct tt_key *tt_server_key(const struct tt_server *server, const struct tt_http *http);
bool tt_server_needs_key(const struct tt_server *server);
/* What it may choose of its steering; NULL: no key is needed. */
enum tt_api_right tt_server_right(const struct tt_key *key);
/* The value of `steering` for a model that ends in a policy. */
json_t *tt_server_steering_by(const char *policy);
/* Whether the model has this name. *policy: NULL, or where policies are models too the one that the name ends in, which
 * need not be there. */
bool tt_server_is_model(const struct tt_server *server, const char *name, const char **policy);
void tt_server_note(const struct tt_server *server, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
