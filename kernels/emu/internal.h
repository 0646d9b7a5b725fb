/* What the emulator's sources share. One OS thread runs everything, so its state is one struct. */
#ifndef KERNELS_EMU_INTERNAL_H
#define KERNELS_EMU_INTERNAL_H

#include "kernels/emu/cuda_runtime.h"
#include "kernels/emu/emu.h"
#include "kernels/emu/threads.h"

/* Bits that no address of this machine has. Device memory and dynamic shared memory carry one of them, so that an
 * access without a primitive faults. */
#define GLOBAL_TAG ((uintptr_t)1 << 52)
#define SHARED_TAG ((uintptr_t)1 << 53)
static inline void *host_address(const void *p)
{
	return (void *)((uintptr_t)p & ~(GLOBAL_TAG | SHARED_TAG));
}

/* Where a primitive was called: the three parameters that ptx/common.cuh adds to each. */
#define SITE const char *primitive, const char *file, int line
#define SITE_ARGS primitive, file, line

/* What threads did since the block's barrier at clock `since`. */
struct between {
	uint32_t since;
	const struct fiber *by; /* NULL: several threads */
};

struct emu {
	enum tt_emu_order order;
	uint64_t random;
	char report[600];
	bool failed, in_kernel;
	struct tt_emu_counters counters, run; /* run: those of the running launch */
	struct tt_emu_kernel *kernels;        // [n_kernels]
	size_t n_kernels, kernel_capacity;

	/* The running block. */
	const struct launch *launch;
	uint32_t launch_id, chain_start; /* chain_start: the first launch that may still run when this one starts */
	uint32_t block_id, n_threads, n_warps, live;
	struct fiber *fibers; // [MAX_THREADS], within emu_fibers
	struct warp *warps;   // [MAX_WARPS], within emu_warps
	struct fiber *running;
	void *scheduler;                     /* its stack pointer */
	struct barrier barriers[N_BARRIERS]; /* 0: the block's */
	uint32_t clock;                      /* counts orderings; never goes back */
	uint32_t block_seen;                 /* the clock of the last barrier of the whole block */
	uint32_t block_start;
	bool arrived; /* the block took part in an arrival counter */
	/* what was stored to global memory, and what arrived at the counter, between two barriers of the block */
	struct between stores, arrival;
	bool clocks_used;      /* a barrier ordered only some threads */
	uint32_t cluster_seen; /* the clock of the last barrier of the cluster, or of its start */
};
extern struct emu emu;
/* Of the blocks of a cluster, one after the other; a block that is in none has the first. */
extern struct fiber emu_fibers[MAX_CLUSTER * MAX_THREADS];
extern struct warp emu_warps[MAX_CLUSTER * MAX_WARPS];

uint64_t emu_random(void);

/* Stops the running kernel with the first report; returns only outside a kernel. The line begins with the kernel,
 * block, thread, primitive and source position. */
void emu_fail(const struct site *site, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define FAIL(...)                                                                                                      \
	do {                                                                                                           \
		struct site site_ = {primitive, file, line};                                                           \
		emu_fail(&site_, __VA_ARGS__);                                                                         \
	} while (0)

/* fiber.c */
void fiber_start(struct fiber *fiber); /* a stack, ready to run the kernel from its start */
void fiber_enter(struct fiber *fiber); /* called by the scheduler */
void fiber_leave(void);                /* back to the scheduler */
void fiber_yield(void);                /* to another lane, or to the scheduler */

/* block.c */
/* Runs all blocks. chained: the previous operation of the stream was a kernel, so that this one may depend on it
 * programmatically. */
cudaError_t launch_run(const struct launch *launch, bool chained);
void block_start(uint32_t id, uint32_t slot); /* slot: its place in the cluster */
bool block_go(void);    /* runs it until it ends, or until its cluster's barrier holds it: then false */
void fiber_guard(void); /* turns a fault in a kernel into a report */
struct fiber *fiber_wait(enum fiber_state state, SITE); /* waits until the state is RUNNABLE again */
void fiber_park(enum fiber_state state, SITE);          /* the same for a thread that has no stack to leave */
void fiber_wake(struct fiber *fiber);                   /* makes it RUNNABLE */

/* warp.c */
/* Waits until all lanes of the warp have come with the same operation from the same line; the last lane runs it. */
void warp_meet(warp_operation *operation, void *payload, SITE);

/* Orders memory among the lanes of a warp, which are all there. */
void warp_order(struct warp *warp);

/* sync.c */
/* The running thread arrives at the block's barrier, or at barrier id for some threads. True when all have arrived,
 * which wakes them; otherwise it has to wait. */
bool sync_block_arrive(SITE);
void sync_block_release(void); /* what that does when all have arrived */
bool sync_some_arrive(uint32_t id, uint32_t n_threads, SITE);
void order_join(struct fiber *fiber, uint32_t clock[MAX_WARPS], bool *grid_waited); /* release */
/* acquire: what the clock holds is ordered before the fiber from now on */
void order_take(struct fiber *fiber, const uint32_t clock[MAX_WARPS], bool grid_waited);

/* async.c */
void async_start(void);   /* forgets the mbarriers and bulk copies of the last block */
bool async_deliver(void); /* lands one bulk copy that somebody waits for */
/* Whether the phase of that parity is over; if not, the running thread has to wait for it. */
bool mbarrier_over(uint64_t *barrier, uint32_t parity, SITE);

/* The primitives' bodies that do not let a thread wait: what they do, ptx/ leaves to them. */
unsigned char *tt_emu_dynamic_shared(void);
void tt_emu_prefetch(const void *p, SITE);
void tt_emu_store_to_host(void *p, const void *v, unsigned size, enum tt_traffic kind, SITE);
void tt_emu_copy_async(void *shared, const void *global, bool valid, enum tt_traffic kind, SITE);
void tt_emu_copy_async_commit(void);
void tt_emu_copy_async_wait(unsigned pending, SITE);
void tt_emu_copy_bulk(
	void *shared, const void *global, uint32_t n_bytes, uint64_t *barrier, enum tt_traffic kind, SITE);
void tt_emu_mbarrier_init(uint64_t *barrier, uint32_t count, SITE);
void tt_emu_mbarrier_arrive(uint64_t *barrier, uint32_t n_bytes, SITE);

/* shared.c */
void shared_start(size_t dynamic_bytes);                       /* poisons it for a new block */
unsigned char *shared_check(const void *p, size_t size, SITE); /* returns the host's address */
/* Checks one access against all earlier ones, and records it. */
void shared_touch(struct fiber *fiber, const void *p, size_t size, bool store, SITE);
/* An asynchronous copy to that memory was issued, or has landed. */
void shared_in_flight(const void *p, size_t size, SITE);
void shared_landed(const void *p, size_t size);

/* traffic.c */
/* Adds the running lane's access to a request of its warp. */
void traffic_record(unsigned space, unsigned kind, const void *p, unsigned size, SITE);
/* Counts the warp's requests and forgets them. */
void traffic_flush(struct warp *warp);
void traffic_add(struct tt_emu_counters *sum, const struct tt_emu_counters *more);

/* stream.c */
/* Drops all streams and what waits on them. */
void stream_reset(void);

/* Grows an array by doubling. Ends the program when memory runs out, because a test need not survive that. */
void emu_grow(void *pointer, size_t *capacity, size_t needed, size_t size);

#endif
