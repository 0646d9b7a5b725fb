/* The options structs of trimtab.h, whose first member is their size: as the caller was compiled, which may be with an
 * older or a newer header than this library's. */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <stddef.h>

#include "base/tt_error.h"

/* Fills a caller's struct of size bytes from defaults, this library's struct of n: members that only the caller knows
 * become 0. NULL is fine. */
void tt_options_default(void *options, size_t size, const void *defaults, size_t n);

/* Copies a caller's struct over defaults in own, this library's struct of n bytes: members that the caller does not
 * know keep their defaults. name: the struct's. TT_ERR_ARGUMENT for a size that no header had, TT_ERR_UNSUPPORTED if
 * a member that only the caller knows is not 0. */
int tt_options_take(void *own, size_t n, const void *options, const char *name, struct tt_error *err);

#endif
