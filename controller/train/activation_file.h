/* A file of what gates read of prompts, so that a later fit of any gate, pool or layers runs only what is missing.
 *
 * The first line, JSON, says which model computed it and with which numerics; records of one size follow, as
 * docs/formats.md describes them. A record is whole once it is written, so a run that is killed leaves at most one that
 * is cut off. Nothing in the file is trusted: each record has a checksum, and is looked at when the file is opened. */
#ifndef CONTROLLER_TRAIN_ACTIVATION_FILE_H
#define CONTROLLER_TRAIN_ACTIVATION_FILE_H

#include <jansson.h>

#include "base/append_log.h"

enum {
	TT_ACTIVATION_FORMAT = 1,
	TT_ACTIVATION_DIGEST = 32,                    /* bytes of a SHA-256 */
	TT_ACTIVATION_KEY = TT_ACTIVATION_DIGEST + 4, /* what was run, and the layer as u32 */
};

/* One vector h [hidden_size]: the mean of h[layer] over ids [from, to) of a prompt; of one token, that token's h. In a
 * file and in memory it is a record of tt_activation_bytes bytes: key, h, and the SHA-256 of both. */
size_t tt_activation_bytes(uint32_t hidden_size);
/* The digest of what was run, with which a key begins: of from, to (u64) and the ids (i32). */
int tt_activation_run(uint8_t out[TT_ACTIVATION_DIGEST], const int32_t *ids, size_t n_ids, size_t from, size_t to,
	struct tt_error *err);
void tt_activation_key(uint8_t out[TT_ACTIVATION_KEY], const uint8_t run[TT_ACTIVATION_DIGEST], uint32_t layer);
/* Fills a record with the key, h and the checksum. */
int tt_activation_seal(uint8_t *record, const uint8_t key[TT_ACTIVATION_KEY], const float *h, uint32_t hidden_size,
	struct tt_error *err);
/* Whether all of h are numbers. A record that holds anything else is not written, and not sound where it is read. */
bool tt_activation_is_finite(const uint8_t *record, uint32_t hidden_size);
static inline const float *tt_activation_h(const uint8_t *record)
{
	return (const float *)(const void *)(record + TT_ACTIVATION_KEY);
}
static inline const uint8_t *tt_activation_check(const uint8_t *record, uint32_t hidden_size)
{
	return record + tt_activation_bytes(hidden_size) - TT_ACTIVATION_DIGEST;
}

/* An open file. Its keys are in memory, its vectors are not. */
struct tt_activation_file {
	struct tt_append_log log;
	uint32_t hidden_size;
	size_t n_head;                      /* bytes of the first line */
	size_t n;                           /* records */
	uint8_t (*keys)[TT_ACTIVATION_KEY]; // [n of capacity]
	size_t capacity;
	uint32_t *slots; // [mask + 1] open addressing: record + 1, or 0
	size_t mask;
	double synced;  /* when the file was last forced to disk */
	bool is_synced; /* since then nothing was added */
};

/* Opens the file, or makes it, and locks it until it is closed. path stays the caller's until then; numerics: see
 * tt_engine_numerics. Errors:
 *   TT_ERR_MISMATCH  it is of another model, or of one that computes other bits
 *   TT_ERR_FORMAT    it is no such file, or a record that others follow is damaged
 *   TT_ERR_IO        it cannot be read or written, or another run has it open
 * With these no byte of it was changed. What is not whole behind the last sound record is cut off. */
int tt_activation_file_open(struct tt_activation_file *out, const char *path, const json_t *numerics,
	uint32_t hidden_size, struct tt_error *err);
/* Does nothing to one that is zero, or closed. */
void tt_activation_file_close(struct tt_activation_file *file);

bool tt_activation_file_have(const struct tt_activation_file *file, const uint8_t key[TT_ACTIVATION_KEY]);
/* Reads the record of a key that is there. TT_ERR_FORMAT where the file is no longer what it was when it was opened. */
int tt_activation_file_read(const struct tt_activation_file *file, const uint8_t key[TT_ACTIVATION_KEY],
	uint8_t *record, struct tt_error *err);
/* Appends a record, unless its key is there. If the write fails, the file is cut back to the last whole one. */
int tt_activation_file_add(struct tt_activation_file *file, const uint8_t *record, struct tt_error *err);

#endif
