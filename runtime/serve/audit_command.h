/* What trimtab audit does. Part of the server, since replaying is serving again; a program without a server has none of
 * it. */
#ifndef RUNTIME_SERVE_AUDIT_COMMAND_H
#define RUNTIME_SERVE_AUDIT_COMMAND_H

#include "runtime/trimtab.h"

/* Whose members are NULL or 0 where they were not given. */
struct tt_audit_options {
	const char *state;       /* the state folder; for verify also one of an export */
	const char *log_key;     /* the log's public key; NULL: that in the folder */
	const char *from;        /* verify: file of a checkpoint that the log must be a continuation of */
	const char *proof;       /* verify: file of a proof, instead of a log */
	const uint64_t *entries; // [n_entries] numbers of entries: prove, show, erase, replay
	size_t n_entries;
	const char *owner;   /* erase: all that was asked with the key of this id */
	uint32_t older_than; /* erase: all that is older than so many days */
	const char *out;     /* export: a folder */
	/* replay: the model, opened as the server had it; policies, by the names that the log has; a sample of so many
	 * requests, drawn by seed; the body of the one request that is named, where it was not kept. */
	struct tt_engine *engine;
	const struct tt_batch_policy *policies; // [n_policies]
	size_t n_policies;
	uint32_t sample;
	uint64_t seed;
	uint64_t range_from, range_to; /* of entries; range_to 0: none was given */
	const char *body;
	uint32_t max_batch; /* with which the engine was opened */
	bool json;          /* the text is JSON also where people read it */
	void (*note)(void *user, const char *line);
	void *user;
};

/* Each writes what was found into *text (tt_free), also when it fails for what it found. */
int tt_audit_head(const struct tt_audit_options *options, char **text, struct tt_error *err);
int tt_audit_verify(const struct tt_audit_options *options, char **text, struct tt_error *err);
int tt_audit_prove(const struct tt_audit_options *options, char **text, struct tt_error *err);
int tt_audit_show(const struct tt_audit_options *options, char **text, struct tt_error *err);
int tt_audit_seal(const struct tt_audit_options *options, char **text, struct tt_error *err);
int tt_audit_erase(const struct tt_audit_options *options, char **text, struct tt_error *err);
int tt_audit_export(const struct tt_audit_options *options, char **text, struct tt_error *err);
/* TT_ERR_MISMATCH where a request did not come out as it is in the log. */
int tt_audit_replay(const struct tt_audit_options *options, char **text, struct tt_error *err);

#endif
