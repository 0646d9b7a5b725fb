/* The calls of the CUDA runtime that are not about streams: the device, memory, copies and launches; and the emulator's
 * own API. */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/global.h"
#include "kernels/emu/ptx/ptx.h"
#include "kernels/emu/stream.h"

enum { MAX_KERNELS = 512 };
static struct kernel kernels[MAX_KERNELS];
static size_t n_kernels;

static const struct tt_emu_device h200 = {.major = 9, .n_sms = 132, .shared_bytes = MAX_SHARED};
static struct tt_emu_device other_device;
static const struct tt_emu_device *device = &h200;

/* Pinned host memory. */
struct pinned {
	char *base;
	size_t size;
	struct pinned *next;
};
static struct pinned *pinned;

/* -- The emulator's API -- */

void tt_emu_set_order(enum tt_emu_order order, uint64_t seed)
{
	emu.order = order;
	emu.random = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
}

void tt_emu_reset(enum tt_emu_order order, uint64_t seed)
{
	stream_reset();
	global_free_all();
	while (pinned) {
		struct pinned *p = pinned;
		pinned = p->next;
		free(p->base);
		free(p);
	}
	for (size_t i = 0; i < n_kernels; i++)
		kernels[i].max_shared = DEFAULT_SHARED;
	emu.report[0] = 0;
	emu.failed = emu.in_kernel = false;
	emu.running = NULL;
	fiber_guard();
	tt_emu_clear_counters();
	tt_emu_set_order(order, seed);
}

void tt_emu_set_device(const struct tt_emu_device *other)
{
	other_device = other ? *other : h200;
	device = &other_device;
}

const char *tt_emu_report(void)
{
	return emu.report;
}

const struct tt_emu_counters *tt_emu_counted(void)
{
	return &emu.counters;
}

void tt_emu_clear_counters(void)
{
	memset(&emu.counters, 0, sizeof emu.counters);
	emu.n_kernels = 0;
}

bool tt_emu_counts_traffic(void)
{
	return !ptx_chosen();
}

size_t tt_emu_kernels(const struct tt_emu_kernel **out)
{
	*out = emu.kernels;
	return emu.n_kernels;
}

/* -- The device: what a caller may ask of one -- */

/* One, or TT_EMU_DEVICES, for ranks, of which each takes one and has a process. */
static int n_devices(void)
{
	const char *set = getenv("TT_EMU_DEVICES");
	return set ? atoi(set) : 1;
}

static int current_device;

static bool is_device(int index)
{
	return index >= 0 && index < n_devices();
}

cudaError_t cudaGetDeviceCount(int *count)
{
	*count = n_devices();
	return api_result(cudaSuccess);
}

cudaError_t cudaGetDevice(int *index)
{
	*index = current_device;
	return api_result(cudaSuccess);
}

cudaError_t cudaSetDevice(int index)
{
	if (!is_device(index))
		return api_result(cudaErrorInvalidDevice);
	current_device = index;
	return api_result(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int index)
{
	if (!is_device(index))
		return api_result(cudaErrorInvalidDevice);
	memset(out, 0, sizeof *out);
	strcpy(out->name, "emulator");
	out->totalGlobalMem = (size_t)1 << 34;
	out->sharedMemPerBlockOptin = device->shared_bytes;
	out->major = device->major;
	out->minor = device->minor;
	out->multiProcessorCount = device->n_sms;
	out->l2CacheSize = 60 << 20;
	return api_result(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int index)
{
	if (!is_device(index))
		return api_result(cudaErrorInvalidDevice);
	switch (attribute) {
	case cudaDevAttrMultiProcessorCount:
		*value = device->n_sms;
		break;
	case cudaDevAttrComputeCapabilityMajor:
		*value = device->major;
		break;
	case cudaDevAttrComputeCapabilityMinor:
		*value = device->minor;
		break;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*value = (int)device->shared_bytes;
		break;
	case cudaDevAttrClusterLaunch:
		*value = device->major == 9 && (!ptx_chosen() || ptx_dependent());
		break;
	}
	return api_result(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = 13000;
	return api_result(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = 13000;
	return api_result(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	*free_bytes = *total = (size_t)1 << 34;
	return api_result(cudaSuccess);
}

const char *cudaGetErrorName(cudaError_t error)
{
	switch (error) {
	case cudaSuccess:
		return "cudaSuccess";
	case cudaErrorInvalidValue:
		return "cudaErrorInvalidValue";
	case cudaErrorMemoryAllocation:
		return "cudaErrorMemoryAllocation";
	case cudaErrorInvalidConfiguration:
		return "cudaErrorInvalidConfiguration";
	case cudaErrorInvalidDeviceFunction:
		return "cudaErrorInvalidDeviceFunction";
	case cudaErrorNoDevice:
		return "cudaErrorNoDevice";
	case cudaErrorInvalidDevice:
		return "cudaErrorInvalidDevice";
	case cudaErrorNoKernelImageForDevice:
		return "cudaErrorNoKernelImageForDevice";
	case cudaErrorInvalidResourceHandle:
		return "cudaErrorInvalidResourceHandle";
	case cudaErrorNotReady:
		return "cudaErrorNotReady";
	case cudaErrorLaunchFailure:
		return "cudaErrorLaunchFailure";
	case cudaErrorStreamCaptureUnsupported:
		return "cudaErrorStreamCaptureUnsupported";
	}
	return "unknown";
}

/* Returns the report where there is one, so that it gets into the message of whoever waited. */
const char *cudaGetErrorString(cudaError_t error)
{
	if (error == cudaErrorLaunchFailure && *emu.report)
		return emu.report;
	return error == cudaSuccess ? "no error" : "the emulator refused the call";
}

/* -- Memory -- */

cudaError_t cudaMalloc(void **out, size_t n_bytes)
{
	bool fits = !device->largest || n_bytes <= device->largest;
	*out = n_bytes && fits ? global_allocate(n_bytes) : NULL;
	return api_result(*out || !n_bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory)
{
	if (!memory)
		return api_result(cudaSuccess);
	cudaError_t error = stream_flush_all(); /* cudaFree waits for the device */
	graph_check_free(memory);
	if (!global_free(memory))
		return api_result(cudaErrorInvalidValue);
	return api_result(error);
}

cudaError_t cudaHostAlloc(void **out, size_t n_bytes, unsigned flags)
{
	struct pinned *p = calloc(1, sizeof *p);
	(void)flags;
	*out = NULL;
	if (!p || !(p->base = aligned_alloc(256, (n_bytes + 255) / 256 * 256))) {
		free(p);
		return api_result(cudaErrorMemoryAllocation);
	}
	p->size = n_bytes;
	p->next = pinned;
	pinned = p;
	*out = memset(p->base, 0xff, n_bytes);
	return api_result(cudaSuccess);
}

cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
	return cudaHostAlloc(out, n_bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *memory)
{
	if (!memory)
		return api_result(cudaSuccess);
	for (struct pinned **at = &pinned; *at; at = &(*at)->next) {
		struct pinned *p = *at;
		if (p->base != memory)
			continue;
		cudaError_t error = stream_flush_all();
		*at = p->next;
		free(p->base);
		free(p);
		return api_result(error);
	}
	return api_result(cudaErrorInvalidValue);
}

bool pinned_holds(const void *p, size_t size)
{
	for (const struct pinned *at = pinned; at; at = at->next)
		if ((uintptr_t)p >= (uintptr_t)at->base && (uintptr_t)p - (uintptr_t)at->base < at->size)
			return size <= at->size - ((uintptr_t)p - (uintptr_t)at->base);
	return false;
}

static bool is_pinned(const void *p)
{
	return pinned_holds(p, 1);
}

static bool on_device(const void *p, size_t n_bytes)
{
	const struct allocation *a = global_find(p);
	return a && n_bytes <= a->size - (size_t)((const char *)p - a->base);
}

/* The kind must match where the ends are, and a device end must hold all the bytes. */
static bool copy_is_valid(const void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind *kind)
{
	bool to_device = global_find(to) != NULL, from_device = global_find(from) != NULL;
	if ((to_device && !on_device(to, n_bytes)) || (from_device && !on_device(from, n_bytes)))
		return false;
	enum cudaMemcpyKind is = to_device     ? from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
				 : from_device ? cudaMemcpyDeviceToHost
					       : cudaMemcpyHostToHost;
	if (*kind == cudaMemcpyDefault)
		*kind = is;
	return *kind == is;
}

static void count_copy(enum cudaMemcpyKind kind, size_t n_bytes)
{
	struct tt_emu_counters *c = &emu.counters;
	c->copies_in += kind == cudaMemcpyHostToDevice;
	c->copies_out += kind == cudaMemcpyDeviceToHost;
	c->copies_within += kind == cudaMemcpyDeviceToDevice;
	c->bytes_in += kind == cudaMemcpyHostToDevice ? n_bytes : 0;
	c->bytes_out += kind == cudaMemcpyDeviceToHost ? n_bytes : 0;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	struct operation op = {.type = OP_COPY, .to = to, .from = from, .n_bytes = n_bytes};
	if (!n_bytes)
		return api_result(cudaSuccess);
	if (!copy_is_valid(to, from, n_bytes, &kind))
		return api_result(cudaErrorInvalidValue);
	count_copy(kind, n_bytes);
	bool capturing = stream_capturing(stream);
	if (kind == cudaMemcpyHostToDevice && !is_pinned(from) && !capturing) {
		/* Pageable memory is read at the call. */
		if (!(op.staged = malloc(n_bytes)))
			return api_result(cudaErrorMemoryAllocation);
		memcpy(op.staged, from, n_bytes);
	}
	cudaError_t error = stream_add(stream, &op);
	if (!error && !capturing && kind == cudaMemcpyDeviceToHost) {
		if (is_pinned(to))
			memset(to, 0xff, n_bytes); /* this is what a reader finds before the wait */
		else
			error = stream_flush(stream);
	}
	return api_result(error);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind)
{
	cudaError_t error = stream_flush_all();
	if (!error)
		error = cudaMemcpyAsync(to, from, n_bytes, kind, NULL);
	emu.counters.waits++;
	return api_result(error ? error : stream_flush(NULL));
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t n_bytes, cudaStream_t stream)
{
	struct operation op = {.type = OP_SET, .to = memory, .value = value, .n_bytes = n_bytes};
	if (!n_bytes)
		return api_result(cudaSuccess);
	if (!on_device(memory, n_bytes))
		return api_result(cudaErrorInvalidValue);
	emu.counters.sets++;
	return api_result(stream_add(stream, &op));
}

cudaError_t cudaMemset(void *memory, int value, size_t n_bytes)
{
	cudaError_t error = stream_flush_all();
	return error ? api_result(error) : cudaMemsetAsync(memory, value, n_bytes, NULL);
}

/* -- Launches -- */

const void *tt_emu_register(
	const void *kernel, const char *name, kernel_call *call, const size_t *sizes, size_t n_args);
const void *tt_emu_register(const void *kernel, const char *name, kernel_call *call, const size_t *sizes, size_t n_args)
{
	for (size_t i = 0; i < n_kernels; i++)
		if (kernels[i].address == kernel)
			return kernel;
	if (n_kernels < MAX_KERNELS)
		kernels[n_kernels++] = (struct kernel){kernel, name, call, sizes, n_args, DEFAULT_SHARED};
	return kernel;
}

static struct kernel *kernel_find(const void *address)
{
	for (size_t i = 0; i < n_kernels; i++)
		if (kernels[i].address == address)
			return &kernels[i];
	return NULL;
}

cudaError_t cudaFuncSetAttribute(const void *address, enum cudaFuncAttribute attribute, int value)
{
	struct kernel *kernel = kernel_find(address);
	if (!kernel)
		return api_result(cudaErrorInvalidDeviceFunction);
	if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) /* a share of an L1 that is not here */
		return api_result(value < -1 || value > 100 ? cudaErrorInvalidValue : cudaSuccess);
	if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
		(uint32_t)value > device->shared_bytes)
		return api_result(cudaErrorInvalidValue);
	kernel->max_shared = (size_t)value;
	emu.counters.attributes++;
	return api_result(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *address)
{
	if (!kernel_find(address))
		return api_result(cudaErrorInvalidDeviceFunction);
	if (device->no_code)
		return api_result(cudaErrorNoKernelImageForDevice);
	out->ptxVersion = device->major == 9 && !device->of_ptx && (!ptx_chosen() || ptx_dependent()) ? 90 : 80;
	return api_result(cudaSuccess);
}

/* By threads and shared memory alone: nothing here has registers. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *address, int threads, size_t shared_bytes)
{
	enum { THREADS = 2048, RESERVED = 1024 }; /* of a multiprocessor; bytes that the system takes of each block */
	size_t by_memory = (device->shared_bytes + RESERVED) / (shared_bytes + RESERVED);
	if (!kernel_find(address))
		return api_result(cudaErrorInvalidDeviceFunction);
	if (threads < 1 || threads > 1024)
		return api_result(cudaErrorInvalidValue);
	*n = by_memory < (size_t)(THREADS / threads) ? (int)by_memory : THREADS / threads;
	*n = device->no_room ? 0 : *n;
	return api_result(cudaSuccess);
}

enum { ARGUMENT_ALIGNMENT = 64 };

void **arguments_copy(const struct kernel *kernel, void **args)
{
	size_t bytes = (kernel->n_args + 1) * sizeof *args;
	bytes = (bytes + ARGUMENT_ALIGNMENT - 1) / ARGUMENT_ALIGNMENT * ARGUMENT_ALIGNMENT;
	size_t at = bytes;
	for (size_t i = 0; i < kernel->n_args; i++)
		bytes += (kernel->sizes[i] + ARGUMENT_ALIGNMENT - 1) / ARGUMENT_ALIGNMENT * ARGUMENT_ALIGNMENT;
	void **copy = aligned_alloc(ARGUMENT_ALIGNMENT, bytes);
	for (size_t i = 0; copy && i < kernel->n_args; i++) {
		copy[i] = (char *)copy + at;
		memcpy(copy[i], args[i], kernel->sizes[i]);
		at += (kernel->sizes[i] + ARGUMENT_ALIGNMENT - 1) / ARGUMENT_ALIGNMENT * ARGUMENT_ALIGNMENT;
	}
	return copy;
}

/* Clusters in one dimension: what kernels here use. */
static bool set_cluster(struct launch *launch, unsigned x, unsigned y, unsigned z)
{
	launch->cluster = x;
	return device->major >= 9 && !device->no_clusters && x && x <= MAX_CLUSTER && y == 1 && z == 1 &&
	       launch->grid.x % x == 0;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *address, void **args)
{
	struct kernel *kernel = kernel_find(address);
	if (!kernel)
		return api_result(cudaErrorInvalidDeviceFunction);
	if (device->no_code)
		return api_result(cudaErrorNoKernelImageForDevice);
	const dim3 *g = &config->gridDim, *b = &config->blockDim;
	/* Blocks of whole warps in one dimension: a rule of the project, on which tt_lane and the warp's operations
	 * rely. */
	if (!b->x || b->x > MAX_THREADS || b->x % WARP || b->y != 1 || b->z != 1 || !g->x || !g->y || !g->z ||
		g->y > 65535 || g->z > 65535 || g->x > 0x7fffffffu)
		return api_result(cudaErrorInvalidConfiguration);
	if (config->dynamicSmemBytes > kernel->max_shared)
		return api_result(cudaErrorInvalidValue);
	struct operation op = {.type = OP_LAUNCH};
	op.launch = (struct launch){kernel, args, *g, *b, config->dynamicSmemBytes, false, 1, NULL};
	for (unsigned i = 0; i < config->numAttrs; i++) {
		const cudaLaunchAttributeValue *value = &config->attrs[i].val;
		if (config->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
			op.launch.dependent = value->programmaticStreamSerializationAllowed != 0;
		else if (!set_cluster(&op.launch, value->clusterDim.x, value->clusterDim.y, value->clusterDim.z))
			return api_result(cudaErrorInvalidConfiguration);
	}
	emu.counters.host_launches++;
	/* What compute_80's PTX has of a kernel of clusters is empty, and its launch succeeds. */
	return api_result(device->of_ptx && op.launch.cluster > 1 ? cudaSuccess : stream_add(config->stream, &op));
}
