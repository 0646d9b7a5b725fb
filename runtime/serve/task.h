/* Work that needs a thread of the pool and no engine: a body in, JSON or a problem out. */
#ifndef RUNTIME_SERVE_TASK_H
#define RUNTIME_SERVE_TASK_H

#include "runtime/serve/reply.h"
#include "runtime/serve/server.h"

struct tt_task {
	uv_work_t work;
	struct tt_server *server;
	struct tt_connection *connection; /* NULL: the client has gone */
	struct tt_buffer text;            /* the body */
	/* Runs on a thread of the pool: *answer is a new reference. */
	int (*run)(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err);
	char *answer;
	char param[48]; /* of an error, or "" */
	int status;     /* of enum tt_status */
	struct tt_error error;
};

/* POST /tokenize and /detokenize, in vLLM's form. */
void tt_tokenize(struct tt_connection *c);
void tt_detokenize(struct tt_connection *c);

#endif
