/* Lists of layers as text: "9-14", "8,9", "3,5,9-11", ascending. */
#ifndef CONTROLLER_POLICY_LAYER_LIST_H
#define CONTROLLER_POLICY_LAYER_LIST_H

#include "base/memory.h"

/* Sets member[l] for every layer named, all below n_layers, each once and in ascending order. field names it in messages. */
int tt_layers_parse(bool *member, uint32_t n_layers, const char *text, const char *field, struct tt_error *err);

/* The shortest such text for the set members. */
int tt_layers_print(struct tt_buffer *out, const bool *member, uint32_t n_layers, struct tt_error *err);

#endif
