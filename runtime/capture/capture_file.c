#include "runtime/capture/capture_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"
#include "runtime/engine/capture.h"
#include "weights/safetensors_types.h"

/* ---- The plan */

static void add_column(
	struct tt_capture_file *f, int what, const char *name, enum tt_dtype dtype, bool by_row, size_t n)
{
	struct tt_capture_column *c = &f->columns[f->n_columns++];
	*c = (struct tt_capture_column){.what = what, .dtype = dtype, .by_row = by_row, .n = n};
	c->n_each = n * tt_dtype_bytes(dtype);
	snprintf(c->name, sizeof c->name, "%s", name);
}

/* The widest numbers come first, so that each tensor begins at a multiple of what its numbers take. */
static void add_columns(struct tt_capture_file *f, const struct tt_capture_shape *s)
{
	add_column(f, TT_ROW_OFFSET, "row.offset", TT_DTYPE_I64, true, 1);
	for (uint32_t l = 0; l < s->n_layers; l++) {
		char name[24];
		if (!s->layers[l])
			continue;
		snprintf(name, sizeof name, "hidden.%u", l);
		add_column(f, TT_HIDDEN, name, TT_DTYPE_F32, false, s->hidden_size);
		f->columns[f->n_columns - 1].layer = l;
	}
	if (s->logits)
		add_column(f, TT_LOGITS, "logits", TT_DTYPE_F32, false, s->vocab_size);
	if (s->coef)
		add_column(f, TT_COEF, "coef", TT_DTYPE_F32, false, s->n_layers);
	add_column(f, TT_IDS, "ids", TT_DTYPE_I32, false, 1);
	add_column(f, TT_POSITION, "position", TT_DTYPE_I32, false, 1);
	add_column(f, TT_ROW_N_IDS, "row.n_ids", TT_DTYPE_I32, true, 1);
	add_column(f, TT_ROW_ID, "row.id", TT_DTYPE_U8, true, s->n_id);
}

/* Rows that a tensor has: row.offset has one more, where the last row ends. */
static uint64_t rows_of(const struct tt_capture_file *f, const struct tt_capture_column *c)
{
	return c->by_row ? f->shape.n_rows + (c->what == TT_ROW_OFFSET) : f->shape.n_kept;
}

static int print_head(struct tt_capture_file *f, struct tt_error *err)
{
	struct tt_st_tensor *tensors;
	struct tt_st_pair *pairs = NULL;
	size_t n_data;
	TT_TRY(tt_alloc(&tensors, f->n_columns, sizeof *tensors, err));
	for (uint32_t i = 0; i < f->n_columns; i++) {
		const struct tt_capture_column *c = &f->columns[i];
		bool is_matrix = c->n > 1 || c->what == TT_HIDDEN || c->what == TT_ROW_ID;
		tensors[i] = (struct tt_st_tensor){.name = c->name,
			.dtype = c->dtype,
			.n_dims = is_matrix ? 2 : 1,
			.shape = {rows_of(f, c), c->n}};
	}
	size_t n_pairs = 0;
	int status = tt_alloc(&pairs, f->n_facts, sizeof *pairs, err);
	for (size_t i = 0; status == TT_OK && i < f->n_facts; i++)
		if (f->facts[i].value)
			pairs[n_pairs++] = (struct tt_st_pair){f->facts[i].key, f->facts[i].value};
	if (status == TT_OK)
		status = tt_safetensors_header(&f->head, &n_data, tensors, f->n_columns, pairs, n_pairs, err);
	free(pairs);
	free(tensors);
	return status;
}

static int lay_out(struct tt_capture_file *f, struct tt_error *err)
{
	TT_TRY(print_head(f, err));
	f->n_bytes = f->head.len;
	for (uint32_t i = 0; i < f->n_columns; i++) {
		f->columns[i].at = f->n_bytes;
		f->n_bytes += rows_of(f, &f->columns[i]) * f->columns[i].n_each;
	}
	return f->n_bytes <= INT64_MAX ? TT_OK : tt_fail(err, TT_ERR_LIMIT, "%s: the file's size overflows", f->path);
}

int tt_capture_file_plan(struct tt_capture_file *out, const char *path, const struct tt_capture_shape *shape,
	const struct tt_capture_fact *facts, size_t n_facts, struct tt_error *err)
{
	struct tt_buffer name = {0};
	*out = (struct tt_capture_file){
		.path = path, .data.file = -1, .log.file = -1, .shape = *shape, .facts = facts, .n_facts = n_facts};
	TT_TRY(tt_buffer_print(&name, err, "%s.partial", path));
	out->data.path = out->data_path = name.data;
	name = (struct tt_buffer){0};
	TT_TRY(tt_buffer_print(&name, err, "%s.journal", path));
	out->log.path = out->log_path = name.data;
	add_columns(out, shape);
	out->shape.layers = NULL;
	return lay_out(out, err);
}

/* ---- What is there */

static int refuse_stranger(const char *path, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MISMATCH,
		"%s is there and is no file of captured rows; nothing was changed. Name another output", path);
}

/* Whether a file has the fact, or has it as little as this run. */
static bool has_fact(const struct tt_capture_fact *fact, const char *value)
{
	return fact->value && value ? strcmp(value, fact->value) == 0 : fact->value == value;
}

/* Says why a file is not the one that this run would write; with restart only if it must not be thrown away. */
static int refuse(const struct tt_capture_file *f, const char *path, bool restart, struct tt_error *err)
{
	struct tt_safetensors *there = NULL;
	int opened = tt_safetensors_open(&there, path, err);
	if (opened != TT_OK)
		return opened == TT_ERR_FORMAT ? refuse_stranger(path, err) : opened;
	const char *format = tt_safetensors_metadata(there, f->facts[0].key), *value = "";
	size_t i = 0;
	if (!format || strcmp(format, f->facts[0].value) != 0) {
		tt_safetensors_close(there);
		return refuse_stranger(path, err);
	}
	const char *here = "none";
	while (i < f->n_facts && has_fact(&f->facts[i], value = tt_safetensors_metadata(there, f->facts[i].key)))
		i++;
	if (i < f->n_facts && f->facts[i].value)
		here = f->facts[i].value;
	int status =
		restart ? TT_OK
			: tt_fail(err, TT_ERR_MISMATCH,
				  "%s holds rows of another %s (%.24s there, %.24s here); nothing was changed. Name "
				  "another output; --restart throws those rows away",
				  path, i < f->n_facts ? f->facts[i].name : "shape", value ? value : "none", here);
	tt_safetensors_close(there);
	return status;
}

/* Compares a file with the beginning of ours. *begins: a run that would have made ours was killed while it began. */
static int compare(const struct tt_capture_file *f, const struct tt_append_log *file, bool *same, bool *begins,
	struct tt_error *err)
{
	uint64_t size;
	char *found = NULL;
	TT_TRY(tt_append_log_size(file, &size, err));
	size_t n = size < f->head.len ? (size_t)size : f->head.len;
	TT_TRY(tt_alloc(&found, n, 1, err));
	int status = tt_append_log_read(file, 0, found, n) < 0 ? tt_fail_io(err, file->path, "read") : TT_OK;
	bool equal = status == TT_OK && (n == 0 || memcmp(found, f->head.data, n) == 0);
	free(found);
	*same = equal && size == f->n_bytes;
	*begins = equal && size != f->n_bytes;
	return status;
}

/* PATH itself, which is there once all rows are. */
static int check_complete(struct tt_capture_file *f, bool restart, struct tt_error *err)
{
	struct tt_append_log file = {.path = f->path, .file = -1};
	bool same = false, begins = false;
	if (!tt_file_exists(f->path))
		return TT_OK;
	TT_TRY(tt_append_log_open(&file, false, err));
	int status = compare(f, &file, &same, &begins, err);
	tt_append_log_close(&file);
	TT_TRY(status);
	f->is_complete = same && !restart;
	return same ? TT_OK : refuse(f, f->path, restart, err);
}

/* ---- Opening */

static int failed_write(const struct tt_append_log *file, struct tt_error *err)
{
	return tt_fail_io(err, file->path, "write");
}

static int write_at(const struct tt_capture_file *f, uint64_t at, const void *data, size_t n, struct tt_error *err)
{
	if (lseek(f->data.file, (off_t)at, SEEK_SET) < 0 || tt_file_write_all(f->data.file, data, n) < 0)
		return failed_write(&f->data, err);
	return TT_OK;
}

/* Gives the file its beginning and the room for all rows, so that a disk that is too small is known now. */
static int make_room(struct tt_capture_file *f, struct tt_error *err)
{
	f->data.end = 0;
	TT_TRY(tt_append_log_cut(&f->data, err));
	TT_TRY(write_at(f, 0, f->head.data, f->head.len, err));
	int failed = posix_fallocate(f->data.file, 0, (off_t)f->n_bytes);
	if (failed) {
		tt_append_log_cut(&f->data, NULL);
		return tt_fail(err, TT_ERR_IO, "%s: no room for %llu bytes: %s", f->data.path,
			(unsigned long long)f->n_bytes, strerror(failed));
	}
	return TT_OK;
}

static int begin(struct tt_capture_file *f, struct tt_error *err)
{
	uint8_t digest[TT_CAPTURE_DIGEST];
	f->log.end = f->n_recorded = 0;
	TT_TRY(tt_append_log_cut(&f->log, err));
	TT_TRY(make_room(f, err));
	TT_TRY(tt_sha256_bytes(digest, f->head.data, f->head.len, err));
	if (tt_append_log_add(&f->log, digest, sizeof digest) < 0)
		return failed_write(&f->log, err);
	return tt_append_log_sync_name(&f->log, err);
}

/* How many rows the journal has, if it is that of our file; *ours is false where it is not. */
static int read_journal(struct tt_capture_file *f, bool *ours, struct tt_error *err)
{
	uint8_t found[TT_CAPTURE_DIGEST], wanted[TT_CAPTURE_DIGEST];
	uint64_t size;
	*ours = false;
	TT_TRY(tt_append_log_size(&f->log, &size, err));
	if (size < sizeof found)
		return TT_OK;
	TT_TRY(tt_sha256_bytes(wanted, f->head.data, f->head.len, err));
	if (tt_append_log_read(&f->log, 0, found, sizeof found) < 0)
		return tt_fail_io(err, f->log.path, "read");
	*ours = memcmp(found, wanted, sizeof found) == 0;
	f->n_recorded = size / sizeof found - 1;
	return TT_OK;
}

/* Goes on behind row n_recorded. */
static int cut_journal(struct tt_capture_file *f, uint64_t n_recorded, struct tt_error *err)
{
	f->n_recorded = n_recorded;
	f->log.end = (1 + n_recorded) * TT_CAPTURE_DIGEST;
	return tt_append_log_cut(&f->log, err);
}

static int open_data(struct tt_capture_file *f, bool restart, struct tt_error *err)
{
	bool ours = false, same = false, begins = false;
	TT_TRY(read_journal(f, &ours, err));
	TT_TRY(compare(f, &f->data, &same, &begins, err));
	if (ours && same && !restart)
		return cut_journal(f, f->n_recorded < f->shape.n_rows ? f->n_recorded : f->shape.n_rows, err);
	if (!same && !begins)
		TT_TRY(refuse(f, f->data.path, restart, err));
	return begin(f, err);
}

int tt_capture_file_open(struct tt_capture_file *f, bool restart, struct tt_error *err)
{
	TT_TRY(check_complete(f, restart, err));
	if (f->is_complete)
		return TT_OK;
	/* A stranger's file must not get a journal beside it. */
	bool is_new = !tt_file_exists(f->data.path);
	TT_TRY(tt_append_log_open(&f->data, false, err));
	if (!is_new && !tt_file_exists(f->log.path)) {
		bool same = false, begins = false;
		TT_TRY(compare(f, &f->data, &same, &begins, err));
		if (!same && !begins)
			TT_TRY(refuse(f, f->data.path, restart, err));
	}
	TT_TRY(tt_append_log_open(&f->log, true, err));
	TT_TRY(tt_append_log_lock(&f->log, err));
	TT_TRY(tt_append_log_open(&f->data, true, err));
	return open_data(f, restart, err);
}

/* ---- Rows */

/* Where the row has its part of a column, and how many bytes. */
static uint64_t place_of(
	const struct tt_capture_file *f, const struct tt_capture_column *c, const struct tt_capture_row *row, size_t *n)
{
	*n = c->by_row ? c->n_each : row->n_kept * c->n_each;
	return c->at + (c->by_row ? f->row + (c->what == TT_ROW_OFFSET) : f->kept) * c->n_each;
}

/* Makes room for the row's bytes. It must be one of those that the file was planned for. */
static int reserve(struct tt_capture_file *f, const struct tt_capture_row *row, size_t *n_bytes, struct tt_error *err)
{
	*n_bytes = 0;
	if (f->row == f->shape.n_rows || row->n_kept > f->shape.n_kept - f->kept || strlen(row->id) > f->shape.n_id)
		return tt_fail(err, TT_ERR_IO, "the data has changed while it was read");
	for (uint32_t i = 0; i < f->n_columns; i++) {
		size_t n;
		place_of(f, &f->columns[i], row, &n);
		*n_bytes += n;
	}
	return tt_grow(&f->bytes, &f->capacity, *n_bytes, 1, err);
}

static void advance(struct tt_capture_file *f, const struct tt_capture_row *row)
{
	f->row++;
	f->kept += row->n_kept;
}

int tt_capture_file_skip(struct tt_capture_file *f, const struct tt_capture_row *row, bool *done, struct tt_error *err)
{
	uint8_t recorded[TT_CAPTURE_DIGEST], actual[TT_CAPTURE_DIGEST];
	size_t n_bytes, at = 0, n;
	*done = false;
	if (f->row >= f->n_recorded)
		return TT_OK;
	TT_TRY(reserve(f, row, &n_bytes, err));
	for (uint32_t i = 0; i < f->n_columns; i++, at += n) {
		uint64_t place = place_of(f, &f->columns[i], row, &n);
		if (tt_append_log_read(&f->data, place, f->bytes + at, n) < 0)
			return tt_fail_io(err, f->data.path, "read");
	}
	TT_TRY(tt_sha256_bytes(actual, f->bytes, n_bytes, err));
	if (tt_append_log_read(&f->log, (1 + f->row) * sizeof recorded, recorded, sizeof recorded) < 0)
		return tt_fail_io(err, f->log.path, "read");
	*done = memcmp(actual, recorded, sizeof actual) == 0;
	if (!*done)
		return cut_journal(f, f->row, err);
	advance(f, row);
	return TT_OK;
}

/* The row's part of a column, of n bytes. */
static void fill(const struct tt_capture_file *f, const struct tt_capture_column *c, const struct tt_capture_row *row,
	const struct tt_request *request, char *out, size_t n)
{
	const int64_t end = (int64_t)(f->kept + row->n_kept);
	const int32_t n_ids = (int32_t)row->n_ids;
	switch (c->what) {
	case TT_ROW_OFFSET:
		memcpy(out, &end, n);
		break;
	case TT_HIDDEN:
		memcpy(out, tt_request_hidden(request, c->layer), n);
		break;
	case TT_LOGITS:
		memcpy(out, tt_request_logits(request), n);
		break;
	case TT_COEF:
		tt_capture_coefficients(request, row->from, row->n_ids, f->shape.n_layers, (float *)(void *)out);
		break;
	case TT_IDS:
		memcpy(out, row->ids + row->from, n);
		break;
	case TT_POSITION:
		for (size_t i = 0; i < row->n_kept; i++) {
			const int32_t position = (int32_t)(row->from + i);
			memcpy(out + i * sizeof position, &position, sizeof position);
		}
		break;
	case TT_ROW_N_IDS:
		memcpy(out, &n_ids, n);
		break;
	case TT_ROW_ID:
		memset(out, 0, n);
		memcpy(out, row->id, strlen(row->id));
		break;
	}
}

int tt_capture_file_add(struct tt_capture_file *f, const struct tt_capture_row *row, const struct tt_request *request,
	struct tt_error *err)
{
	uint8_t digest[TT_CAPTURE_DIGEST];
	size_t n_bytes, at = 0, n;
	TT_TRY(reserve(f, row, &n_bytes, err));
	for (uint32_t i = 0; i < f->n_columns; i++, at += n) {
		uint64_t place = place_of(f, &f->columns[i], row, &n);
		fill(f, &f->columns[i], row, request, f->bytes + at, n);
		TT_TRY(write_at(f, place, f->bytes + at, n, err));
	}
	TT_TRY(tt_sha256_bytes(digest, f->bytes, n_bytes, err));
	if (tt_append_log_add(&f->log, digest, sizeof digest) < 0) {
		tt_append_log_cut(&f->log, NULL);
		return failed_write(&f->log, err);
	}
	advance(f, row);
	f->n_recorded = f->row;
	return TT_OK;
}

/* ---- The end */

int tt_capture_file_finish(struct tt_capture_file *f, struct tt_error *err)
{
	if (f->is_complete)
		return TT_OK;
	if (f->row != f->shape.n_rows || f->kept != f->shape.n_kept)
		return tt_fail(err, TT_ERR_IO, "the data has changed while it was read");
	if (fsync(f->data.file) < 0 || rename(f->data.path, f->path) < 0)
		return failed_write(&f->data, err);
	TT_TRY(tt_append_log_sync_name(&f->data, err));
	/* Should it stay, the next run has it begin anew. */
	unlink(f->log.path);
	return TT_OK;
}

void tt_capture_file_close(struct tt_capture_file *f)
{
	tt_append_log_close(&f->data);
	tt_append_log_close(&f->log);
	tt_buffer_free(&f->head);
	free(f->data_path);
	free(f->log_path);
	free(f->bytes);
}
