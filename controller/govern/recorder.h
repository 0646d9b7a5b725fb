/* The thread that writes the audit log of a server: records from any thread go into a queue, and what is in it is one
 * transaction. A record comes back when it is on disk, or cannot be.
 *
 * When the disk fails, a ballast file is given up first, so that what has begun can be ended. If that is not enough,
 * records that begin something come back with the error, and ends are kept and tried again until they are written
 * (TT_AUDIT_REFUSE); or everything goes on, and what was lost is counted, in a `gap` as soon as there is room
 * (TT_AUDIT_SERVE). */
#ifndef CONTROLLER_GOVERN_RECORDER_H
#define CONTROLLER_GOVERN_RECORDER_H

#include "controller/govern/log.h"
#include "controller/govern/payload.h"

enum tt_audit_full { TT_AUDIT_REFUSE, TT_AUDIT_SERVE };
enum tt_audit_sync { TT_AUDIT_GROUP, TT_AUDIT_EACH, TT_AUDIT_OFF };

enum {
	TT_RECORDS = 8192,         /* in the queue, at most, ... */
	TT_RECORD_BYTES = 1 << 24, /* ... and their bytes: nothing that begins is to be added beyond that */
	TT_COMMIT_BUCKETS = 12,
};

/* The upper ends, in seconds, of all but the last bucket of how long transactions took. */
extern const double tt_commit_bounds[TT_COMMIT_BUCKETS];

struct tt_record {
	struct tt_record *next;  /* the recorder's, until the record comes back */
	const char *kind;        /* "begin", "end" or another; a literal */
	struct tt_buffer fields; /* as of struct tt_log_entry */
	const struct tt_record
		*begun;              /* of an end: its begin, which was added before, and stays until this comes back */
	uint8_t open[TT_SECRET];     /* of a begin: the key of its commitments, ... */
	char owner[TT_MAX_KEY_NAME]; /* ... and of whom asked; kept beside the log with ... */
	struct tt_buffer payload;    /* ... its body, or of an end its result; empty: not kept */
	void *user;                  /* the caller's */

	/* When it has come back. */
	int status; /* of enum tt_status */
	struct tt_error error;
	bool written; /* false with TT_OK: it was lost, and the log will say how many were */
	struct tt_log_place place;
};
void tt_record_free(struct tt_record *record);

struct tt_recorder_options {
	const char *directory; /* the state folder */
	const char *name;      /* of the log; NULL: the one it has, or one of its own */
	const char *anchor;    /* a folder that gets a copy of each checkpoint; or NULL */
	enum tt_audit_full full;
	enum tt_audit_sync sync;
	json_t *open;             /* the fields of the entry that begins a run; taken over */
	void (*wake)(void *user); /* called on the recorder's thread when records have come back; must not wait */
	void (*note)(void *user, const char *line); /* gets what a person should know; on any thread */
	void *user;
};
struct tt_recorder;

/* Opens the log, checks its tree against its head, ends what a run that was killed has begun, and starts. */
int tt_recorder_open(struct tt_recorder **out, const struct tt_recorder_options *options, struct tt_error *err);
/* Writes what was added; nothing more is to be. */
void tt_recorder_stop(struct tt_recorder *recorder);
/* Stops it, and writes a last entry and a checkpoint. Records that have not been taken are freed. */
int tt_recorder_close(struct tt_recorder *recorder, struct tt_error *err);

/* The number of the entry that this run began with. */
uint64_t tt_recorder_run(const struct tt_recorder *recorder);
/* Whether something may begin now. */
bool tt_recorder_takes(struct tt_recorder *recorder);
void tt_recorder_add(struct tt_recorder *recorder, struct tt_record *record);
/* The records that have come back, in the order in which they were added; NULL: none. */
struct tt_record *tt_recorder_take(struct tt_recorder *recorder);
/* Counts a request that was refused, for the entry that a minute of them gets. */
void tt_recorder_refused(struct tt_recorder *recorder, int status);

struct tt_recorder_stats {
	uint64_t n_begin, n_end, n_interrupted, n_other; /* entries of this run */
	uint64_t n_lost;
	size_t n_queued;
	double checkpoint_age; /* seconds */
	uint64_t commits[TT_COMMIT_BUCKETS + 1];
	double commit_seconds;
};
void tt_recorder_stats(struct tt_recorder *recorder, struct tt_recorder_stats *out);

#endif
