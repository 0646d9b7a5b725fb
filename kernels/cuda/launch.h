/* The only launch, and the only copies, waits and graph launches of a step: all go through here, so that they are
 * counted. This is host code without <<<>>>, so the emulator compiles the same source. A backend launches through
 * tt_cuda_launch (launch.c), which also prepares the kernel.
 *
 *     const void *kernel = TT_KERNEL(add_kernel);
 *     void *args[] = {&out, &in, &n};                        addresses of exactly the kernel's parameters, in order
 *     struct tt_launch launch = {.name = "add", ...};        C++: the members in the order of the struct
 *     TT_TRY(tt_launch_kernel(&launch, kernel, args, err)); */
#ifndef KERNELS_CUDA_LAUNCH_H
#define KERNELS_CUDA_LAUNCH_H

#include <cuda_runtime.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/counters.h"

#ifdef __cplusplus
extern "C" {
#include "base/fail.h"
}
#define TT_ELSE_ZERO = 0
#else
#include "base/fail.h"
#define TT_ELSE_ZERO
#endif

#ifdef TT_EMU
#define TT_KERNEL(...) tt_emu_kernel(__VA_ARGS__, #__VA_ARGS__)
#else
#define TT_KERNEL(...) ((const void *)(__VA_ARGS__))
#endif

enum { TT_FREE_SHARED = 48 * 1024 }; /* bytes that every kernel may use without tt_kernel_prepare */

struct tt_launch {
	const char *name;
	dim3 grid, block;
	uint32_t shared_bytes; /* dynamic; more than TT_FREE_SHARED needs tt_kernel_prepare once */
	cudaStream_t stream;
	uint64_t bytes, flops; /* what the kernel moves to and from memory, and computes */
	/* may start while the previous kernel ends; the kernel must call tt_grid_wait. Only from sm_90 on */
	bool dependent;
	struct tt_device_counters *counters; /* or NULL */
	uint32_t cluster TT_ELSE_ZERO;       /* blocks of each cluster, in x, from sm_90 on; 0: there are none */
};

/* TT_ERR_DEVICE with CUDA's name and message for the error; what says what was tried. */
static inline int tt_cuda_fail(struct tt_error *err, cudaError_t error, const char *what)
{
	return tt_fail(err, TT_ERR_DEVICE, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

/* Returns from the calling function when a call of the CUDA runtime fails. */
#define TT_TRY_CUDA(call, what)                                                                                        \
	do {                                                                                                           \
		cudaError_t tt_cuda_ = (call);                                                                         \
		if (tt_cuda_ != cudaSuccess)                                                                           \
			return tt_cuda_fail(err, tt_cuda_, what);                                                      \
	} while (0)

/* Lets the kernel use up to shared_bytes of dynamic shared memory on the current device, from now on. */
static inline int tt_kernel_prepare(const void *kernel, uint32_t shared_bytes, struct tt_error *err)
{
	TT_TRY_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
		"shared memory of a kernel");
	return TT_OK;
}

/* Launches and counts. TT_ERR_DEVICE with launch->name where CUDA refuses; what fails while the kernel runs is reported
 * by a later wait. */
static inline int tt_launch_kernel(
	const struct tt_launch *launch, const void *kernel, void **args, struct tt_error *err)
{
	cudaLaunchAttribute attributes[2];
	unsigned n = 0;
	memset(attributes, 0, sizeof attributes);
	if (launch->dependent) {
		attributes[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
		attributes[n++].val.programmaticStreamSerializationAllowed = 1;
	}
	if (launch->cluster) {
		attributes[n].id = cudaLaunchAttributeClusterDimension;
		attributes[n].val.clusterDim.x = launch->cluster;
		attributes[n].val.clusterDim.y = attributes[n].val.clusterDim.z = 1;
		n++;
	}
	cudaLaunchConfig_t config;
	config.gridDim = launch->grid;
	config.blockDim = launch->block;
	config.dynamicSmemBytes = launch->shared_bytes;
	config.stream = launch->stream;
	config.attrs = attributes;
	config.numAttrs = n;
	TT_TRY_CUDA(cudaLaunchKernelExC(&config, kernel, args), launch->name);
	if (launch->counters) {
		launch->counters->launches++;
		launch->counters->dependent_launches += launch->dependent;
		launch->counters->bytes += launch->bytes;
		launch->counters->flops += launch->flops;
	}
	return TT_OK;
}

/* Copies in and out: the host's end is pinned memory, so that the copies are asynchronous. counters is never NULL from
 * here on. */
static inline int tt_copy_in(struct tt_device_counters *counters, void *device, const void *host, size_t n_bytes,
	cudaStream_t stream, struct tt_error *err)
{
	TT_TRY_CUDA(cudaMemcpyAsync(device, host, n_bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
	counters->copies_in++;
	counters->bytes_in += n_bytes;
	return TT_OK;
}

static inline int tt_copy_out(struct tt_device_counters *counters, void *host, const void *device, size_t n_bytes,
	cudaStream_t stream, struct tt_error *err)
{
	TT_TRY_CUDA(cudaMemcpyAsync(host, device, n_bytes, cudaMemcpyDeviceToHost, stream), "copy from the device");
	counters->copies_out++;
	counters->bytes_out += n_bytes;
	return TT_OK;
}

static inline int tt_graph_launch(
	struct tt_device_counters *counters, cudaGraphExec_t graph, cudaStream_t stream, struct tt_error *err)
{
	TT_TRY_CUDA(cudaGraphLaunch(graph, stream), "graph launch");
	counters->graph_launches++;
	return TT_OK;
}

/* Waits for the stream; an error of a kernel is reported here. A step waits for its own event instead (tt_wait_event),
 * because the next step may already be queued after it. */
static inline int tt_wait(struct tt_device_counters *counters, cudaStream_t stream, struct tt_error *err)
{
	counters->waits++;
	TT_TRY_CUDA(cudaStreamSynchronize(stream), "waiting for the device");
	return TT_OK;
}

static inline int tt_wait_event(struct tt_device_counters *counters, cudaEvent_t event, struct tt_error *err)
{
	counters->waits++;
	TT_TRY_CUDA(cudaEventSynchronize(event), "waiting for a step");
	return TT_OK;
}

#endif
