/* Number types, shared by the safetensors reader and writer. */
#ifndef WEIGHTS_SAFETENSORS_TYPES_H
#define WEIGHTS_SAFETENSORS_TYPES_H

#include <stdint.h>

#include "weights/safetensors.h"

/* "F32"; "?" for TT_DTYPE_OTHER. */
const char *tt_dtype_name(enum tt_dtype dtype);

/* Bytes of an element; 0 for TT_DTYPE_OTHER. */
uint32_t tt_dtype_bytes(enum tt_dtype dtype);

#endif
