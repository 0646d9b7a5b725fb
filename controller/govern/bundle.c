#include "controller/govern/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fail.h"
#include "base/file.h"

enum { MAX_BUNDLE = TT_TILE_WIDTH * (2 + 65535) };

void tt_bundle_free(struct tt_bundle *bundle)
{
	tt_buffer_free(&bundle->bytes);
	bundle->n = 0;
}

int tt_bundle_parse(struct tt_bundle *bundle, const char *what, struct tt_error *err)
{
	const uint8_t *data = (const uint8_t *)bundle->bytes.data;
	size_t at = 0, n = bundle->bytes.len;
	for (bundle->n = 0; at < n; bundle->n++) {
		size_t length = n - at < 2 ? 0 : (size_t)data[at] << 8 | data[at + 1];
		if (bundle->n == TT_TILE_WIDTH || n - at < 2 || length > n - at - 2)
			return tt_fail(err, TT_ERR_FORMAT, "%s is no bundle of entries", what);
		bundle->at[bundle->n] = (uint32_t)at;
		at += 2 + length;
	}
	bundle->at[bundle->n] = (uint32_t)at;
	return TT_OK;
}

int tt_bundle_add(struct tt_buffer *bytes, const void *entry, size_t n, struct tt_error *err)
{
	const uint8_t length[2] = {(uint8_t)(n >> 8), (uint8_t)n};
	if (n > 65535)
		return tt_fail(err, TT_ERR_LIMIT, "an entry of %zu bytes is too long for a bundle", n);
	TT_TRY(tt_buffer_add(bytes, length, sizeof length, err));
	return tt_buffer_add(bytes, entry, n, err);
}

const char *tt_bundle_entry(const struct tt_bundle *bundle, uint32_t i, size_t *n)
{
	*n = bundle->at[i + 1] - bundle->at[i] - 2;
	return bundle->bytes.data + bundle->at[i] + 2;
}

static int join(char **out, const char *directory, uint32_t level, uint64_t index, uint32_t width, struct tt_error *err)
{
	char path[TT_TILE_PATH_BYTES];
	tt_tile_path(path, level, index, width);
	return tt_file_join(out, directory, path, err);
}

int tt_bundle_read(struct tt_bundle *out, const char *directory, uint64_t index, uint32_t width, struct tt_error *err)
{
	char *path;
	TT_TRY(join(&path, directory, TT_TILE_ENTRIES, index, width, err));
	tt_buffer_free(&out->bytes);
	int status = tt_file_read(&out->bytes, path, MAX_BUNDLE, err);
	if (status == TT_OK)
		status = tt_bundle_parse(out, path, err);
	if (status == TT_OK && out->n != width)
		status = tt_fail(err, TT_ERR_FORMAT, "%s has %u entries instead of %u", path, out->n, width);
	free(path);
	return status;
}

/* The folders of a path, below one that is there. Those that are there may be of a process that was killed before it
 * had synced them. */
static int make_folders(char *path, size_t from, struct tt_error *err)
{
	for (size_t i = from + 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		path[i] = 0;
		if (mkdir(path, 0777) < 0 && errno != EEXIST)
			return tt_fail_io(err, path, "make the folder");
		TT_TRY(tt_file_sync_folder(path, err));
		path[i] = '/';
	}
	return TT_OK;
}

int tt_tile_write(const char *directory, uint32_t level, uint64_t index, uint32_t width, const void *data, size_t n,
	struct tt_error *err)
{
	char *path;
	TT_TRY(join(&path, directory, level, index, width, err));
	int status = make_folders(path, strlen(directory), err);
	if (status == TT_OK)
		status = tt_file_write(path, data, n, err);
	if (status == TT_OK) /* the database forgets it next */
		status = tt_file_sync_folder(path, err);
	free(path);
	return status;
}

int tt_tile_read(
	struct tt_hash *out, const char *directory, uint32_t level, uint64_t index, uint32_t n, struct tt_error *err)
{
	char *path;
	struct tt_buffer bytes = {0};
	TT_TRY(join(&path, directory, level, index, n, err));
	int status = tt_file_read(&bytes, path, TT_TILE_WIDTH * sizeof *out, err);
	if (status == TT_OK && bytes.len != n * sizeof *out)
		status = tt_fail(err, TT_ERR_FORMAT, "%s is no tile of %u hashes", path, n);
	if (status == TT_OK)
		memcpy(out, bytes.data, bytes.len);
	tt_buffer_free(&bytes);
	free(path);
	return status;
}
