/* Reads a text file line by line, with memory that depends neither on its size nor on its longest line. */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include <stdio.h>

#include "base/memory.h"

enum { TT_MAX_LINE = 16 << 20 }; /* how many bytes of a line are kept; the rest of a longer line is skipped */

struct tt_lines {
	FILE *file;
	const char *path; /* borrowed */
	uint64_t left;    /* bytes still to be read; bytes that are appended to the file meanwhile are not */
	struct tt_buffer line;
	uint64_t number; /* of the present line, from 1 */
	uint64_t offset; /* in the file, of the byte after the present line and its newline */
	bool too_long;   /* the line is longer than TT_MAX_LINE, and line.data holds its beginning */
	bool ended;      /* the line ended with a newline, not with the end of the file */
};

/* Reads the first size bytes of a regular file. */
int tt_lines_open(struct tt_lines *lines, const char *path, uint64_t size, struct tt_error *err);
/* TT_ERR_FORMAT for what begins as a compressed file; tt_lines_next asks this of the first line. */
int tt_refuse_gzip(const char *path, const void *head, size_t n, struct tt_error *err);
/* Reads the next line that is not blank, without its newline. *found is false at the end. */
int tt_lines_next(struct tt_lines *lines, bool *found, struct tt_error *err);
/* Goes to the byte at offset, before which the file has so many lines, blank ones too. */
int tt_lines_seek(struct tt_lines *lines, uint64_t offset, uint64_t number, struct tt_error *err);
void tt_lines_close(struct tt_lines *lines);

#endif
