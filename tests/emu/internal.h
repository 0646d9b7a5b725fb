/* What the emulator's sources share. One OS thread runs everything, so its state is one struct. */
#ifndef TESTS_EMU_INTERNAL_H
#define TESTS_EMU_INTERNAL_H

#include "tests/emu/cuda_runtime.h"
#include "tests/emu/emu.h"

enum {
	WARP = 32,
	MAX_THREADS = 1024,
	MAX_WARPS = MAX_THREADS / WARP,
	MAX_SHARED = 227 * 1024, /* a block's, sm_90; sm_80 has 163 KiB */
	DEFAULT_SHARED = 48 * 1024,
	N_BARRIERS = 16,
};

/* Bits that no address of this machine has. Device memory and dynamic shared memory carry one, so that an access without a
 * primitive faults. */
#define GLOBAL_TAG ((uintptr_t)1 << 52)
#define SHARED_TAG ((uintptr_t)1 << 53)
static inline void *host_address(const void *p)
{
	return (void *)((uintptr_t)p & ~(GLOBAL_TAG | SHARED_TAG));
}

/* Where a primitive was called: the three parameters that ptx.cuh adds to each. */
#define SITE const char *primitive, const char *file, int line
#define SITE_ARGS primitive, file, line
struct site {
	const char *primitive, *file;
	int line;
};

/* -- A launch and its threads -- */

typedef void kernel_call(const void *kernel, void **args);
struct kernel {
	const void *address;
	const char *name;
	kernel_call *call;
	const size_t *sizes; // [n_args]
	size_t n_args;
	size_t max_shared; /* dynamic, as cudaFuncSetAttribute allowed */
};

struct launch {
	const struct kernel *kernel;
	void **args;
	dim3 grid, block;
	size_t shared_bytes;
	bool dependent;
};

enum fiber_state { RUNNABLE, AT_WARP, AT_BLOCK, AT_BARRIER, AT_MBARRIER, AT_GRID_WAIT, EXITED };

struct late_copy { /* of cp.async: 16 bytes */
	unsigned char *to;
	const unsigned char *from; /* NULL: zeros */
	uint32_t group;
};

struct fiber {
	struct {
		uint3 thread, block;
	} self; /* as struct tt_emu_thread */
	void *stack_pointer;
	char *stack;
	struct warp *warp;
	uint32_t id, lane;
	enum fiber_state state;
	struct site site; /* of what it waits for */
	void *payload;    /* what the lane brings to a warp's operation */
	uint32_t wait_at, wait_parity; /* for which barrier */
	bool grid_waited;              /* it is ordered behind the earlier grids */
	uint32_t seen_warp;            /* clock of its last tt_sync_warp */
	uint32_t clock[MAX_WARPS];     /* accesses of each warp before that clock are ordered before this thread */
	struct late_copy *copies;      // [n_copies]
	size_t n_copies, copy_capacity;
	uint32_t copy_group; /* the open one */
	size_t cursor;       /* in the warp's requests */
	void *fake_stack;    /* AddressSanitizer's */
};

/* One access by a warp: what its lanes did at one line. Lanes run one after the other, so a request stays open until the
 * warp meets. */
struct request_key {
	const char *file;
	int line;
	uint8_t space, kind, size;
};
struct request {
	struct request_key key;
	uint32_t lanes;
	uint64_t at[WARP];
};
enum { SPACE_LOAD, SPACE_STORE, SPACE_SHARED };

typedef void warp_operation(struct warp *warp);
struct warp {
	struct fiber *fibers; // [32]
	uint32_t present, alive, runnable, here;
	warp_operation *operation;
	struct site site;
	struct request *requests; // [n_requests]
	size_t n_requests, request_capacity;
};

struct barrier {
	uint32_t arrived, expected;
	int line;
	uint32_t clock[MAX_WARPS];
	bool grid_waited;
};

/* -- Memory -- */

struct word { /* of 4 bytes of global memory: the launch and the block that wrote and read it last */
	uint32_t writer, writer_before, writer_block; /* before: the launch before that one; block: or ANY_BLOCK */
	uint32_t reader, reader_before, reader_block;
};
enum { ANY_BLOCK = -1 };

struct allocation {
	char *base; /* with its tag */
	size_t size;
	char *host;
	struct word *words;    // [size / 4 + 1]
	bool touched;          /* words are not all 0 */
	uint32_t weights_read; /* the last launch that loaded weights from it */
};

struct emu {
	enum tt_emu_order order;
	uint64_t random;
	char report[600];
	bool failed, in_kernel;
	struct tt_emu_counters counters, run; /* run: of the running launch */
	struct tt_emu_kernel *kernels;        // [n_kernels]
	size_t n_kernels, kernel_capacity;

	/* The running block. */
	const struct launch *launch;
	uint32_t launch_id, chain_start; /* the first launch that may still run when this one starts */
	uint32_t block_id, n_threads, n_warps, live;
	struct fiber fibers[MAX_THREADS];
	struct warp warps[MAX_WARPS];
	struct fiber *running;
	void *scheduler; /* its stack pointer */
	struct barrier barriers[N_BARRIERS]; /* 0: the block's */
	uint32_t clock;      /* counts orderings; never goes back */
	uint32_t block_seen; /* the clock of the last barrier of the whole block */
	uint32_t block_start;
	bool arrived;      /* the block took part in an arrival counter */
	bool clocks_used;  /* a barrier ordered only some threads */
};
extern struct emu emu;

uint64_t emu_random(void);

/* Stops the running kernel with the first report; returns only outside a kernel. The line begins with the kernel, block,
 * thread, primitive and place. */
void emu_fail(const struct site *site, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define FAIL(...)                                                                                                      \
	do {                                                                                                           \
		struct site site_ = {primitive, file, line};                                                           \
		emu_fail(&site_, __VA_ARGS__);                                                                         \
	} while (0)

/* fiber.c */
void fiber_start(struct fiber *fiber);
void fiber_enter(struct fiber *fiber); /* from the scheduler */
void fiber_leave(void);                /* to the scheduler */
void fiber_yield(void);                /* to another lane, or to the scheduler */

/* block.c */
cudaError_t launch_run(const struct launch *launch, bool chained);
void fiber_guard(void); /* makes a fault in a kernel a report */
struct fiber *fiber_wait(enum fiber_state state, SITE); /* until the state is RUNNABLE again */
void fiber_wake(struct fiber *fiber);

/* warp.c */
void warp_meet(warp_operation *operation, void *payload, SITE);

/* sync.c */
void order_join(struct fiber *fiber, uint32_t clock[MAX_WARPS], bool *grid_waited); /* release */
void order_take(struct fiber *fiber, const uint32_t clock[MAX_WARPS], bool grid_waited);

/* async.c */
void async_start(void);
bool async_deliver(void); /* lands one bulk copy that somebody waits for */

/* shared.c */
void shared_start(size_t dynamic_bytes);
unsigned char *shared_check(const void *p, size_t size, SITE); /* gives the host's address */
void shared_touch(struct fiber *fiber, const void *p, size_t size, bool store, SITE);
void shared_in_flight(const void *p, size_t size, SITE);
void shared_landed(const void *p, size_t size);

/* global.c */
void *global_allocate(size_t n_bytes);
bool global_free(void *memory);
void global_free_all(void);
struct allocation *global_find(const void *p);
void global_check(const void *p, size_t size, size_t alignment, bool store, enum tt_traffic kind, SITE);
void global_host_wrote(void *p, size_t size); /* a copy or a set, which no launch overlaps */
const char *launch_name(uint32_t id);

/* traffic.c */
void traffic_record(unsigned space, unsigned kind, const void *p, unsigned size, SITE);
void traffic_flush(struct warp *warp);
void traffic_add(struct tt_emu_counters *sum, const struct tt_emu_counters *more);

/* stream.c */
void stream_reset(void);

/* A doubling array; ends the program when memory runs out, which a test need not survive. */
void emu_grow(void *pointer, size_t *capacity, size_t needed, size_t size);

#endif
