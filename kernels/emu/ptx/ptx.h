/* The interpreter of PTX, which runs a kernel as nvcc compiled it in place of its C body. The emulator calls it for
 * every launch while the environment says so:
 *
 *     TT_EMU=ptx           what nvcc writes for compute_90a; ptx80: for compute_80, where no launch is a dependent one
 *     TT_EMU_PTX=FOLDER    takes it from there; otherwise from where the build puts it
 *     TT_EMU_PTX_LOG=FILE  gets a line for each launch: the kernel's symbol, and the instructions that its warps ran */
#ifndef KERNELS_EMU_PTX_PTX_H
#define KERNELS_EMU_PTX_PTX_H

#include "kernels/emu/internal.h"

struct ptx_code;

/* Whether the environment says so. */
bool ptx_chosen(void);
/* What stands in for the kernel's C body; NULL where kernels run as C. On failure false, with a report. */
bool ptx_find(const struct kernel *kernel, struct ptx_code **out);
/* Whether launches may be dependent on one another. */
bool ptx_dependent(void);

/* Before the blocks of a launch, before each block, and after all. */
void ptx_launch_start(struct ptx_code *code, const struct launch *launch);
void ptx_block_start(struct ptx_code *code);
void ptx_launch_end(struct ptx_code *code);

/* Runs a warp until none of its lanes can go on, or another warp is to have its turn. */
void ptx_warp_run(struct ptx_code *code, struct warp *warp);
/* Leaves ptx_warp_run for good. */
void ptx_stop(void) __attribute__((noreturn));

#endif
