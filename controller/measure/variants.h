/* Prompts in other dress: how somebody might write the same request so that a gate does not know it. Text alone; what
 * each of them does is in docs/cli.md. */
#ifndef CONTROLLER_MEASURE_VARIANTS_H
#define CONTROLLER_MEASURE_VARIANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/tt_error.h"

enum tt_variant {
	TT_VARIANT_PREFIX,
	TT_VARIANT_ROLEPLAY,
	TT_VARIANT_MISSPELL,
	TT_VARIANT_LEET,
	TT_VARIANT_SPACES,
	TT_VARIANT_BASE64,
	TT_VARIANT_LANGUAGE,
	TT_N_VARIANTS
};

const char *tt_variant_name(enum tt_variant variant);

/* Reads names with commas between them, or "all". TT_ERR_ARGUMENT for another word, and for one that comes twice. */
int tt_variants_parse(bool chosen[TT_N_VARIANTS], const char *text, struct tt_error *err);

/* *out (free()) is the variant of a prompt, which is valid UTF-8 if the prompt is. It depends on prompt and seed
 * alone. */
int tt_variant_make(char **out, enum tt_variant variant, const char *prompt, uint64_t seed, struct tt_error *err);

#endif
