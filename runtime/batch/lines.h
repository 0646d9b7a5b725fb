/* A text file line by line, in memory that depends neither on its size nor on its longest line. */
#ifndef RUNTIME_BATCH_LINES_H
#define RUNTIME_BATCH_LINES_H

#include <stdio.h>

#include "base/memory.h"

enum { TT_MAX_LINE = 16 << 20 }; /* bytes of a line that are kept; a longer one is passed over */

struct tt_lines {
	FILE *file;
	const char *path; /* borrowed */
	uint64_t left;    /* bytes that are still to be read: what is appended to the file meanwhile is not read */
	struct tt_buffer line;
	uint64_t number; /* of the line in hand, from 1 */
	uint64_t offset; /* behind the line in hand and its newline */
	bool too_long;   /* it was: line.data holds its beginning */
	bool ended;      /* by a newline, and not by the end of the file */
};

/* Reads the first size bytes of a regular file. */
int tt_lines_open(struct tt_lines *lines, const char *path, uint64_t size, struct tt_error *err);
/* The next line that is not blank, without its newline. *found is false at the end. */
int tt_lines_next(struct tt_lines *lines, bool *found, struct tt_error *err);
void tt_lines_close(struct tt_lines *lines);

#endif
