/* Lists of layers as text: "9-14", "8,9", "3,5,9-11", ascending. */
#ifndef CONTROLLER_POLICY_LAYER_LIST_H
#define CONTROLLER_POLICY_LAYER_LIST_H

#include "base/memory.h"

/* Sets member[l], of n_layers, for every layer that the text names. Each must be below n_layers, and they must be in
 * ascending order without repeats. Error messages name the text by field. */
int tt_layers_parse(bool *member, uint32_t n_layers, const char *text, const char *field, struct tt_error *err);

/* Appends the shortest such text for the layers whose member is set. */
int tt_layers_print(struct tt_buffer *out, const bool *member, uint32_t n_layers, struct tt_error *err);

#endif
