/* One lane of an instruction at a time, for what the emulator checks. */
#ifndef KERNELS_EMU_PTX_LANES_H
#define KERNELS_EMU_PTX_LANES_H

#include "kernels/emu/global.h"
#include "kernels/emu/ptx/registers.h"

/* Where an instruction is, for a report. */
#define PTX_SITE(w, i) (i)->row->name, (w)->code->file, (int)(i)->line

/* Runs the statement after it for each lane of the mask, whose thread the emulator takes to be running. */
#define PTX_EACH(w, mask, lane)                                                                                        \
	for (uint32_t rest_ = (mask), lane = 0;                                                                        \
		rest_ && (lane = (uint32_t)__builtin_ctz(rest_), ptx_run_as(w, lane), true); rest_ &= rest_ - 1)

PTX_INLINE void ptx_run_as(struct ptx_warp *w, uint32_t lane)
{
	emu.running = &w->of->fibers[lane];
}

/* The address that operand n and the one after it make. */
PTX_INLINE uint64_t ptx_address_64(struct ptx_warp *w, const struct ptx_instruction *i, unsigned n, uint32_t lane)
{
	return ((const uint64_t *)ptx_lanes(w, i, n))[lane] + (uint64_t)(int64_t)i->operands[n + 1];
}

PTX_INLINE uint32_t ptx_address_32(struct ptx_warp *w, const struct ptx_instruction *i, unsigned n, uint32_t lane)
{
	return ((const uint32_t *)ptx_lanes(w, i, n))[lane] + (uint32_t)i->operands[n + 1];
}

/* The emulator's pointer for an address in shared space. */
unsigned char *ptx_shared(uint32_t address);

#endif
