/* The parts of tt_inspect. */
#ifndef RUNTIME_INSPECT_INSPECT_H
#define RUNTIME_INSPECT_INSPECT_H

#include "base/json.h"
#include "weights/gguf.h"

/* Adds what a GGUF file says about itself; *vector is set if it is a control vector rather than a model. */
int tt_inspect_gguf(json_t *report, const struct tt_gguf *file, bool *vector, struct tt_error *err);

#endif
