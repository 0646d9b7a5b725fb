/* Files: read-only mappings, whole-file reads with a cap, and writes that happen in full or not at all. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

struct tt_mapping {
	const uint8_t *data; /* NULL for an empty file */
	size_t size;         /* bytes */
};

/* Maps a regular file read-only. Refuses directories and devices. tt_file_unmap releases it. */
int tt_file_map(struct tt_mapping *out, const char *path, struct tt_error *err);
void tt_file_unmap(struct tt_mapping *mapping);
/* The path (its last 255 bytes) of the mapped file that contains address, or NULL. For a handler of SIGBUS: takes no
 * lock. */
const char *tt_file_mapped(const void *address);

/* Whether the file of this path is mapped, under any name. */
bool tt_file_is_mapped(const char *path);

/* Reads a whole file (or standard input for "-") of at most max_bytes into an empty buffer. */
int tt_file_read(struct tt_buffer *out, const char *path, size_t max_bytes, struct tt_error *err);

/* Writes a file through a temporary one beside it: fsync, then rename. A reader sees the old file or the new one. */
int tt_file_write(const char *path, const void *data, size_t n, struct tt_error *err);
/* Makes a file that is its owner's alone from the first moment on, in full or not at all, by way of PATH.new; one that
 * is there stays. One caller at a time. */
int tt_file_write_secret(const char *path, const void *data, size_t n, struct tt_error *err);
/* Makes what was made, renamed or removed under this path outlast a cut of the power: syncs the folder it is in, where
 * that may be read and its file system can do this. */
int tt_file_sync_folder(const char *path, struct tt_error *err);

/* Makes an empty file of a name that nobody else has, beside the path, for what is to take its name: *name is a new
 * string, and *file is open for writing. After an error neither is to be released. */
int tt_file_make_temporary(char **name, int *file, const char *path, struct tt_error *err);

/* Lets this process open as many files at once as the system permits it. */
void tt_file_allow_all(void);

/* Calls write until all is written; -1 with errno when that fails. */
int tt_file_write_all(int file, const void *data, size_t n);

/* Also true where the answer cannot be found out; opening the file then says why. */
bool tt_file_exists(const char *path);
bool tt_file_is_directory(const char *path);

/* DIR/NAME in a new string; release with free(). */
int tt_file_join(char **out, const char *directory, const char *name, struct tt_error *err);

/* The folder of a path ("." for a bare name), in a new string; release with free(). */
int tt_file_folder(char **out, const char *path, struct tt_error *err);
/* What follows the last slash of a path; all of it where nothing does. Part of path. */
const char *tt_file_name(const char *path);

#endif
