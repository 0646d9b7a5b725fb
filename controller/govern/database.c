#include "controller/govern/database.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "controller/govern/query.h"
#include "controller/govern/schema.h"

enum { BUSY_MILLISECONDS = 5000, MAX_SQL = 1 << 16 };

static const char file_name[] = "trimtab.db";

int tt_database_fail(const struct tt_database *db, int code, struct tt_error *err)
{
	const char *what = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code);
	switch (code & 0xff) {
	case SQLITE_NOMEM:
		return tt_fail(err, TT_ERR_MEMORY, "%s: no memory", db->path);
	case SQLITE_NOTADB:
		return tt_fail(err, TT_ERR_FORMAT, "%s is not a store of trimtab", db->path);
	case SQLITE_CORRUPT:
	case SQLITE_FORMAT:
	case SQLITE_SCHEMA:
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
	case SQLITE_ERROR: /* such as a schema that cannot be read */
		return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: %s", db->path, what);
	case SQLITE_CONSTRAINT:
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: %s", db->path, what);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return tt_fail(
			err, TT_ERR_IO, "%s: another program writes to it and does not come to an end", db->path);
	default:
		return tt_fail(err, TT_ERR_IO, "%s: %s", db->path, what);
	}
}

static int execute(struct tt_database *db, const char *sql, struct tt_error *err)
{
	int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? TT_OK : tt_database_fail(db, code, err);
}

/* ---- Opening */

/* What holds for every database, whoever wrote it: no foreign code within it runs, and nothing is believed of its
 * pages. Our own schema needs neither triggers nor views. */
static int harden(struct tt_database *db, struct tt_error *err)
{
	static const int settings[][2] = {{SQLITE_DBCONFIG_DEFENSIVE, 1}, {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
		{SQLITE_DBCONFIG_ENABLE_TRIGGER, 0}, {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
		{SQLITE_DBCONFIG_ENABLE_FKEY, 1}};
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_busy_timeout(db->handle, BUSY_MILLISECONDS);
	sqlite3_limit(db->handle, SQLITE_LIMIT_LENGTH, TT_DATABASE_MAX_BYTES);
	sqlite3_limit(db->handle, SQLITE_LIMIT_SQL_LENGTH, MAX_SQL);
	sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 0);
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		int code = sqlite3_db_config(db->handle, settings[i][0], settings[i][1], NULL);
		if (code != SQLITE_OK)
			return tt_database_fail(db, code, err);
	}
	return execute(db,
		"PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; "
		"PRAGMA secure_delete = ON;",
		err);
}

static int connect(struct tt_database *db, const char *path, int flags, struct tt_error *err)
{
	int code = sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	return code == SQLITE_OK ? harden(db, err) : tt_database_fail(db, code, err);
}

static int write_schema(struct tt_database *db, struct tt_error *err)
{
	char numbers[100];
	for (size_t i = 0; tt_schema[i]; i++)
		TT_TRY(execute(db, tt_schema[i], err));
	snprintf(numbers, sizeof numbers, "PRAGMA application_id = %d; PRAGMA user_version = %d;",
		TT_SCHEMA_APPLICATION, TT_SCHEMA_VERSION);
	return execute(db, numbers, err);
}

/* All of the schema in one text. */
static const char all_schema[] = "SELECT group_concat(type || ' ' || name || ' ' || tbl_name || ' ' || "
				 "coalesce(sql, ''), char(10)) FROM (SELECT * FROM sqlite_schema ORDER BY type, name)";

/* Whether the schema is what this program writes, which is found out by writing it into memory. */
static int check_schema(struct tt_database *db, struct tt_error *err)
{
	struct tt_database own = {.path = db->path};
	struct tt_query given = {0}, ours = {0};
	bool same = false;
	int status = connect(&own, ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (status == TT_OK)
		status = write_schema(&own, err);
	if (status == TT_OK)
		status = tt_query_open(&ours, &own, all_schema, TT_SQL_NONE, err);
	if (status == TT_OK)
		status = tt_query_open(&given, db, all_schema, TT_SQL_NONE, err);
	if (status == TT_OK && tt_query_next(&ours, err) && tt_query_next(&given, err))
		same = strcmp(tt_query_text(&ours, 0), tt_query_text(&given, 0)) == 0;
	if (given.handle)
		status = tt_query_close(&given);
	if (ours.handle && status == TT_OK)
		status = tt_query_close(&ours);
	own.path = NULL;
	tt_database_close(&own);
	if (status == TT_OK && !same)
		return tt_fail(err, TT_ERR_FORMAT, "%s has other tables than this program's", db->path);
	return status;
}

static int check(struct tt_database *db, struct tt_error *err)
{
	int64_t application, version;
	TT_TRY(tt_sql_integer(db, "PRAGMA application_id", TT_SQL_NONE, &application, err));
	TT_TRY(tt_sql_integer(db, "PRAGMA user_version", TT_SQL_NONE, &version, err));
	if (application != TT_SCHEMA_APPLICATION)
		return tt_fail(err, TT_ERR_FORMAT, "%s is not a store of trimtab", db->path);
	if (version > TT_SCHEMA_VERSION)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"%s was written by a newer trimtab: its schema is %lld, this program's %d", db->path,
			(long long)version, TT_SCHEMA_VERSION);
	if (version != TT_SCHEMA_VERSION)
		return tt_fail(err, TT_ERR_FORMAT, "%s has the unknown schema %lld", db->path, (long long)version);
	return check_schema(db, err);
}

/* ---- Making */

static int make_folder(const char *directory, struct tt_error *err)
{
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return tt_fail_io(err, directory, "make the folder");
	return TT_OK;
}

/* A folder that is there may be of a process that was killed before it had synced it. */
static int sync_parent(const char *directory, struct tt_error *err)
{
	char *sibling;
	TT_TRY(tt_file_join(&sibling, directory, "../.", err));
	int status = tt_file_sync_folder(sibling, err);
	free(sibling);
	return status;
}

static int fill_new(struct tt_database *db, const char *path, struct tt_error *err)
{
	TT_TRY(connect(db, path, SQLITE_OPEN_READWRITE, err));
	TT_TRY(execute(db, "PRAGMA synchronous = FULL; BEGIN IMMEDIATE;", err));
	TT_TRY(write_schema(db, err));
	TT_TRY(execute(db, "COMMIT;", err));
	return execute(db, "PRAGMA journal_mode = WAL;", err);
}

/* Makes the file under another name and gives it its own when it is whole: nobody sees half of it, and of two that make
 * it at the same time one does. */
static int make(const char *directory, const char *path, struct tt_error *err)
{
	struct tt_database db = {.path = (char *)path};
	char *temporary;
	TT_TRY(tt_file_join(&temporary, directory, ".trimtab.XXXXXX", err));
	int file = mkstemp(temporary), status = TT_OK;
	if (file < 0) {
		status = tt_fail_io(err, path, "create");
		free(temporary);
		return status;
	}
	close(file);
	status = fill_new(&db, temporary, err);
	db.path = NULL;
	tt_database_close(&db);
	if (status == TT_OK && link(temporary, path) < 0 && errno != EEXIST)
		status = tt_fail_io(err, path, "create");
	unlink(temporary);
	free(temporary);
	return status;
}

static int look(const char *directory, const char *path, enum tt_database_mode mode, struct tt_error *err)
{
	struct stat status;
	if (mode == TT_DATABASE_CREATE)
		TT_TRY(make_folder(directory, err));
	if (stat(directory, &status) < 0)
		return errno == ENOENT ? tt_fail(err, TT_ERR_IO, "%s: there is no store here", directory)
				       : tt_fail_io(err, directory, "open");
	if (!S_ISDIR(status.st_mode))
		return tt_fail(err, TT_ERR_IO, "%s is not a folder", directory);
	if (status.st_mode & (S_IWGRP | S_IWOTH))
		return tt_fail(err, TT_ERR_ARGUMENT,
			"%s can be written by others, who could put another store there: chmod go-w", directory);
	if (mode == TT_DATABASE_CREATE)
		TT_TRY(sync_parent(directory, err));
	if (lstat(path, &status) < 0) {
		if (errno != ENOENT)
			return tt_fail_io(err, path, "open");
		if (mode != TT_DATABASE_CREATE)
			return tt_fail(err, TT_ERR_IO, "%s: there is no store here", directory);
		TT_TRY(make(directory, path, err));
	} else if (!S_ISREG(status.st_mode)) {
		return tt_fail(err, TT_ERR_FORMAT, "%s is not a store of trimtab", path);
	}
	return mode == TT_DATABASE_CREATE ? tt_file_sync_folder(path, err) : TT_OK;
}

/* The file is opened by SQLite alone: closing another descriptor of it would drop the locks that this process has. */
static int open_file(struct tt_database *db, enum tt_database_mode mode, struct tt_error *err)
{
	TT_TRY(connect(db, db->path, SQLITE_OPEN_READWRITE, err));
	TT_TRY(check(db, err));
	TT_TRY(execute(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", err));
	return mode == TT_DATABASE_READ ? execute(db, "PRAGMA query_only = ON;", err) : TT_OK;
}

int tt_database_open(struct tt_database *db, const char *directory, enum tt_database_mode mode, struct tt_error *err)
{
	*db = (struct tt_database){0};
	TT_TRY(tt_file_join(&db->path, directory, file_name, err));
	int status = look(directory, db->path, mode, err);
	if (status == TT_OK)
		status = open_file(db, mode, err);
	if (status != TT_OK)
		tt_database_close(db);
	return status;
}

void tt_database_close(struct tt_database *db)
{
	for (size_t i = 0; i < db->n_prepared; i++)
		sqlite3_finalize(db->prepared[i].handle);
	sqlite3_close(db->handle);
	free(db->path);
	*db = (struct tt_database){0};
}

static int is_late(void *user)
{
	const struct tt_database *db = user;
	return tt_now() > db->deadline;
}

void tt_database_limit(struct tt_database *db, double seconds)
{
	db->deadline = tt_now() + seconds;
	sqlite3_progress_handler(db->handle, 10000, is_late, db); /* of SQLite's steps */
}

/* ---- Transactions */

int tt_database_begin(struct tt_database *db, struct tt_error *err)
{
	return tt_sql_run(db, "BEGIN IMMEDIATE", TT_SQL_NONE, err);
}

int tt_database_begin_piece(struct tt_database *db, struct tt_error *err)
{
	enum { TRIES = 12 }; /* of five seconds */
	int status = TT_ERR_IO;
	tt_sleep(db->pause);
	db->pause = 0;
	for (int i = 0; i < TRIES && status == TT_ERR_IO; i++)
		status = tt_database_begin(db, err);
	db->piece = status == TT_OK ? tt_now() : 0;
	return status;
}

int tt_database_begin_read(struct tt_database *db, struct tt_error *err)
{
	return tt_sql_run(db, "BEGIN", TT_SQL_NONE, err);
}

int tt_database_end(struct tt_database *db, int status, struct tt_error *err)
{
	if (status == TT_OK)
		status = tt_sql_run(db, "COMMIT", TT_SQL_NONE, err);
	/* Some errors, as of a full disk, have ended it already. */
	if (status != TT_OK && !sqlite3_get_autocommit(db->handle))
		sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
	if (db->piece > 0)
		db->pause = tt_now() - db->piece;
	db->piece = 0;
	return status;
}

int tt_database_version(struct tt_database *db, int64_t *out, struct tt_error *err)
{
	return tt_sql_integer(db, "PRAGMA data_version", TT_SQL_NONE, out, err);
}
