/* The suites on a GPU: what they ask of the emulator, answered by the CUDA runtime. Orders and poisoned memory there
 * are not; a test that reads the emulator's counters is skipped. */
#include <cuda_runtime.h>
#include <stdio.h>

#include "kernels/emu/emu.h"
#include "tests/gpu/criterion/criterion.h"
#include "tests/gpu/device.h"
#include "tests/gpu/said.h"

bool tt_suite_device(void)
{
	struct cudaDeviceProp device;
	cudaError_t error = cudaGetDeviceProperties(&device, 0);
	if (error != cudaSuccess) {
		printf("%s\n", cudaGetErrorString(error));
		return false;
	}
	printf("%s\n", device.name);
	return true;
}

bool tt_suite_clean(void)
{
	cudaError_t error = cudaDeviceSynchronize();
	if (error != cudaSuccess)
		printf(TT_SAID_NOTE "the device is left with an error: %s (%s)\n", cudaGetErrorString(error),
			cudaGetErrorName(error));
	cudaGetLastError(); /* a call that was refused on purpose is not the next test's */
	return error == cudaSuccess;
}

/* Tests leave their memory to the next reset; it matters only when much was taken. */
void tt_emu_reset(enum tt_emu_order order, uint64_t seed)
{
	size_t free_bytes = 0, total = 0;
	(void)order;
	(void)seed;
	if (cudaMemGetInfo(&free_bytes, &total) == cudaSuccess && free_bytes < total / 2)
		cudaDeviceReset();
}

void tt_emu_set_order(enum tt_emu_order order, uint64_t seed)
{
	(void)order;
	(void)seed;
}

void tt_emu_set_device(const struct tt_emu_device *device)
{
	(void)device;
	tt_suite_skip("only the emulator can be another device");
}

const char *tt_emu_report(void)
{
	cudaError_t error = cudaPeekAtLastError();
	return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

bool tt_emu_mma_ascends(void)
{
	return false;
}

bool tt_emu_counts_traffic(void)
{
	return true; /* it counts nothing: whoever reads the counters is skipped there */
}

const struct tt_emu_counters *tt_emu_counted(void)
{
	tt_suite_skip("it goes on to read the emulator's counters; what it held before, held");
}

void tt_emu_clear_counters(void)
{
}

size_t tt_emu_kernels(const struct tt_emu_kernel **out)
{
	*out = NULL;
	tt_suite_skip("it goes on to read the emulator's counters; what it held before, held");
}
