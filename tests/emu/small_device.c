/* Makes the emulator a device of 99 KB of shared memory a block, before the tests of a suite begin. */
#include "kernels/cuda/cuda.h"
#include "kernels/emu/emu.h"

__attribute__((constructor)) static void be_small(void)
{
	const struct tt_emu_device small = {.major = 9, .n_sms = 132, .shared_bytes = TT_CUDA_LEAST_SHARED};
	tt_emu_set_device(&small);
}
