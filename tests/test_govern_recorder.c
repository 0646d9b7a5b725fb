/* The thread that writes the audit log where the disk and memory fail: what was promised is written later, and what is
 * not is counted. */
#include "controller/govern/recorder.h"

#include <errno.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/fail.h"
#include "controller/govern/query.h"
#include "golden.h"

enum failing { NOTHING, DISK, MEMORY };
static atomic_int failing;  /* what does, ... */
static atomic_int n_failed; /* ... and how often it has */
static sqlite3_mem_methods real_memory;

static bool fails(enum failing what)
{
	bool is = atomic_load(&failing) == (int)what;
	if (is)
		atomic_fetch_add(&n_failed, 1);
	return is;
}

static void *allocate(int n)
{
	return fails(MEMORY) ? NULL : real_memory.xMalloc(n);
}

static ssize_t write_at(int file, const void *data, size_t n, off_t at)
{
	if (!fails(DISK))
		return pwrite(file, data, n, at);
	errno = EIO;
	return -1;
}

static void fail_from_now_on(enum failing what)
{
	atomic_store(&n_failed, 0);
	atomic_store(&failing, what);
}

/* Waits until what fails has done so. */
static void until_failed(void)
{
	while (atomic_load(&n_failed) == 0)
		sched_yield();
}

static struct tt_record *write_record(struct tt_recorder *r, const char *kind, const struct tt_record *begun)
{
	struct tt_record *record = calloc(1, sizeof *record), *back = NULL;
	record->kind = kind;
	record->begun = begun;
	must(tt_buffer_add(&record->fields, "\"a\":1", 5, err));
	tt_recorder_add(r, record);
	while (!(back = tt_recorder_take(r)))
		sched_yield();
	cr_assert_eq(back, record);
	return record;
}

static struct tt_recorder_stats stats_of(struct tt_recorder *r)
{
	struct tt_recorder_stats stats;
	tt_recorder_stats(r, &stats);
	return stats;
}

/* An end that came while the disk failed is kept, and is not given up because memory runs out before it is written. */
Test(govern_recorder, an_end_that_is_kept_is_written_whatever_fails_meanwhile, .timeout = 60)
{
	char folder[] = "/tmp/test_recorder.XXXXXX", command[64];
	struct tt_recorder *r;
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory), SQLITE_OK);
	sqlite3_mem_methods memory = real_memory;
	memory.xMalloc = allocate;
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &memory), SQLITE_OK);
	cr_assert_eq(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)write_at);
	vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)write_at);
	const struct tt_recorder_options options = {.directory = folder, .open = json_object()};
	must(tt_recorder_open(&r, &options, err));

	struct tt_record *begin = write_record(r, "begin", NULL);
	cr_assert(begin->written && begin->status == TT_OK, "%s", begin->error.message);
	fail_from_now_on(DISK);
	struct tt_record *end = write_record(r, "end", begin);
	cr_assert(!end->written && end->status == TT_ERR_IO, "%d", end->status);
	fail_from_now_on(MEMORY);
	until_failed();
	fail_from_now_on(NOTHING);
	while (!tt_recorder_takes(r))
		sched_yield();
	struct tt_recorder_stats stats = stats_of(r);
	cr_assert(stats.n_end == 1 && stats.n_lost == 0, "%d ends, %d lost", (int)stats.n_end, (int)stats.n_lost);

	/* One that memory alone has kept from being written is tried again too. */
	struct tt_record *other = write_record(r, "begin", NULL);
	fail_from_now_on(MEMORY);
	struct tt_record *late = write_record(r, "end", other);
	cr_assert(!late->written && late->status == TT_ERR_MEMORY, "%d", late->status);
	fail_from_now_on(NOTHING);
	while (stats_of(r).n_end < 2)
		sched_yield();
	must(tt_recorder_close(r, err));
	tt_record_free(begin);
	tt_record_free(end);
	tt_record_free(other);
	tt_record_free(late);
	snprintf(command, sizeof command, "rm -r %s", folder);
	cr_assert_eq(system(command), 0);
}
