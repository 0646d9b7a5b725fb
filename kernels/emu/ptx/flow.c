/* Instructions that decide who runs next: branches, barriers, and what waits for copies or for other kernels. Who
 * waits, and what that orders, is the emulator's (sync.c, async.c). */
#include "kernels/emu/cluster.h"
#include "kernels/emu/ptx/lanes.h"

static void sync_block(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *id = ptx_lanes(w, i, 0);
	if (id[__builtin_ctz(mask)])
		ptx_fail(i, "only barrier 0 without a count is known");
	PTX_EACH(w, mask, lane)
	if (!sync_block_arrive(PTX_SITE(w, i)))
		fiber_park(AT_BLOCK, PTX_SITE(w, i));
}

static void sync_some(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *id = ptx_lanes(w, i, 0), *n_threads = ptx_lanes(w, i, 1);
	PTX_EACH(w, mask, lane)
	if (!sync_some_arrive(id[lane], n_threads[lane], PTX_SITE(w, i)))
		fiber_park(AT_BARRIER, PTX_SITE(w, i));
}

static void mbarrier_init(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *count = ptx_lanes(w, i, 2);
	PTX_EACH(w, mask, lane)
	tt_emu_mbarrier_init((uint64_t *)ptx_shared(ptx_address_32(w, i, 0, lane)), count[lane], PTX_SITE(w, i));
}

static void mbarrier_arrive(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	tt_emu_mbarrier_arrive((uint64_t *)ptx_shared(ptx_address_32(w, i, 1, lane)), 0, PTX_SITE(w, i));
}

static void mbarrier_expect(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *n_bytes = ptx_lanes(w, i, 3);
	PTX_EACH(w, mask, lane)
	tt_emu_mbarrier_arrive((uint64_t *)ptx_shared(ptx_address_32(w, i, 1, lane)), n_bytes[lane], PTX_SITE(w, i));
}

/* May suspend the thread; here always, until the phase is over. */
static void mbarrier_try_wait(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *parity = ptx_lanes(w, i, 3);
	uint32_t over = 0;
	PTX_EACH(w, mask, lane)
	{
		if (mbarrier_over((uint64_t *)ptx_shared(ptx_address_32(w, i, 1, lane)), parity[lane], PTX_SITE(w, i)))
			over |= 1u << lane;
		else
			fiber_park(AT_MBARRIER, PTX_SITE(w, i));
	}
	ptx_put_predicate(w, i, 0, UINT32_MAX, over);
}

static void grid_wait(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	if (emu.launch->dependent && !emu.running->grid_waited)
		fiber_park(AT_GRID_WAIT, PTX_SITE(w, i));
}

static void arrive_cluster(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	cluster_arrive(PTX_SITE(w, i));
}

static void wait_cluster(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	{
		cluster_wait(PTX_SITE(w, i));
		fiber_park(AT_CLUSTER, PTX_SITE(w, i));
	}
}

static void nothing(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)w, (void)i, (void)mask;
}

const struct ptx_row ptx_rows_flow[] = {
	{"bra", "t", NULL, PTX_BRANCH, 0},
	{"bra.uni", "t", NULL, PTX_BRANCH, 0},
	{"ret", "", NULL, PTX_END, 0},
	{"exit", "", NULL, PTX_END, 0},
	{"bar.sync", "w", sync_block, PTX_MEET_WAIT, 0},
	{"barrier.sync", "ww", sync_some, PTX_WAIT, 0},
	{"barrier.cluster.arrive.release.aligned", "", arrive_cluster, PTX_MEET_ALL, 0},
	{"barrier.cluster.wait.acquire.aligned", "", wait_cluster, PTX_MEET_WAIT, 0},
	{"mbarrier.init.shared::cta.b64", "sw", mbarrier_init, PTX_PLAIN, 0},
	{"mbarrier.arrive.shared::cta.b64", "_s", mbarrier_arrive, PTX_PLAIN, 0},
	{"mbarrier.arrive.expect_tx.shared::cta.b64", "_sw", mbarrier_expect, PTX_PLAIN, 0},
	{"mbarrier.try_wait.parity.shared::cta.b64", "Psw", mbarrier_try_wait, PTX_AGAIN, 0},
	{"griddepcontrol.wait", "", grid_wait, PTX_WAIT, 0},
	{"griddepcontrol.launch_dependents", "", nothing, PTX_PLAIN, 0},
	{NULL, NULL, NULL, 0, 0},
};
