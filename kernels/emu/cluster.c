/* Clusters: blocks that run at once and read each other's shared memory. Here they take turns: each runs until it ends
 * or waits at the cluster's barrier, and then the next does; when all wait there, all go on. A block's memory is set
 * aside while another one runs. mbarriers and bulk copies within a cluster are not modelled. */
#include <string.h>

#include "kernels/emu/cluster.h"

enum state { NEW, HELD, ENDED };

/* A block that does not run at the moment. */
static struct kept {
	enum state state;
	uint32_t block_id, live, block_seen, block_start;
	bool arrived, clocks_used;
	struct between stores, arrival;
	struct barrier barriers[N_BARRIERS];
	struct shared_kept shared;
} blocks[MAX_CLUSTER];
static uint32_t running;

static void keep(struct kept *to)
{
	to->block_id = emu.block_id, to->live = emu.live;
	to->block_seen = emu.block_seen, to->block_start = emu.block_start;
	to->arrived = emu.arrived, to->clocks_used = emu.clocks_used;
	to->stores = emu.stores, to->arrival = emu.arrival;
	memcpy(to->barriers, emu.barriers, sizeof to->barriers);
	shared_keep(&to->shared);
	to->state = HELD;
}

static void go_on(const struct kept *from, uint32_t slot)
{
	emu.block_id = from->block_id, emu.live = from->live;
	emu.block_seen = from->block_seen, emu.block_start = from->block_start;
	emu.arrived = from->arrived, emu.clocks_used = from->clocks_used;
	emu.stores = from->stores, emu.arrival = from->arrival;
	memcpy(emu.barriers, from->barriers, sizeof from->barriers);
	emu.fibers = emu_fibers + slot * MAX_THREADS;
	emu.warps = emu_warps + slot * MAX_WARPS;
	shared_put_back(&from->shared);
	sync_block_release();
}

/* The place in the cluster of the block whose turn is the i-th of n. */
static uint32_t turn(uint32_t i, uint32_t n, uint32_t first)
{
	return emu.order == TT_EMU_BACKWARD ? n - 1 - i : (first + i) % n;
}

/* One turn of each block. How many have ended since the cluster began. */
static uint32_t run_all(uint32_t first_block, uint32_t n)
{
	uint32_t first = emu.order == TT_EMU_RANDOM ? (uint32_t)emu_random() % n : 0, ended = 0;
	for (uint32_t i = 0; i < n && !emu.failed; i++) {
		uint32_t slot = turn(i, n, first);
		struct kept *block = &blocks[slot];
		if (block->state != ENDED) {
			running = slot;
			if (block->state == NEW)
				block_start(first_block + slot, slot);
			else
				go_on(block, slot);
			if (block_go())
				block->state = ENDED;
			else
				keep(block);
		}
		ended += block->state == ENDED;
	}
	return ended;
}

void cluster_run(uint32_t first_block)
{
	uint32_t n = emu.launch->cluster;
	for (uint32_t i = 0; i < n; i++)
		blocks[i].state = NEW;
	for (;;) {
		emu.cluster_seen = ++emu.clock;
		uint32_t ended = run_all(first_block, n);
		if (emu.failed || ended == n)
			return;
		emu.running = NULL;
		if (ended)
			emu_fail(NULL,
				"divergent barrier: blocks of the cluster wait in tt_sync_cluster, %u have ended",
				ended);
	}
}

void cluster_arrive(SITE)
{
	struct fiber *self = emu.running;
	if (self->cluster_arrived)
		FAIL("arrives at the cluster's barrier again, without a wait between");
	self->cluster_arrived = true;
}

void cluster_wait(SITE)
{
	struct fiber *self = emu.running;
	if (!self->cluster_arrived)
		FAIL("waits at the cluster's barrier, where it has not arrived");
	self->cluster_arrived = false;
}

void tt_emu_sync_cluster(SITE);
void tt_emu_sync_cluster(SITE)
{
	cluster_arrive(SITE_ARGS);
	cluster_wait(SITE_ARGS);
	fiber_wait(AT_CLUSTER, SITE_ARGS);
}

const unsigned char *cluster_check(const void *p, uint32_t rank, size_t size, SITE)
{
	if (rank >= emu.launch->cluster)
		FAIL("block %u of a cluster of %u", rank, emu.launch->cluster);
	if (rank == running) {
		const unsigned char *own = shared_check(p, size, SITE_ARGS);
		shared_touch(emu.running, p, size, false, SITE_ARGS);
		return own;
	}
	if (blocks[rank].state == ENDED)
		FAIL("missing tt_sync_cluster: block %u of the cluster may have ended", rank);
	if (blocks[rank].state == NEW)
		FAIL("missing tt_sync_cluster: block %u of the cluster may not have begun", rank);
	return shared_kept_check(&blocks[rank].shared, p, size, blocks[rank].block_start, SITE_ARGS);
}

void tt_emu_cluster_load(void *out, const void *p, uint32_t rank, unsigned size, SITE);
void tt_emu_cluster_load(void *out, const void *p, uint32_t rank, unsigned size, SITE)
{
	memcpy(out, cluster_check(p, rank, size, SITE_ARGS), size);
}
