/* A request for completions, from its body to the end of its answer.
 *
 *   preparing   a thread of the pool reads the body; nothing else touches the job
 *   running     its requests are in the engine, as many at a time as the engine runs; the loop takes their tokens
 *   finishing   of an answer that is not streamed: a thread of the pool writes it
 *
 * A client that goes away ends the job at once, but while a thread of the pool has it, or the engine's thread has put
 * one of its choices on the list of news, the memory stays until that is over. */
#ifndef RUNTIME_SERVE_JOB_H
#define RUNTIME_SERVE_JOB_H

#include <stdatomic.h>

#include "controller/govern/recorder.h"
#include "runtime/openai/chunk.h"
#include "runtime/serve/quota.h"
#include "runtime/serve/reply.h"
#include "runtime/serve/server.h"

enum tt_job_stage { TT_JOB_PREPARING, TT_JOB_RUNNING, TT_JOB_FINISHING };

/* What the engine's thread knows of a choice: that there is news of it. */
struct tt_job_choice {
	struct tt_job *job;
	uint32_t index;
	atomic_bool has_news; /* it is on the server's list */
	struct tt_job_choice *next;
	bool began, closed;    /* its first event was written; the one that says why it ended */
	bool finished;         /* its request has ended in the engine */
	bool ended;            /* that, and all of it was taken */
	bool stalled;          /* its tokens wait until the client has taken more */
	size_t n_taken;        /* tokens */
	struct tt_buffer text; /* of all events so far, where there is an audit log */

	/* The engine's thread counts, until the request has ended: tokens, and when the first and the last came. */
	size_t n_tokens;
	uint64_t first_at, last_at; /* nanoseconds of uv_hrtime; 0: none did */
};

struct tt_job {
	uv_work_t work;
	struct tt_server *server;
	struct tt_connection *connection; /* NULL: the client has gone */
	struct tt_job *previous, *next;   /* of all jobs */
	enum tt_job_stage stage;
	bool dead; /* waits to be freed, for n_listed choices and the pool */
	uint32_t n_listed;

	enum tt_endpoint endpoint;
	struct tt_buffer text; /* of the body */
	json_t *json;
	struct tt_api_request body;
	char id[25];                 /* without a prefix */
	char key[TT_MAX_KEY_ID + 1]; /* the id of the key it was asked with; "" without keys */
	enum tt_api_right right;     /* of that key */
	uint32_t max_tokens;         /* that the body may come to; 0: any number */
	uint64_t longest;            /* tokens that it may come to */
	struct tt_quota *quota;      /* of its key, with limits of tokens a minute and a day; NULL: it has none */
	uint32_t token_limits[TT_N_RATE_WINDOWS];
	bool reserves;              /* longest, of the quota */
	struct tt_catalog *catalog; /* what was in force when it came */
	int64_t created;
	uint64_t seed;                      /* for a body that names none */
	uint64_t arrived;                   /* nanoseconds of uv_hrtime */
	uint64_t steps_before, work_before; /* steps and tokens that the engine had run by then */

	struct tt_choice *choices;  // [n_choices] with their requests once they are submitted
	struct tt_job_choice *news; // [n_choices]
	uint32_t n_choices, n_submitted, n_ended, n_stalled;
	double deadline; /* a time of tt_now; 0: none */

	struct tt_chunks chunks;
	/* The entries of the audit log; NULL: there is none. Once added they are the recorder's till they come back. */
	struct tt_record *begun, *ended;
	bool keeps_text;         /* beside the log */
	bool added, begun_back;  /* begun was added; it has come back */
	bool recorded;           /* what the answer says may be said */
	bool ending, ended_back; /* ended was added; it has come back */

	bool speaks;     /* the stream has begun */
	uint64_t spoken; /* when something was last added to it, in the loop's milliseconds */
	char *answer;    /* not streamed */

	/* What went wrong; status 0: nothing. */
	int status;
	const char *code; /* or NULL */
	char param[96];   /* or "" */
	uint64_t retry_ms;
	struct tt_error error;
};

/* Why a request cannot be answered now, as far as its header tells; NULL: it can. */
const struct tt_problem *tt_job_objection(const struct tt_connection *c);
/* Answers the request of the connection, to which there is no objection. */
void tt_job_start(struct tt_connection *c, enum tt_endpoint endpoint);
/* The client has gone. */
void tt_job_abandon(struct tt_job *job);
/* The client has taken what was unsent. */
void tt_job_resume(struct tt_job *job);
/* Ends the job with an error, before or in its stream. */
void tt_job_fail(struct tt_job *job, int status, const char *code, const char *message);
/* Keeps a silent stream alive, and ends one that nobody reads at its deadline, after which it may be no more; now: the
 * loop's milliseconds. */
void tt_job_tick(struct tt_job *job, uint64_t now);
/* An entry of the job is on disk, or could not be written. */
void tt_job_recorded(struct tt_job *job, const struct tt_record *record);
/* Takes the news from the engine's thread. */
void tt_job_take_news(struct tt_server *server);

#endif
