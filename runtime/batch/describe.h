/* Describes a job for its journal by all that its answers depend on, so that no different job continues its files. */
#ifndef RUNTIME_BATCH_DESCRIBE_H
#define RUNTIME_BATCH_DESCRIBE_H

#include <jansson.h>

#include "runtime/batch/row.h"

/* Makes an object with version, input, model, policies, sweep and options (docs/formats.md); *out is a new reference.
 * Runs the model on 16 tokens. The number of threads and the batch size are not in it, since they change no bit. */
int tt_batch_describe(json_t **out, const struct tt_batch_job *job, const char *input_sha256, uint64_t input_size,
	struct tt_error *err);

/* Returns TT_ERR_MISMATCH if the two are different jobs. The message names each difference by its option on the command
 * line, with both values, and says what to do. output: the job's output file, for the message. */
int tt_batch_compare(const json_t *earlier, const json_t *job, const char *output, struct tt_error *err);

#endif
