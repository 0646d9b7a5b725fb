/* A fuzz target: one function, and the files it reads in memory. libFuzzer calls it (TT_FUZZ), or replay.c does, over
 * the corpus. */
#ifndef TESTS_FUZZ_TARGET_H
#define TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* A target: takes one input. */
void fuzz_one(const uint8_t *data, size_t size);

/* Calls it, and aborts when that takes more than a second of processor time: libFuzzer's -timeout is by the clock,
 * which proves nothing on a busy machine. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The library's calls to open, map and read files come here (linker --wrap): a relative path is found by its last part,
 * an absolute one on the disk. A mapping is a heap block of exactly its size, so that the address sanitizer sees a read
 * one byte past it. */
void fuzz_file_set(const char *name, const void *data, size_t n); /* data stays the caller's; NULL: no such file */
void fuzz_files_clear(void);

/* Several files in one input are parted by the byte 0x1e, which neither JSON nor a template has. Takes the first
 * part. */
struct fuzz_part {
	const uint8_t *data;
	size_t n;
};
struct fuzz_part fuzz_take_part(const uint8_t **data, size_t *size);

#endif
