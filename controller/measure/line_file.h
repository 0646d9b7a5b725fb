/* A file of lines that gets its name when it is complete. */
#ifndef CONTROLLER_MEASURE_LINE_FILE_H
#define CONTROLLER_MEASURE_LINE_FILE_H

#include <stdio.h>

#include "base/tt_error.h"

struct tt_line_file {
	const char *path; /* NULL: not written */
	char *partial;    /* its name until then: PATH.partial, where an interrupted run leaves what it has */
	FILE *file;       /* NULL: not open */
};

/* Fills in the names; path may be NULL, and then the functions below do nothing. tt_line_file_free releases it. */
int tt_line_file_name(struct tt_line_file *file, const char *path, struct tt_error *err);
int tt_line_file_open(struct tt_line_file *file, struct tt_error *err);
/* Takes over line (free()), which has no end of its own. The file is open. */
int tt_line_file_put(struct tt_line_file *file, char *line, struct tt_error *err);
int tt_line_file_flush(struct tt_line_file *file, struct tt_error *err);
/* Writes everything to the disk and gives the file its name. */
int tt_line_file_close(struct tt_line_file *file, struct tt_error *err);
void tt_line_file_free(struct tt_line_file *file);

#endif
