/* A request of the audit log, run again, and what comes out held against its commitments. On any thread but the
 * engine's; the engine may have one of its own, and serve. */
#ifndef RUNTIME_SERVE_REPLAY_H
#define RUNTIME_SERVE_REPLAY_H

#include "controller/govern/log.h"
#include "controller/govern/payload.h"
#include "runtime/openai/response.h"

enum tt_replay_outcome {
	TT_REPLAY_EQUAL,
	TT_REPLAY_EQUAL_TOKENS, /* elsewhere: another backend, cache or processor */
	TT_REPLAY_DIFFERENT,
	TT_REPLAY_SKIPPED, /* it cannot be replayed */
};
extern const char *const tt_replay_words[4];

struct tt_stored;

/* What requests are replayed with. */
struct tt_replays {
	struct tt_engine *engine;
	const char *state;                        /* the state folder */
	const char *body;                         /* a file with the body that was not kept, or NULL */
	const struct tt_named_policies *policies; /* that are on the engine; others are taken from the store */

	/* Its own. */
	struct tt_database db;
	struct tt_log log;
	struct tt_payloads payloads;
	struct tt_stored *stored; /* a list of versions that were taken from the store */
	json_t *numerics;         /* of the engine, once they were asked for */
	json_t *other;            /* those of the last run that was looked at */
	uint64_t other_run;
};
/* The members up to policies are set, and the others zero. Close it also where this fails. */
int tt_replays_open(struct tt_replays *replays, struct tt_error *err);
void tt_replays_close(struct tt_replays *replays);

/* Zero-initialise it but for seq. */
struct tt_replay {
	uint64_t seq; /* the number of its begin */
	json_t *begin, *end, *json;
	uint8_t open[TT_SECRET];
	struct tt_buffer text, result; /* the body; the recorded result, or empty */
	struct tt_api_request body;
	bool parsed;
	struct tt_choice *choices; // [n_choices]
	uint32_t n_choices;
	enum tt_replay_outcome outcome;
	char why[500]; /* "" where it is equal */
};
/* Reads the request; where the outcome stays TT_REPLAY_EQUAL it can be run, and its body's options may be changed. */
int tt_replay_read(struct tt_replay *replay, struct tt_replays *with, struct tt_error *err);
/* Gives it to the engine; trace: the first choice with the norms of h before and after steering. */
int tt_replay_submit(struct tt_replay *replay, struct tt_replays *with, bool trace, struct tt_error *err);
/* Waits for its end, and sets the outcome. */
int tt_replay_compare(struct tt_replay *replay, struct tt_replays *with, struct tt_error *err);
void tt_replay_free(struct tt_replay *replay);

/* Reads an entry of the log as JSON. */
int tt_entry_read(json_t **out, struct tt_log *log, uint64_t seq, struct tt_error *err);

#endif
