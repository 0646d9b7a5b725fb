/* The store's file: what is made, what is refused, what is kept. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controller/govern/database.h"
#include "controller/govern/query.h"
#include "controller/govern/schema.h"

static char folder[64];

static const char *in_folder(const char *name)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void make(void)
{
	strcpy(folder, "/tmp/trimtab-test-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
}

static void clear(void)
{
	static const char *const names[] = {
		"state/trimtab.db", "state/trimtab.db-wal", "state/trimtab.db-shm", "state"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		remove(in_folder(names[i]));
	cr_assert_eq(rmdir(folder), 0, "something is left in %s", folder);
}

TestSuite(govern_database, .init = make, .fini = clear);

static void open_store(struct tt_database *db, enum tt_database_mode mode)
{
	struct tt_error err = {0};
	cr_assert_eq(tt_database_open(db, in_folder("state"), mode, &err), TT_OK, "%s", err.message);
}

static void expect_refused(int code, const char *words)
{
	struct tt_database db;
	struct tt_error err = {0};
	cr_expect_eq(tt_database_open(&db, in_folder("state"), TT_DATABASE_WRITE, &err), code, "%s", err.message);
	cr_expect_not_null(strstr(err.message, words), "%s", err.message);
}

static void set(struct tt_database *db, const char *name, int64_t value)
{
	struct tt_error err = {0};
	int status = tt_sql_run(
		db, "INSERT INTO setting (name, value) VALUES (?, ?)", TT_SQL(tt_text(name), tt_integer(value)), &err);
	cr_assert_eq(status, TT_OK, "%s", err.message);
}

static int64_t count(struct tt_database *db)
{
	struct tt_error err = {0};
	int64_t n = -1;
	int status = tt_sql_integer(db, "SELECT count(*) FROM setting", TT_SQL_NONE, &n, &err);
	cr_assert_eq(status, TT_OK, "%s", err.message);
	return n;
}

/* As another program does it. */
static void change(const char *sql)
{
	sqlite3 *other;
	char *message = NULL;
	cr_assert_eq(sqlite3_open(in_folder("state/trimtab.db"), &other), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(other, sql, NULL, NULL, &message), SQLITE_OK, "%s", message);
	sqlite3_close(other);
}

Test(govern_database, folder_and_file_are_the_owners_alone)
{
	struct tt_database db;
	struct stat status;
	umask(0);
	open_store(&db, TT_DATABASE_CREATE);
	cr_expect_eq(stat(in_folder("state"), &status), 0);
	cr_expect_eq(status.st_mode & 0777, 0700);
	cr_expect_eq(stat(in_folder("state/trimtab.db"), &status), 0);
	cr_expect_eq(status.st_mode & 0777, 0600);
	set(&db, "a", 1);
	cr_expect_eq(stat(in_folder("state/trimtab.db-wal"), &status), 0);
	cr_expect_eq(status.st_mode & 0777, 0600);
	tt_database_close(&db);
}

Test(govern_database, what_failed_is_undone_and_what_is_committed_stays)
{
	struct tt_database db, other;
	struct tt_error err = {0};
	int64_t before, after;
	open_store(&db, TT_DATABASE_CREATE);
	open_store(&other, TT_DATABASE_READ);
	cr_assert_eq(tt_database_version(&other, &before, &err), TT_OK);
	cr_assert_eq(tt_database_begin(&db, &err), TT_OK);
	set(&db, "a", 1);
	cr_expect_eq(tt_database_end(&db, TT_ERR_LIMIT, &err), TT_ERR_LIMIT);
	cr_expect_eq(count(&db), 0);
	cr_assert_eq(tt_database_begin(&db, &err), TT_OK);
	set(&db, "a", 1);
	cr_expect_eq(count(&other), 0, "it is seen before it is committed");
	cr_expect_eq(tt_database_end(&db, TT_OK, &err), TT_OK);
	cr_expect_eq(count(&other), 1);
	cr_assert_eq(tt_database_version(&other, &after, &err), TT_OK);
	cr_expect_neq(before, after);
	cr_expect_eq(tt_sql_run(&other, "DELETE FROM setting", TT_SQL_NONE, &err), TT_ERR_IO, "a reader wrote");
	tt_database_close(&other);
	tt_database_close(&db);
	open_store(&db, TT_DATABASE_WRITE);
	cr_expect_eq(count(&db), 1);
	tt_database_close(&db);
}

Test(govern_database, a_question_that_takes_too_long_is_ended)
{
	static const char question[] =
		"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT max(i) FROM n";
	struct tt_database db;
	struct tt_error err = {0};
	int64_t last = 0;
	open_store(&db, TT_DATABASE_CREATE);
	cr_expect_eq(tt_sql_integer(&db, question, TT_SQL(tt_integer(100000)), &last, &err), TT_OK);
	cr_expect_eq(last, 100000);
	tt_database_limit(&db, 0);
	cr_expect_eq(tt_sql_integer(&db, question, TT_SQL(tt_integer(100000)), &last, &err), TT_ERR_IO);
	tt_database_limit(&db, 3600);
	cr_expect_eq(tt_sql_integer(&db, question, TT_SQL(tt_integer(100000)), &last, &err), TT_OK);
	tt_database_close(&db);
}

Test(govern_database, values_come_back_as_they_went)
{
	struct tt_database db;
	struct tt_error err = {0};
	struct tt_query q;
	size_t n;
	open_store(&db, TT_DATABASE_CREATE);
	int status = tt_query_open(&q, &db, "SELECT ?, ?, ?, ?, ?, ?",
		TT_SQL(tt_integer(INT64_MIN), tt_real(0.1), tt_text("k\xc3\xa9y"), tt_bytes("a\0b", 3), tt_text(NULL),
			tt_bytes("", 0)),
		&err);
	cr_assert_eq(status, TT_OK, "%s", err.message);
	cr_assert(tt_query_next(&q, &err));
	cr_expect_eq(tt_query_integer(&q, 0), INT64_MIN);
	cr_expect_eq(tt_query_real(&q, 1), 0.1);
	cr_expect_str_eq(tt_query_text(&q, 2), "k\xc3\xa9y");
	cr_expect_eq(memcmp(tt_query_bytes(&q, 3, &n), "a\0b", 3), 0);
	cr_expect_eq(n, 3);
	cr_expect(tt_query_is_null(&q, 4) && !tt_query_is_null(&q, 5));
	cr_expect_str_eq(tt_query_text(&q, 4), "");
	cr_expect(!tt_query_next(&q, &err));
	cr_expect_eq(tt_query_close(&q), TT_OK);
	cr_expect_eq(tt_sql_run(&db, "INSERT INTO setting VALUES (?, ?)", TT_SQL(tt_text("a"), tt_null()), &err),
		TT_ERR_ARGUMENT);
	tt_database_close(&db);
}

Test(govern_database, one_statement_can_be_open_twice)
{
	static const char sql[] = "SELECT name FROM setting ORDER BY name";
	struct tt_database db;
	struct tt_error err = {0};
	struct tt_query q, inner;
	open_store(&db, TT_DATABASE_CREATE);
	set(&db, "a", 1);
	set(&db, "b", 1);
	cr_assert_eq(tt_query_open(&q, &db, sql, TT_SQL_NONE, &err), TT_OK);
	cr_assert(tt_query_next(&q, &err));
	cr_assert_eq(tt_query_open(&inner, &db, sql, TT_SQL_NONE, &err), TT_OK);
	cr_assert(tt_query_next(&inner, &err));
	cr_expect_str_eq(tt_query_text(&inner, 0), "a");
	cr_expect_eq(tt_query_close(&inner), TT_OK);
	cr_assert(tt_query_next(&q, &err));
	cr_expect_str_eq(tt_query_text(&q, 0), "b");
	cr_expect_eq(tt_query_close(&q), TT_OK);
	tt_database_close(&db);
}

Test(govern_database, what_is_not_there_is_not_made_by_who_only_writes_or_reads)
{
	expect_refused(TT_ERR_IO, "state");
	cr_assert_eq(mkdir(in_folder("state"), 0700), 0);
	expect_refused(TT_ERR_IO, "there is no store here");
}

static void put_file(const char *text)
{
	cr_assert_eq(mkdir(in_folder("state"), 0700), 0);
	FILE *file = fopen(in_folder("state/trimtab.db"), "w");
	cr_assert_not_null(file);
	fputs(text, file);
	fclose(file);
}

Test(govern_database, an_empty_file_is_no_store)
{
	put_file("");
	expect_refused(TT_ERR_FORMAT, "is not a store of trimtab");
}

Test(govern_database, a_text_is_no_store)
{
	put_file("This is a text, and a text of more than sixteen bytes at that.\n");
	expect_refused(TT_ERR_FORMAT, "is not a store of trimtab");
}

Test(govern_database, another_programs_database_is_refused)
{
	put_file("");
	change("CREATE TABLE cookies (a)");
	expect_refused(TT_ERR_FORMAT, "is not a store of trimtab");
}

Test(govern_database, a_link_is_not_followed)
{
	cr_assert_eq(mkdir(in_folder("state"), 0700), 0);
	cr_assert_eq(symlink("/dev/null", in_folder("state/trimtab.db")), 0);
	expect_refused(TT_ERR_FORMAT, "is not a store of trimtab");
}

Test(govern_database, a_folder_that_others_can_write_to_is_refused)
{
	cr_assert_eq(mkdir(in_folder("state"), 0700), 0);
	cr_assert_eq(chmod(in_folder("state"), 0720), 0);
	expect_refused(TT_ERR_ARGUMENT, "chmod go-w");
}

static void make_and_change(const char *sql)
{
	struct tt_database db;
	open_store(&db, TT_DATABASE_CREATE);
	tt_database_close(&db);
	change(sql);
}

Test(govern_database, a_newer_schema_is_refused_by_its_number)
{
	char sql[64], number[32];
	snprintf(sql, sizeof sql, "PRAGMA user_version = %d", TT_SCHEMA_VERSION + 1);
	snprintf(number, sizeof number, "its schema is %d", TT_SCHEMA_VERSION + 1);
	make_and_change(sql);
	expect_refused(TT_ERR_UNSUPPORTED, number);
}

Test(govern_database, a_trigger_is_refused)
{
	make_and_change("CREATE TRIGGER t AFTER INSERT ON setting BEGIN DELETE FROM setting; END");
	expect_refused(TT_ERR_FORMAT, "other tables");
}

Test(govern_database, a_changed_table_is_refused)
{
	make_and_change("ALTER TABLE setting ADD COLUMN more TEXT");
	expect_refused(TT_ERR_FORMAT, "other tables");
}

Test(govern_database, bytes_of_the_first_page_can_be_wrong)
{
	struct tt_database db;
	struct tt_error err;
	open_store(&db, TT_DATABASE_CREATE);
	set(&db, "a", 1);
	tt_database_close(&db);
	FILE *file = fopen(in_folder("state/trimtab.db"), "r+");
	cr_assert_not_null(file);
	for (long at = 0; at < 4096; at += at < 200 ? 1 : 11) {
		fseek(file, at, SEEK_SET);
		int byte = fgetc(file), changed = byte ^ 0x41;
		fseek(file, at, SEEK_SET);
		fputc(changed, file);
		fflush(file);
		if (tt_database_open(&db, in_folder("state"), TT_DATABASE_READ, &err) == TT_OK) {
			int64_t n;
			tt_sql_integer(&db, "SELECT count(*) FROM setting", TT_SQL_NONE, &n, &err);
			tt_database_close(&db);
		}
		fseek(file, at, SEEK_SET);
		fputc(byte, file);
		fflush(file);
	}
	fclose(file);
}
