/* A file of activations: opened as a fit would, each vector read, one added, and opened again. An input that begins
 * with '@' has the first line that the program writes in the place of that byte. */
#define _GNU_SOURCE /* memfd_create */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "controller/train/activation_file.h"
#include "target.h"

enum { WIDTH = 2 };

static volatile float sink;
static json_t *numerics;

/* A file is written, locked and cut here, so it cannot be one of fuzz_file_set's; it is in memory all the same. */
static int make_file(char path[32], const uint8_t *data, size_t size)
{
	struct tt_activation_file empty;
	int file = memfd_create("activations", MFD_CLOEXEC);
	snprintf(path, 32, "/proc/self/fd/%d", file);
	if (size > 0 && *data == '@') {
		if (tt_activation_file_open(&empty, path, numerics, WIDTH, NULL) != TT_OK)
			abort();
		tt_activation_file_close(&empty);
		data++, size--;
	}
	if (lseek(file, 0, SEEK_END) < 0 || write(file, data, size) != (ssize_t)size)
		abort();
	return file;
}

static void use(struct tt_activation_file *file)
{
	const float h[WIDTH] = {1, 2};
	uint8_t record[128] = {0}, key[TT_ACTIVATION_KEY] = {1};
	struct tt_error err;
	for (size_t i = 0; i < file->n; i++)
		if (tt_activation_file_read(file, file->keys[i], record, &err) == TT_OK)
			sink = tt_activation_h(record)[WIDTH - 1];
		else
			abort(); /* each was sound a moment ago */
	if (tt_activation_seal(record, key, h, WIDTH, &err) == TT_OK)
		tt_activation_file_add(file, record, &err);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	char path[32];
	struct tt_activation_file file;
	struct tt_error err;
	if (!numerics)
		numerics = json_pack("{s:s, s:s}", "backend", "cpu", "kv", "f32");
	int memory = make_file(path, data, size);
	if (tt_activation_file_open(&file, path, numerics, WIDTH, &err) == TT_OK) {
		size_t n = file.n;
		use(&file);
		tt_activation_file_close(&file);
		if (tt_activation_file_open(&file, path, numerics, WIDTH, &err) != TT_OK || file.n < n)
			abort(); /* what was opened once can be opened again, with all its records */
		tt_activation_file_close(&file);
	}
	close(memory);
}
