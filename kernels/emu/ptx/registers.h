/* How instructions read and write the register file. */
#ifndef KERNELS_EMU_PTX_REGISTERS_H
#define KERNELS_EMU_PTX_REGISTERS_H

#include <string.h>

#include "kernels/emu/ptx/code.h"

#define PTX_INLINE static inline __attribute__((always_inline))

/* The lanes of operand n. */
PTX_INLINE void *ptx_lanes(struct ptx_warp *warp, const struct ptx_instruction *i, unsigned n)
{
	return __builtin_assume_aligned(warp->registers + i->operands[n], PTX_REGISTER);
}

/* Writes results of the given size to operand n, for the lanes of the mask. */
PTX_INLINE void ptx_put(struct ptx_warp *warp, const struct ptx_instruction *i, unsigned n, const void *results,
	size_t size, uint32_t mask)
{
	unsigned char *to = ptx_lanes(warp, i, n);
	const unsigned char *from = results;
	if (mask == (uint32_t)PTX_ALL) {
		memcpy(to, from, size * PTX_LANES);
		return;
	}
	for (; mask; mask &= mask - 1) {
		unsigned lane = (unsigned)__builtin_ctz(mask);
		memcpy(to + lane * size, from + lane * size, size);
	}
}

PTX_INLINE uint32_t ptx_predicate(struct ptx_warp *warp, const struct ptx_instruction *i, unsigned n)
{
	return *(const uint32_t *)ptx_lanes(warp, i, n);
}

PTX_INLINE void ptx_put_predicate(
	struct ptx_warp *warp, const struct ptx_instruction *i, unsigned n, uint32_t results, uint32_t mask)
{
	uint32_t *to = ptx_lanes(warp, i, n);
	*to = (*to & ~mask) | (results & mask);
}

#endif
