/* The job file of a batch that processes share: read as a shard reads it. An input that begins with '@' is sealed line
 * by line in the place of that byte, since hardly another one gets past the checksums. */
#define _GNU_SOURCE /* memfd_create */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "runtime/batch/job_file.h"
#include "runtime/batch/seal.h"
#include "target.h"

static volatile uint64_t sink;

/* A line has its closing brace from the seal. */
static void seal_lines(struct tt_buffer *out, const uint8_t *data, size_t size)
{
	char check[TT_SEAL + 1] = "";
	while (size > 0) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t n = end ? (size_t)(end - data) : size, used = end ? n + 1 : n;
		struct tt_buffer line = {0};
		if (tt_buffer_add(&line, data, n, NULL) != TT_OK || tt_seal(&line, check, check, NULL) != TT_OK ||
			tt_buffer_add(out, line.data, line.len, NULL) != TT_OK)
			abort();
		tt_buffer_free(&line);
		data += used;
		size -= used;
	}
}

static int make_file(char path[32], const uint8_t *data, size_t size)
{
	struct tt_buffer sealed = {0};
	int file = memfd_create("job", MFD_CLOEXEC);
	bool seals = size > 0 && *data == '@';
	if (seals)
		seal_lines(&sealed, data + 1, size - 1);
	else if (tt_buffer_add(&sealed, data, size, NULL) != TT_OK)
		abort();
	if (file < 0 || write(file, sealed.data, sealed.len) != (ssize_t)sealed.len)
		abort();
	tt_buffer_free(&sealed);
	snprintf(path, 32, "/proc/self/fd/%d", file);
	return file;
}

/* What is taken is what its readers rely on. */
static void use(const struct tt_job_file *file)
{
	if (!file->job || file->n_lines > file->n_units * TT_UNIT_LINES || !file->n_cases ||
		tt_job_file_rows(file) / file->n_cases != file->n_lines)
		abort();
	for (size_t i = 0; i < file->n_units; i++)
		sink += file->units[i].offset + file->units[i].number;
	for (size_t i = 1; i < file->n_repeated; i++)
		if (file->repeated[i] <= file->repeated[i - 1])
			abort();
	sink += tt_job_file_unit_rows(file);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	char path[32];
	struct tt_job_file file;
	struct tt_error err;
	json_t *job = NULL;
	int memory = make_file(path, data, size);
	if (tt_job_file_read(&file, path, &err) == TT_OK) {
		use(&file);
		tt_job_file_free(&file);
	}
	if (tt_job_peek(&job, path, &err) == TT_OK)
		json_decref(job);
	close(memory);
}
