/* What a command writes may be nothing that it reads, however the two are spelled. */
#ifndef BASE_OUTPUTS_H
#define BASE_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

struct tt_file_use {
	const char *path; /* NULL: none */
	const char *role; /* for messages: "the input" */
};

/* The path that a file has, or would have once it is made: absolute, without links, also where only its folder is
 * there. A new string (free()); the path as it was given where its folder is not there. */
int tt_file_resolve(char **out, const char *path, struct tt_error *err);

/* Would opening either path reach one file: by name, by a hard or symbolic link, also one to a file that is not there
 * yet? */
int tt_same_file(const char *a, const char *b, bool *same, struct tt_error *err);

/* TT_ERR_ARGUMENT where a file of writes is one of reads, or an earlier one of writes; nothing is opened or made. A
 * directory among reads is a model's, and stands for the files that a model is read from. */
int tt_check_outputs(const struct tt_file_use *reads, size_t n_reads, const struct tt_file_use *writes, size_t n_writes,
	struct tt_error *err);

#endif
