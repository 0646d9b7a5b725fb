/* Copies that land as late as they may: cp.async at its thread's wait; a bulk copy when somebody waits for its mbarrier
 * and no thread of the block can go on. Until then the destination holds NaN. */
#include <string.h>

#include "kernels/emu/global.h"

void tt_emu_copy_async(void *shared, const void *global, bool valid, enum tt_traffic kind, SITE)
{
	struct fiber *self = emu.running;
	shared_check(shared, 16, SITE_ARGS);
	if (valid) {
		global_check(global, 16, 16, false, kind, SITE_ARGS);
		traffic_record(SPACE_LOAD, kind, global, 16, SITE_ARGS);
	}
	shared_in_flight(shared, 16, SITE_ARGS);
	traffic_record(SPACE_SHARED, 0, shared, 16, SITE_ARGS);
	emu_grow(&self->copies, &self->copy_capacity, self->n_copies + 1, sizeof *self->copies);
	self->copies[self->n_copies++] = (struct late_copy){shared, valid ? global : NULL, self->copy_group};
}

void tt_emu_copy_async_commit(void)
{
	emu.running->copy_group++;
}

static void land(const struct late_copy *copy)
{
	if (copy->from)
		memcpy(host_address(copy->to), host_address(copy->from), 16);
	else
		memset(host_address(copy->to), 0, 16);
	shared_landed(copy->to, 16);
}

void tt_emu_copy_async_wait(unsigned pending, SITE)
{
	struct fiber *self = emu.running;
	size_t n = 0, kept = 0;
	struct late_copy *copies = self->copies, swap;
	(void)primitive, (void)file, (void)line;
	/* The copies that are due come first: groups are in order, so those copies are a prefix already. */
	while (n < self->n_copies && copies[n].group + pending < self->copy_group)
		n++;
	for (size_t i = n; i > 1 && emu.order == TT_EMU_RANDOM; i--) {
		size_t j = emu_random() % i;
		swap = copies[i - 1], copies[i - 1] = copies[j], copies[j] = swap;
	}
	for (size_t i = 0; i < n; i++)
		land(&copies[emu.order == TT_EMU_BACKWARD ? n - 1 - i : i]);
	for (size_t i = n; i < self->n_copies; i++)
		copies[kept++] = copies[i];
	self->n_copies = kept;
}

/* -- mbarrier -- */

enum { MAX_MBARRIERS = 256, MAX_BULK = 1024 };
struct mbarrier {
	const void *at;
	uint32_t count, pending, phase;
	int64_t bytes; /* still to land; negative while a copy has come before its expectation */
	uint32_t clock[MAX_WARPS], done_clock[MAX_WARPS];
	bool grid_waited, done_grid_waited;
};
struct bulk {
	unsigned char *to;
	const unsigned char *from;
	uint32_t n_bytes, barrier, thread;
};
static struct mbarrier mbarriers[MAX_MBARRIERS];
static struct bulk bulks[MAX_BULK];
static uint32_t n_mbarriers, n_bulks;

void async_start(void)
{
	n_mbarriers = n_bulks = 0;
}

static uint32_t mbarrier_find(const void *at, SITE)
{
	for (uint32_t i = 0; i < n_mbarriers; i++) {
		if (mbarriers[i].at == at) {
			shared_touch(emu.running, at, 8, false, SITE_ARGS);
			return i;
		}
	}
	shared_check(at, 8, SITE_ARGS);
	FAIL("no mbarrier was initialised here");
	return 0;
}

void tt_emu_mbarrier_init(uint64_t *barrier, uint32_t count, SITE)
{
	uint32_t i = 0;
	shared_check(barrier, 8, SITE_ARGS);
	shared_touch(emu.running, barrier, 8, true, SITE_ARGS);
	while (i < n_mbarriers && mbarriers[i].at != barrier)
		i++;
	if (emu.launch->cluster > 1)
		FAIL("mbarriers of a cluster's blocks are not modelled");
	if (i == MAX_MBARRIERS || !count)
		FAIL("an mbarrier of %u arrivals, the block's number %u", count, i);
	if (i == n_mbarriers)
		n_mbarriers++;
	memset(&mbarriers[i], 0, sizeof mbarriers[i]);
	mbarriers[i].at = barrier;
	mbarriers[i].count = mbarriers[i].pending = count;
}

static void phase_end(uint32_t index)
{
	struct mbarrier *b = &mbarriers[index];
	if (b->pending || b->bytes)
		return;
	b->pending = b->count;
	b->phase++;
	memcpy(b->done_clock, b->clock, sizeof b->clock);
	b->done_grid_waited = b->grid_waited;
	for (uint32_t i = 0; i < emu.n_threads; i++) {
		struct fiber *f = &emu.fibers[i];
		if (f->state == AT_MBARRIER && f->wait_at == index && (b->phase & 1) != f->wait_parity)
			fiber_wake(f);
	}
}

void tt_emu_mbarrier_arrive(uint64_t *barrier, uint32_t n_bytes, SITE)
{
	uint32_t index = mbarrier_find(barrier, SITE_ARGS);
	struct mbarrier *b = &mbarriers[index];
	if (!b->pending)
		FAIL("mbarrier over-arrived: all %u arrivals of the phase had come, %lld bytes had not landed",
			b->count, (long long)b->bytes);
	order_join(emu.running, b->clock, &b->grid_waited);
	b->bytes += n_bytes;
	b->pending--;
	phase_end(index);
}

bool mbarrier_over(uint64_t *barrier, uint32_t parity, SITE)
{
	struct fiber *self = emu.running;
	uint32_t index = mbarrier_find(barrier, SITE_ARGS);
	struct mbarrier *b = &mbarriers[index];
	self->wait_at = index;
	self->wait_parity = parity & 1;
	if ((b->phase & 1) == self->wait_parity)
		return false;
	order_take(self, b->done_clock, b->done_grid_waited);
	return true;
}

void tt_emu_mbarrier_wait(uint64_t *barrier, uint32_t parity, SITE);
void tt_emu_mbarrier_wait(uint64_t *barrier, uint32_t parity, SITE)
{
	while (!mbarrier_over(barrier, parity, SITE_ARGS))
		fiber_wait(AT_MBARRIER, SITE_ARGS);
}

void tt_emu_copy_bulk(void *shared, const void *global, uint32_t n_bytes, uint64_t *barrier, enum tt_traffic kind, SITE)
{
	uint32_t index = mbarrier_find(barrier, SITE_ARGS);
	if (!n_bytes || n_bytes % 16 || (uintptr_t)shared % 16 || (uintptr_t)global % 16)
		FAIL("misaligned: %u bytes; both ends and the size are multiples of 16", n_bytes);
	shared_check(shared, n_bytes, SITE_ARGS);
	global_check(global, n_bytes, 16, false, kind, SITE_ARGS);
	shared_in_flight(shared, n_bytes, SITE_ARGS);
	/* One thread reads whole lines: this counts the sectors that it covers. */
	struct tt_emu_traffic *t = &emu.run.loads[kind];
	t->accesses++;
	t->requests++;
	t->bytes += n_bytes;
	t->sectors += ((uintptr_t)global % 32 + n_bytes + 31) / 32;
	if (n_bulks == MAX_BULK) {
		FAIL("more than %d bulk copies under way", MAX_BULK);
		return;
	}
	bulks[n_bulks++] = (struct bulk){shared, global, n_bytes, index, emu.running->id};
}

static bool waited_for(uint32_t barrier)
{
	for (uint32_t i = 0; i < emu.n_threads; i++)
		if (emu.fibers[i].state == AT_MBARRIER && emu.fibers[i].wait_at == barrier)
			return true;
	return false;
}

bool async_deliver(void)
{
	uint32_t first = n_bulks ? (uint32_t)emu_random() % n_bulks : 0;
	for (uint32_t k = 0; k < n_bulks; k++) {
		uint32_t i = (first + k) % n_bulks;
		struct bulk copy = bulks[i];
		if (!waited_for(copy.barrier))
			continue;
		struct mbarrier *b = &mbarriers[copy.barrier];
		memcpy(host_address(copy.to), host_address(copy.from), copy.n_bytes);
		shared_landed(copy.to, copy.n_bytes);
		b->clock[copy.thread / WARP] = ++emu.clock;
		emu.clocks_used = true;
		b->bytes -= copy.n_bytes;
		bulks[i] = bulks[--n_bulks];
		phase_end(copy.barrier);
		return true;
	}
	return false;
}
