/* What the bits of an answer depend on beside the request, in words: a file that must not mix two numerics holds it. */
#ifndef RUNTIME_ENGINE_NUMERICS_H
#define RUNTIME_ENGINE_NUMERICS_H

#include <jansson.h>

#include "runtime/trimtab.h"

/* Sets fingerprint, weights_digest, backend, mode, kv and probe, all of them strings. Runs the model on 16 tokens. */
int tt_engine_numerics(json_t *object, struct tt_engine *engine, struct tt_error *err);

#endif
