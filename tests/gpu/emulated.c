/* The suites on the emulator: a rehearsal of what gpu-suites does on a GPU. */
#include "tests/gpu/device.h"

bool tt_suite_device(void)
{
	return true;
}

bool tt_suite_clean(void)
{
	return true; /* each test resets the emulator */
}
