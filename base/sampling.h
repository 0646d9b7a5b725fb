/* Checks sampling options. */
#ifndef BASE_SAMPLING_H
#define BASE_SAMPLING_H

#include "base/tt_error.h"
#include "base/tt_sampling.h"

/* TT_ERR_ARGUMENT for values without a meaning, in words that fit an options struct and a request's body alike. */
int tt_sampling_check(const struct tt_sampling *sampling, struct tt_error *err);

#endif
