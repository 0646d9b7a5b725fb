/* What files of captured numbers have in common. */
#ifndef RUNTIME_ENGINE_CAPTURE_H
#define RUNTIME_ENGINE_CAPTURE_H

#include "runtime/engine/request.h"

/* out [to - from][n_layers]: for each of these ids, the sum of the policies' coefficients that acted on it. */
void tt_capture_coefficients(const struct tt_request *request, size_t from, size_t to, uint32_t n_layers, float *out);

#endif
