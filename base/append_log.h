/* A file that only grows, by whole records: what follows the last whole record is cut off. */
#ifndef BASE_APPEND_LOG_H
#define BASE_APPEND_LOG_H

#include "base/memory.h"

struct tt_append_log {
	const char *path; /* borrowed; NULL: no such file is wanted, and every call succeeds and does nothing */
	int file;         /* -1: not open */
	uint64_t end;     /* of the last whole record */
};

/* Opens for reading and writing. Refuses anything but a regular file, because nothing could be cut from it. With
 * create, a file that does not exist is made; without, the log stays closed (file is -1) and counts as empty. */
int tt_append_log_open(struct tt_append_log *log, bool create, struct tt_error *err);
/* Makes the file and locks it; *taken, and the log stays closed, where there is one already. */
int tt_append_log_create(struct tt_append_log *log, bool *taken, struct tt_error *err);
/* Closes the file; nothing is forced to disk. */
void tt_append_log_close(struct tt_append_log *log);

/* Bytes in the file, whole records or not. */
int tt_append_log_size(const struct tt_append_log *log, uint64_t *size, struct tt_error *err);

/* TT_ERR_IO where another holder has the lock, which closing the log gives up. The log is open. */
int tt_append_log_lock(const struct tt_append_log *log, struct tt_error *err);
/* The same for a lock that several may share, none of whom may write. */
int tt_append_log_lock_shared(const struct tt_append_log *log, struct tt_error *err);

/* tt_append_log_lock that waits for the other holder, however long that takes. */
int tt_append_log_wait_lock(const struct tt_append_log *log, struct tt_error *err);

/* Reads n bytes from a position on, whole records or not. -1 with errno when that fails; EIO: the file ends before. */
int tt_append_log_read(const struct tt_append_log *log, uint64_t at, void *out, size_t n);
/* Reads the n bytes after the last whole record into out, which is emptied first; false where there are fewer. */
bool tt_append_log_peek(const struct tt_append_log *log, struct tt_buffer *out, uint64_t n);

/* Appends, and moves end. On failure returns -1 with errno, and end is unchanged; tt_append_log_cut then removes the
 * partial record. */
int tt_append_log_add(struct tt_append_log *log, const void *data, size_t n);

/* Cuts the file to end; later records are added there. */
int tt_append_log_cut(struct tt_append_log *log, struct tt_error *err);

/* Forces what was added to disk. -1 with errno when that fails. */
int tt_append_log_sync(const struct tt_append_log *log);
/* Forces the file's name to disk, by syncing its folder. */
int tt_append_log_sync_name(const struct tt_append_log *log, struct tt_error *err);

#endif
