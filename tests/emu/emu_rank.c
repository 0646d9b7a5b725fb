/* trimtab-rank on the emulator: TT_EMU_ORDER is the order of its threads. */
#include <stdlib.h>

#include "kernels/emu/emu.h"

__attribute__((constructor)) static void start(void)
{
	const char *order = getenv("TT_EMU_ORDER");
	tt_emu_reset(order ? (enum tt_emu_order)atoi(order) : TT_EMU_FORWARD, 5);
}
