/* The server's hand in the store: it keeps the catalog as the store says, whoever changes that, and runs the commands
 * of the operators' routes, one after the other. All of it that takes time runs on a thread of its own, so that a kill
 * waits for no client's body, one piece of work at a time; while one is under way, what is marked so is that
 * thread's. */
#ifndef RUNTIME_SERVE_GOVERNOR_H
#define RUNTIME_SERVE_GOVERNOR_H

#include <pthread.h>

#include "controller/govern/command.h"
#include "runtime/serve/catalog.h"
#include "runtime/serve/task.h"

/* A command that came by a route. */
struct tt_order {
	struct tt_task task; /* what a connection knows of it */
	const struct tt_command *command;
	struct tt_actor actor;
	int http; /* the status of its answer */
	struct tt_order *next;
};

struct tt_governor {
	struct tt_server *server; /* NULL: there is no store */
	struct tt_store store;    /* the work's, while one is under way; as all that follows down to error */
	struct tt_order *order;   /* NULL: the work only looks for news */
	int64_t change;           /* the last one that is in the catalog */
	bool holds;               /* steering was ended, but that could not be written: the store does not say so */
	bool ended;               /* the engine was told to end steering */
	bool is_late;             /* the catalog is to be made again though nothing has changed, ... */
	bool repeats;             /* ... which is what the work does */
	struct tt_catalog *made;  /* NULL: nothing is new */
	struct tt_loaded *loaded; /* for it */
	struct tt_loaded *unused; /* to be removed from the engine */
	struct tt_error error;    /* of the last look for news */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool runs; /* there is the thread */
	/* Under the lock. */
	bool due, finished; /* a piece of work is there for the thread; it is done */
	bool closing;       /* the thread is to end */

	uv_async_t done;        /* the loop is to look at finished */
	bool works;             /* a piece of work is under way */
	bool looks;             /* a look is wanted */
	struct tt_order *first; /* a list of those that wait */
};

/* Opens the store and makes the first catalog; the structure is all zeros. */
int tt_governor_open(
	struct tt_governor *governor, struct tt_server *server, const char *directory, struct tt_error *err);
/* Starts the thread of the governor, if there is a store; the server's loop is there. */
int tt_governor_start(struct tt_governor *governor, struct tt_error *err);
/* On the loop, once: no further piece of work begins, and the loop ends no sooner than the one that is under way. */
void tt_governor_end(struct tt_governor *governor);
/* The loop has ended. */
void tt_governor_close(struct tt_governor *governor);
/* On the loop: looks for news, unless something is under way. */
void tt_governor_look(struct tt_governor *governor);

/* POST /v1/admin/COMMAND. */
void tt_admin(struct tt_connection *c);
/* Why such a request is not answered, as far as its header tells; NULL: it is. */
const struct tt_problem *tt_admin_objection(const struct tt_connection *c);

#endif
