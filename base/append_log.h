/* A file that only grows, by records that are whole: what comes after the last whole one is cut off. */
#ifndef BASE_APPEND_LOG_H
#define BASE_APPEND_LOG_H

#include "base/memory.h"

struct tt_append_log {
	const char *path; /* borrowed; NULL: no such file is wanted, and every call succeeds and does nothing */
	int file;         /* -1: not open */
	uint64_t end;     /* of the last whole record */
};

/* Opens for reading and writing. Refuses what is not a regular file: nothing could be cut there. A file that is not
 * there is made with create; without, the log stays closed (file is -1), and counts as empty. */
int tt_append_log_open(struct tt_append_log *log, bool create, struct tt_error *err);
void tt_append_log_close(struct tt_append_log *log);

/* Bytes in the file, records or not. */
int tt_append_log_size(const struct tt_append_log *log, uint64_t *size, struct tt_error *err);

/* Reads the n bytes after the last whole record into out, which is emptied before; false where there are not as many. */
bool tt_append_log_peek(const struct tt_append_log *log, struct tt_buffer *out, uint64_t n);

/* Appends, and moves end. -1 with errno, and end where it was, when it fails; tt_append_log_cut takes the half record
 * away. */
int tt_append_log_add(struct tt_append_log *log, const void *data, size_t n);

/* Cuts the file to end; what is added comes there. */
int tt_append_log_cut(struct tt_append_log *log, struct tt_error *err);

/* Forces what was added to the disk. -1 with errno when that fails. */
int tt_append_log_sync(const struct tt_append_log *log);
/* The same of the file's name, which is on disk when its folder is. */
int tt_append_log_sync_name(const struct tt_append_log *log, struct tt_error *err);

#endif
