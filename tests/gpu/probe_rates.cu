/* The probe's questions about times. Each is a graph of launches between two events; bytes are those that were asked
 * for. */
#include <stdio.h>

#include "tests/gpu/probe.h"

static const uint32_t MIB = 1 << 20, THREADS = 512;

/* ---- How fast does L2 give what several blocks read? ----
 *
 * In a decode step every block of a product reads all of x, and with it as many bytes as of its weights: from L2. */

struct reads {
	const unsigned char *memory;
	uint32_t *out;
	uint32_t n_bytes, rounds, blocks;
	bool whole; /* every block reads all of it, not its own part */
};

static const uint32_t READS_AHEAD = 8;

static __global__ void __launch_bounds__(THREADS) reads_kernel(const __grid_constant__ struct reads r)
{
	uint32_t stride = r.whole ? THREADS : gridDim.x * THREADS, n = r.n_bytes / 16;
	uint32_t first = r.whole ? threadIdx.x : blockIdx.x * THREADS + threadIdx.x, sum = 0;
	for (uint32_t round = 0; round < r.rounds; round++)
		for (uint32_t i = first; i + (READS_AHEAD - 1) * stride < n; i += READS_AHEAD * stride) {
			uint4 v[READS_AHEAD];
			TT_UNROLL
			for (uint32_t k = 0; k < READS_AHEAD; k++)
				v[k] = tt_load_weight(r.memory + (size_t)(i + k * stride) * 16);
			TT_UNROLL
			for (uint32_t k = 0; k < READS_AHEAD; k++)
				sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
		}
	tt_store_4(r.out + blockIdx.x * THREADS + threadIdx.x, sum, TT_TRAFFIC_RESULT);
}

static int reads_run(const struct probe_device *device, void *context, struct tt_error *err)
{
	void *args[] = {context};
	struct tt_launch how = {
		"reads", dim3(((struct reads *)context)->blocks), dim3(THREADS), 0, device->stream, 0, 0, false, NULL};
	return tt_launch_kernel(&how, TT_KERNEL(reads_kernel), args, err);
}

/* name: GB/s over all multiprocessors. */
static int reads_rate(const struct probe_device *device, const char *name, struct reads r, struct tt_error *err)
{
	double seconds = 0;
	uint64_t stride = r.whole ? THREADS : (uint64_t)r.blocks * THREADS, group = stride * READS_AHEAD * 16;
	double bytes = (double)(r.n_bytes / group * group) * r.rounds * (r.whole ? r.blocks : 1);
	TT_TRY(probe_time(device, reads_run, &r, PROBE_TINY ? 1 : 5, &seconds, err));
	probe_print(name, bytes / seconds * 1e-9);
	return TT_OK;
}

int probe_reads(const struct probe_device *device, struct tt_error *err)
{
	struct reads r = {NULL, NULL, PROBE_TINY ? MIB : 1024u * MIB, 1, device->n_sms * (PROBE_TINY ? 1 : 4), false};
	unsigned char *memory = NULL;
	TT_TRY(probe_memory(device, &memory, r.n_bytes, 0x5a, err));
	TT_TRY(probe_memory(device, &r.out, (size_t)r.blocks * THREADS, 0, err));
	r.memory = memory;
	printf("{\"probe\": \"reads\", \"unit\": \"GB/s\"");
	TT_TRY(reads_rate(device, "memory_1_gib", r, err));
	r.rounds = PROBE_TINY ? 1 : 20;
	r.n_bytes = (PROBE_TINY ? 1 : 16) * MIB;
	TT_TRY(reads_rate(device, "l2_16_mib_in_parts", r, err));
	r.whole = true;
	r.rounds = 1;
	r.n_bytes = PROBE_TINY ? MIB / 8 : MIB;
	TT_TRY(reads_rate(device, "l2_1_mib_by_every_block", r, err));
	printf("}\n");
	TT_TRY_CUDA(cudaFree(memory), "reads");
	TT_TRY_CUDA(cudaFree(r.out), "reads");
	return TT_OK;
}

/* ---- What does a launch cost between two kernels of a graph? ---- */

enum { GAP_LAUNCHES = PROBE_TINY ? 4 : 160 }; /* of a model's 32 layers */
enum gap_kind { GAP_PLAIN, GAP_LATE, GAP_EARLY, GAP_KINDS };

/* late: its dependents start when it has ended; early: at once, and wait. */
template <int kind> static __global__ void gap_kernel(uint32_t *out)
{
	if (kind == GAP_EARLY)
		tt_grid_launch_dependents();
	if (kind != GAP_PLAIN)
		tt_grid_wait();
	if (out)
		tt_store_4(out + blockIdx.x * blockDim.x + threadIdx.x, 1, TT_TRAFFIC_RESULT);
}

struct gaps {
	enum gap_kind kind;
	uint32_t blocks;
};

static int gaps_run(const struct probe_device *device, void *context, struct tt_error *err)
{
	const struct gaps *g = (const struct gaps *)context;
	const void *const kernels[] = {
		TT_KERNEL(gap_kernel<GAP_PLAIN>), TT_KERNEL(gap_kernel<GAP_LATE>), TT_KERNEL(gap_kernel<GAP_EARLY>)};
	uint32_t *none = NULL;
	void *args[] = {&none};
	for (uint32_t i = 0; i < GAP_LAUNCHES; i++) {
		struct tt_launch how = {"nothing", dim3(g->blocks), dim3(256), 0, device->stream, 0, 0,
			g->kind != GAP_PLAIN && device->sm90, NULL};
		TT_TRY(tt_launch_kernel(&how, kernels[g->kind], args, err));
	}
	return TT_OK;
}

int probe_gaps(const struct probe_device *device, struct tt_error *err)
{
	static const char *const names[2][GAP_KINDS] = {
		{"plain_1_block", "dependent_late_1_block", "dependent_early_1_block"},
		{"plain_every_sm", "dependent_late_every_sm", "dependent_early_every_sm"}};
	printf("{\"probe\": \"gaps\", \"unit\": \"us a kernel\"");
	for (int wide = 0; wide < 2; wide++)
		for (int kind = 0; kind < GAP_KINDS; kind++) {
			struct gaps g = {(enum gap_kind)kind, wide ? device->n_sms : 1};
			double seconds = 0;
			TT_TRY(probe_time(device, gaps_run, &g, PROBE_TINY ? 1 : 20, &seconds, err));
			probe_print(names[wide][kind], PROBE_TINY ? NAN : seconds / GAP_LAUNCHES * 1e6);
		}
	printf("}\n");
	return TT_OK;
}

/* ---- Can kernels of different shared memory be on a multiprocessor at once? ----
 *
 * The gain of an early trigger is that the next kernel's blocks come to a multiprocessor while the last one's are still
 * there. If it must be empty to change how much of it is shared memory, there is none. Two kernels in turn, one without
 * shared memory and one with 100 KB, each busy for some microseconds before it waits for the other. */

enum { CARVEOUT_PAIRS = PROBE_TINY ? 2 : 40, CARVEOUT_SHARED = 96 << 10, CARVEOUT_CYCLES = 10000 };

template <int which> static __global__ void carveout_kernel(uint32_t *out)
{
	tt_grid_launch_dependents();
#ifndef TT_EMU
	for (long long until = clock64() + CARVEOUT_CYCLES; clock64() < until;)
		;
#endif
	tt_grid_wait();
	if (out)
		tt_store_4(out + blockIdx.x * blockDim.x + threadIdx.x, which, TT_TRAFFIC_RESULT);
}

struct carveout {
	const void *kernels[2];
	uint32_t shared[2];
};

static int carveout_run(const struct probe_device *device, void *context, struct tt_error *err)
{
	const struct carveout *c = (const struct carveout *)context;
	uint32_t *none = NULL;
	void *args[] = {&none};
	for (uint32_t i = 0; i < 2 * CARVEOUT_PAIRS; i++) {
		struct tt_launch how = {"a busy kernel", dim3(device->n_sms), dim3(128), c->shared[i % 2],
			device->stream, 0, 0, device->sm90, NULL};
		TT_TRY(tt_launch_kernel(&how, c->kernels[i % 2], args, err));
	}
	return TT_OK;
}

static int carveout_time(const struct probe_device *device, const char *name, struct carveout c, struct tt_error *err)
{
	double seconds = 0;
	TT_TRY(probe_time(device, carveout_run, &c, PROBE_TINY ? 1 : 10, &seconds, err));
	probe_print(name, PROBE_TINY ? NAN : seconds / (2 * CARVEOUT_PAIRS) * 1e6);
	return TT_OK;
}

int probe_carveout(const struct probe_device *device, struct tt_error *err)
{
	const void *first = TT_KERNEL(carveout_kernel<0>), *second = TT_KERNEL(carveout_kernel<1>);
	int most = 0;
	TT_TRY_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "the device");
	uint32_t shared = most < 2 * CARVEOUT_SHARED ? (uint32_t)most / 2 : (uint32_t)CARVEOUT_SHARED;
	TT_TRY(tt_kernel_prepare(second, shared, err));
	printf("{\"probe\": \"carveout\", \"unit\": \"us a kernel\", \"cycles_busy\": %u", (uint32_t)CARVEOUT_CYCLES);
	TT_TRY(carveout_time(device, "both_without", {{first, first}, {0, 0}}, err));
	TT_TRY(carveout_time(device, "both_with", {{second, second}, {shared, shared}}, err));
	TT_TRY(carveout_time(device, "in_turn", {{first, second}, {0, shared}}, err));
	for (int i = 0; i < 2; i++)
		TT_TRY_CUDA(
			cudaFuncSetAttribute(i ? second : first, cudaFuncAttributePreferredSharedMemoryCarveout, 100),
			"a kernel's share of shared memory");
	TT_TRY(carveout_time(device, "in_turn_all_shared", {{first, second}, {0, shared}}, err));
	printf("}\n");
	return TT_OK;
}

/* ---- How should weights lie in memory? ----
 *
 * A block takes 16 rows, each of its 8 warps an eighth of K, in chunks of 32 columns: row by row, where a request of a
 * warp is 8 pieces of 64 bytes; packed, where a chunk is 1 KiB in one piece; and packed by bulk
 * copies of 4 KiB. */

enum { LAYOUT_K = 4096, LAYOUT_ROWS = PROBE_TINY ? 64 : 131072, LAYOUT_WARPS = 8, LAYOUT_STAGES = 4 };
enum { CHUNKS = LAYOUT_K / 32 / LAYOUT_WARPS, CHUNK_BYTES = 1024 };
enum { BULK_BYTES = 4 * CHUNK_BYTES, BULK_STAGES = 2 };
enum layout { LAYOUT_ROWS_OF_K, LAYOUT_PACKED, LAYOUT_BULK, LAYOUTS };

struct layouts {
	const unsigned char *w; // 16 rows of K after the other, in either order
	uint32_t *out;
};

/* The lane's two rows of a chunk: 16 bytes each. */
template <int layout>
TT_DEVICE const unsigned char *layout_piece(const struct layouts &a, uint32_t chunk, uint32_t half)
{
	uint32_t lane = tt_lane();
	const unsigned char *tile = a.w + (size_t)blockIdx.x * 16 * LAYOUT_K * 2;
	if (layout == LAYOUT_PACKED)
		return tile + (size_t)(tt_warp() * CHUNKS + chunk) * CHUNK_BYTES + half * 512 + lane * 16;
	return tile + (size_t)(half * 8 + lane / 4) * LAYOUT_K * 2 + (tt_warp() * CHUNKS + chunk) * 64 + lane % 4 * 16;
}

TT_DEVICE uint32_t layout_fold(const unsigned char *p)
{
	uint4 v = tt_shared_load_16(p);
	return v.x ^ v.y ^ v.z ^ v.w;
}

template <int layout>
static __global__ void __launch_bounds__(256) layout_kernel(const __grid_constant__ struct layouts a)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *ring = shared + tt_warp() * (LAYOUT_STAGES * CHUNK_BYTES), *own = ring + tt_lane() * 16;
	uint32_t sum = 0;
	auto fetch = [&](uint32_t chunk) {
		for (uint32_t half = 0; half < 2 && chunk < CHUNKS; half++)
			tt_copy_async_or_zero(own + chunk % LAYOUT_STAGES * CHUNK_BYTES + half * 512,
				layout_piece<layout>(a, chunk, half), true, TT_TRAFFIC_WEIGHT);
		tt_copy_async_commit();
	};
	for (uint32_t chunk = 0; chunk < LAYOUT_STAGES - 1; chunk++)
		fetch(chunk);
	for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
		tt_copy_async_wait<LAYOUT_STAGES - 2>();
		fetch(chunk + LAYOUT_STAGES - 1);
		for (uint32_t half = 0; half < 2; half++)
			sum ^= layout_fold(own + chunk % LAYOUT_STAGES * CHUNK_BYTES + half * 512);
	}
	tt_store_4(a.out + blockIdx.x * 256 + threadIdx.x, sum, TT_TRAFFIC_RESULT);
}

/* A warp's eighth of K is in one piece: its lane 0 asks for it, 4 KiB at a time. */
static __global__ void __launch_bounds__(256) bulk_kernel(const __grid_constant__ struct layouts a)
{
#if TT_HAS_BULK
	enum { COPIES = CHUNKS * CHUNK_BYTES / BULK_BYTES };
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + tt_warp() * (BULK_STAGES * BULK_BYTES);
	tt_mbarrier *full = (tt_mbarrier *)(shared + LAYOUT_WARPS * BULK_STAGES * BULK_BYTES) + tt_warp() * BULK_STAGES;
	const unsigned char *from = a.w + ((size_t)blockIdx.x * LAYOUT_WARPS + tt_warp()) * CHUNKS * CHUNK_BYTES;
	uint32_t sum = 0;
	auto fetch = [&](uint32_t i) {
		uint32_t stage = i % BULK_STAGES;
		if (tt_lane() != 0 || i >= COPIES)
			return;
		tt_fence_async();
		tt_mbarrier_arrive_expect(full + stage, BULK_BYTES);
		tt_copy_bulk(
			own + stage * BULK_BYTES, from + i * BULK_BYTES, BULK_BYTES, full + stage, TT_TRAFFIC_WEIGHT);
	};
	if (tt_lane() == 0) {
		for (uint32_t i = 0; i < BULK_STAGES; i++)
			tt_mbarrier_init(full + i, 1);
		tt_mbarrier_init_fence();
	}
	tt_sync_block();
	for (uint32_t i = 0; i < BULK_STAGES; i++)
		fetch(i);
	for (uint32_t i = 0; i < COPIES; i++) {
		uint32_t stage = i % BULK_STAGES;
		tt_mbarrier_wait(full + stage, i / BULK_STAGES & 1);
		for (uint32_t piece = 0; piece < BULK_BYTES / 512; piece++)
			sum ^= layout_fold(own + stage * BULK_BYTES + piece * 512 + tt_lane() * 16);
		tt_sync_warp();
		fetch(i + BULK_STAGES);
	}
	tt_store_4(a.out + blockIdx.x * 256 + threadIdx.x, sum, TT_TRAFFIC_RESULT);
#else
	(void)a;
#endif
}

struct layout_call {
	struct layouts args;
	enum layout layout;
};

static int layouts_run(const struct probe_device *device, void *context, struct tt_error *err)
{
	struct layout_call *call = (struct layout_call *)context;
	const void *const kernels[] = {TT_KERNEL(layout_kernel<LAYOUT_ROWS_OF_K>),
		TT_KERNEL(layout_kernel<LAYOUT_PACKED>), TT_KERNEL(bulk_kernel)};
	bool bulk = call->layout == LAYOUT_BULK;
	void *args[] = {&call->args};
	uint32_t shared = LAYOUT_WARPS * (bulk ? BULK_STAGES * (BULK_BYTES + (uint32_t)sizeof(tt_mbarrier))
					       : LAYOUT_STAGES * CHUNK_BYTES);
	struct tt_launch how = {
		"a layout", dim3(LAYOUT_ROWS / 16), dim3(256), shared, device->stream, 0, 0, false, NULL};
	TT_TRY(tt_kernel_prepare(kernels[call->layout], shared, err));
	return tt_launch_kernel(&how, kernels[call->layout], args, err);
}

int probe_layouts(const struct probe_device *device, struct tt_error *err)
{
	static const char *const names[LAYOUTS] = {"rows", "packed", "packed_bulk"};
	size_t bytes = (size_t)LAYOUT_ROWS * LAYOUT_K * 2;
	unsigned char *w = NULL;
	struct layout_call call = {{NULL, NULL}, LAYOUT_ROWS_OF_K};
	TT_TRY(probe_memory(device, &w, bytes, 0x5a, err));
	TT_TRY(probe_memory(device, &call.args.out, (size_t)LAYOUT_ROWS / 16 * 256, 0, err));
	call.args.w = w;
	printf("{\"probe\": \"layouts\", \"unit\": \"GB/s\"");
	for (int i = 0; i < (device->sm90 ? LAYOUTS : LAYOUT_BULK); i++) {
		double seconds = 0;
		call.layout = (enum layout)i;
		TT_TRY(probe_time(device, layouts_run, &call, PROBE_TINY ? 1 : 5, &seconds, err));
		probe_print(names[i], (double)bytes / seconds * 1e-9);
	}
	printf("}\n");
	TT_TRY_CUDA(cudaFree(w), "layouts");
	TT_TRY_CUDA(cudaFree(call.args.out), "layouts");
	return TT_OK;
}
