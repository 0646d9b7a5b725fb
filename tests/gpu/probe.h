/* What the files of the probe share: a device, memory, graphs and times. C++. */
#ifndef TESTS_GPU_PROBE_H
#define TESTS_GPU_PROBE_H

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx/ptx.cuh"

#ifdef TT_EMU
enum { PROBE_TINY = 1 }; /* a rehearsal: sizes that the emulator can do, and no times */
#else
enum { PROBE_TINY = 0 };
#endif

struct probe_device {
	cudaStream_t stream;
	uint32_t n_sms;
	bool sm90; /* dependent launch, bulk copies, products of warpgroups */
};

/* Each answers one question and prints it as a line of JSON, {"probe": NAME, ...}. An answer that the kernels cannot
 * live with is an error. */
int probe_dependents(const struct probe_device *device, struct tt_error *err);
int probe_wgmma(const struct probe_device *device, struct tt_error *err);
int probe_rounding(const struct probe_device *device, struct tt_error *err);
int probe_reads(const struct probe_device *device, struct tt_error *err);
int probe_gaps(const struct probe_device *device, struct tt_error *err);
int probe_carveout(const struct probe_device *device, struct tt_error *err);
int probe_layouts(const struct probe_device *device, struct tt_error *err);

/* Device memory full of one byte. */
template <typename type>
static int probe_memory(const struct probe_device *device, type **out, size_t n, int byte, struct tt_error *err)
{
	void *memory = NULL;
	TT_TRY_CUDA(cudaMalloc(&memory, n * sizeof(type)), "the probe's memory");
	TT_TRY_CUDA(cudaMemsetAsync(memory, byte, n * sizeof(type), device->stream), "the probe's memory");
	TT_TRY_CUDA(cudaStreamSynchronize(device->stream), "the probe's memory");
	*out = (type *)memory;
	return TT_OK;
}

/* Some launches on the device's stream. */
typedef int probe_launch(const struct probe_device *device, void *context, struct tt_error *err);

static inline int probe_capture(const struct probe_device *device, probe_launch *launch, void *context,
	cudaGraphExec_t *out, struct tt_error *err)
{
	cudaGraph_t graph = NULL;
	TT_TRY_CUDA(cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal), "a capture");
	int status = launch(device, context, err);
	cudaError_t error = cudaStreamEndCapture(device->stream, &graph);
	TT_TRY(status);
	TT_TRY_CUDA(error, "a capture");
	error = cudaGraphInstantiate(out, graph, 0);
	cudaGraphDestroy(graph);
	TT_TRY_CUDA(error, "a graph");
	return TT_OK;
}

/* Seconds of a graph of these launches, over n runs after one that does not count. */
static inline int probe_time(const struct probe_device *device, probe_launch *launch, void *context, uint32_t n,
	double *seconds, struct tt_error *err)
{
	cudaGraphExec_t graph = NULL;
	cudaEvent_t ends[2] = {NULL, NULL};
	float milliseconds = 0;
	TT_TRY(probe_capture(device, launch, context, &graph, err));
	for (int i = 0; i < 2; i++)
		TT_TRY_CUDA(cudaEventCreate(&ends[i]), "an event");
	TT_TRY_CUDA(cudaGraphLaunch(graph, device->stream), "a graph");
	TT_TRY_CUDA(cudaEventRecord(ends[0], device->stream), "an event");
	for (uint32_t i = 0; i < n; i++)
		TT_TRY_CUDA(cudaGraphLaunch(graph, device->stream), "a graph");
	TT_TRY_CUDA(cudaEventRecord(ends[1], device->stream), "an event");
	TT_TRY_CUDA(cudaStreamSynchronize(device->stream), "a graph");
	TT_TRY_CUDA(cudaEventElapsedTime(&milliseconds, ends[0], ends[1]), "an event");
	for (int i = 0; i < 2; i++)
		cudaEventDestroy(ends[i]);
	cudaGraphExecDestroy(graph);
	*seconds = (double)milliseconds * 1e-3 / n;
	return TT_OK;
}

/* , "NAME": VALUE */
static inline void probe_print(const char *name, double value)
{
	if (value - value == 0) /* finite */
		printf(", \"%s\": %.6g", name, value);
	else
		printf(", \"%s\": null", name);
}

#endif
