#define _DEFAULT_SOURCE /* setitimer */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "target.h"

enum { MAX_FILES = 8, MAX_SECONDS = 1 };

static struct {
	const char *name;
	const void *data;
	size_t n;
} files[MAX_FILES];
static size_t n_files;

static void out_of_time(int signal)
{
	static const char words[] = "fuzz: more than a second of processor time for one input\n";
	(void)signal;
	if (write(STDERR_FILENO, words, sizeof words - 1) >= 0)
		abort();
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct itimerval never, limit = {.it_value.tv_sec = MAX_SECONDS};
	signal(SIGPROF, out_of_time);
	setitimer(ITIMER_PROF, &limit, NULL);
	fuzz_one(data, size);
	setitimer(ITIMER_PROF, &never, NULL);
	return 0;
}

void fuzz_file_set(const char *name, const void *data, size_t n)
{
	size_t i = 0;
	while (i < n_files && strcmp(files[i].name, name) != 0)
		i++;
	if (i == MAX_FILES)
		abort();
	n_files += i == n_files;
	files[i].name = name;
	files[i].data = data;
	files[i].n = n;
}

void fuzz_files_clear(void)
{
	n_files = 0;
}

struct fuzz_part fuzz_take_part(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size ? memchr(*data, 0x1e, *size) : NULL;
	struct fuzz_part part = {*data, end ? (size_t)(end - *data) : *size};
	size_t taken = part.n + (end != NULL);
	*data += taken;
	*size -= taken;
	return part;
}

/* -1: there is none. */
static int find(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	for (size_t i = 0; i < n_files; i++)
		if (strcmp(files[i].name, name) == 0)
			return files[i].data ? (int)i : -1;
	return -1;
}

static int missing(const char *path, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_IO, "%s: cannot open: %s", path, strerror(ENOENT));
}

int __wrap_tt_file_map(struct tt_mapping *out, const char *path, struct tt_error *err);
void __wrap_tt_file_unmap(struct tt_mapping *mapping);
int __wrap_tt_file_read(struct tt_buffer *out, const char *path, size_t max_bytes, struct tt_error *err);
bool __wrap_tt_file_exists(const char *path);
bool __wrap_tt_file_is_directory(const char *path);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_tt_file_read(struct tt_buffer *out, const char *path, size_t max_bytes, struct tt_error *err);
bool __real_tt_file_exists(const char *path);
bool __real_tt_file_is_directory(const char *path);
FILE *__real_fopen(const char *path, const char *mode);

int __wrap_tt_file_map(struct tt_mapping *out, const char *path, struct tt_error *err)
{
	int i = find(path);
	*out = (struct tt_mapping){0};
	if (i < 0)
		return missing(path, err);
	if (files[i].n == 0)
		return TT_OK;
	uint8_t *copy = malloc(files[i].n);
	if (!copy)
		return tt_fail(err, TT_ERR_IO, "%s: cannot map", path);
	memcpy(copy, files[i].data, files[i].n);
	*out = (struct tt_mapping){copy, files[i].n};
	return TT_OK;
}

void __wrap_tt_file_unmap(struct tt_mapping *mapping)
{
	free((void *)(uintptr_t)mapping->data);
	*mapping = (struct tt_mapping){0};
}

int __wrap_tt_file_read(struct tt_buffer *out, const char *path, size_t max_bytes, struct tt_error *err)
{
	int i = find(path);
	if (*path == '/')
		return __real_tt_file_read(out, path, max_bytes, err);
	if (i < 0)
		return missing(path, err);
	if (files[i].n > max_bytes)
		return tt_fail(err, TT_ERR_LIMIT, "%s: larger than the %zu bytes allowed here", path, max_bytes);
	return tt_buffer_add(out, files[i].data, files[i].n, err);
}

bool __wrap_tt_file_exists(const char *path)
{
	return *path == '/' ? __real_tt_file_exists(path) : find(path) >= 0;
}

/* The only directory of any target. */
bool __wrap_tt_file_is_directory(const char *path)
{
	return *path == '/' ? __real_tt_file_is_directory(path) : strcmp(path, "directory") == 0;
}

/* libFuzzer's own files come here as well. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
	int i = *path == '/' || *mode != 'r' ? -1 : find(path);
	return i < 0 ? __real_fopen(path, mode) : fmemopen((void *)(uintptr_t)files[i].data, files[i].n, "rb");
}
