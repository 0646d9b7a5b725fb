/* Barriers, and what they order. An access is stamped with a clock that every ordering advances. A later access of
 * another thread is in order when that thread has taken part in an ordering since the stamp. */
#include <string.h>

#include "kernels/emu/internal.h"

/* Adds what the fiber knows to a barrier's clock; what its own warp did so far counts as known. */
void order_join(struct fiber *fiber, uint32_t clock[MAX_WARPS], bool *grid_waited)
{
	emu.clocks_used = true;
	uint32_t now = ++emu.clock;
	for (uint32_t w = 0; w < emu.n_warps; w++)
		if (fiber->clock[w] > clock[w])
			clock[w] = fiber->clock[w];
	clock[fiber->id / WARP] = now;
	*grid_waited |= fiber->grid_waited;
}

void order_take(struct fiber *fiber, const uint32_t clock[MAX_WARPS], bool grid_waited)
{
	for (uint32_t w = 0; w < emu.n_warps; w++)
		if (clock[w] > fiber->clock[w])
			fiber->clock[w] = clock[w];
	fiber->grid_waited |= grid_waited;
}

void sync_block_release(void)
{
	bool waited = false;
	emu.block_seen = ++emu.clock;
	emu.barriers[0].arrived = 0;
	for (uint32_t i = 0; i < emu.n_threads; i++)
		waited |= emu.fibers[i].grid_waited;
	for (uint32_t i = 0; i < emu.n_threads; i++) {
		emu.fibers[i].grid_waited = waited;
		fiber_wake(&emu.fibers[i]);
	}
	for (uint32_t w = 0; w < emu.n_warps; w++)
		traffic_flush(&emu.warps[w]);
}

bool sync_block_arrive(SITE)
{
	struct barrier *barrier = &emu.barriers[0];
	if (emu.live != emu.n_threads)
		FAIL("divergent barrier: %u threads of the block have exited", emu.n_threads - emu.live);
	if (barrier->arrived && barrier->line != line)
		FAIL("divergent barrier: other threads of the block wait at line %d", barrier->line);
	barrier->line = line;
	if (++barrier->arrived < emu.n_threads)
		return false;
	sync_block_release();
	return true;
}

void tt_emu_sync_block(SITE);
void tt_emu_sync_block(SITE)
{
	if (!sync_block_arrive(SITE_ARGS))
		fiber_wait(AT_BLOCK, SITE_ARGS);
}

bool sync_some_arrive(uint32_t id, uint32_t n_threads, SITE)
{
	struct fiber *self = emu.running;
	if (id < 1 || id >= N_BARRIERS || !n_threads || n_threads % WARP || n_threads > emu.n_threads) {
		FAIL("barrier %u for %u threads: ids go from 1 to 15, threads are whole warps", id, n_threads);
		return true;
	}
	struct barrier *barrier = &emu.barriers[id];
	if (!barrier->arrived) {
		barrier->expected = n_threads;
		barrier->grid_waited = false;
		memset(barrier->clock, 0, sizeof barrier->clock);
	}
	if (barrier->expected != n_threads)
		FAIL("barrier %u expects %u threads here and %u elsewhere", id, n_threads, barrier->expected);
	order_join(self, barrier->clock, &barrier->grid_waited);
	self->wait_at = id;
	if (++barrier->arrived < n_threads)
		return false;
	barrier->arrived = 0;
	for (uint32_t i = 0; i < emu.n_threads; i++) {
		struct fiber *f = &emu.fibers[i];
		if (f != self && (f->state != AT_BARRIER || f->wait_at != id))
			continue;
		order_take(f, barrier->clock, barrier->grid_waited);
		fiber_wake(f);
	}
	return true;
}

void tt_emu_sync_some(uint32_t id, uint32_t n_threads, SITE);
void tt_emu_sync_some(uint32_t id, uint32_t n_threads, SITE)
{
	if (!sync_some_arrive(id, n_threads, SITE_ARGS))
		fiber_wait(AT_BARRIER, SITE_ARGS);
}

/* Programmatic dependent launch. The first waits of a block all hold until no other thread can go on: whatever runs
 * without having waited runs before those that have. */
void tt_emu_grid_wait(SITE);
void tt_emu_grid_wait(SITE)
{
	if (emu.launch->dependent && !emu.running->grid_waited)
		fiber_wait(AT_GRID_WAIT, SITE_ARGS);
}

void tt_emu_grid_launch_dependents(void);
void tt_emu_grid_launch_dependents(void)
{
}
