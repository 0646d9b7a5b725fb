/* Where the suites run: emulated.c or on_gpu.c. */
#ifndef TESTS_GPU_DEVICE_H
#define TESTS_GPU_DEVICE_H

#include <stdbool.h>

/* Is there a device to run on? Says on stdout which, or why not. */
bool tt_suite_device(void);

#endif
