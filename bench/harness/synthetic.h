/* A policy made of noise, for timing: its cost is that of any policy of its shape. */
#ifndef BENCH_SYNTHETIC_H
#define BENCH_SYNTHETIC_H

#include "runtime/trimtab.h"

enum { TT_BENCH_ALL_LAYERS = -1 };

/* Makes a policy that adds one random direction of unit length at a layer, or at every layer, to prompt and generation,
 * with no gate. It goes through a file, as every policy does that the public interface takes; the file does not
 * stay. */
int tt_bench_synthetic_policy(
	struct tt_policy **out, const struct tt_model_info *info, int layer, uint64_t seed, struct tt_error *err);

#endif
