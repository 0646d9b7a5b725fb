/* Runs a target once over each input of the files that are named: the corpus as an ordinary test, with any compiler. A
 * file NAME.found holds many inputs, each after its length in four bytes, low byte first
 * (scripts/measure/fuzz_corpus.py). */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

enum { MAX_BYTES = 1 << 20 };

static uint8_t file_bytes[MAX_BYTES];
static size_t n_inputs;

/* A copy of exactly its size, so that a sanitizer sees a read past its end. */
static bool run(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);
	if (!copy)
		return false;
	memcpy(copy, data, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
	n_inputs++;
	return true;
}

static bool run_found(const uint8_t *data, size_t n)
{
	while (n >= 4) {
		size_t size = data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
		if (size > n - 4 || !run(data + 4, size))
			return false;
		data += 4 + size;
		n -= 4 + size;
	}
	return n == 0;
}

static bool run_file(const char *path)
{
	const char *end = strrchr(path, '.');
	FILE *file = fopen(path, "rb");
	if (!file)
		return false;
	size_t n = fread(file_bytes, 1, MAX_BYTES, file);
	bool whole = feof(file);
	fclose(file);
	return whole && (end && strcmp(end, ".found") == 0 ? run_found(file_bytes, n) : run(file_bytes, n));
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!run_file(argv[i])) {
			fprintf(stderr, "%s: cannot be read as a corpus\n", argv[i]);
			return 1;
		}
	}
	printf("%zu inputs\n", n_inputs);
	return n_inputs > 0 ? 0 : 1;
}
