/* What the log holds commitments to, beside it, where it can be erased: of each request the key of its commitments and,
 * where texts are kept, its body and its result.
 *
 * Both keys of a request (of its commitments, of its texts) are wrapped by a key of the day, a file of the state
 * folder's keys/, which is not in the database. Erasing deletes the row and replaces the day's key, so that what is
 * left of the row in old pages and copies of the database says nothing. */
#ifndef CONTROLLER_GOVERN_PAYLOAD_H
#define CONTROLLER_GOVERN_PAYLOAD_H

#include "base/memory.h"
#include "controller/govern/commitment.h"
#include "controller/govern/database.h"

enum { TT_DAY_NAME = 32 };

struct tt_payloads {
	struct tt_database *db; /* borrowed */
	char *directory;        /* of the days' keys */
	char day[TT_DAY_NAME];  /* whose key this is; "" for none */
	bool synced;            /* it is there after a cut of the power too */
	uint8_t key[TT_SECRET];
};

/* state: the state folder, in which a database that is open for writing makes the folder of keys. */
int tt_payloads_open(struct tt_payloads *out, struct tt_database *db, const char *state, struct tt_error *err);
void tt_payloads_close(struct tt_payloads *payloads);

struct tt_payload {
	uint64_t begin;      /* the number of its entry */
	int64_t at;          /* milliseconds of Unix time */
	const char *owner;   /* the id of the key that asked */
	const uint8_t *open; // [TT_SECRET] the key of its commitments
	const char *request; // [n_request] its body; NULL: not kept
	size_t n_request;
};
/* Within the open transaction. */
int tt_payload_add(struct tt_payloads *payloads, const struct tt_payload *payload, struct tt_error *err);
/* Adds the result of a request whose body is kept; of another nothing. */
int tt_payload_add_result(
	struct tt_payloads *payloads, uint64_t begin, const void *data, size_t n, struct tt_error *err);

/* *found is false where it was erased, or there never was any. request and result are emptied first, and stay so where
 * they were not kept. */
int tt_payload_read(struct tt_payloads *payloads, uint64_t begin, bool *found, uint8_t open[TT_SECRET],
	struct tt_buffer *request, struct tt_buffer *result, struct tt_error *err);

/* What is erased: that which fits every member that is set. */
struct tt_erasure {
	const uint64_t *begins; // [n_begins] NULL: any
	size_t n_begins;
	const char *owner; /* NULL: any */
	int64_t before;    /* milliseconds of Unix time; 0: any */
	/* Within each transaction that deletes some, and once where there are none; NULL: nobody is told. */
	int (*tell)(void *user, uint64_t n, struct tt_error *err);
	/* Once, when this has waited for a second for another one that erases; process: the other, or 0 where that is
	 * not known. NULL: nobody is told. */
	void (*waits)(void *user, long process);
	void *user;
};
/* Deletes what is kept now, wraps anew what stays of the days that are touched, destroys their old keys, and takes what
 * was deleted out of the database's files. Nothing is begun; it is done in pieces, between which others write, and
 * waits for another one that erases. *n: how many there were. If it is stopped at any moment, it can be done again. */
int tt_payloads_erase(
	struct tt_payloads *payloads, const struct tt_erasure *erasure, uint64_t *n, struct tt_error *err);

#endif
