#include "base/append_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"

int tt_append_log_open(struct tt_append_log *log, bool create, struct tt_error *err)
{
	uint64_t size;
	if (!log->path || log->file >= 0)
		return TT_OK;
	/* O_NONBLOCK: opening a pipe would wait for its other end. */
	log->file = open(log->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | (create ? O_CREAT : 0), 0666);
	if (log->file < 0 && errno == ENOENT && !create)
		return TT_OK;
	if (log->file < 0)
		return tt_fail_io(err, log->path, "open");
	return tt_append_log_size(log, &size, err);
}

int tt_append_log_create(struct tt_append_log *log, bool *taken, struct tt_error *err)
{
	log->file = open(log->path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0666);
	*taken = log->file < 0 && errno == EEXIST;
	if (*taken)
		return TT_OK;
	return log->file < 0 ? tt_fail_io(err, log->path, "make") : tt_append_log_lock(log, err);
}

void tt_append_log_close(struct tt_append_log *log)
{
	if (log->file >= 0)
		close(log->file);
	log->file = -1;
}

int tt_append_log_size(const struct tt_append_log *log, uint64_t *size, struct tt_error *err)
{
	struct stat status;
	*size = 0;
	if (log->file < 0)
		return TT_OK;
	if (fstat(log->file, &status) < 0)
		return tt_fail_io(err, log->path, "read");
	if (!S_ISREG(status.st_mode))
		return tt_fail(
			err, TT_ERR_IO, "%s: not a regular file, so no later run could go on with it", log->path);
	*size = (uint64_t)status.st_size;
	return TT_OK;
}

/* A file system that has no locks is not another run. */
static int lock(const struct tt_append_log *log, int kind, struct tt_error *err)
{
	if (flock(log->file, kind | LOCK_NB) == 0)
		return TT_OK;
	return errno == EWOULDBLOCK ? tt_fail(err, TT_ERR_IO, "%s: another run is writing it", log->path)
				    : tt_fail_io(err, log->path, "lock");
}

int tt_append_log_lock(const struct tt_append_log *log, struct tt_error *err)
{
	return lock(log, LOCK_EX, err);
}

int tt_append_log_lock_shared(const struct tt_append_log *log, struct tt_error *err)
{
	return lock(log, LOCK_SH, err);
}

int tt_append_log_wait_lock(const struct tt_append_log *log, struct tt_error *err)
{
	int status;
	while ((status = flock(log->file, LOCK_EX)) < 0 && errno == EINTR)
		continue;
	return status == 0 ? TT_OK : tt_fail_io(err, log->path, "lock");
}

int tt_append_log_read(const struct tt_append_log *log, uint64_t at, void *out, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = pread(log->file, (char *)out + done, n - done, (off_t)(at + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			errno = EIO;
		if (got <= 0)
			return -1;
		done += (size_t)got;
	}
	return 0;
}

bool tt_append_log_peek(const struct tt_append_log *log, struct tt_buffer *out, uint64_t n)
{
	uint64_t size;
	out->len = 0;
	if (tt_append_log_size(log, &size, NULL) != TT_OK || size < log->end || n > size - log->end || n > SIZE_MAX / 2)
		return false;
	if (tt_grow(&out->data, &out->capacity, (size_t)n + 1, 1, NULL) != TT_OK)
		return false;
	if (tt_append_log_read(log, log->end, out->data, (size_t)n) < 0)
		return false;
	out->len = (size_t)n;
	return true;
}

int tt_append_log_add(struct tt_append_log *log, const void *data, size_t n)
{
	if (!log->path || n == 0)
		return 0;
	if (tt_file_write_all(log->file, data, n) < 0)
		return -1;
	log->end += n;
	return 0;
}

int tt_append_log_cut(struct tt_append_log *log, struct tt_error *err)
{
	if (log->file < 0)
		return TT_OK;
	if (ftruncate(log->file, (off_t)log->end) < 0 || lseek(log->file, (off_t)log->end, SEEK_SET) < 0)
		return tt_fail_io(err, log->path, "write");
	return TT_OK;
}

int tt_append_log_sync(const struct tt_append_log *log)
{
	return log->file < 0 ? 0 : fdatasync(log->file);
}

int tt_append_log_sync_name(const struct tt_append_log *log, struct tt_error *err)
{
	return log->path ? tt_file_sync_folder(log->path, err) : TT_OK;
}
