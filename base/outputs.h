/* No file that a command writes may be one that it reads, however the two paths are spelled. */
#ifndef BASE_OUTPUTS_H
#define BASE_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

struct tt_file_use {
	const char *path; /* NULL: none */
	const char *role; /* for messages: "the input" */
};

/* The path that a file has, or would have once it is made: absolute, without links; it is enough that its folder
 * exists. A new string (free()). Where the folder does not exist, the path as it was given. */
int tt_file_resolve(char **out, const char *path, struct tt_error *err);

/* Whether opening either path would reach the same file: by name, by a hard link or by a symbolic link, also by one to
 * a file that does not exist yet. */
int tt_same_file(const char *a, const char *b, bool *same, struct tt_error *err);

/* TT_ERR_ARGUMENT where a file of writes is also one of reads, or an earlier one of writes. Nothing is opened or made.
 * A directory in reads is a model's, and stands for the files from which a model is read. */
int tt_check_outputs(const struct tt_file_use *reads, size_t n_reads, const struct tt_file_use *writes, size_t n_writes,
	struct tt_error *err);

#endif
