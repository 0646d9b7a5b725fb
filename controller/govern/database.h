/* The store's file, DIR/trimtab.db, which SQLite keeps: opening it, transactions, and the tables of all modules. A
 * database belongs to one thread at a time; several threads and programs open one each. What is committed is on disk
 * (write-ahead log, synchronous=FULL).
 *
 * The file is not trusted: its schema must be, to the letter, the one that this program writes, so that it holds no
 * trigger, view or expression of anybody else's; and every column is read as if it could hold anything. */
#ifndef CONTROLLER_GOVERN_DATABASE_H
#define CONTROLLER_GOVERN_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

struct sqlite3;
struct sqlite3_stmt;

enum tt_database_mode {
	TT_DATABASE_CREATE, /* reads and writes; made with its folder where it is missing */
	TT_DATABASE_WRITE,  /* reads and writes */
	TT_DATABASE_READ,   /* reads */
};

enum {
	TT_DATABASE_STATEMENTS = 96,     /* prepared and kept, of one database */
	TT_DATABASE_MAX_BYTES = 1 << 28, /* of one value */
};

struct tt_prepared {
	const char *sql; /* whose address is the key */
	struct sqlite3_stmt *handle;
	bool in_use;
};

struct tt_database {
	struct sqlite3 *handle;
	char *path; /* of the file */
	struct tt_prepared prepared[TT_DATABASE_STATEMENTS];
	size_t n_prepared;
	double deadline; /* of tt_now, for what is asked from here on */
	double piece;    /* when the piece that is under way has begun, or 0; ... */
	double pause;    /* ... seconds to leave to others before the next one */
};

/* Folder and file are made for their owner alone. TT_ERR_IO where the file cannot be opened, TT_ERR_FORMAT where it is
 * not a store, TT_ERR_UNSUPPORTED where a newer program wrote it, TT_ERR_ARGUMENT where others may write to the
 * folder. If this fails, nothing needs to be closed. */
int tt_database_open(struct tt_database *db, const char *directory, enum tt_database_mode mode, struct tt_error *err);
void tt_database_close(struct tt_database *db);
/* From here on all that is asked may take so long together: what takes longer ends with TT_ERR_IO. */
void tt_database_limit(struct tt_database *db, double seconds);

/* Begins to write; waits some seconds for another writer. */
int tt_database_begin(struct tt_database *db, struct tt_error *err);
/* Begins one of several pieces of work which as a whole would keep others that write waiting for too long: first leaves
 * them as long as the last piece took. Waits up to a minute for them. */
int tt_database_begin_piece(struct tt_database *db, struct tt_error *err);
/* Begins to read at one moment, whatever is written meanwhile. */
int tt_database_begin_read(struct tt_database *db, struct tt_error *err);
/* Ends what was begun: with status TT_OK what was written is kept, and on disk when this returns TT_OK; with an error
 * it is undone, and status comes back. */
int tt_database_end(struct tt_database *db, int status, struct tt_error *err);

/* A number that changes when another database of the same file has committed. */
int tt_database_version(struct tt_database *db, int64_t *out, struct tt_error *err);

/* Fills err with what SQLite says and returns the code that fits: TT_ERR_MEMORY, TT_ERR_IO (busy, full, no access),
 * TT_ERR_FORMAT (the file is damaged), else TT_ERR_ARGUMENT (a constraint does not hold). */
int tt_database_fail(const struct tt_database *db, int code, struct tt_error *err);

#endif
