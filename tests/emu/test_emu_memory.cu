/* Faults in global memory, and what accesses cost. */
#include "tests/emu/checks.h"

enum { THREADS = 64 };

static uint32_t same(uint32_t i)
{
	return i;
}

static void load_out_of_bounds(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	tt_store_4(out + t, tt_load_4(in + (planted ? WORDS - 63 : 0) + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, load_out_of_bounds, load_out_of_bounds, 1, THREADS, 0, THREADS, same,
	"out of bounds: 4 bytes at offset 16384 of an allocation of 16384 bytes")

Test(emu_memory, report_names_everything)
{
	static const struct word_case c = {load_out_of_bounds, "load_out_of_bounds", 1, THREADS, 0, 0, same, ""};
	tt_emu_reset(TT_EMU_BACKWARD, 1);
	words_run(&c, 1);
	cr_assert_str_eq(cudaGetErrorString(cudaGetLastError()), tt_emu_report());
	const char *begin = "load_out_of_bounds: block 0,0,0 thread 63: tt_load_4 at test_emu_memory.cu:";
	cr_assert_eq(strncmp(tt_emu_report(), begin, strlen(begin)), 0, "%s", tt_emu_report());
}

/* One that the host may not see before the kernel ends. */
static void tell_host(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t n = tt_load_4(in + 7, TT_TRAFFIC_PLAN);
	if (threadIdx.x == 0 && planted)
		tt_store_4(out, n, TT_TRAFFIC_RESULT);
	if (threadIdx.x == 0 && !planted)
		tt_store_4_to_host(out, n, TT_TRAFFIC_RESULT);
}

Test(emu_memory, plain_store_to_memory_of_the_host)
{
	static const struct word_case c = {tell_host, "tell_host", 1, THREADS, 0, 0, same, ""};
	for (int planted = 0; planted < 2; planted++) {
		void *out = NULL;
		tt_emu_reset(TT_EMU_FORWARD, 1);
		cr_assert_eq(cudaMallocHost(&out, 4), cudaSuccess);
		words_launch(&c, (uint32_t *)out, counting_words(), planted, false, NULL);
		cr_assert_eq(cudaDeviceSynchronize(), planted ? cudaErrorLaunchFailure : cudaSuccess);
		if (planted)
			cr_assert(
				strstr(tt_emu_report(), "a plain store to memory of the host"), "%s", tt_emu_report());
		else
			cr_assert_eq(*(uint32_t *)out, 7);
	}
	tt_emu_reset(TT_EMU_FORWARD, 1);
}

static void store_out_of_bounds(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	tt_store_4(out + t - (planted ? 1 : 0), tt_load_4(in + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, store_out_of_bounds, store_out_of_bounds, 1, THREADS, 0, THREADS, same, "out of bounds")

static void misaligned(uint32_t *out, const uint32_t *in, int planted)
{
	uint4 v = tt_load_16(in + 4 * threadIdx.x + (planted ? 2 : 0), TT_TRAFFIC_ACTIVATION);
	tt_store_16(out + 4 * threadIdx.x, v, TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, misaligned_16_bytes, misaligned, 1, THREADS, 0, 4 * THREADS, same,
	"misaligned: a global address that is not a multiple of 16")

static void misaligned_copy(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_copy_async_or_zero(shared + 16 * t, in + 4 * t + (planted ? 1 : 0), true, TT_TRAFFIC_ACTIVATION);
	tt_copy_async_commit();
	tt_copy_async_wait<0>();
	tt_store_16(out + 4 * t, tt_shared_load_16(shared + 16 * t), TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, misaligned_copy, misaligned_copy, 1, THREADS, 16 * THREADS, 4 * THREADS, same, "misaligned")

static void plain_access(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	tt_store_4(out + t, planted ? in[t] : tt_load_4(in + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, plain_access_to_global_memory, plain_access, 1, THREADS, 0, THREADS, same, "without a primitive")

static void shared_as_global(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	uint32_t *own = (uint32_t *)shared + t;
	tt_store_4(out + t, planted ? tt_load_4(own, TT_TRAFFIC_ACTIVATION) : tt_shared_load_4(own), TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, shared_address_in_a_global_load, shared_as_global, 1, THREADS, 4 * THREADS, THREADS, same,
	"is not device memory")

/* -- Blocks against each other -- */

static uint32_t seven(uint32_t i)
{
	(void)i;
	return 7;
}
static void two_writers(uint32_t *out, const uint32_t *in, int planted)
{
	(void)in;
	tt_store_4(out + (planted ? 0 : blockIdx.x * THREADS) + threadIdx.x, 7, TT_TRAFFIC_RESULT);
}
CATCHES(emu_memory, two_blocks_write_one_word, two_writers, 3, THREADS, 0, 3 * THREADS, seven, "write the same word")

/* In place: each block must read only what it writes itself. */
static void in_place(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = blockIdx.x * THREADS + threadIdx.x, other = (t + THREADS) % (3 * THREADS);
	(void)in;
	tt_store_4(out + t, 7, TT_TRAFFIC_RESULT);
	if (planted)
		tt_store_4(out + 3 * THREADS + t, tt_load_4(out + other, TT_TRAFFIC_RESULT), TT_TRAFFIC_RESULT);
}
static void run_in_place(const struct word_case *c, int planted)
{
	struct word_case own = *c;
	own.report = "without tt_arrive_last";
	words_run(&own, planted);
}
Test(emu_memory, a_block_reads_what_another_writes)
{
	static const struct word_case c = {in_place, "in_place", 3, THREADS, 0, 3 * THREADS, seven, ""};
	in_every_order(run_in_place, &c);
}

/* The last block to arrive adds up what all have written. The counter is out[WORDS - 1]. */
static void last_block(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, *partial = out + 1024;
	tt_store_4(partial + blockIdx.x * THREADS + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_SCRATCH);
	if (planted == 1 && blockIdx.x == 1) {
		tt_store_4(out + t, tt_load_4(partial + t, TT_TRAFFIC_SCRATCH), TT_TRAFFIC_RESULT);
		tt_load_4(partial + 2 * THREADS + t, TT_TRAFFIC_SCRATCH);
		return;
	}
	if (planted != 2)
		tt_sync_block();
	if (t == 0)
		tt_shared_store_4(shared, tt_arrive_last(out + WORDS - 1, gridDim.x));
	tt_sync_block();
	if (!tt_shared_load_4(shared))
		return;
	uint32_t sum = 0;
	for (uint32_t b = 0; b < gridDim.x; b++)
		sum += tt_load_4(partial + b * THREADS + t, TT_TRAFFIC_SCRATCH);
	tt_store_4(out + t, sum, TT_TRAFFIC_RESULT);
}
static void run_last_block(int planted, bool zeroed, const char *report)
{
	static const struct word_case c = {last_block, "last_block", 3, THREADS, 16, 0, same, ""};
	static uint32_t result[WORDS];
	const uint32_t *in = counting_words();
	uint32_t *out = device_words(WORDS);
	if (zeroed)
		cudaMemset(out + WORDS - 1, 0, 4);
	for (int i = 0; i < 2; i++) /* twice: the counter is 0 again after the first */
		words_launch(&c, out, in, planted, false, NULL);
	cudaError_t error = cudaMemcpy(result, out, sizeof result, cudaMemcpyDeviceToHost);
	if (report) {
		cr_assert_eq(error, cudaErrorLaunchFailure);
		cr_assert(strstr(tt_emu_report(), report), "%s", tt_emu_report());
		return;
	}
	cr_assert_eq(error, cudaSuccess, "%s", tt_emu_report());
	for (uint32_t i = 0; i < THREADS; i++)
		cr_assert_eq(result[i], 3 * i);
	cr_assert_eq(result[WORDS - 1], 0);
}
Test(emu_memory, last_block_arrives)
{
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		tt_emu_reset((enum tt_emu_order)order, 3);
		run_last_block(0, true, NULL);
		tt_emu_reset((enum tt_emu_order)order, 3);
		run_last_block(1, true, "without tt_arrive_last");
		tt_emu_reset((enum tt_emu_order)order, 3);
		run_last_block(2, true, "no barrier of the block between");
		tt_emu_reset((enum tt_emu_order)order, 3);
		run_last_block(0, false, "it was not 0");
	}
}

/* -- What it costs -- */

/* A lane reads 16 bytes, its neighbour the next 16: every sector is used whole. Where planted is set, 64 bytes lie
 * between them. */
static void strided(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	uint4 v = planted ? tt_load_weight(in + 16 * t) : tt_load_weight(in + 4 * t);
	tt_store_4(out + t, v.x, TT_TRAFFIC_RESULT);
}
Test(emu_memory, sectors)
{
	static const struct word_case c = {strided, "strided", 1, THREADS, 0, 0, same, ""};
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		tt_emu_reset((enum tt_emu_order)order, 1);
		const uint32_t *in = counting_words();
		uint32_t *out = device_words(WORDS);
		for (int planted = 0; planted < 2; planted++) {
			tt_emu_clear_counters();
			words_launch(&c, out, in, planted, false, NULL);
			cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess, "%s", tt_emu_report());
			const struct tt_emu_traffic *weights = &tt_emu_counted()->loads[TT_TRAFFIC_WEIGHT];
			const struct tt_emu_traffic *results = &tt_emu_counted()->stores[TT_TRAFFIC_RESULT];
			cr_assert_eq(weights->accesses, 64);
			cr_assert_eq(weights->requests, 2);
			cr_assert_eq(weights->bytes, 1024);
			cr_assert_eq(weights->sectors, planted ? 64 : 32);
			cr_assert_eq(results->bytes, 256);
			cr_assert_eq(results->sectors, 8);
			cr_assert_eq(tt_emu_counted()->loads[TT_TRAFFIC_KV].bytes, 0);
			const struct tt_emu_kernel *kernels;
			cr_assert_eq(tt_emu_kernels(&kernels), 1);
			cr_assert_str_eq(kernels[0].name, "strided");
			cr_assert_eq(kernels[0].counters.loads[TT_TRAFFIC_WEIGHT].bytes, 1024);
		}
	}
}

/* Words 32 apart lie in one bank; 33 apart in all. */
static void column(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, stride = planted ? 32 : 33;
	(void)in;
	tt_shared_store_4(shared + 4 * stride * t, t);
	tt_store_4(out + t, t, TT_TRAFFIC_RESULT);
}
Test(emu_memory, bank_conflicts)
{
	static const struct word_case c = {column, "column", 1, 32, 33 * 32 * 4, 0, same, ""};
	tt_emu_reset(TT_EMU_RANDOM, 1);
	uint32_t *out = device_words(WORDS);
	for (int planted = 0; planted < 2; planted++) {
		tt_emu_clear_counters();
		words_launch(&c, out, out, planted, false, NULL);
		cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess, "%s", tt_emu_report());
		cr_assert_eq(tt_emu_counted()->shared_requests, 1);
		cr_assert_eq(tt_emu_counted()->shared_ideal, 1);
		cr_assert_eq(tt_emu_counted()->shared_wavefronts, planted ? 32 : 1);
	}
}
