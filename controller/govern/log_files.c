#include "controller/govern/log_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fail.h"
#include "base/file.h"
#include "controller/govern/log_key.h"
#include "controller/govern/query.h"

/* ---- Writing */

/* The entries [from, to) as a bundle. */
static int write_bundle(struct tt_log *log, const char *directory, uint64_t from, uint64_t to, struct tt_error *err)
{
	struct tt_buffer body = {0}, bytes = {0};
	int status = TT_OK;
	for (uint64_t seq = from; status == TT_OK && seq < to; seq++) {
		status = tt_log_read(log, seq, &body, NULL, err);
		if (status == TT_OK)
			status = tt_bundle_add(&bytes, body.data, body.len, err);
	}
	if (status == TT_OK)
		status = tt_tile_write(directory, TT_TILE_ENTRIES, from / TT_TILE_WIDTH, (uint32_t)(to - from),
			bytes.data, bytes.len, err);
	tt_buffer_free(&body);
	tt_buffer_free(&bytes);
	return status;
}

/* The hashes [from, to) of a level as a tile. */
static int write_hashes(
	struct tt_log *log, const char *directory, uint32_t level, uint64_t from, uint64_t to, struct tt_error *err)
{
	struct tt_hash hashes[TT_TILE_WIDTH];
	const uint32_t n = (uint32_t)(to - from);
	const struct tt_tree_reader reader = tt_log_reader(log);
	TT_TRY(reader.read(reader.user, level, from, n, hashes, err));
	return tt_tile_write(directory, level, from / TT_TILE_WIDTH, n, hashes, n * sizeof *hashes, err);
}

/* All tiles of a log of size entries but those that one of old entries has in full; only full ones, or all. */
static int write_tiles(
	struct tt_log *log, const char *directory, uint64_t old, uint64_t size, bool full, struct tt_error *err)
{
	for (uint32_t level = 0; level < TT_TREE_LEVELS && size >> level * TT_TILE_HEIGHT; level++) {
		uint64_t n = size >> level * TT_TILE_HEIGHT, done = old >> level * TT_TILE_HEIGHT;
		n -= full ? n % TT_TILE_WIDTH : 0;
		for (uint64_t from = done - done % TT_TILE_WIDTH; from < n; from += TT_TILE_WIDTH)
			TT_TRY(write_hashes(
				log, directory, level, from, from + TT_TILE_WIDTH < n ? from + TT_TILE_WIDTH : n, err));
	}
	return TT_OK;
}

/* ---- Sealing */

static int first_unsealed(struct tt_log *log, uint64_t *out, struct tt_error *err)
{
	int64_t first;
	struct tt_tree tree;
	TT_TRY(tt_log_tree(log, &tree, err));
	TT_TRY(tt_sql_integer(log->db, "SELECT coalesce((SELECT min(seq) FROM log_entry), ?)",
		TT_SQL(tt_integer((int64_t)tree.size)), &first, err));
	*out = (uint64_t)first;
	return TT_OK;
}

/* Unless another program has sealed them meanwhile. */
static int drop_bodies(struct tt_log *log, uint64_t from, uint64_t to, uint64_t *n, struct tt_error *err)
{
	uint64_t first;
	TT_TRY(first_unsealed(log, &first, err));
	if (first != from)
		return TT_OK;
	*n += to - from;
	TT_TRY(tt_sql_run(log->db, "DELETE FROM log_entry WHERE seq >= ? AND seq < ?",
		TT_SQL(tt_integer((int64_t)from), tt_integer((int64_t)to)), err));
	return tt_log_append(
		log, "seal", json_pack("{s:I, s:I}", "from", (json_int_t)from, "to", (json_int_t)to), NULL, err);
}

/* The files are whole and on disk before what they hold is dropped. */
static int seal_piece(struct tt_log *log, uint64_t from, uint64_t to, uint64_t *n, struct tt_error *err)
{
	for (uint64_t seq = from; seq < to; seq += TT_TILE_WIDTH)
		TT_TRY(write_bundle(log, log->directory, seq, seq + TT_TILE_WIDTH, err));
	TT_TRY(write_tiles(log, log->directory, from, to, true, err));
	TT_TRY(tt_database_begin_piece(log->db, err));
	return tt_database_end(log->db, drop_bodies(log, from, to, n, err), err);
}

int tt_log_seal(struct tt_log *log, uint64_t *n, struct tt_error *err)
{
	enum { PIECE = 16 * TT_TILE_WIDTH }; /* entries */
	struct tt_tree tree;
	uint64_t from;
	*n = 0;
	TT_TRY(tt_log_tree(log, &tree, err));
	const uint64_t to = tree.size - tree.size % TT_TILE_WIDTH;
	for (;;) {
		TT_TRY(first_unsealed(log, &from, err));
		if (from % TT_TILE_WIDTH)
			return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: half a bundle was sealed", log->db->path);
		if (from >= to)
			return TT_OK;
		TT_TRY(seal_piece(log, from, from + PIECE < to ? from + PIECE : to, n, err));
	}
}

static int check_sealed_tile(const struct tt_tree_reader *reader, const char *directory, uint32_t level, uint64_t index,
	struct tt_error *err)
{
	struct tt_hash given[TT_TILE_WIDTH], own[TT_TILE_WIDTH];
	char path[TT_TILE_PATH_BYTES];
	TT_TRY(tt_tile_read(given, directory, level, index, TT_TILE_WIDTH, err));
	TT_TRY(reader->read(reader->user, level, index * TT_TILE_WIDTH, TT_TILE_WIDTH, own, err));
	tt_tile_path(path, level, index, TT_TILE_WIDTH);
	for (uint32_t i = 0; i < TT_TILE_WIDTH; i++)
		if (!tt_hash_equal(&given[i], &own[i]))
			return tt_fail(err, TT_ERR_FORMAT, "%s: hash %u is not that of its entries", path, i);
	return TT_OK;
}

int tt_log_check_sealed(struct tt_log *log, struct tt_error *err)
{
	uint64_t sealed;
	const struct tt_tree_reader reader = tt_log_reader(log);
	TT_TRY(first_unsealed(log, &sealed, err));
	sealed -= sealed % TT_TILE_WIDTH;
	for (uint32_t level = 0; level < TT_TREE_LEVELS; level++)
		for (uint64_t i = 0; i < sealed >> level * TT_TILE_HEIGHT >> TT_TILE_HEIGHT; i++)
			TT_TRY(check_sealed_tile(&reader, log->directory, level, i, err));
	return TT_OK;
}

/* ---- Exporting */

static int join_read(struct tt_buffer *out, const char *directory, const char *name, struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, directory, name, err));
	int status = tt_file_read(out, path, TT_MAX_NOTE, err);
	free(path);
	return status;
}

/* How many entries a folder has already; 0: it holds no export of this log. */
static uint64_t exported(const char *directory, const struct tt_verifier *verifier)
{
	struct tt_buffer note = {0};
	struct tt_checkpoint checkpoint = {0};
	if (join_read(&note, directory, "checkpoint", NULL) != TT_OK || !note.data ||
		tt_checkpoint_open(&checkpoint, note.data, note.len, verifier, NULL) != TT_OK)
		checkpoint.size = 0;
	tt_buffer_free(&note);
	return checkpoint.size;
}

static int export_to(struct tt_log *log, const char *directory, uint64_t old, uint64_t size, struct tt_error *err)
{
	for (uint64_t from = old - old % TT_TILE_WIDTH; from < size; from += TT_TILE_WIDTH)
		TT_TRY(write_bundle(
			log, directory, from, from + TT_TILE_WIDTH < size ? from + TT_TILE_WIDTH : size, err));
	return write_tiles(log, directory, old, size, false, err);
}

int tt_log_export(struct tt_log *log, const struct tt_verifier *verifier, const char *directory,
	struct tt_checkpoint *out, struct tt_error *err)
{
	struct tt_buffer note = {0};
	uint64_t size;
	int status = tt_log_last_checkpoint(log, &note, &size, err);
	if (status == TT_OK && note.len == 0)
		status = tt_fail(err, TT_ERR_UNSUPPORTED, "the log has no checkpoint yet");
	if (status == TT_OK)
		status = tt_checkpoint_open(out, note.data, note.len, verifier, err);
	if (status == TT_OK && mkdir(directory, 0777) < 0 && errno != EEXIST)
		status = tt_fail_io(err, directory, "make the folder");
	if (status == TT_OK)
		status = export_to(log, directory, exported(directory, verifier), size, err);
	if (status == TT_OK)
		status = tt_log_key_write_verifier(directory, verifier, err);
	if (status == TT_OK) /* last: it speaks of what is there */
		status = tt_log_key_publish(directory, note.data, err);
	tt_buffer_free(&note);
	return status;
}

/* ---- Checking what was exported */

struct files {
	const char *directory;
	struct tt_log_report *report;
	struct tt_hasher *hasher;
	struct tt_tree tree;
	struct tt_entry_chain chain;
	uint64_t size;
	struct tt_checkpoint newest, held;
	bool holds;                                          /* held was given */
	struct tt_hash tiles[TT_TREE_LEVELS][TT_TILE_WIDTH]; /* of each level, the hashes since its last full tile */
};

/* Compares what a tile should hold with its file. */
static int check_tile(const struct files *f, uint32_t level, uint64_t index, uint32_t n, struct tt_error *err)
{
	struct tt_hash hashes[TT_TILE_WIDTH];
	char path[TT_TILE_PATH_BYTES];
	TT_TRY(tt_tile_read(hashes, f->directory, level, index, n, err));
	tt_tile_path(path, level, index, n);
	for (uint32_t i = 0; i < n; i++)
		if (!tt_hash_equal(&hashes[i], &f->tiles[level][i]))
			return tt_fail(err, TT_ERR_FORMAT, "%s: hash %u is not that of its entries", path, i);
	return TT_OK;
}

static int take_hash(void *user, uint32_t level, uint64_t index, const struct tt_hash *hash, struct tt_error *err)
{
	struct files *f = user;
	const uint32_t at = (uint32_t)(index % TT_TILE_WIDTH);
	f->tiles[level][at] = *hash;
	if (at + 1 < TT_TILE_WIDTH)
		return TT_OK;
	return check_tile(f, level, index / TT_TILE_WIDTH, TT_TILE_WIDTH, err);
}

static int check_held(const struct files *f, struct tt_error *err)
{
	struct tt_hash root;
	if (!f->holds || f->tree.size != f->held.size)
		return TT_OK;
	tt_tree_root(&f->tree, f->hasher, &root);
	if (tt_hash_equal(&root, &f->held.root))
		return TT_OK;
	return tt_fail(err, TT_ERR_FORMAT,
		"the log is not a continuation of the checkpoint of %" PRIu64 " entries: what it held then was changed",
		f->held.size);
}

static int check_bundle(struct files *f, const struct tt_bundle *bundle, struct tt_error *err)
{
	for (uint32_t i = 0; i < bundle->n; i++) {
		struct tt_hash leaf;
		size_t n;
		const char *entry = tt_bundle_entry(bundle, i, &n);
		tt_hash_leaf(f->hasher, &leaf, entry, n);
		TT_TRY(tt_entry_chain_add(&f->chain, entry, n, &leaf, err));
		TT_TRY(take_hash(f, 0, f->tree.size, &leaf, err));
		TT_TRY(tt_tree_append(&f->tree, f->hasher, &leaf, take_hash, f, err));
		TT_TRY(check_held(f, err));
	}
	return TT_OK;
}

/* Of what is no multiple of 256. */
static int check_partial_tiles(const struct files *f, struct tt_error *err)
{
	for (uint32_t level = 0; level < TT_TREE_LEVELS; level++) {
		uint64_t n = f->size >> level * TT_TILE_HEIGHT;
		if (n % TT_TILE_WIDTH)
			TT_TRY(check_tile(f, level, n / TT_TILE_WIDTH, (uint32_t)(n % TT_TILE_WIDTH), err));
	}
	return TT_OK;
}

static int check_entries(struct files *f, struct tt_error *err)
{
	struct tt_bundle bundle = {0};
	int status = check_held(f, err);
	while (status == TT_OK && f->tree.size < f->size) {
		uint64_t left = f->size - f->tree.size;
		uint32_t width = left < TT_TILE_WIDTH ? (uint32_t)left : TT_TILE_WIDTH;
		status = tt_bundle_read(&bundle, f->directory, f->tree.size / TT_TILE_WIDTH, width, err);
		if (status == TT_OK)
			status = check_bundle(f, &bundle, err);
	}
	tt_bundle_free(&bundle);
	return status;
}

static int read_checkpoints(struct files *f, const struct tt_verifier *verifier, const char *held, struct tt_error *err)
{
	struct tt_buffer note = {0};
	int status = join_read(&note, f->directory, "checkpoint", err);
	if (status == TT_OK)
		status = tt_within(
			tt_checkpoint_open(&f->newest, note.data, note.len, verifier, err), err, "checkpoint");
	tt_buffer_free(&note);
	TT_TRY(status);
	f->size = f->newest.size;
	f->holds = held != NULL;
	if (held)
		TT_TRY(tt_within(tt_checkpoint_open(&f->held, held, strlen(held), verifier, err), err,
			"the checkpoint that was given"));
	if (held && f->held.size > f->size)
		return tt_fail(err, TT_ERR_FORMAT,
			"the checkpoint that was given has %" PRIu64 " entries and the log %" PRIu64
			": some were removed",
			f->held.size, f->size);
	return TT_OK;
}

static int check_files(struct files *f, const struct tt_verifier *verifier, const char *held, struct tt_error *err)
{
	TT_TRY(read_checkpoints(f, verifier, held, err));
	TT_TRY(tt_entry_chain_open(&f->chain, f->size, err));
	TT_TRY(check_entries(f, err));
	TT_TRY(check_partial_tiles(f, err));
	tt_tree_root(&f->tree, f->hasher, &f->report->root);
	if (!tt_hash_equal(&f->report->root, &f->newest.root))
		return tt_fail(err, TT_ERR_FORMAT, "the checkpoint is not of these entries");
	f->report->newest = f->newest;
	f->report->n_checkpoints = 1;
	f->report->n_sealed = f->size;
	return tt_hasher_check(f->hasher, err);
}

int tt_log_verify_files(const char *directory, const struct tt_verifier *verifier, const char *held,
	struct tt_log_report *report, struct tt_error *err)
{
	struct files *f;
	struct tt_hasher hasher;
	*report = (struct tt_log_report){0};
	TT_TRY(tt_alloc(&f, 1, sizeof *f, err));
	int status = tt_hasher_open(&hasher, err);
	if (status == TT_OK) {
		f->directory = directory;
		f->report = report;
		f->hasher = &hasher;
		status = check_files(f, verifier, held, err);
		tt_log_report_chain(report, &f->chain);
		tt_entry_chain_close(&f->chain);
		tt_hasher_close(&hasher);
	}
	free(f);
	return status;
}
