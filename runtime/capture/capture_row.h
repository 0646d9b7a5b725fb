/* A line of the data of tt_capture_data: what is run, and which of its positions are kept. */
#ifndef RUNTIME_CAPTURE_CAPTURE_ROW_H
#define RUNTIME_CAPTURE_CAPTURE_ROW_H

#include "base/lines.h"
#include "runtime/trimtab.h"

enum { TT_MAX_ROW_ID = 255 }; /* bytes */

struct tt_capture_row {
	char *id;     /* the line's, or its number where it has none */
	int32_t *ids; // [n_ids] of the prompt, and of the response from n_prompt on
	size_t n_ids, n_prompt, mean_from, mean_to;
	size_t from; /* ids from here on are kept */
	size_t n_kept;
};

/* Reads the present line. Messages begin with file and line. tt_capture_row_free releases what is in out, also if this
 * fails. */
int tt_capture_row_read(struct tt_capture_row *out, const struct tt_lines *lines, const struct tt_text *text,
	const struct tt_capture_data_options *options, struct tt_error *err);
void tt_capture_row_free(struct tt_capture_row *row);

/* Mixes what is run, under which id and what is kept into a digest of the rows before. */
int tt_capture_row_digest(uint8_t digest[32], const struct tt_capture_row *row, struct tt_error *err);

#endif
