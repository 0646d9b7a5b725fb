/* The emulator as a test sees it. Kernels (.cu) are compiled by g++ with TT_EMU and run on one CPU thread, with a fiber
 * for each CUDA thread; the host side calls the CUDA runtime's own names (kernels/emu/cuda_runtime.h).
 *
 * When a kernel breaks a rule of the hardware, the call that waits for the kernel fails with cudaErrorLaunchFailure.
 * The report is one line that names the kernel, the block, the thread, the primitive and its source position. */
#ifndef KERNELS_EMU_EMU_H
#define KERNELS_EMU_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/traffic.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The order of blocks, of a block's warps and of a warp's lanes, wherever the hardware leaves it open. */
enum tt_emu_order { TT_EMU_FORWARD, TT_EMU_BACKWARD, TT_EMU_RANDOM, TT_EMU_ORDERS };

/* Frees all device memory, streams and graphs, clears the report and the counters, and sets the order. The seed serves
 * the random order, and the order in which asynchronous copies land. */
void tt_emu_reset(enum tt_emu_order order, uint64_t seed);

/* Changes only the order and the seed, for what runs from now on; memory, counters and report stay. */
void tt_emu_set_order(enum tt_emu_order order, uint64_t seed);

/* What the device is and allows, until it is set again; NULL: an H200, which it is at first. */
struct tt_emu_device {
	int major, minor, n_sms;
	uint32_t shared_bytes; /* of a block, at most those of an H200 */
	bool no_code;          /* the program has no code for it: every launch is refused */
	bool no_clusters;      /* it says that it has clusters, and refuses their launches */
	bool of_ptx;           /* its code is made of the PTX of compute_80: kernels of clusters do nothing */
	size_t largest;        /* bytes of an allocation for which there is memory; 0: of any */
	bool no_room;          /* a multiprocessor has room for no block, as where registers do not suffice */
};
void tt_emu_set_device(const struct tt_emu_device *device);

/* The first rule that was broken since the last reset, or "". */
const char *tt_emu_report(void);

/* Whether tt_mma adds products to d one by one, k ascending, each sum rounded to nearest, as the emulator's does. A
 * GPU's 16 products have an order and a rounding of their own. */
bool tt_emu_mma_ascends(void);

/* Accesses of one kind through the primitives. A request is the access of one warp, up to 32 lanes, at one source
 * position. */
struct tt_emu_traffic {
	uint64_t accesses; /* of single threads */
	uint64_t bytes;    /* asked for */
	uint64_t requests;
	/* of 32 bytes that the requests touched; the share of their bytes that was used is bytes / (32 * sectors) */
	uint64_t sectors;
};

struct tt_emu_counters {
	struct tt_emu_traffic loads[TT_TRAFFIC_KINDS], stores[TT_TRAFFIC_KINDS];
	uint64_t prefetches;        /* 128-byte lines asked for */
	uint64_t shared_requests;   /* of a warp to shared memory */
	uint64_t shared_wavefronts; /* cycles that they take: a bank serves one word of 4 bytes a cycle */
	uint64_t shared_ideal;      /* cycles they would take without bank conflicts */
	uint64_t products;          /* m16n8k16 products, of a warp each */
	uint64_t switches;          /* of fibers */
	uint64_t blocks, threads;
	uint64_t launches, dependent_launches; /* kernels that ran, in a graph or not */
	/* What the host asked for. */
	uint64_t host_launches, graph_launches, attributes;  /* attributes: how many attributes of kernels were set */
	uint64_t copies_in, copies_out, copies_within, sets; /* in: host to device */
	uint64_t bytes_in, bytes_out;
	uint64_t collectives; /* of ranks, that ran */
	uint64_t waits;       /* for a stream, an event, the device, or a copy that is not asynchronous */
};

/* Whether accesses are counted by kind, and with them sectors and bank conflicts: not while PTX runs (ptx/ptx.h), which
 * does not say what kind of data it moves. The other counts hold. */
bool tt_emu_counts_traffic(void);

/* The counts since the last reset. */
const struct tt_emu_counters *tt_emu_counted(void);
void tt_emu_clear_counters(void);

/* The counts of each kernel that ran since the last reset, in the order of the first launch. */
struct tt_emu_kernel {
	const char *name;
	uint64_t launches;
	struct tt_emu_counters counters; /* only the members before "What the host asked for" */
};
size_t tt_emu_kernels(const struct tt_emu_kernel **out);

#ifdef __cplusplus
}
#endif

#endif
