/* The batch's journal: in what order its files are written and forced to disk, and what is left when that fails. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/batch/journal.h"
#include "runtime/batch/shard.h"
#include "weights_files.h"

/* ---- The calls that reach the files, in order: "write:NAME sync:NAME ", a folder's name being "." */

static char calls[4096];
static bool recording;
static int fail_at; /* the call, from 1, that fails; 0: none */

/* After Criterion's own writes are out of the way: only files of this test's folder are looked at. */
static bool seen(const char *what, int file)
{
	char link[64], path[512], entry[600];
	struct stat status;
	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (!recording || n <= 0)
		return false;
	path[n] = 0;
	if (!strstr(path, "/test-weights-"))
		return false;
	bool folder = fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
	snprintf(entry, sizeof entry, "%s:%s ", what, folder ? "." : strrchr(path, '/') + 1);
	strncat(calls, entry, sizeof calls - strlen(calls) - 1);
	if (fail_at == 0 || --fail_at > 0)
		return false;
	errno = EIO;
	return true;
}

ssize_t __real_write(int file, const void *data, size_t n);
int __real_fsync(int file);
int __real_fdatasync(int file);
ssize_t __wrap_write(int file, const void *data, size_t n);
int __wrap_fsync(int file);
int __wrap_fdatasync(int file);

ssize_t __wrap_write(int file, const void *data, size_t n)
{
	return seen("write", file) ? -1 : __real_write(file, data, n);
}

int __wrap_fsync(int file)
{
	return seen("sync", file) ? -1 : __real_fsync(file);
}

int __wrap_fdatasync(int file)
{
	return seen("sync", file) ? -1 : __real_fdatasync(file);
}

static int lock_error; /* errno of every lock; 0: locks work */
int __real_flock(int file, int how);
int __wrap_flock(int file, int how);

int __wrap_flock(int file, int how)
{
	errno = lock_error;
	return lock_error ? -1 : __real_flock(file, how);
}

/* ---- A journal in a folder of its own */

static const char *const FILES[] = {"o", "t", "o.journal"};

struct job {
	struct scratch scratch;
	char output[128], telemetry[128];
	json_t *json;
	struct tt_journal journal;
};

static int open_job(struct job *job, bool restart, struct tt_error *err)
{
	const struct tt_journal_job asked = {.job = job->json};
	return tt_journal_open(&job->journal, job->output, job->telemetry, &asked, restart, err);
}

static void begin(struct job *job)
{
	struct tt_error err = {0};
	scratch_make(&job->scratch);
	snprintf(job->output, sizeof job->output, "%s/o", job->scratch.directory);
	snprintf(job->telemetry, sizeof job->telemetry, "%s/t", job->scratch.directory);
	job->json = json_pack("{s:s}", "version", "1");
	recording = true;
	calls[0] = 0;
	cr_assert_eq(open_job(job, false, &err), TT_OK, "%s", err.message);
}

static void end(struct job *job)
{
	recording = false;
	tt_journal_close(&job->journal);
	json_decref(job->json);
	scratch_remove(&job->scratch, FILES, 3);
}

static int add(struct job *job, const char *text, struct tt_error *err)
{
	struct tt_buffer line = {0}, tokens = {0};
	cr_assert_eq(tt_buffer_print(&line, err, "%s\n", text), TT_OK);
	cr_assert_eq(tt_buffer_print(&tokens, err, "token of %s\n", text), TT_OK);
	int status = tt_journal_add(&job->journal, job->journal.n_rows, &line, &tokens, false, err);
	tt_buffer_free(&line);
	tt_buffer_free(&tokens);
	return status;
}

static void expect_calls(const char *want)
{
	cr_expect_str_eq(calls, want);
	calls[0] = 0;
}

static uint64_t size_of(const struct job *job, const char *name)
{
	char path[256];
	struct stat status;
	snprintf(path, sizeof path, "%s/%s", job->scratch.directory, name);
	return stat(path, &status) == 0 ? (uint64_t)status.st_size : UINT64_MAX;
}

#define ROW "write:t write:o write:o.journal "
#define SYNC "sync:t sync:o sync:o.journal write:o.journal "

Test(journal, is_on_disk_before_a_row_is_and_says_so_after_its_rows_are)
{
	struct job job;
	struct tt_error err = {0};
	begin(&job);
	expect_calls("write:o.journal sync:o.journal sync:. sync:. ");
	cr_expect_eq(add(&job, "one", &err), TT_OK);
	cr_expect_eq(add(&job, "two", &err), TT_OK);
	expect_calls(ROW ROW);
	cr_expect_eq(tt_journal_sync(&job.journal, &err), TT_OK);
	expect_calls(SYNC);
	cr_expect_eq(job.journal.n_synced, 2);
	cr_expect_eq(tt_journal_sync(&job.journal, &err), TT_OK);
	expect_calls("");        /* there is nothing new */
	job.journal.synced -= 2; /* as if two seconds had passed */
	cr_expect_eq(add(&job, "three", &err), TT_OK);
	expect_calls(ROW SYNC);
	cr_expect_eq(job.journal.n_synced, 3);
	tt_journal_close(&job.journal);
	cr_assert_eq(open_job(&job, false, &err), TT_OK, "%s", err.message);
	expect_calls("sync:. sync:. ");
	cr_expect(job.journal.n_rows == 3 && job.journal.n_synced == 3);
	tt_journal_close(&job.journal);
	cr_assert_eq(open_job(&job, true, &err), TT_OK, "%s", err.message);
	expect_calls("write:o.journal sync:o.journal sync:. sync:. ");
	cr_expect(job.journal.n_rows == 0 && size_of(&job, "o") == 0 && size_of(&job, "t") == 0);
	end(&job);
}

Test(journal, keeps_whole_rows_when_a_write_fails)
{
	for (int call = 1; call <= 3; call++) {
		struct job job;
		struct tt_error err = {0};
		begin(&job);
		cr_expect_eq(add(&job, "one", &err), TT_OK);
		uint64_t sizes[] = {size_of(&job, "o"), size_of(&job, "t"), size_of(&job, "o.journal")};
		fail_at = call;
		cr_expect_eq(add(&job, "two", &err), TT_ERR_IO, "write %d", call);
		cr_expect_not_null(strstr(err.message, "1 rows are kept"), "%s", err.message);
		for (int i = 0; i < 3; i++)
			cr_expect_eq(size_of(&job, FILES[i]), sizes[i], "write %d: %s", call, FILES[i]);
		/* And a run like this one goes on. */
		cr_expect_eq(add(&job, "two", &err), TT_OK);
		tt_journal_close(&job.journal);
		cr_assert_eq(open_job(&job, false, &err), TT_OK, "%s", err.message);
		cr_expect_eq(job.journal.n_rows, 2);
		end(&job);
	}
}

Test(journal, does_not_claim_what_could_not_be_forced_to_disk)
{
	static const char *const files[] = {"/t", "/o", "/o.journal", "/o.journal"};
	for (int call = 1; call <= 4; call++) {
		struct job job;
		struct tt_error err = {0};
		begin(&job);
		cr_expect_eq(add(&job, "one", &err), TT_OK);
		uint64_t size = size_of(&job, "o.journal");
		fail_at = call;
		cr_expect_eq(tt_journal_sync(&job.journal, &err), TT_ERR_IO, "call %d", call);
		cr_expect_not_null(strstr(err.message, files[call - 1]), "call %d: %s", call, err.message);
		cr_expect_eq(job.journal.n_synced, 0);
		cr_expect_eq(size_of(&job, "o.journal"), size, "call %d", call);
		end(&job);
	}
}

Test(journal, fails_where_the_job_cannot_be_forced_to_disk)
{
	for (int call = 1; call <= 2; call++) {
		struct job job;
		struct tt_error err = {0};
		begin(&job);
		tt_journal_close(&job.journal);
		fail_at = call;
		cr_expect_eq(open_job(&job, true, &err), TT_ERR_IO, "call %d", call);
		fail_at = 0;
		cr_expect_eq(open_job(&job, false, &err), TT_OK, "call %d: %s", call, err.message);
		end(&job);
	}
}

Test(journal, takes_no_file_that_is_there_and_no_missing_lock_for_another_run)
{
	struct job job;
	struct tt_error err = {0};
	bool taken = true;
	begin(&job);
	tt_journal_close(&job.journal);
	const struct tt_journal_job asked = {.job = job.json};
	cr_expect_eq(tt_journal_create(&job.journal, job.output, job.telemetry, &asked, &taken, &err), TT_OK);
	cr_expect(taken);
	char path[256];
	snprintf(path, sizeof path, "%s/o.journal", job.scratch.directory);
	unlink(path);
	lock_error = ENOLCK;
	cr_expect_eq(tt_journal_create(&job.journal, job.output, job.telemetry, &asked, &taken, &err), TT_ERR_IO);
	cr_expect_not_null(strstr(err.message, strerror(ENOLCK)), "%s", err.message);
	cr_expect(!taken && size_of(&job, "o.journal") == UINT64_MAX);
	lock_error = 0;
	cr_expect_eq(tt_journal_create(&job.journal, job.output, job.telemetry, &asked, &taken, &err), TT_OK);
	cr_expect(!taken);
	end(&job);
}

Test(journal, of_a_part_is_not_begun_nor_missed_after_a_merge)
{
	struct job job;
	struct tt_error err = {0};
	struct tt_part_reader reader;
	char gone[256], folder[300];
	begin(&job);
	tt_journal_close(&job.journal);
	snprintf(gone, sizeof gone, "%s/other", job.scratch.directory);
	snprintf(folder, sizeof folder, "%s.parts", gone);
	struct tt_share share = {.options = {.input = "-", .output = gone}, .file = {.job = job.json, .created = 1}};
	cr_expect_eq(tt_share_begin(&share, 0, &err), TT_ERR_MISMATCH, "%s", err.message);
	cr_expect_not_null(strstr(err.message, "merged meanwhile"), "%s", err.message);
	cr_expect_neq(access(folder, F_OK), 0, "the part stays");
	const struct tt_part *part = &share.part;
	cr_expect_eq(tt_part_open(&reader, part, &share.file, false, &err), TT_ERR_IO);
	cr_expect_not_null(strstr(err.message, "merged meanwhile"), "%s", err.message);
	tt_part_close(&reader);
	tt_part_free(&share.part);
	tt_journal_close(&share.run.journal);
	end(&job);
}
