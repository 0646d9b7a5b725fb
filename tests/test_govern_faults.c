/* The store where SQLite runs out of memory, and where the disk is full or fails: every call returns an error, and what
 * is on disk is all of a change with its entry, or nothing of it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "controller/govern/command.h"
#include "controller/govern/in_force.h"
#include "controller/govern/key.h"
#include "controller/govern/query.h"

static char folder[64];
static struct tt_actor root;
static struct tt_error last;
static sqlite3_mem_methods real_memory;
static long countdown; /* the call that fails; 0: none */
static bool and_all_after;
static int disk_error;

static bool fails(void)
{
	if (countdown == 0 || (countdown > 1 && countdown--))
		return false;
	countdown = and_all_after ? 1 : 0;
	return true;
}

static void *allocate(int n)
{
	return fails() ? NULL : real_memory.xMalloc(n);
}

static void *reallocate(void *old, int n)
{
	return fails() ? NULL : real_memory.xRealloc(old, n);
}

static ssize_t write_at(int file, const void *data, size_t n, off_t at)
{
	if (!fails())
		return pwrite(file, data, n, at);
	errno = disk_error;
	return -1;
}

static ssize_t write_on(int file, const void *data, size_t n)
{
	if (!fails())
		return write(file, data, n);
	errno = disk_error;
	return -1;
}

static int cut(int file, off_t n)
{
	if (!fails())
		return ftruncate(file, n);
	errno = disk_error;
	return -1;
}

static json_t *command(struct tt_store *store, const struct tt_actor *actor, const char *name, const char *arguments)
{
	json_t *given = json_loads(arguments, 0, NULL), *answer = NULL;
	tt_command_run(tt_command_find(name), store, actor, given, &answer, &last);
	json_decref(given);
	return answer;
}

static void open_store(struct tt_store *store, enum tt_database_mode mode)
{
	cr_assert_eq(tt_store_open(store, folder, mode, &last), TT_OK, "%s", last.message);
}

static void make(void)
{
	const struct tt_actor nobody = {.roles = TT_ROLE_OPERATOR};
	struct tt_store store;
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory), SQLITE_OK);
	sqlite3_mem_methods failing = real_memory;
	failing.xMalloc = allocate;
	failing.xRealloc = reallocate;
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &failing), SQLITE_OK);
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
	strcpy(folder, "/tmp/trimtab-test-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	open_store(&store, TT_DATABASE_CREATE);
	json_t *answer =
		command(&store, &nobody, "key/add", "{\"person\": \"Root\", \"roles\": \"operator,editor,approver\"}");
	cr_assert_not_null(answer, "%s", last.message);
	cr_assert_eq(tt_actor_find(&root, &store, json_string_value(json_object_get(answer, "key")), &last), TT_OK);
	json_decref(answer);
	tt_store_close(&store);
}

static void clear(void)
{
	static const char *const names[] = {"trimtab.db", "trimtab.db-wal", "trimtab.db-shm"};
	char path[128];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		remove(path);
	}
	cr_assert_eq(rmdir(folder), 0, "something is left in %s", folder);
}

TestSuite(govern_faults, .init = make, .fini = clear);

static int64_t count(struct tt_store *store, const char *sql)
{
	int64_t n = -1;
	cr_assert_eq(tt_sql_integer(&store->db, sql, TT_SQL_NONE, &n, &last), TT_OK, "%s", last.message);
	return n;
}

/* Ends all steering, or begins it again; and looks at what is in force. */
static bool change(const char *name)
{
	struct tt_store store;
	struct tt_in_force force;
	last = (struct tt_error){0};
	if (tt_store_open(&store, folder, TT_DATABASE_WRITE, &last) != TT_OK)
		return false;
	json_t *answer = command(&store, &root, name, "{\"reason\": \"a test\"}");
	bool done = answer != NULL;
	json_decref(answer);
	if (done && tt_in_force_read(&force, &store, &last) == TT_OK)
		tt_in_force_free(&force);
	else
		done = false;
	tt_store_close(&store);
	return done;
}

/* A call of a change fails, then in another change one that comes stride calls later, and so on. */
static long fail_each(long stride, bool all_after)
{
	long n = 0;
	bool done = false;
	while (!done && n < 20000) {
		struct tt_store store;
		int64_t killed, changes, entries;
		open_store(&store, TT_DATABASE_READ);
		killed = count(&store, "SELECT count(*) FROM kill");
		tt_store_close(&store);
		countdown = n += stride;
		and_all_after = all_after;
		done = change(killed ? "policy/resume" : "policy/kill");
		bool came = countdown == 0 || (all_after && countdown == 1);
		countdown = 0;
		cr_assert(done || (came && *last.message), "call %ld: %s", n, last.message);
		done = done && !came; /* SQLite goes on without some of what it asks for */
		open_store(&store, TT_DATABASE_READ);
		changes = count(&store, "SELECT count(*) FROM change WHERE kind IN ('kill', 'resume')");
		entries = count(&store, "SELECT count(*) FROM log_leaf") - 1; /* the key's */
		cr_assert_eq(changes, entries, "call %ld: %ld changes, %ld entries", n, (long)changes, (long)entries);
		cr_assert_eq(changes % 2, count(&store, "SELECT count(*) FROM kill"), "call %ld", n);
		tt_store_close(&store);
	}
	cr_assert_lt(n, 20000);
	return n;
}

/* There are 5,000, most of them while the schema is read. */
Test(govern_faults, allocations_of_sqlite_fail)
{
	long n = fail_each(31, false);
	cr_assert_gt(n, 100);
	printf("%ld allocations\n", n);
}

Test(govern_faults, each_write_fails)
{
	static const char *const names[] = {"pwrite", "pwrite64", "write", "ftruncate"};
	sqlite3_syscall_ptr calls[] = {(sqlite3_syscall_ptr)write_at, (sqlite3_syscall_ptr)write_at,
		(sqlite3_syscall_ptr)write_on, (sqlite3_syscall_ptr)cut};
	sqlite3_shutdown();
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &real_memory), SQLITE_OK); /* the countdown is the disk's */
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	for (size_t i = 0; i < 4; i++)
		vfs->xSetSystemCall(vfs, names[i], calls[i]);
	for (int i = 0; i < 4; i++) {
		disk_error = i % 2 ? EIO : ENOSPC;
		long n = fail_each(1, i >= 2);
		cr_assert_gt(n, 3);
		printf("%ld writes, %s\n", n, strerror(disk_error));
	}
}
