/* Checks sampling options and penalties; the seeds of rows. */
#ifndef BASE_SAMPLING_H
#define BASE_SAMPLING_H

#include <stddef.h>

#include "base/tt_error.h"
#include "base/tt_sampling.h"

/* TT_ERR_ARGUMENT for values without a meaning, in words that fit an options struct and a request's body alike. */
int tt_sampling_check(const struct tt_sampling *sampling, struct tt_error *err);

int tt_penalties_check(float repetition, float presence, float frequency, struct tt_error *err);

/* The seed of a row, made of the whole job's and the row's line, so that rows keep theirs if lines before them are
 * added or removed. */
int tt_row_seed(uint64_t *out, uint64_t seed, const char *line, size_t n, struct tt_error *err);

#endif
