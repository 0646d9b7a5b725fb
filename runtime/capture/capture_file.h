/* The safetensors file that tt_capture_data fills row by row, and what it needs to go on after it was killed.
 *
 * All that the file says before its first number follows from the data and the options, and so does the place of every
 * number; so a row is written where it belongs, and the bytes do not depend on how often the run was stopped. Until the
 * file is complete it is called PATH.partial, and PATH.journal has the SHA-256 of its beginning and then that of each
 * row's bytes. Rows are believed as long as they have that digest; from the first that does not, all are made again. */
#ifndef RUNTIME_CAPTURE_CAPTURE_FILE_H
#define RUNTIME_CAPTURE_CAPTURE_FILE_H

#include "base/append_log.h"
#include "runtime/capture/capture_row.h"
#include "runtime/engine/request.h"
#include "weights/safetensors.h"

enum { TT_MAX_COLUMNS = TT_MAX_LAYERS + 8, TT_CAPTURE_DIGEST = 32 };

/* A tensor of the file, seen as what it has of each kept position, or of each row. */
struct tt_capture_column {
	enum { TT_ROW_OFFSET, TT_HIDDEN, TT_LOGITS, TT_COEF, TT_IDS, TT_POSITION, TT_ROW_N_IDS, TT_ROW_ID } what;
	uint32_t layer; /* of TT_HIDDEN */
	char name[24];
	enum tt_dtype dtype;
	bool by_row;      /* else by kept position */
	size_t n, n_each; /* numbers, and bytes, of one */
	uint64_t at;      /* where it begins in the file */
};

/* What is captured. */
struct tt_capture_shape {
	const bool *layers; // [n_layers] which h is kept of
	uint32_t n_layers, hidden_size, vocab_size;
	bool logits, coef;
	size_t n_id; /* bytes of the longest id */
	uint64_t n_rows, n_kept;
};

/* What the rows depend on: a line of the file's metadata. */
struct tt_capture_fact {
	const char *key, *value; /* value NULL: the file must not have the key */
	const char *name;        /* in messages */
};

struct tt_capture_file {
	const char *path; /* borrowed */
	char *data_path, *log_path;
	struct tt_append_log data, log;
	const struct tt_capture_fact *facts; // [n_facts] borrowed; what explains another difference comes first
	size_t n_facts;
	struct tt_capture_column columns[TT_MAX_COLUMNS]; // [n_columns]
	uint32_t n_columns;
	struct tt_capture_shape shape; /* without the layers */
	struct tt_buffer head;
	uint64_t n_bytes;    /* of the whole file */
	uint64_t n_recorded; /* rows that the journal has, which the file may not */
	uint64_t row, kept;  /* rows that are done, and their kept positions */
	char *bytes;         // [capacity] of one row
	size_t capacity;
	bool is_complete; /* PATH was there already */
};

/* Fills in the columns, the beginning and the size; no file is touched. tt_capture_file_close releases it, also if this
 * fails. */
int tt_capture_file_plan(struct tt_capture_file *out, const char *path, const struct tt_capture_shape *shape,
	const struct tt_capture_fact *facts, size_t n_facts, struct tt_error *err);

/* Opens what is there, or makes it with room for all rows. With restart a file of other rows is thrown away. Errors:
 *   TT_ERR_MISMATCH  it is there and of other rows, or no file of tt_capture_data
 *   TT_ERR_IO        it cannot be read or written, or another run has it open
 * With these no byte of it was changed. */
int tt_capture_file_open(struct tt_capture_file *file, bool restart, struct tt_error *err);

/* Whether the next row is done already; then it is skipped. */
int tt_capture_file_skip(
	struct tt_capture_file *file, const struct tt_capture_row *row, bool *done, struct tt_error *err);
/* Writes the next row from its finished request. */
int tt_capture_file_add(struct tt_capture_file *file, const struct tt_capture_row *row,
	const struct tt_request *request, struct tt_error *err);
/* Forces all to disk and gives the file its name. */
int tt_capture_file_finish(struct tt_capture_file *file, struct tt_error *err);
void tt_capture_file_close(struct tt_capture_file *file);

#endif
