/* The last steps of both readers of a configuration. */
#ifndef WEIGHTS_CONFIG_CHECK_H
#define WEIGHTS_CONFIG_CHECK_H

#include "weights/config.h"

/* Checks the fields against each other: heads, widths, rope numbers, token ids. The messages use the names of struct
 * tt_config. */
int tt_config_check(const struct tt_config *config, struct tt_error *err);

/* Sets the fields that follow from the architecture and hidden_size alone. */
void tt_config_set_parts(struct tt_config *config);

/* Makes every pattern-th layer see all keys; 0: none does. */
void tt_config_set_pattern(struct tt_config *config, uint32_t pattern);

/* Makes layers from first to end see all keys. If then no layer has the window, or no position reaches beyond it, there
 * is none. */
void tt_config_set_full(struct tt_config *config, uint32_t first, uint32_t end);

/* Adds an end token, unless it is already there. */
int tt_config_add_eos(struct tt_config *config, int32_t id, struct tt_error *err);

#endif
