#define _XOPEN_SOURCE 700 /* realpath */
#include "base/outputs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"

enum { MAX_LINKS = 40 }; /* as in Linux */

/* realpath; *out is NULL where nothing exists. */
static int real_path(char **out, const char *path, struct tt_error *err)
{
	*out = realpath(path, NULL);
	if (!*out && errno == ENOMEM)
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: the path of %s", path);
	return TT_OK;
}

/* FOLDER/NAME of a path whose folder exists; *out is NULL where it does not. */
static int resolve_in_folder(char **out, const char *path, struct tt_error *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char *folder = NULL, *real = NULL;
	*out = NULL;
	TT_TRY(tt_file_folder(&folder, path, err));
	int status = real_path(&real, folder, err);
	free(folder);
	if (status == TT_OK && real)
		status = tt_file_join(out, strcmp(real, "/") ? real : "", name, err);
	free(real);
	return status;
}

/* The target of a link, as a path from where we are; *out is NULL when path is not a link. */
static int follow(char **out, const char *path, struct tt_error *err)
{
	char target[PATH_MAX];
	const char *slash = strrchr(path, '/');
	ssize_t n = readlink(path, target, sizeof target);
	*out = NULL;
	if (n <= 0 || (size_t)n == sizeof target)
		return TT_OK;
	struct tt_buffer joined = {0};
	int status = TT_OK;
	if (*target != '/' && slash)
		status = tt_buffer_add(&joined, path, (size_t)(slash + 1 - path), err);
	if (status == TT_OK)
		status = tt_buffer_add(&joined, target, (size_t)n, err);
	if (status == TT_OK)
		*out = joined.data;
	else
		tt_buffer_free(&joined);
	return status;
}

/* A path where nothing exists: follows the chain of links that ends there, then resolves the folder of its end. */
static int resolve_absent(char **out, const char *path, struct tt_error *err)
{
	char *at = NULL, *next = NULL;
	TT_TRY(tt_copy_string(&at, path, strlen(path), err));
	int status = TT_OK;
	for (int i = 0; i < MAX_LINKS && (status = follow(&next, at, err)) == TT_OK && next; i++) {
		free(at);
		at = next;
		next = NULL;
	}
	free(next);
	if (status == TT_OK)
		status = resolve_in_folder(out, at, err);
	free(at);
	return status;
}

int tt_file_resolve(char **out, const char *path, struct tt_error *err)
{
	TT_TRY(real_path(out, path, err));
	if (!*out)
		TT_TRY(resolve_absent(out, path, err));
	return *out ? TT_OK : tt_copy_string(out, path, strlen(path), err);
}

int tt_same_file(const char *a, const char *b, bool *same, struct tt_error *err)
{
	struct stat sa, sb;
	bool a_is_there = stat(a, &sa) == 0, b_is_there = stat(b, &sb) == 0;
	*same = strcmp(a, b) == 0;
	if (a_is_there && b_is_there)
		*same = *same || (sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
	if (*same || a_is_there != b_is_there || a_is_there)
		return TT_OK;
	char *real_a = NULL, *real_b = NULL;
	int status = tt_file_resolve(&real_a, a, err);
	if (status == TT_OK)
		status = tt_file_resolve(&real_b, b, err);
	if (status == TT_OK)
		*same = strcmp(real_a, real_b) == 0;
	free(real_a);
	free(real_b);
	return status;
}

static int refuse_same(
	const char *path, const char *role, const char *other, const char *other_role, struct tt_error *err)
{
	bool same;
	TT_TRY(tt_same_file(path, other, &same, err));
	return same ? tt_fail(err, TT_ERR_ARGUMENT, "%s would be both %s and %s", path, other_role, role) : TT_OK;
}

static int refuse_in_directory(const struct tt_file_use *write, const char *directory, const char *name,
	const char *role, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_file_join(&path, directory, name, err));
	int status = refuse_same(write->path, write->role, path, role, err);
	free(path);
	return status;
}

/* Also files that do not exist: once made, they would be read. */
static const char *const model_files[] = {"config.json", "generation_config.json", "tokenizer.json",
	"tokenizer_config.json", "chat_template.jinja", "model.safetensors", "model.safetensors.index.json"};

static bool is_shard(const char *name)
{
	size_t n = strlen(name), n_end = strlen(".safetensors");
	return strncmp(name, "model", 5) == 0 && n > n_end && strcmp(name + n - n_end, ".safetensors") == 0;
}

static int check_directory(const struct tt_file_use *read, const struct tt_file_use *write, struct tt_error *err)
{
	for (size_t i = 0; i < sizeof model_files / sizeof *model_files; i++)
		TT_TRY(refuse_in_directory(write, read->path, model_files[i], read->role, err));
	DIR *folder = opendir(read->path);
	int status = TT_OK;
	for (struct dirent *entry; folder && status == TT_OK && (entry = readdir(folder));)
		if (is_shard(entry->d_name))
			status = refuse_in_directory(write, read->path, entry->d_name, read->role, err);
	if (folder)
		closedir(folder);
	return status;
}

int tt_check_outputs(const struct tt_file_use *reads, size_t n_reads, const struct tt_file_use *writes, size_t n_writes,
	struct tt_error *err)
{
	for (size_t w = 0; w < n_writes; w++) {
		if (!writes[w].path)
			continue;
		for (size_t r = 0; r < n_reads; r++) {
			if (!reads[r].path)
				continue;
			TT_TRY(refuse_same(writes[w].path, writes[w].role, reads[r].path, reads[r].role, err));
			if (tt_file_is_directory(reads[r].path))
				TT_TRY(check_directory(&reads[r], &writes[w], err));
		}
		for (size_t k = 0; k < w; k++)
			if (writes[k].path)
				TT_TRY(refuse_same(
					writes[w].path, writes[w].role, writes[k].path, writes[k].role, err));
	}
	return TT_OK;
}
