/* The text of a sweep: each of some names at each of some scales. */
#ifndef BASE_SWEEP_H
#define BASE_SWEEP_H

#include <stddef.h>

#include "base/tt_error.h"

/* TT_MAX_SWEEP: cases as they are written, those of scale 0 that are left out afterwards too. */
enum { TT_MAX_SWEEP_NAMES = 256, TT_MAX_SWEEP = 1024 };

struct tt_sweep_case {
	size_t name; /* index into the names */
	float scale;
	char *suffix; /* "#NAME@SCALE", with the scale as the user wrote it */
};

struct tt_sweep {
	/* All scales of the first name, then of the second ...; NULL without a sweep. */
	struct tt_sweep_case *cases; // [n]
	size_t n;
};

/* Checks the names [n_names], of letters, digits, '.', '_' and '-' and each another, and reads "NAME,..@SCALE,..". text
 * may be NULL: no cases. */
int tt_sweep_parse(
	struct tt_sweep *out, const char *const *names, size_t n_names, const char *text, struct tt_error *err);
/* Scale 0 steers nothing, whatever the name: keeps the first case of it, and returns how many others it left out. */
size_t tt_sweep_keep_one_baseline(struct tt_sweep *sweep);
void tt_sweep_free(struct tt_sweep *sweep);

#endif
