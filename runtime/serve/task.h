/* Work that needs a thread of the pool and no engine: a body in, JSON or a problem out. */
#ifndef RUNTIME_SERVE_TASK_H
#define RUNTIME_SERVE_TASK_H

#include "controller/govern/log.h"
#include "controller/govern/store.h"
#include "runtime/serve/reply.h"

struct tt_catalog;

enum {
	TT_QUERY_SECONDS = 2,  /* that a task may read the store */
	TT_MOST_CONTEXTS = 16, /* that a text may fill: whoever needs it for the model needs one */
	TT_MOST_TEXTS = 4,     /* at once: threads that libuv's pool has, unless its environment says otherwise */
};

struct tt_task {
	uv_work_t work;
	struct tt_server *server;
	struct tt_connection *connection; /* NULL: the client has gone */
	struct tt_buffer text;            /* the body, */
	bool has_body;                    /* where there is one */
	uint64_t number;                  /* of what the path asks for */
	char key[TT_MAX_KEY_ID + 1];      /* the id of the key it was asked with */
	/* Runs on a thread of the pool: *answer is a new reference. */
	int (*run)(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err);
	struct tt_catalog *catalog; /* what was in force when it came; or NULL */
	/* Runs on the loop when the work is over, or never began; or NULL. */
	void (*after)(struct tt_task *task);
	/* Runs on the loop when the client has gone, while the work may run; or NULL. */
	void (*left)(struct tt_task *task);
	char *answer;
	char param[48]; /* of an error, or "" */
	int status;     /* of enum tt_status */
	int http;       /* the status of HTTP that an error has; 0: what fits status */
	struct tt_error error;
};

/* A task for the connection's request, whose body it takes over. NULL: it has been answered with an error. */
struct tt_task *tt_task_new(struct tt_connection *c,
	int (*run)(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err));
/* For run: opens the audit log of the server's store for reading, at most TT_QUERY_SECONDS a query, and closes it after
 * use. Until use says otherwise, an error is the server's own (500). */
int tt_task_read_log(struct tt_task *task,
	int (*use)(struct tt_task *task, struct tt_log *log, json_t **answer, struct tt_error *err), json_t **answer,
	struct tt_error *err);
/* The number that the connection's path is from byte `at` on, of 15 digits at most; false: it is none. */
bool tt_path_number(const struct tt_connection *c, size_t at, uint64_t *out);
/* Gives it to the pool. */
void tt_task_start(struct tt_task *task);

/* POST /tokenize and /detokenize, in vLLM's form: of texts that fill at most TT_MOST_CONTEXTS contexts, at most
 * TT_MOST_TEXTS of them at once. */
void tt_tokenize(struct tt_connection *c);
void tt_detokenize(struct tt_connection *c);
/* Why such a request cannot be answered now; NULL: it can. */
const struct tt_problem *tt_text_objection(const struct tt_connection *c);

#endif
