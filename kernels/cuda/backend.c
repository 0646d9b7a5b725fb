/* The CUDA backend: its memory, and how a step gets to the device and its results back.
 *
 * A step is one copy in (the plan), one graph launch or kernels on the one stream, one copy out (the results block),
 * and one wait. The stream orders all of it, so the device needs only one plan and one results block. What the host
 * writes and reads is a ring of two, so that the host may plan the next step while this one runs. */
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/exchange.h"
#include "kernels/cuda/fast.h"
#include "kernels/cuda/graphs.h"

/* CUDA's current device belongs to a thread, and the thread that drives an engine need not be the one that opened
 * it. */
static int use(const struct tt_cuda *cuda, struct tt_error *err)
{
	TT_TRY_CUDA(cudaSetDevice(cuda->device), "choosing the device");
	return TT_OK;
}

/* -- Memory -- */

static int cuda_allocate(struct tt_backend *backend, void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	size_t n_bytes, n_free = 0, n_total = 0;
	void *memory = NULL;
	if (!tt_mul_size(count, size, &n_bytes))
		return tt_fail(err, TT_ERR_MEMORY, "%zu elements of %zu bytes do not fit", count, size);
	TT_TRY(use(cuda, err));
	n_bytes = n_bytes ? n_bytes : 1;
	tt_cuda_ranks_waiting(cuda, true); /* a driver may wait for the device here too */
	cudaError_t error = cudaMalloc(&memory, n_bytes);
	tt_cuda_ranks_waiting(cuda, false);
	if (error == cudaErrorMemoryAllocation) {
		cudaGetLastError(); /* so that the error is reported here, not at the next launch */
		cudaMemGetInfo(&n_free, &n_total);
		return tt_fail(err, TT_ERR_MEMORY, "%.2f GB of device memory are needed where %.2f of %.2f are free",
			1e-9 * (double)n_bytes, 1e-9 * (double)n_free, 1e-9 * (double)n_total);
	}
	TT_TRY_CUDA(error, "device memory");
	memcpy(out_pointer, &memory, sizeof memory);
	TT_TRY_CUDA(cudaMemsetAsync(memory, 0, n_bytes, cuda->stream), "clearing device memory");
	return TT_OK;
}

/* cudaFree waits for the device, so no step that is under way loses its memory. */
static void cuda_release(struct tt_backend *backend, void *memory)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	if (!memory || use(cuda, NULL) != TT_OK || !tt_cuda_ranks_idle(cuda))
		return;
	tt_cuda_ranks_waiting(cuda, true);
	cudaFree(memory);
	tt_cuda_ranks_waiting(cuda, false);
}

/* Copies from pageable memory, which CUDA has read when the call returns; on the stream, so that the copy is between
 * steps. */
static int cuda_upload(struct tt_backend *backend, void *to, const void *from, size_t n_bytes, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	TT_TRY(use(cuda, err));
	tt_cuda_ranks_waiting(cuda, true);
	int status = tt_copy_in(&cuda->counters, to, from, n_bytes, cuda->stream, err);
	tt_cuda_ranks_waiting(cuda, false);
	return status;
}

enum { LEAST_SCRATCH = 64 << 10 };

static void replace_scratch(struct tt_cuda *cuda, float *partial, size_t n_bytes)
{
	tt_cuda_graphs_drop(cuda);
	cuda_release(&cuda->base, cuda->partial);
	cuda->partial = partial;
	cuda->partial_bytes = n_bytes;
}

bool tt_cuda_may_grow_scratch(struct tt_cuda *cuda, size_t n_bytes)
{
	float *partial = NULL;
	/* Half as much again, so that it does not grow with every longer sequence; no less than small steps take. */
	size_t more = n_bytes + n_bytes / 2;
	more = more < LEAST_SCRATCH ? (size_t)LEAST_SCRATCH : more;
	if (n_bytes <= cuda->partial_bytes)
		return true;
	if (cuda_allocate(&cuda->base, &partial, more, 1, NULL) != TT_OK) {
		more = n_bytes;
		if (cuda_allocate(&cuda->base, &partial, more, 1, NULL) != TT_OK)
			return false;
	}
	replace_scratch(cuda, partial, more);
	return true;
}

int tt_cuda_scratch(struct tt_cuda *cuda, size_t n_bytes, struct tt_error *err)
{
	if (tt_cuda_may_grow_scratch(cuda, n_bytes))
		return TT_OK;
	replace_scratch(cuda, NULL, 0);
	TT_TRY(cuda_allocate(&cuda->base, &cuda->partial, n_bytes, 1, err));
	cuda->partial_bytes = n_bytes;
	return TT_OK;
}

static int pinned(void **out, size_t n_bytes, struct tt_error *err)
{
	TT_TRY_CUDA(cudaMallocHost(out, n_bytes ? n_bytes : 1), "pinned host memory");
	return TT_OK;
}

/* -- A model -- */

/* What the kernels compute, and what a block of each needs on this device: all but the row kernel's have a shape for
 * TT_CUDA_LEAST_SHARED. Grids that are made as large as the device runs at once are asked for here too. */
static int cuda_can_run(struct tt_backend *backend, const struct tt_config *config, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t most = 0, row = tt_cuda_steer_row_shared(config->hidden_size);
	TT_TRY(tt_cuda_can_run(config, err));
	TT_TRY(tt_cuda_most_shared(cuda, &most, err));
	if (row > most)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"steering rows of %u takes %u bytes of shared memory, cuda:%d gives a block %u",
			config->hidden_size, row, cuda->device, most);
	return tt_cuda_attention_fits(cuda, config, err);
}

static int open_buffers(struct tt_cuda *cuda, struct tt_error *err)
{
	struct tt_backend *b = &cuda->base;
	const struct tt_limits *limits = &cuda->limits;
	size_t hidden = cuda->config.hidden_size, block = tt_results_layout(NULL, NULL, &cuda->config, limits);
	TT_TRY(tt_activations_open(b, &cuda->config, limits, sizeof(uint16_t), err)); /* bf16 */
	TT_TRY(cuda_allocate(b, &cuda->plan, limits->plan_bytes, 1, err));
	TT_TRY(cuda_allocate(b, &cuda->x, limits->max_tokens, hidden * sizeof *cuda->x, err));
	TT_TRY(cuda_allocate(b, &cuda->squares, limits->max_tokens,
		tt_norm_tiles(cuda->config.hidden_size) * sizeof *cuda->squares, err));
	TT_TRY(cuda_allocate(b, &cuda->arrivals, TT_CUDA_ARRIVALS, sizeof *cuda->arrivals, err));
	for (int i = 0; i < TT_CUDA_FLIGHTS; i++) {
		struct tt_cuda_flight *f = &cuda->flights[i];
		TT_TRY(pinned(&f->plan, limits->plan_bytes, err));
		TT_TRY(pinned(&f->results, block, err));
		TT_TRY_CUDA(cudaEventCreateWithFlags(&f->done, cudaEventDisableTiming), "an event");
	}
	return TT_OK;
}

/* Of several ranks, this one's part of the model. */
static int load_rank(
	struct tt_cuda *cuda, const struct tt_model *host, const struct tt_model **out, struct tt_error *err)
{
	struct tt_model *part = NULL;
	if (!cuda->ranks)
		return tt_cuda_load(cuda, host, out, err);
	TT_TRY(tt_shard_open(&cuda->shard, &host->config, cuda->shard.rank, cuda->shard.n_ranks, err));
	TT_TRY(tt_shard_model_open(&part, host, &cuda->shard, err));
	int status = tt_cuda_load(cuda, part, out, err);
	tt_shard_model_close(part);
	return status;
}

static int cuda_load(struct tt_backend *backend, struct tt_model *host, const struct tt_limits *limits,
	const struct tt_model **out, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	if (cuda->plan)
		return tt_fail(err, TT_ERR_ARGUMENT, "a backend loads one model");
	TT_TRY(use(cuda, err));
	cuda->limits = *limits;
	cuda->config = host->config;
	TT_TRY(load_rank(cuda, host, out, err));
	tt_model_drop_blocks(host);
	TT_TRY(open_buffers(cuda, err));
	TT_TRY(tt_cuda_ranks_open(cuda, err));
	backend->fast = limits->fast;
	return backend->fast ? tt_cuda_fast_open(cuda, *out, err) : TT_OK;
}

/* Nothing is under way any more, and no graph that points to memory, or that NCCL waits for, is left. */
static void settle(struct tt_cuda *cuda)
{
	if (!cuda->stream || use(cuda, NULL) != TT_OK)
		return;
	tt_cuda_graphs_close(cuda);
	if (cuda->ranks)
		tt_cuda_ranks_settle(cuda);
	else
		cudaStreamSynchronize(cuda->stream);
}

static void cuda_unload(struct tt_backend *backend, const struct tt_model *loaded)
{
	settle((struct tt_cuda *)backend);
	tt_activations_close(backend);
	tt_cuda_unload((struct tt_cuda *)backend, loaded);
}

/* -- A step -- */

/* How many splits of TT_SPLIT_KEYS keys the longest sequence has, rounded up to a power of two so that a graph serves
 * many lengths. */
static uint32_t splits_of(const struct tt_step_plan *step)
{
	const int32_t *positions = tt_step_positions(step);
	int32_t last = 0;
	uint32_t n = 1;
	for (uint32_t i = 0; i < step->n_tokens; i++)
		last = positions[i] > last ? positions[i] : last;
	while (n * TT_SPLIT_KEYS <= (uint32_t)last)
		n *= 2;
	return n;
}

static int cuda_begin(struct tt_backend *backend, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	struct tt_cuda_flight *flight = &cuda->flights[cuda->n_ended % TT_CUDA_FLIGHTS];
	if (cuda->n_ended - cuda->n_finished == TT_CUDA_FLIGHTS)
		return tt_fail(err, TT_ERR_ARGUMENT, "%d steps are under way already", TT_CUDA_FLIGHTS);
	if (step->n_bytes > cuda->limits.plan_bytes)
		return tt_fail(err, TT_ERR_LIMIT, "a plan of %u bytes", step->n_bytes);
	TT_TRY(use(cuda, err));
	tt_cuda_ranks_begin(cuda);
	/* some kilobytes; the alternative is to pin all memory that a planner works in */
	memcpy(flight->plan, step, step->n_bytes);
	TT_TRY(tt_copy_in(
		&cuda->counters, (void *)(uintptr_t)cuda->plan, flight->plan, step->n_bytes, cuda->stream, err));
	cuda->grid_tokens = step->n_tokens;
	cuda->grid_samples = step->n_samples;
	cuda->row_steering = step->row_steering != 0;
	cuda->max_splits = splits_of(step);
	TT_TRY(tt_cuda_graphs_begin(cuda, step, recorded, err));
	cuda->recorded = *recorded;
	return TT_OK;
}

/* Copies out the results that are too large to come with the others; they follow those, in the flight's own memory. */
static int drain(struct tt_cuda *cuda, struct tt_cuda_flight *flight, const struct tt_step_plan *step,
	const struct tt_results *outputs, struct tt_error *err)
{
	const struct tt_config *c = &cuda->config;
	size_t captured = 0, logits = 0;
	if (step->wants & TT_WANT_CAPTURED && step->n_captures > cuda->limits.n_inline_captures)
		captured = (size_t)step->n_captures * c->n_layers * c->hidden_size * sizeof(float);
	if (step->wants & TT_WANT_LOGITS)
		logits = (size_t)step->n_samples * c->vocab_size * sizeof(float);
	if (captured + logits > flight->drained_bytes) {
		cudaFreeHost(flight->drained);
		flight->drained = NULL;
		flight->drained_bytes = 0;
		TT_TRY(pinned(&flight->drained, captured + logits, err));
		flight->drained_bytes = captured + logits;
	}
	if (captured) {
		flight->given.captured = flight->drained;
		TT_TRY(tt_copy_out(&cuda->counters, flight->drained, outputs->captured, captured, cuda->stream, err));
	}
	if (logits) {
		flight->given.logits = (float *)(void *)((char *)flight->drained + captured);
		TT_TRY(tt_copy_out(&cuda->counters, flight->given.logits, outputs->logits, logits, cuda->stream, err));
	}
	cuda->counters.drains += (captured != 0) + (logits != 0);
	return TT_OK;
}

static int end_flight(struct tt_cuda *cuda, const struct tt_cuda_flight *flight, struct tt_error *err)
{
	tt_cuda_ranks_end(cuda);
	TT_TRY_CUDA(cudaEventRecord(flight->done, cuda->stream), "an event");
	cuda->n_ended++;
	return TT_OK;
}

static int cuda_end(struct tt_backend *backend, const struct tt_step_plan *step, const struct tt_results *outputs,
	struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	struct tt_cuda_flight *flight = &cuda->flights[cuda->n_ended % TT_CUDA_FLIGHTS];
	struct tt_results_part span = tt_results_span(step, &cuda->config, &cuda->limits);
	if (cuda->ranks && !cuda->recorded)
		TT_TRY(tt_cuda_agree(cuda, outputs, err));
	TT_TRY(tt_cuda_graphs_end(cuda, err));
	tt_results_layout(&flight->given, flight->results, &cuda->config, &cuda->limits);
	if (!(step->wants & TT_WANT_NORMS))
		flight->given.norms = NULL;
	if (!(step->wants & TT_WANT_CAPTURED))
		flight->given.captured = NULL;
	flight->given.logits = NULL;
	if (cuda->shard.rank > 0) { /* rank 0's results are those that are told */
		TT_TRY(tt_copy_out(&cuda->counters, flight->given.agreed, outputs->agreed, sizeof *outputs->agreed,
			cuda->stream, err));
		return end_flight(cuda, flight, err);
	}
	/* decided is at the block's start, on the device as here. */
	if (span.n_bytes)
		TT_TRY(tt_copy_out(&cuda->counters, (char *)flight->results + span.first,
			(const char *)outputs->decided + span.first, span.n_bytes, cuda->stream, err));
	TT_TRY(drain(cuda, flight, step, outputs, err));
	return end_flight(cuda, flight, err);
}

static int cuda_finish(struct tt_backend *backend, struct tt_results *results, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	if (cuda->n_finished == cuda->n_ended)
		return tt_fail(err, TT_ERR_ARGUMENT, "no step is under way");
	uint64_t which = cuda->n_finished++ % TT_CUDA_FLIGHTS;
	TT_TRY(use(cuda, err));
	TT_TRY(tt_cuda_ranks_finish(cuda, cuda->flights[which].done, err));
	*results = cuda->flights[which].given;
	results->word = cuda->ranks ? *results->agreed : 0;
	return TT_OK;
}

/* -- Open and close -- */

static void release_all(struct tt_cuda *cuda)
{
	void *all[] = {(void *)(uintptr_t)cuda->plan, cuda->x, cuda->squares, cuda->partial, cuda->arrivals};
	tt_cuda_fast_close(cuda);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		cuda_release(&cuda->base, all[i]);
	for (int i = 0; i < TT_CUDA_FLIGHTS; i++) {
		cudaFreeHost(cuda->flights[i].plan);
		cudaFreeHost(cuda->flights[i].results);
		cudaFreeHost(cuda->flights[i].drained);
		if (cuda->flights[i].done)
			cudaEventDestroy(cuda->flights[i].done);
	}
	cudaStreamDestroy(cuda->stream);
}

static void cuda_close(struct tt_backend *backend)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	settle(cuda);
	/* even where the device says no more: a thread looks at memory that goes next */
	bool ends = tt_cuda_ranks_close(cuda);
	if (ends && use(cuda, NULL) == TT_OK && cuda->stream)
		release_all(cuda);
	free(cuda);
}

/* Opens a GPU on which these kernels run: mma.sync on bf16 and cp.async came with sm_80. What would only fail in the
 * first step is tried here, where "auto" can still take the CPU. */
static int open_device(struct tt_cuda *cuda, struct tt_error *err)
{
	int n_devices = 0, major = 0, minor = 0, n_sms = 0, driver = 0, clusters = 0;
	/* Without a driver the next call would report a mismatch of versions. */
	if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
		return tt_fail(err, TT_ERR_DEVICE, "there is no NVIDIA driver, or none that this program can reach");
	TT_TRY_CUDA(cudaGetDeviceCount(&n_devices), "looking for a GPU");
	if (cuda->device >= n_devices)
		return tt_fail(err, TT_ERR_DEVICE, "there is no cuda:%d, CUDA finds %d", cuda->device, n_devices);
	TT_TRY(use(cuda, err));
	TT_TRY_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, cuda->device), "the device");
	TT_TRY_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, cuda->device), "the device");
	TT_TRY_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, cuda->device), "the device");
	if (major < 8)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"cuda:%d has compute capability %d.%d, the kernels need 8.0 or newer", cuda->device, major,
			minor);
	cuda->n_sms = (uint32_t)n_sms;
	cuda->dependent = major == 9;
	TT_TRY_CUDA(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, cuda->device), "the device");
	cuda->clusters = major == 9 && clusters;
	uint32_t most_shared = 0;
	TT_TRY(tt_cuda_most_shared(cuda, &most_shared, err));
	TT_TRY_CUDA(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "a stream");
	return tt_cuda_try(cuda, err);
}

const char *tt_cuda_built(void)
{
	return TT_CUDA_BUILT;
}

int tt_cuda_open(struct tt_backend **out, int device, struct tt_error *err)
{
	struct tt_cuda *cuda = NULL;
	TT_TRY(tt_alloc(&cuda, 1, sizeof *cuda, err));
	cuda->base = (struct tt_backend){.name = "cuda",
		.n_threads = 1,
		.in_flight = TT_CUDA_FLIGHTS,
		.counters = &cuda->counters,
		.kv_type = TT_KV_BF16,
		.kv_types = 1u << TT_KV_FP8,
		.step_tokens = 2048, /* a prompt's products read the weights once a step */
		.allocate = cuda_allocate,
		.release = cuda_release,
		.can_run = cuda_can_run,
		.upload = cuda_upload,
		.load = cuda_load,
		.unload = cuda_unload,
		.cut_granule = TT_CUDA_GRANULE,
		.shared_bytes = tt_cuda_shared_bytes,
		.join = tt_cuda_join,
		.connect = tt_cuda_connect,
		.begin = cuda_begin,
		.embed = tt_cuda_embed,
		.qkv = tt_cuda_qkv,
		.attention = tt_cuda_attention,
		.o_proj = tt_cuda_o_proj,
		.gate_up = tt_cuda_gate_up,
		.down_proj = tt_cuda_down_proj,
		.pool = tt_cuda_pool,
		.control = tt_cuda_control,
		.logits = tt_cuda_logits,
		.sample = tt_cuda_sample,
		.end = cuda_end,
		.finish = cuda_finish,
		.close = cuda_close};
	cuda->device = device;
	cuda->base.variant = (uint32_t)device;
	int status = open_device(cuda, err);
	if (status != TT_OK) {
		cuda_close(&cuda->base);
		return status;
	}
	*out = &cuda->base;
	return TT_OK;
}
