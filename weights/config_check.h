/* What both readers of a configuration do with it at the end. */
#ifndef WEIGHTS_CONFIG_CHECK_H
#define WEIGHTS_CONFIG_CHECK_H

#include "weights/config.h"

/* Holds the fields against each other: heads, widths, rope numbers, token ids. The messages use the names of
 * struct tt_config. */
int tt_config_check(const struct tt_config *config, struct tt_error *err);

/* Sets what the architecture alone decides, from hidden_size. */
void tt_config_set_parts(struct tt_config *config);

/* Every pattern-th layer sees all keys; 0: none does. */
void tt_config_set_pattern(struct tt_config *config, uint32_t pattern);

/* Makes layers from first to end see all keys. A window that no layer has is none, and one that no position leaves is none. */
void tt_config_set_full(struct tt_config *config, uint32_t first, uint32_t end);

/* Adds an end token once. */
int tt_config_add_eos(struct tt_config *config, int32_t id, struct tt_error *err);

#endif
