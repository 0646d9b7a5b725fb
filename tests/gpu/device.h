/* Where the suites run: emulated.c or on_gpu.c. */
#ifndef TESTS_GPU_DEVICE_H
#define TESTS_GPU_DEVICE_H

#include <stdbool.h>

/* Is there a device to run on? Says on stdout which, or why not. */
bool tt_suite_device(void);

/* Whether this process can run another test. On a GPU an error of a kernel stays; a test that ends with one, as some do
 * on purpose, is its process's last. */
bool tt_suite_clean(void);

#endif
