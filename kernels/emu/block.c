/* Runs the blocks of a launch one after the other (those of a cluster in turns, cluster.c). Threads run until they wait
 * for each other. When none can go on, the things happen that the hardware may do late: first dependent kernels pass
 * their wait, then bulk copies land. If nothing is left, the block hangs, and the report says who waits where. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/cluster.h"
#include "kernels/emu/ptx/ptx.h"

struct emu emu = {.fibers = emu_fibers, .warps = emu_warps};
struct fiber emu_fibers[MAX_CLUSTER * MAX_THREADS];
struct warp emu_warps[MAX_CLUSTER * MAX_WARPS];
dim3 gridDim, blockDim;

uint64_t emu_random(void)
{
	emu.random ^= emu.random << 13;
	emu.random ^= emu.random >> 7;
	emu.random ^= emu.random << 17;
	return emu.random;
}

void emu_grow(void *pointer, size_t *capacity, size_t needed, size_t size)
{
	void **array = pointer;
	if (needed <= *capacity)
		return;
	size_t doubled = *capacity ? *capacity * 2 : 16;
	*capacity = doubled > needed ? doubled : needed;
	*array = realloc(*array, *capacity * size);
	if (!*array) {
		perror("emulator");
		exit(1);
	}
}

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static void write_report(const struct fiber *fiber, const struct site *site, const char *format, va_list args)
{
	char *out = emu.report;
	size_t room = sizeof emu.report, n = 0;
	if (*out)
		return; /* only the first report counts */
	if (emu.in_kernel) {
		const uint3 *b = &emu.fibers[0].self.block;
		n += (size_t)snprintf(out, room, "%s: block %u,%u,%u", emu.launch->kernel->name, b->x, b->y, b->z);
	}
	if (fiber)
		n += (size_t)snprintf(out + n, room - n, " thread %u", fiber->id);
	if (site)
		n += (size_t)snprintf(
			out + n, room - n, ": %s at %s:%d", site->primitive, file_name(site->file), site->line);
	if (n)
		n += (size_t)snprintf(out + n, room - n, ": ");
	vsnprintf(out + n, room - n, format, args);
}

void emu_fail(const struct site *site, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	write_report(emu.in_kernel ? emu.running : NULL, site, format, args);
	va_end(args);
	emu.failed = true;
	/* For good: the scheduler abandons the block. */
	if (emu.in_kernel && emu.running && emu.launch->code)
		ptx_stop();
	else if (emu.in_kernel && emu.running)
		fiber_leave();
}

static void fail_for(const struct fiber *fiber, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail_for(const struct fiber *fiber, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	write_report(fiber, &fiber->site, format, args);
	va_end(args);
	emu.failed = true;
}

void fiber_wake(struct fiber *fiber)
{
	fiber->state = RUNNABLE;
	fiber->warp->runnable |= 1u << fiber->lane;
}

static void fiber_exit(struct fiber *self)
{
	struct warp *warp = self->warp;
	struct site end = {"exit", self->site.file ? self->site.file : "", 0};
	warp->alive &= ~(1u << self->lane);
	emu.live--;
	if (warp->here)
		emu_fail(&end, "the warp's other lanes wait in %s at %s:%d", warp->site.primitive,
			file_name(warp->site.file), warp->site.line);
	if (emu.barriers[0].arrived)
		emu_fail(&end, "divergent barrier: other threads wait in tt_sync_block at line %d",
			emu.barriers[0].line);
	if (!warp->alive)
		traffic_flush(warp);
}

void fiber_park(enum fiber_state state, SITE)
{
	struct fiber *self = emu.running;
	self->state = state;
	self->warp->runnable &= ~(1u << self->lane);
	if (state == EXITED)
		fiber_exit(self);
	else
		self->site = (struct site){SITE_ARGS};
}

struct fiber *fiber_wait(enum fiber_state state, SITE)
{
	struct fiber *self = emu.running;
	fiber_park(state, SITE_ARGS);
	fiber_yield();
	return self;
}

static uint3 block_index(uint64_t i)
{
	uint3 at = {(unsigned)(i % gridDim.x), (unsigned)(i / gridDim.x % gridDim.y),
		(unsigned)(i / gridDim.x / gridDim.y)};
	return at;
}

void block_start(uint32_t id, uint32_t slot)
{
	const struct launch *launch = emu.launch;
	const uint3 at = block_index(id);
	emu.block_id = id;
	emu.fibers = emu_fibers + slot * MAX_THREADS;
	emu.warps = emu_warps + slot * MAX_WARPS;
	shared_start(launch->shared_bytes);
	async_start();
	emu.live = emu.n_threads;
	emu.n_warps = (emu.n_threads + WARP - 1) / WARP;
	emu.block_start = emu.block_seen = ++emu.clock;
	emu.arrived = emu.clocks_used = false;
	emu.stores = emu.arrival = (struct between){0, NULL};
	memset(emu.barriers, 0, sizeof emu.barriers);
	emu.barriers[0].expected = emu.n_threads;
	for (uint32_t w = 0; w < emu.n_warps; w++) {
		struct warp *warp = &emu.warps[w];
		uint32_t lanes = emu.n_threads - w * WARP;
		warp->fibers = &emu.fibers[w * WARP];
		warp->present = warp->alive = warp->runnable = lanes >= WARP ? ~0u : (1u << lanes) - 1;
		warp->here = 0;
		warp->n_requests = 0;
	}
	for (uint32_t i = 0; i < emu.n_threads; i++) {
		struct fiber *f = &emu.fibers[i];
		f->id = i;
		f->lane = i % WARP;
		f->warp = &emu.warps[i / WARP];
		f->self.block = at;
		f->self.thread.x = i % blockDim.x;
		f->self.thread.y = i / blockDim.x % blockDim.y;
		f->self.thread.z = i / blockDim.x / blockDim.y;
		f->state = RUNNABLE;
		f->site = (struct site){"start", "", 0};
		f->grid_waited = f->cluster_arrived = false;
		f->seen_warp = 0;
		f->n_copies = 0;
		f->copy_group = 0;
		f->cursor = 0;
		if (!launch->code)
			fiber_start(f);
	}
	if (launch->code)
		ptx_block_start(launch->code);
}

/* The warp to run next, or NULL when no thread can go on. */
static struct warp *next_warp(void)
{
	uint32_t n = emu.n_warps, first = emu.order == TT_EMU_RANDOM ? (uint32_t)emu_random() % n : 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = emu.order == TT_EMU_BACKWARD ? n - 1 - i : (first + i) % n;
		if (emu.warps[at].runnable)
			return &emu.warps[at];
	}
	return NULL;
}

static bool pass_grid_wait(void)
{
	bool any = false;
	for (uint32_t i = 0; i < emu.n_threads; i++) {
		struct fiber *f = &emu.fibers[i];
		if (f->state == AT_GRID_WAIT) {
			f->grid_waited = any = true;
			fiber_wake(f);
		}
	}
	return any;
}

static void report_hang(void)
{
	static const char *const words[] = {[AT_WARP] = "for its warp",
		[AT_BLOCK] = "for its block",
		[AT_BARRIER] = "for a named barrier",
		[AT_MBARRIER] = "for an mbarrier that never completes",
		[AT_CLUSTER] = "for its cluster"};
	uint32_t waiting = 0;
	struct fiber *first = NULL;
	for (uint32_t i = 0; i < emu.n_threads; i++) {
		struct fiber *f = &emu.fibers[i];
		if (f->state == EXITED)
			continue;
		waiting++;
		/* The most informative wait: a thread at a barrier of the block usually waits for one that waits
		 * elsewhere. */
		if (!first || f->state > first->state)
			first = f;
	}
	fail_for(first, "deadlock: waits %s; %u threads of %u wait", words[first->state], waiting, emu.n_threads);
}

static void block_end(void)
{
	bool waited = false;
	for (uint32_t i = 0; i < emu.n_threads; i++)
		waited |= emu.fibers[i].grid_waited;
	if (emu.launch->dependent && !waited)
		emu_fail(NULL, "exit before tt_grid_wait: no thread of the block waited for the earlier kernels");
}

static bool waits_for_cluster(void)
{
	for (uint32_t i = 0; i < emu.n_threads; i++)
		if (emu.fibers[i].state != AT_CLUSTER)
			return false;
	return true;
}

bool block_go(void)
{
	while (emu.live && !emu.failed) {
		struct warp *warp = next_warp();
		if (warp && emu.launch->code) {
			ptx_warp_run(emu.launch->code, warp);
		} else if (warp) {
			uint32_t lane = emu.order == TT_EMU_BACKWARD ? 31 - (uint32_t)__builtin_clz(warp->runnable)
								     : (uint32_t)__builtin_ctz(warp->runnable);
			fiber_enter(&warp->fibers[lane]);
		} else if (!pass_grid_wait() && !async_deliver() && !emu.failed) {
			if (waits_for_cluster())
				return false;
			report_hang();
		}
	}
	if (!emu.failed)
		block_end();
	return true;
}

/* The i-th of n blocks to run, a permutation: in random order by a stride that has no factor in common with n. */
static uint64_t block_order(uint64_t i, uint64_t n, uint64_t start, uint64_t stride)
{
	if (emu.order == TT_EMU_BACKWARD)
		return n - 1 - i;
	return emu.order == TT_EMU_RANDOM ? (start + i * stride) % n : i;
}

static uint64_t common_factor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

static void count_launch(const struct launch *launch)
{
	struct tt_emu_kernel *kernel = NULL;
	for (size_t i = 0; i < emu.n_kernels && !kernel; i++)
		if (!strcmp(emu.kernels[i].name, launch->kernel->name))
			kernel = &emu.kernels[i];
	if (!kernel) {
		emu_grow(&emu.kernels, &emu.kernel_capacity, emu.n_kernels + 1, sizeof *emu.kernels);
		kernel = &emu.kernels[emu.n_kernels++];
		memset(kernel, 0, sizeof *kernel);
		kernel->name = launch->kernel->name;
	}
	kernel->launches++;
	emu.run.launches = 1;
	emu.run.dependent_launches = launch->dependent;
	traffic_add(&kernel->counters, &emu.run);
	traffic_add(&emu.counters, &emu.run);
}

cudaError_t launch_run(const struct launch *launch, bool chained)
{
	struct launch own = *launch;
	if (!ptx_find(launch->kernel, &own.code))
		return cudaErrorLaunchFailure;
	own.dependent = launch->dependent && chained && (!own.code || ptx_dependent());
	emu.launch = &own;
	emu.launch_id++;
	if (!own.dependent)
		emu.chain_start = emu.launch_id;
	gridDim = own.grid;
	blockDim = own.block;
	emu.n_threads = blockDim.x * blockDim.y * blockDim.z;
	memset(&emu.run, 0, sizeof emu.run);
	emu.in_kernel = true;
	if (own.code)
		ptx_launch_start(own.code, &own);
	uint64_t n_blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z, n = n_blocks / own.cluster;
	uint64_t start = 0, stride = 1;
	if (emu.order == TT_EMU_RANDOM) {
		start = emu_random() % n;
		do
			stride = emu_random() % n + 1;
		while (common_factor(stride, n) != 1);
	}
	for (uint64_t i = 0; i < n && !emu.failed; i++)
		cluster_run((uint32_t)block_order(i, n, start, stride) * own.cluster);
	emu.run.blocks = n_blocks;
	emu.run.threads = n_blocks * emu.n_threads;
	emu.running = NULL;
	emu.in_kernel = false;
	if (own.code)
		ptx_launch_end(own.code);
	count_launch(&own);
	emu.launch = NULL;
	return emu.failed ? cudaErrorLaunchFailure : cudaSuccess;
}
