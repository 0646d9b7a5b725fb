/* The audit log: entries that are only ever appended, each a line of JSON, in the store's database, so that a change
 * and its entry are one transaction. What holds them together is the tree of their hashes, which checkpoints sign.
 *
 * All that the log knows between two entries stands in the database too: any program that has it open for writing may
 * append, one after another, and a transaction that is undone has appended nothing. docs/audit.md has the entries. */
#ifndef CONTROLLER_GOVERN_LOG_H
#define CONTROLLER_GOVERN_LOG_H

#include <jansson.h>

#include "controller/govern/bundle.h"
#include "controller/govern/database.h"
#include "controller/govern/note.h"
#include "controller/govern/tree.h"

enum {
	TT_MAX_ENTRY = 65535, /* bytes, which is what a bundle of tlog-tiles takes */
	TT_MAX_ENTRY_KIND = 32,
	TT_LOG_DATE_BYTES = 32,
};

struct tt_log {
	struct tt_database *db; /* borrowed */
	char *directory;        /* the state folder, where sealed bundles are */
	struct tt_hasher hasher;
	struct tt_bundle bundle; /* the sealed one that was read last, or empty */
	uint64_t bundled;        /* its index */
};

/* The log of an open database; an empty one is made in one that is open for writing. */
int tt_log_open(struct tt_log *out, struct tt_database *db, struct tt_error *err);
void tt_log_close(struct tt_log *log);

/* Where an entry stands: its number, from 0, and the hash of its leaf. */
struct tt_log_place {
	uint64_t seq;
	struct tt_hash leaf;
};

/* Appends an entry within the open transaction of the log's database. kind: such as "label" or "policy.approve", of
 * letters, digits, points, lines and underscores. fields is taken over, also on failure: an object with the rest of the
 * entry, without seq, at, prev, kind and begin, which are the log's own; NULL, as json_pack gives it without memory, is
 * TT_ERR_MEMORY. place may be NULL. TT_ERR_LIMIT for an entry that is too long. An error is a reason to undo the
 * transaction. */
int tt_log_append(
	struct tt_log *log, const char *kind, json_t *fields, struct tt_log_place *place, struct tt_error *err);

/* The same, for what is appended often, from the text of the fields ("\"a\":1,\"b\":2", or ""). An entry of kind
 * "begin" is to be ended, once, by one of kind "end" or "interrupted": TT_ERR_ARGUMENT where that has happened, or
 * where it has not begun. */
struct tt_log_entry {
	const char *kind;
	const char *fields; // [n]
	size_t n;
	uint64_t begin; /* of what ends: the number of what began */
};
int tt_log_append_entry(
	struct tt_log *log, const struct tt_log_entry *entry, struct tt_log_place *place, struct tt_error *err);

/* The tree as far as it goes. */
int tt_log_tree(struct tt_log *log, struct tt_tree *out, struct tt_error *err);
/* Reads the stored hashes. It is the log's, for as long as that is open. */
struct tt_tree_reader tt_log_reader(struct tt_log *log);
/* The body of an entry, emptied first; from a sealed bundle where it has been sealed. *place may be NULL. */
int tt_log_read(
	struct tt_log *log, uint64_t seq, struct tt_buffer *body, struct tt_log_place *place, struct tt_error *err);
/* The bundle of an index, all of whose entries have been sealed. */
int tt_log_read_bundle(struct tt_log *log, struct tt_bundle *out, uint64_t index, struct tt_error *err);
/* The entry that ended a begin; false: none yet. */
int tt_log_find_end(struct tt_log *log, uint64_t begin, bool *found, uint64_t *end, struct tt_error *err);
/* The first begin from `from` on that has no end; false: none. */
int tt_log_find_open(struct tt_log *log, uint64_t from, bool *found, uint64_t *begin, struct tt_error *err);

/* What the head of an entry says. Refuses, with TT_ERR_FORMAT, what tt_log_append does not write. */
struct tt_entry_head {
	uint64_t seq;
	int64_t at; /* milliseconds of Unix time */
	struct tt_hash prev;
	char kind[TT_MAX_ENTRY_KIND + 1];
	bool ends;      /* it is of kind "end" or "interrupted" ... */
	uint64_t begin; /* ... and ends this one */
	size_t n;       /* bytes up to the fields; body + n begins with a comma or is "}" */
};
int tt_entry_parse(struct tt_entry_head *out, const char *body, size_t n, struct tt_error *err);
/* A time as entries have it, 2026-11-30T13:00:00.000Z. */
void tt_log_date(char out[TT_LOG_DATE_BYTES], int64_t milliseconds);

/* The newest checkpoint's note, into an empty buffer; an empty text where there is none. */
int tt_log_last_checkpoint(struct tt_log *log, struct tt_buffer *note, uint64_t *size, struct tt_error *err);
/* Signs the tree, within the open transaction, unless its last checkpoint has its size. */
int tt_log_add_checkpoint(struct tt_log *log, const struct tt_signer *signer, struct tt_error *err);

#endif
