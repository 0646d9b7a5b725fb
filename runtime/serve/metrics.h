/* What is counted, and its text in Prometheus' form. docs/serve.md lists the families. */
#ifndef RUNTIME_SERVE_METRICS_H
#define RUNTIME_SERVE_METRICS_H

#include <jansson.h>
#include <stdatomic.h>

#include "runtime/engine/thread.h"
#include "runtime/serve/connection.h"
#include "runtime/serve/rate_limit.h"

enum tt_histogram_name {
	TT_FIRST_TOKEN,  /* nanoseconds, as all down to TT_LOOP_LAG: until the first token */
	TT_BETWEEN,      /* from a token to the next */
	TT_TIME_A_TOKEN, /* of a request after its first, on average */
	TT_WHOLE_TIME,
	TT_QUEUE_TIME,
	TT_PREFILL_TIME,
	TT_DECODE_TIME,
	TT_RUN_TIME,
	TT_LOOP_LAG,      /* how long a turn of the loop took */
	TT_PROMPT_TOKENS, /* numbers, as all that follow */
	TT_ANSWER_TOKENS,
	TT_MOST_TOKENS, /* asked for at most */
	TT_CHOICES,     /* of a body */
	TT_STEP_TOKENS,
	TT_FIRST_STEPS, /* of the engine, until the first token */
	TT_FIRST_WORK,  /* tokens that it computed meanwhile */
	TT_N_HISTOGRAMS
};

enum { TT_MAX_BUCKETS = 24 };

/* One thread adds to it, and another may read it meanwhile. */
struct tt_histogram {
	_Atomic uint64_t counts[TT_MAX_BUCKETS + 1], sum;
};

enum tt_outcome { TT_ACTED, TT_CLOSED, TT_OFF, TT_KILLED, TT_N_OUTCOMES };
enum tt_end { TT_END_STOP, TT_END_LENGTH, TT_END_ABORT, TT_END_ERROR, TT_N_ENDS };

/* Of one policy. */
struct tt_policy_metrics {
	uint64_t outcomes[TT_N_OUTCOMES], n_tokens, shadow_open, shadow_closed;
	struct tt_histogram gate; /* in millionths */
};

struct tt_metrics {
	struct tt_histogram histograms[TT_N_HISTOGRAMS];
	_Atomic uint64_t n_tokens; /* generated; counted on the engine's thread */
	uint64_t n_prompt_tokens, n_ends[TT_N_ENDS];
	uint64_t n_refused[600]; /* answers by their HTTP status; those of 400 and more are told */
	uint64_t n_slow;         /* clients that were cut off by a deadline */
	uint64_t n_tls_refused;  /* ... because what they sent was not TLS as it is spoken here */
	uint64_t n_over_quota[TT_N_RATE_WINDOWS], n_quota_tokens; /* of keys with limits of tokens */
	uint64_t n_steps, n_step_tokens;                          /* of the engine, when they were last looked at */
};

struct tt_job;
struct tt_server;
struct tt_job_choice;

/* Adds a value, in the unit of the histogram. */
void tt_metrics_add(struct tt_metrics *metrics, enum tt_histogram_name name, uint64_t value);
/* A token of a choice has come; on the engine's thread. */
void tt_metrics_token(struct tt_job_choice *choice);
/* A choice has ended, for a reason of enum tt_finish or because its client went away. */
void tt_metrics_end(struct tt_job *job, struct tt_job_choice *choice, bool abandoned);
/* Looks at the engine's counters, once a turn that had news. */
void tt_metrics_look(struct tt_server *server);
/* A histogram as {"bounds", "counts"}, of which the last one has no upper bound. */
json_t *tt_metrics_histogram(const struct tt_metrics *metrics, enum tt_histogram_name name);
json_t *tt_metrics_gate(const struct tt_policy_metrics *metrics);
/* Answers with all of them. */
void tt_metrics_answer(struct tt_connection *c);

#endif
