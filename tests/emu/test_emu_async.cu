/* Faults with copies that land late, and with mbarriers. */
#include "tests/emu/checks.h"

enum { THREADS = 64 };

static uint32_t same(uint32_t i)
{
	return i;
}

/* Every thread fetches 16 bytes for itself. */
static void own_copy(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_copy_async_or_zero(shared + 16 * t, in + 4 * t, true, TT_TRAFFIC_ACTIVATION);
	tt_copy_async_commit();
	if (!planted)
		tt_copy_async_wait<0>();
	tt_store_16(out + 4 * t, tt_shared_load_16(shared + 16 * t), TT_TRAFFIC_RESULT);
}
CATCHES(emu_async, copy_read_before_its_wait, own_copy, 1, THREADS, 16 * THREADS, 4 * THREADS, same,
	"read before its wait")

/* Two groups; the wait leaves one of them under way. */
static void newest_group(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	for (uint32_t i = 0; i < 2; i++) {
		tt_copy_async_or_zero(shared + 16 * (2 * t + i), in + 4 * (2 * t + i), true, TT_TRAFFIC_ACTIVATION);
		tt_copy_async_commit();
	}
	tt_copy_async_wait<1>();
	tt_store_16(out + 8 * t, tt_shared_load_16(shared + 32 * t), TT_TRAFFIC_RESULT);
	if (!planted)
		tt_copy_async_wait<0>();
	tt_store_16(out + 8 * t + 4, tt_shared_load_16(shared + 32 * t + 16), TT_TRAFFIC_RESULT);
}
CATCHES(emu_async, copy_of_the_newest_group, newest_group, 1, THREADS, 32 * THREADS, 8 * THREADS, same,
	"read before its wait")

static void not_committed(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	tt_copy_async_or_zero(shared + 16 * t, in + 4 * t, true, TT_TRAFFIC_ACTIVATION);
	if (!planted)
		tt_copy_async_commit();
	tt_copy_async_wait<0>();
	tt_store_16(out + 4 * t, tt_shared_load_16(shared + 16 * t), TT_TRAFFIC_RESULT);
}
CATCHES(emu_async, copy_without_a_commit, not_committed, 1, THREADS, 16 * THREADS, 4 * THREADS, same,
	"read before its wait")

/* A wait covers the thread's own copies; another thread's need a barrier after it. */
static void copy_of_another(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, other = t ^ 32;
	tt_copy_async_or_zero(shared + 16 * t, in + 4 * t, true, TT_TRAFFIC_ACTIVATION);
	tt_copy_async_commit();
	tt_copy_async_wait<0>();
	if (!planted)
		tt_sync_block();
	tt_store_16(out + 4 * other, tt_shared_load_16(shared + 16 * other), TT_TRAFFIC_RESULT);
}
static void run_copy_of_another(const struct word_case *c, int planted)
{
	struct word_case own = *c;
	own.report = "tt_shared_load_16";
	words_run(&own, planted);
	if (planted)
		cr_assert(strstr(tt_emu_report(), "missing tt_sync_block") || strstr(tt_emu_report(), "unwritten"),
			"%s", tt_emu_report());
}
Test(emu_async, copy_of_another_thread)
{
	static const struct word_case c = {
		copy_of_another, "copy_of_another", 1, THREADS, 16 * THREADS, 4 * THREADS, same, ""};
	in_every_order(run_copy_of_another, &c);
}

/* The stage is filled again while the other warp still reads it. */
static void stage_reused(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, other = t ^ 32;
	for (uint32_t i = 0; i < 2; i++) {
		tt_copy_async_or_zero(shared + 16 * t, in + 4 * (t + i * THREADS), true, TT_TRAFFIC_ACTIVATION);
		tt_copy_async_commit();
		tt_copy_async_wait<0>();
		tt_sync_block();
		tt_store_16(out + 4 * (other + i * THREADS), tt_shared_load_16(shared + 16 * other), TT_TRAFFIC_RESULT);
		if (!planted)
			tt_sync_block();
	}
}
CATCHES(emu_async, stage_filled_while_it_is_read, stage_reused, 1, THREADS, 16 * THREADS, 8 * THREADS, same,
	"missing tt_sync_block")

static uint32_t masked(uint32_t i)
{
	return i < 4 * 40 ? i : 0;
}
/* Rows from 40 on are masked; their address is never read. */
static void masked_copy(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	bool valid = t < 40;
	const uint32_t *from = in + WORDS - 4 * 40;
	tt_copy_async_or_zero(
		shared + 16 * t, valid ? in + 4 * t : from + 4 * t, planted || valid, TT_TRAFFIC_ACTIVATION);
	tt_copy_async_commit();
	tt_copy_async_wait<0>();
	tt_store_16(out + 4 * t, tt_shared_load_16(shared + 16 * t), TT_TRAFFIC_RESULT);
}
CATCHES(emu_async, masked_rows, masked_copy, 1, THREADS, 16 * THREADS, 4 * THREADS, masked, "out of bounds")

/* -- mbarrier: thread 0 fetches a tile of 256 bytes a stage for all, through a ring of two. -- */

enum { TILE = 256, TILES = 6, RING = 2, FULL = RING * TILE, EMPTY = FULL + 8 * RING, RING_BYTES = EMPTY + 8 * RING };
enum { NO_FULL_WAIT = 1, NO_EMPTY_WAIT, EXPECTS_TOO_MUCH, EXPECTS_TOO_LITTLE, ONE_TOO_MANY, EMPTY_COUNT };

static void ring(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	if (t == 0) {
		for (uint32_t s = 0; s < RING; s++) {
			tt_mbarrier_init((tt_mbarrier *)(shared + FULL) + s, 1);
			tt_mbarrier_init((tt_mbarrier *)(shared + EMPTY) + s, planted == EMPTY_COUNT ? 2 : 1);
		}
		tt_mbarrier_init_fence();
	}
	tt_sync_block();
	if (tt_warp() == 0) {
		for (uint32_t i = 0; t == 0 && i < TILES; i++) {
			tt_mbarrier *full = (tt_mbarrier *)(shared + FULL) + i % RING;
			if (i >= RING && planted != NO_EMPTY_WAIT)
				tt_mbarrier_wait((tt_mbarrier *)(shared + EMPTY) + i % RING, (i / RING - 1) & 1);
			uint32_t expected = planted == EXPECTS_TOO_MUCH     ? TILE + 16
					    : planted == EXPECTS_TOO_LITTLE ? TILE - 16
									    : TILE;
			tt_mbarrier_arrive_expect(full, expected);
			if (planted == ONE_TOO_MANY)
				tt_mbarrier_arrive(full);
			tt_copy_bulk(shared + i % RING * TILE, in + i * (TILE / 4), TILE, full, TT_TRAFFIC_ACTIVATION);
		}
		return;
	}
	for (uint32_t i = 0; i < TILES; i++) {
		if (planted != NO_FULL_WAIT)
			tt_mbarrier_wait((tt_mbarrier *)(shared + FULL) + i % RING, i / RING & 1);
		for (uint32_t j = 0; j < 2; j++) {
			uint32_t at = 2 * tt_lane() + j;
			uint32_t v = tt_shared_load_4(shared + i % RING * TILE + 4 * at);
			tt_store_4(out + i * (TILE / 4) + at, v, TT_TRAFFIC_RESULT);
		}
		tt_sync_warp();
		if (tt_lane() == 0)
			tt_mbarrier_arrive((tt_mbarrier *)(shared + EMPTY) + i % RING);
	}
}

static void run_ring(const struct word_case *c, int planted)
{
	static const char *const reports[][2] = {{"", ""}, {"read before its wait", "unwritten"},
		{"mbarrier over-arrived", ""}, {"never completes", ""}, {"deadlock", "over-arrived"},
		{"mbarrier over-arrived", ""}, {"never completes", ""}};
	int fault = planted ? (int)c->n_out : 0;
	struct word_case own = *c;
	own.n_out = TILES * TILE / 4;
	own.report = "";
	if (!planted) {
		words_run(&own, 0);
		return;
	}
	const uint32_t *in = counting_words();
	words_launch(&own, device_words(WORDS), in, fault, false, NULL);
	cr_assert_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure, "fault %d was not caught", fault);
	const char *report = tt_emu_report();
	cr_assert(strstr(report, "ring: block 0,0,0 thread "), "%s", report);
	cr_assert(strstr(report, reports[fault][0]) || (*reports[fault][1] && strstr(report, reports[fault][1])),
		"fault %d: %s", fault, report);
}

static void plant_in_ring(int fault)
{
	const struct word_case c = {ring, "ring", 1, THREADS, RING_BYTES, (uint32_t)fault, same, ""};
	in_every_order(run_ring, &c);
}
Test(emu_async, bulk_read_before_its_wait)
{
	plant_in_ring(NO_FULL_WAIT);
}
Test(emu_async, bulk_stage_filled_without_a_wait)
{
	plant_in_ring(NO_EMPTY_WAIT);
}
Test(emu_async, mbarrier_expects_too_much)
{
	plant_in_ring(EXPECTS_TOO_MUCH);
}
Test(emu_async, mbarrier_expects_too_little)
{
	plant_in_ring(EXPECTS_TOO_LITTLE);
}
Test(emu_async, mbarrier_over_arrived)
{
	plant_in_ring(ONE_TOO_MANY);
}
Test(emu_async, mbarrier_never_completes)
{
	plant_in_ring(EMPTY_COUNT);
}
