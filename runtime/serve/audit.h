/* What jobs leave in the audit log (docs/audit.md): an entry before the first token leaves the server, and one before
 * the last byte does. Without a state folder the server has no recorder, and all of this does nothing. */
#ifndef RUNTIME_SERVE_AUDIT_H
#define RUNTIME_SERVE_AUDIT_H

#include "runtime/serve/job.h"

/* Opens the log of the server's state folder; its loop is set up. */
int tt_audit_open(struct tt_server *server, struct tt_error *err);
/* Writes the last of it, when the loop has ended. */
int tt_audit_close(struct tt_server *server, struct tt_error *err);

/* Makes the entry that a job begins with; on a thread of the pool, when its body has been read. */
int tt_audit_make_begin(struct tt_job *job, struct tt_error *err);
/* Hands it to the recorder. The job may speak from when job->recorded is set, which the loop does. */
void tt_audit_begin(struct tt_job *job);
/* Makes the entry that a job ends with, of what its requests have done; all have finished. On any thread. */
int tt_audit_make_end(struct tt_job *job, struct tt_error *err);
/* Hands it to the recorder; tt_job_recorded is called when it is on disk. */
void tt_audit_end(struct tt_job *job);
/* A job is released, before its requests are: what has begun gets its end, for which nobody waits. */
void tt_audit_leave(struct tt_job *job);
/* Adds what a choice's text has grown by; for streams, whose text is not kept. */
int tt_audit_add_text(struct tt_job *job, struct tt_job_choice *news, struct tt_error *err);

/* The receipt: {"seq", "leaf", "open"}; null if the entry was lost. NULL where there is no log. */
json_t *tt_audit_receipt(const struct tt_job *job);

/* GET /v1/audit/SEQ */
void tt_audit_answer(struct tt_connection *c);

#endif
