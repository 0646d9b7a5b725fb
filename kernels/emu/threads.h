/* A launch, its threads and warps, and what they wait for. */
#ifndef KERNELS_EMU_THREADS_H
#define KERNELS_EMU_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/emu/cuda_runtime.h"

enum {
	WARP = 32,
	MAX_THREADS = 1024,
	MAX_WARPS = MAX_THREADS / WARP,
	MAX_SHARED = 227 * 1024, /* the most for a block on sm_90; sm_80 allows 163 KiB */
	DEFAULT_SHARED = 48 * 1024,
	N_BARRIERS = 16,
	MAX_CLUSTER = 8, /* blocks that every sm_90 takes */
};

/* Where a primitive was called. */
struct site {
	const char *primitive, *file;
	int line;
};

typedef void kernel_call(const void *kernel, void **args);
struct kernel {
	const void *address;
	const char *name;
	kernel_call *call;
	const size_t *sizes; // [n_args]
	size_t n_args;
	size_t max_shared; /* dynamic, as allowed by cudaFuncSetAttribute */
};

struct launch {
	const struct kernel *kernel;
	void **args;
	dim3 grid, block;
	size_t shared_bytes;
	bool dependent;
	uint32_t cluster;      /* how many blocks, next to each other in x, are one; 1: none are */
	struct ptx_code *code; /* what runs in place of the kernel's C body, or NULL (ptx/ptx.h) */
};

enum fiber_state { RUNNABLE, AT_WARP, AT_BLOCK, AT_BARRIER, AT_MBARRIER, AT_GRID_WAIT, AT_CLUSTER, EXITED };

struct late_copy { /* a cp.async: 16 bytes */
	unsigned char *to;
	const unsigned char *from; /* NULL: zeros */
	uint32_t group;
};

struct fiber {
	struct {
		uint3 thread, block;
	} self; /* the same as struct tt_emu_thread */
	void *stack_pointer;
	char *stack;
	struct warp *warp;
	uint32_t id, lane;
	enum fiber_state state;
	struct site site;              /* where it waits */
	void *payload;                 /* what the lane brings to a warp's operation */
	uint32_t wait_at, wait_parity; /* which barrier it waits for */
	bool grid_waited;              /* it is ordered after the earlier grids */
	bool cluster_arrived;          /* at the cluster's barrier, for which it has not waited yet */
	uint32_t seen_warp;            /* clock of its last tt_sync_warp */
	uint32_t clock[MAX_WARPS];     /* accesses of each warp before that clock are ordered before this thread */
	struct late_copy *copies;      // [n_copies]
	size_t n_copies, copy_capacity;
	uint32_t copy_group; /* the one that is not closed yet */
	size_t cursor;       /* its position in the warp's requests */
	void *fake_stack;    /* AddressSanitizer's */
};

/* One access by a warp: what its lanes did at one source line. Lanes run one after the other, so a request stays open
 * until the warp meets. */
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

#endif
