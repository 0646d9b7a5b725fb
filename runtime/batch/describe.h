/* A job in its journal's words: all that the answers depend on, so that no other job goes on with its files. */
#ifndef RUNTIME_BATCH_DESCRIBE_H
#define RUNTIME_BATCH_DESCRIBE_H

#include <jansson.h>

#include "runtime/batch/row.h"

/* New: version, input, model, policies, sweep, options (docs/formats.md). Runs the model on 16 tokens. Threads and the
 * size of the batch are not in it: they change no bit. */
int tt_batch_describe(json_t **out, const struct tt_batch_job *job, const char *input_sha256, uint64_t input_size,
	struct tt_error *err);

/* TT_ERR_MISMATCH where the two are not the same job: a line that has every difference with both values, by the name
 * of the option on the command line, and says what to do. output: the job's, for that line. */
int tt_batch_compare(const json_t *earlier, const json_t *job, const char *output, struct tt_error *err);

#endif
