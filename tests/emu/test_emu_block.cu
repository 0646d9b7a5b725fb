/* Faults among the threads of a block: each kernel is right as it stands, and wrong with planted. */
#include "tests/emu/checks.h"

enum { THREADS = 128 };

static uint32_t next_of(uint32_t i)
{
	return (i + 1) % THREADS;
}

/* Every thread hands its word to the one below. */
static void no_block_barrier(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	if (!planted)
		tt_sync_block();
	tt_store_4(out + t, tt_shared_load_4(shared + 4 * ((t + 1) % THREADS)), TT_TRAFFIC_RESULT);
}

/* Whichever thread runs first finds its neighbour's word unwritten; the others find it without a barrier. */
static void run_any_of_two(const struct word_case *c, int planted)
{
	struct word_case own = *c;
	own.report = "";
	words_run(&own, planted);
	if (planted)
		cr_assert(strstr(tt_emu_report(), c->report) || strstr(tt_emu_report(), "unwritten"), "%s",
			tt_emu_report());
}

Test(emu_block, missing_block_barrier)
{
	static const struct word_case c = {no_block_barrier, "no_block_barrier", 1, THREADS, 4 * THREADS, THREADS,
		next_of, "missing tt_sync_block"};
	in_every_order(run_any_of_two, &c);
}

/* A warpgroup's product of ones with columns that hold their own number: what b each warp reads, all four stored. */
static void product_without_a_barrier(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(b);
	const uint32_t ones = tt_bf16x2_from_f32(1, 1), a[4] = {ones, ones, ones, ones};
	uint32_t t = threadIdx.x, column = tt_load_4(in + t, TT_TRAFFIC_ACTIVATION);
	float d[64] = {};
	for (uint32_t k = 0; k < 16; k += 2)
		tt_shared_store_4(b + tt_wgmma_offset(t, k), tt_bf16x2_from_f32((float)column, (float)column));
	tt_fence_async();
	if (!planted)
		tt_sync_block();
	tt_wgmma<128>(d, a, b);
	for (uint32_t i = 0; i < 32; i++)
		tt_store_4(out + 32 * t + i, (uint32_t)d[i], TT_TRAFFIC_RESULT);
}

/* Word i of a thread: columns 8 (i / 4) on, two for each lane, in two rows. */
static uint32_t sixteen_columns(uint32_t i)
{
	return 16 * (i % 32 / 4 * 8 + i / 32 % 4 * 2 + i % 2);
}

Test(emu_block, missing_barrier_before_a_warpgroups_product)
{
	static const struct word_case c = {product_without_a_barrier, "product_without_a_barrier", 1, THREADS, 4096,
		32 * THREADS, sixteen_columns, "missing tt_sync_"};
	in_every_order(run_any_of_two, &c);
}

static uint32_t next_warp(uint32_t i)
{
	return (i + 32) % THREADS;
}

/* The words lie there from the round before, so that the values never betray the fault. */
static void no_barrier_before_reuse(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, sum = 0;
	for (uint32_t round = 0; round < 3; round++) {
		tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
		tt_sync_block();
		sum += tt_shared_load_4(shared + 4 * ((t + 32) % THREADS));
		if (!planted)
			tt_sync_block();
	}
	tt_store_4(out + t, sum / 3, TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, missing_barrier_before_reuse, no_barrier_before_reuse, 1, THREADS, 4 * THREADS, THREADS, next_warp,
	"missing tt_sync_block")

static uint32_t next_lane(uint32_t i)
{
	return i / 32 * 32 + (i + 1) % 32;
}

/* A shuffle between store and load makes the lanes meet, but does not order memory. */
static void no_warp_sync(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, first = t - tt_lane();
	tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	tt_shuffle(0, 0);
	if (!planted)
		tt_sync_warp();
	tt_store_4(out + t, tt_shared_load_4(shared + 4 * (first + (t + 1) % 32)), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, missing_warp_sync, no_warp_sync, 1, THREADS, 4 * THREADS, THREADS, next_lane, "missing tt_sync_warp")

/* One warp writes for another, which takes more than a tt_sync_warp. */
static void warp_sync_for_block(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_shared_store_4(shared + 4 * t, 0);
	tt_sync_block();
	tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	if (planted)
		tt_sync_warp();
	else
		tt_sync_some(1, THREADS);
	tt_store_4(out + t, tt_shared_load_4(shared + 4 * ((t + 1) % THREADS)), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, warp_sync_where_block_is_needed, warp_sync_for_block, 1, THREADS, 4 * THREADS, THREADS, next_of,
	"missing tt_sync_block")

static void unwritten_read(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	if (!planted || t != 77)
		tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	tt_sync_block();
	tt_store_4(
		out + blockIdx.x * THREADS + t, tt_shared_load_4(shared + 4 * ((t + 1) % THREADS)), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, unwritten_shared_memory, unwritten_read, 2, THREADS, 4 * THREADS, THREADS, next_of,
	"read of unwritten shared memory")

/* Static shared memory goes the same way, and is poisoned between blocks. */
static void unwritten_static(uint32_t *out, const uint32_t *in, int planted)
{
	__shared__ uint32_t words[THREADS];
	uint32_t t = threadIdx.x;
	if (!planted || blockIdx.x == 0)
		tt_shared_store_4(words + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	tt_sync_block();
	tt_store_4(out + blockIdx.x * THREADS + t, tt_shared_load_4(words + (t + 1) % THREADS), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, static_shared_memory_of_the_block_before, unwritten_static, 2, THREADS, 0, THREADS, next_of,
	"read of unwritten shared memory")

static void shared_out_of_bounds(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_shared_store_4(shared + 4 * (planted ? t + 1 : t), tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	tt_sync_block();
	tt_store_4(out + t, tt_shared_load_4(shared + 4 * ((t + 1) % THREADS)), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, shared_out_of_bounds, shared_out_of_bounds, 1, THREADS, 4 * THREADS, THREADS, next_of,
	"out of bounds")

static void plain_shared_access(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	tt_sync_block();
	uint32_t *next = (uint32_t *)shared + (t + 1) % THREADS;
	tt_store_4(out + t, planted ? *next : tt_shared_load_4(next), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, plain_access_to_shared_memory, plain_shared_access, 1, THREADS, 4 * THREADS, THREADS, next_of,
	"without a primitive")

static uint32_t same(uint32_t i)
{
	return i;
}

static void divergent_barrier(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	if (planted && t >= 64)
		tt_sync_block();
	else
		tt_sync_block();
	tt_store_4(out + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, divergent_barrier, divergent_barrier, 1, THREADS, 0, THREADS, same, "divergent barrier")

static void early_exit(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	if (planted && t == 5)
		return;
	tt_store_4(out + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_RESULT);
	tt_sync_block();
}
CATCHES(emu_block, exit_before_a_barrier, early_exit, 1, THREADS, 0, THREADS, same, "divergent barrier")

static void divergent_shuffle(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x, v = tt_load_4(in + t, TT_TRAFFIC_ACTIVATION);
	if (planted && tt_lane() < 16)
		v = tt_shuffle_xor(v, 0);
	else
		v = tt_shuffle_xor(v, 0);
	tt_store_4(out + t, v, TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, divergent_warp, divergent_shuffle, 1, THREADS, 0, THREADS, same, "divergent warp")

static void half_a_warp(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x, v = tt_load_4(in + t, TT_TRAFFIC_ACTIVATION);
	if (!planted || tt_lane() < 16)
		v = tt_shuffle_xor(v, 0);
	tt_store_4(out + t, v, TT_TRAFFIC_RESULT);
}
static void run_half_a_warp(const struct word_case *c, int planted)
{
	struct word_case own = *c;
	own.report = "lanes";
	words_run(&own, planted);
}
Test(emu_block, half_a_warp_in_a_shuffle)
{
	static const struct word_case c = {half_a_warp, "half_a_warp", 1, THREADS, 0, THREADS, same, ""};
	in_every_order(run_half_a_warp, &c);
}

/* A named barrier that one warp never reaches. */
static void deadlock(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	if (!planted || tt_warp() != 2)
		tt_sync_some(3, THREADS);
	tt_store_4(out + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION), TT_TRAFFIC_RESULT);
}
CATCHES(emu_block, deadlock, deadlock, 1, THREADS, 0, THREADS, same, "deadlock: waits for a named barrier; 96 threads")

/* Two pairs of warps, each with its own barrier. */
static uint32_t other_of_pair(uint32_t i)
{
	return i ^ 32;
}
static void pair_barriers(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, pair = tt_warp() / 2;
	tt_shared_store_4(shared + 4 * t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION));
	tt_sync_some(1 + pair, 64);
	tt_store_4(out + t, tt_shared_load_4(shared + 4 * (t ^ (planted ? 64 : 32))), TT_TRAFFIC_RESULT);
}
Test(emu_block, barrier_of_another_pair)
{
	static const struct word_case c = {pair_barriers, "pair_barriers", 1, THREADS, 4 * THREADS, THREADS,
		other_of_pair, "missing tt_sync_block"};
	in_every_order(run_any_of_two, &c);
}

Test(emu_block, launch_limits)
{
	static const struct word_case c = {divergent_barrier, "divergent_barrier", 1, THREADS, 0, 0, same, ""};
	tt_emu_reset(TT_EMU_FORWARD, 1);
	const void *kernel = word_kernel_address(&c);
	const uint32_t *in = counting_words();
	uint32_t *out = device_words(WORDS);
	int planted = 0;
	void *args[] = {&out, &in, &planted};
	struct tt_error err = {0, ""};
	struct tt_launch wide = {"wide", dim3(1), dim3(2048), 0, NULL, 0, 0, false, NULL};
	cr_assert_eq(tt_launch_kernel(&wide, kernel, args, &err), TT_ERR_DEVICE);
	cr_assert(strstr(err.message, "wide: "), "%s", err.message);
	struct tt_launch ragged = {"ragged", dim3(1), dim3(48), 0, NULL, 0, 0, false, NULL};
	cr_assert_eq(tt_launch_kernel(&ragged, kernel, args, &err), TT_ERR_DEVICE);
	struct tt_launch greedy = {"greedy", dim3(1), dim3(128), 100 * 1024, NULL, 0, 0, false, NULL};
	cr_assert_eq(tt_launch_kernel(&greedy, kernel, args, &err), TT_ERR_DEVICE);
	cr_assert_eq(tt_kernel_prepare(kernel, 228 * 1024, &err), TT_ERR_DEVICE);
	cr_assert_eq(tt_kernel_prepare(kernel, 227 * 1024, &err), TT_OK);
	cr_assert_eq(tt_launch_kernel(&greedy, kernel, args, &err), TT_OK);
	cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess, "%s", tt_emu_report());
}
