/* Instructions that touch memory. Bounds, alignment and order are the emulator's to check (shared.c, global.c,
 * async.c). A vector's elements are one access. */
#include "kernels/emu/cluster.h"
#include "kernels/emu/ptx/lanes.h"

/* An address in a block's memory from anywhere in its cluster has the block's place there, counted from 1, above the
 * address; without that it is the block's own. */
enum { MAX_ACCESS = 16, CLUSTER_SHIFT = 24 };

unsigned char *ptx_shared(uint32_t address)
{
	/* as a difference, so that what lies outside is reported as such */
	return (unsigned char *)((uintptr_t)tt_emu_dynamic_shared() +
				 (uintptr_t)(intptr_t)((int64_t)address - PTX_SHARED));
}

/* How many registers stand in the row: of what is loaded, or stored. */
static unsigned elements(const struct ptx_instruction *i)
{
	return (unsigned)strlen(i->row->operands) - 1;
}

/* The bytes of a lane in a register of the row. One may be wider than what is moved: a store takes its lower bytes, a
 * load leaves zeros above (signed types are not known in such a register). */
static unsigned width(char letter)
{
	return letter == 'H' || letter == 'h' ? 2 : letter == 'W' || letter == 'w' ? 4 : 8;
}

static void from_registers(
	struct ptx_warp *w, const struct ptx_instruction *i, unsigned first, uint32_t lane, unsigned char *out)
{
	unsigned size = i->row->size, each = width(i->row->operands[1]);
	for (unsigned k = 0; k < elements(i); k++)
		memcpy(out + k * size, (unsigned char *)ptx_lanes(w, i, first + k) + lane * each, size);
}

static void to_registers(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t lane, const unsigned char *value)
{
	unsigned size = i->row->size, each = width(i->row->operands[0]);
	for (unsigned k = 0; k < elements(i); k++) {
		unsigned char *to = (unsigned char *)ptx_lanes(w, i, k) + lane * each;
		memcpy(to, value + k * size, size);
		memset(to + size, 0, each - size);
	}
}

static bool in_data(const struct ptx_code *code, uint64_t address, size_t size)
{
	uint64_t base = (uintptr_t)code->data;
	return code->data && address >= base && address - base + size <= code->data_bytes;
}

static void load_global_as(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask, enum tt_traffic kind)
{
	unsigned n = elements(i), size = n * i->row->size;
	PTX_EACH(w, mask, lane)
	{
		uint64_t address = ptx_address_64(w, i, n, lane);
		const void *p = (const void *)(uintptr_t)address;
		if (!in_data(w->code, address, size))
			global_check(p, size, size, false, kind, PTX_SITE(w, i));
		to_registers(w, i, lane, host_address(p));
	}
}

static void load_global(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	load_global_as(w, i, mask, TT_TRAFFIC_ACTIVATION);
}

/* Past the coherent caches, so nothing may write there while the kernel runs: as the emulator's weights. */
static void load_constant(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	load_global_as(w, i, mask, TT_TRAFFIC_WEIGHT);
}

static void store_global(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	unsigned size = elements(i) * i->row->size;
	PTX_EACH(w, mask, lane)
	{
		unsigned char value[MAX_ACCESS];
		void *p = (void *)(uintptr_t)ptx_address_64(w, i, 0, lane);
		from_registers(w, i, 2, lane, value);
		global_check(p, size, size, true, TT_TRAFFIC_ACTIVATION, PTX_SITE(w, i));
		global_note_store(PTX_SITE(w, i));
		memcpy(host_address(p), value, size);
	}
}

/* st.relaxed.sys: the only store to memory of the host that is seen while a kernel runs. */
static void store_to_host(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	{
		unsigned char value[MAX_ACCESS];
		from_registers(w, i, 2, lane, value);
		tt_emu_store_to_host((void *)(uintptr_t)ptx_address_64(w, i, 0, lane), value, i->row->size,
			TT_TRAFFIC_ACTIVATION, PTX_SITE(w, i));
	}
}

static void load_shared(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	unsigned n = elements(i), size = n * i->row->size;
	PTX_EACH(w, mask, lane)
	{
		const unsigned char *p = ptx_shared(ptx_address_32(w, i, n, lane));
		to_registers(w, i, lane, shared_check(p, size, PTX_SITE(w, i)));
		shared_touch(emu.running, p, size, false, PTX_SITE(w, i));
	}
}

static void store_shared(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	unsigned size = elements(i) * i->row->size;
	PTX_EACH(w, mask, lane)
	{
		unsigned char *p = ptx_shared(ptx_address_32(w, i, 0, lane)), value[MAX_ACCESS];
		unsigned char *to = shared_check(p, size, PTX_SITE(w, i));
		from_registers(w, i, 2, lane, value);
		shared_touch(emu.running, p, size, true, PTX_SITE(w, i));
		memcpy(to, value, size);
	}
}

static void map_address(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *address = ptx_lanes(w, i, 1), *rank = ptx_lanes(w, i, 2);
	uint32_t mapped[PTX_LANES] = {0};
	PTX_EACH(w, mask, lane)
	{
		if (rank[lane] >= emu.launch->cluster)
			ptx_fail(i, "block %u of a cluster of %u", rank[lane], emu.launch->cluster);
		mapped[lane] = (address[lane] & ((1u << CLUSTER_SHIFT) - 1)) | (rank[lane] + 1) << CLUSTER_SHIFT;
	}
	ptx_put(w, i, 0, mapped, sizeof *mapped, mask);
}

static void load_cluster(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	unsigned n = elements(i), size = n * i->row->size;
	PTX_EACH(w, mask, lane)
	{
		uint32_t address = ptx_address_32(w, i, n, lane), rank = address >> CLUSTER_SHIFT;
		const unsigned char *p = ptx_shared(address & ((1u << CLUSTER_SHIFT) - 1));
		if (rank) {
			to_registers(w, i, lane, cluster_check(p, rank - 1, size, PTX_SITE(w, i)));
			continue;
		}
		to_registers(w, i, lane, shared_check(p, size, PTX_SITE(w, i)));
		shared_touch(emu.running, p, size, false, PTX_SITE(w, i));
	}
}

/* A thread's own memory. */
static unsigned char *local(struct ptx_warp *w, const struct ptx_instruction *i, unsigned n, uint32_t lane)
{
	unsigned size = elements(i) * i->row->size;
	uint64_t at = ptx_address_64(w, i, n, lane) - PTX_LOCAL;
	if (at > w->code->local_bytes || size > w->code->local_bytes - at || at % size)
		ptx_fail(i, "out of bounds or misaligned: %u bytes at offset %lld of %u bytes of local memory", size,
			(long long)at, w->code->local_bytes);
	return w->local + (size_t)lane * w->code->local_bytes + at;
}

static void load_local(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	to_registers(w, i, lane, local(w, i, elements(i), lane));
}

static void store_local(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	from_registers(w, i, 2, lane, local(w, i, 0, lane));
}

static void load_parameter(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	unsigned n = elements(i), size = n * i->row->size;
	PTX_EACH(w, mask, lane)
	{
		uint64_t at = ptx_address_64(w, i, n, lane);
		if (at > w->code->parameter_bytes || size > w->code->parameter_bytes - at || at % size)
			ptx_fail(i, "out of bounds or misaligned: %u bytes at offset %lld of %u bytes of parameters",
				size, (long long)at, w->code->parameter_bytes);
		to_registers(w, i, lane, w->parameters + at);
	}
}

static void prefetch(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	tt_emu_prefetch((const void *)(uintptr_t)ptx_address_64(w, i, 0, lane), PTX_SITE(w, i));
}

/* The old value; the new one is 0 from the bound on, and otherwise one more. */
static void atomic_inc(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	uint32_t *old = ptx_lanes(w, i, 0);
	const uint32_t *bound = ptx_lanes(w, i, 3);
	PTX_EACH(w, mask, lane)
	{
		uint32_t *counter = (uint32_t *)(uintptr_t)ptx_address_64(w, i, 1, lane);
		uint32_t *at = global_arrival(counter, bound[lane], PTX_SITE(w, i)), before = *at;
		*at = before >= bound[lane] ? 0 : before + 1;
		old[lane] = before;
	}
}

/* -- Asynchronous copies -- */

/* cp.async of 16 bytes, of which the first src-size are read and the others are 0. */
static void copy_async(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *source_size = ptx_lanes(w, i, 5);
	if (i->operands[4] != 16)
		ptx_fail(i, "copies %d bytes where .cg copies 16", i->operands[4]);
	PTX_EACH(w, mask, lane)
	{
		uint32_t n = source_size[lane];
		if (n != 0 && n != 16)
			ptx_fail(i, "a source of %u bytes of 16 is not known", n);
		tt_emu_copy_async(ptx_shared(ptx_address_32(w, i, 0, lane)),
			(const void *)(uintptr_t)ptx_address_64(w, i, 2, lane), n == 16, TT_TRAFFIC_ACTIVATION,
			PTX_SITE(w, i));
	}
}

static void copy_commit(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)i;
	PTX_EACH(w, mask, lane)
	tt_emu_copy_async_commit();
}

static void copy_wait(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	PTX_EACH(w, mask, lane)
	tt_emu_copy_async_wait((unsigned)i->operands[0], PTX_SITE(w, i));
}

static void copy_bulk(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	const uint32_t *n_bytes = ptx_lanes(w, i, 4);
	PTX_EACH(w, mask, lane)
	tt_emu_copy_bulk(ptx_shared(ptx_address_32(w, i, 0, lane)),
		(const void *)(uintptr_t)ptx_address_64(w, i, 2, lane), n_bytes[lane],
		(uint64_t *)ptx_shared(ptx_address_32(w, i, 5, lane)), TT_TRAFFIC_ACTIVATION, PTX_SITE(w, i));
}

static void nothing(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)w, (void)i, (void)mask;
}

#define LOADS(prefix, run, place)                                                                                      \
	{prefix "u8", "H" place, run, 0, 1}, {prefix "b8", "H" place, run, 0, 1}, {prefix "u8", "W" place, run, 0, 1}, \
		{prefix "b8", "W" place, run, 0, 1}, {prefix "u16", "H" place, run, 0, 2},                             \
		{prefix "b16", "H" place, run, 0, 2}, {prefix "u16", "W" place, run, 0, 2},                            \
		{prefix "u32", "W" place, run, 0, 4}, {prefix "b32", "W" place, run, 0, 4},                            \
		{prefix "s32", "W" place, run, 0, 4}, {prefix "f32", "W" place, run, 0, 4},                            \
		{prefix "u32", "Q" place, run, 0, 4}, {prefix "b32", "Q" place, run, 0, 4},                            \
		{prefix "u64", "Q" place, run, 0, 8}, {prefix "b64", "Q" place, run, 0, 8},                            \
		{prefix "s64", "Q" place, run, 0, 8}, {prefix "f64", "Q" place, run, 0, 8},                            \
		{prefix "v2.u32", "WW" place, run, 0, 4}, {prefix "v2.f32", "WW" place, run, 0, 4},                    \
		{prefix "v2.b32", "WW" place, run, 0, 4}, {prefix "v4.u32", "WWWW" place, run, 0, 4},                  \
		{prefix "v4.f32", "WWWW" place, run, 0, 4}, {prefix "v4.b32", "WWWW" place, run, 0, 4},                \
		{prefix "v2.u64", "QQ" place, run, 0, 8},                                                              \
	{                                                                                                              \
		prefix "v2.b64", "QQ" place, run, 0, 8                                                                 \
	}
#define STORES(prefix, run, place)                                                                                     \
	{prefix "u8", place "h", run, 0, 1}, {prefix "b8", place "h", run, 0, 1}, {prefix "u8", place "w", run, 0, 1}, \
		{prefix "b8", place "w", run, 0, 1}, {prefix "u16", place "h", run, 0, 2},                             \
		{prefix "b16", place "h", run, 0, 2}, {prefix "u16", place "w", run, 0, 2},                            \
		{prefix "u32", place "w", run, 0, 4}, {prefix "b32", place "w", run, 0, 4},                            \
		{prefix "s32", place "w", run, 0, 4}, {prefix "f32", place "w", run, 0, 4},                            \
		{prefix "u32", place "q", run, 0, 4}, {prefix "b32", place "q", run, 0, 4},                            \
		{prefix "u64", place "q", run, 0, 8}, {prefix "b64", place "q", run, 0, 8},                            \
		{prefix "s64", place "q", run, 0, 8}, {prefix "f64", place "q", run, 0, 8},                            \
		{prefix "v2.u32", place "ww", run, 0, 4}, {prefix "v2.f32", place "ww", run, 0, 4},                    \
		{prefix "v2.b32", place "ww", run, 0, 4}, {prefix "v4.u32", place "wwww", run, 0, 4},                  \
		{prefix "v4.f32", place "wwww", run, 0, 4},                                                            \
	{                                                                                                              \
		prefix "v4.b32", place "wwww", run, 0, 4                                                               \
	}
const struct ptx_row ptx_rows_memory[] = {
	LOADS("ld.global.", load_global, "g"),
	LOADS("ld.global.nc.", load_constant, "g"),
	LOADS("ld.global.nc.L1::no_allocate.L2::128B.", load_constant, "g"),
	LOADS("ld.shared.", load_shared, "s"),
	LOADS("ld.shared::cluster.", load_cluster, "s"),
	LOADS("ld.local.", load_local, "l"),
	LOADS("ld.param.", load_parameter, "a"),
	STORES("st.global.", store_global, "g"),
	{"st.relaxed.sys.global.u32", "gw", store_to_host, 0, 4},
	STORES("st.shared.", store_shared, "s"),
	STORES("st.local.", store_local, "l"),
	{"mapa.shared::cluster.u32", "Www", map_address, 0, 4},
	{"prefetch.global.L2", "g", prefetch, 0, 0},
	{"atom.acq_rel.gpu.global.inc.u32", "Wgw", atomic_inc, 0, 4},
	{"cp.async.cg.shared.global.L2::128B", "sgnw", copy_async, 0, 0},
	{"cp.async.commit_group", "", copy_commit, 0, 0},
	{"cp.async.wait_group", "n", copy_wait, 0, 0},
	{"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes", "sgws", copy_bulk, 0, 0},
	/* What these order is not modelled: stores are seen at once. */
	{"membar.gl", "", nothing, 0, 0},
	{"fence.proxy.async.shared::cta", "", nothing, 0, 0},
	{"fence.mbarrier_init.release.cluster", "", nothing, 0, 0},
	{NULL, NULL, NULL, 0, 0},
};
