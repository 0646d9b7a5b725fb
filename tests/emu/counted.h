/* What a step has cost a rank, as the emulator of its process counts it. */
#ifndef TESTS_EMU_COUNTED_H
#define TESTS_EMU_COUNTED_H

#include <string.h>

#include "kernels/emu/emu.h"

/* The environment's name of the file to which each rank but the first appends a struct counted for each command. */
#define COUNTED_FILE "TT_EMU_COUNTED"

struct counted {
	uint32_t rank;
	struct tt_emu_counters all;
	uint64_t weights; /* bytes that products have read */
};

/* Since the counters were cleared. */
static inline struct counted counted_now(uint32_t rank)
{
	static const char *const products[] = {"qkv", "o_proj", "gate_up", "down_proj", "logits"};
	const struct tt_emu_kernel *kernels;
	struct counted counted = {.rank = rank, .all = *tt_emu_counted()};
	size_t n = tt_emu_kernels(&kernels);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < sizeof products / sizeof *products; k++)
			if (!strcmp(kernels[i].name, products[k]))
				counted.weights += kernels[i].counters.loads[TT_TRAFFIC_WEIGHT].bytes;
	return counted;
}

#endif
