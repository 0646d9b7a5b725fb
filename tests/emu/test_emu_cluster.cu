/* The emulator's clusters: blocks that read each other's shared memory, and what is reported where the barrier between
 * them is missing. */
#include "tests/emu/checks.h"

enum { BLOCKS = 8, CLUSTER = 4, THREADS = 64, N_OUT = BLOCKS * THREADS };

TT_DEVICE uint32_t next_block(void)
{
	return (blockIdx.x % CLUSTER + 1) % CLUSTER;
}

/* Each thread leaves a number, and takes the one of its neighbour's block. */
TT_DEVICE void leave(unsigned char *own, const uint32_t *in)
{
	uint32_t v = tt_load_4(in + blockIdx.x * THREADS + threadIdx.x, TT_TRAFFIC_WEIGHT);
	tt_shared_store_16(own, make_uint4(0, 0, 0, v));
}

TT_DEVICE void take(uint32_t *out, const unsigned char *own)
{
	uint4 v = tt_cluster_load_16(own, next_block());
	tt_store_4(out + blockIdx.x * THREADS + threadIdx.x, v.w, TT_TRAFFIC_RESULT);
}

static uint32_t neighbours(uint32_t i)
{
	uint32_t block = i / THREADS;
	return (block / CLUSTER * CLUSTER + (block + 1) % CLUSTER) * THREADS + i % THREADS;
}

static __global__ void reads_too_early(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	tt_sync_cluster();
	leave(own, in);
	if (!planted)
		tt_sync_cluster();
	take(out, own);
	tt_sync_cluster();
}

static __global__ void reads_before_it_begins(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	leave(own, in);
	if (!planted)
		tt_sync_cluster();
	take(out, own);
	tt_sync_cluster();
}

static __global__ void ends_too_early(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	leave(own, in);
	tt_sync_cluster();
	take(out, own);
	if (!planted)
		tt_sync_cluster();
}

static __global__ void stores_too_early(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	leave(own, in);
	tt_sync_cluster();
	take(out, own);
	if (!planted)
		tt_sync_cluster();
	leave(own, in);
	tt_sync_cluster();
}

static __global__ void reads_what_nobody_wrote(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	leave(own, in);
	tt_sync_cluster();
	take(out, own + (planted ? THREADS * 16 : 0));
	tt_sync_cluster();
}

static __global__ void one_leaves(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	leave(own, in);
	tt_sync_cluster();
	take(out, own);
	tt_sync_cluster();
	if (planted && blockIdx.x % CLUSTER == 2)
		return;
	tt_sync_cluster();
}

static __global__ void reads_a_block_that_is_none(uint32_t *out, const uint32_t *in, int planted)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + threadIdx.x * 16;
	leave(own, in);
	tt_sync_cluster();
	take(out, own);
	if (planted)
		tt_cluster_load_16(own, CLUSTER);
	tt_sync_cluster();
}

#define CLUSTER_CATCHES(kernel, report)                                                                                \
	Test(emu_cluster, kernel)                                                                                      \
	{                                                                                                              \
		static const struct word_case c = {                                                                    \
			kernel, #kernel, BLOCKS, THREADS, THREADS * 32, N_OUT, neighbours, report, CLUSTER};           \
		in_every_order(words_run, &c);                                                                         \
	}

CLUSTER_CATCHES(reads_too_early, "missing tt_sync_cluster")
CLUSTER_CATCHES(reads_before_it_begins, "missing tt_sync_cluster")
CLUSTER_CATCHES(ends_too_early, "missing tt_sync_cluster")
CLUSTER_CATCHES(stores_too_early, "missing tt_sync_cluster")
CLUSTER_CATCHES(reads_what_nobody_wrote, "unwritten")
CLUSTER_CATCHES(one_leaves, "divergent barrier")
CLUSTER_CATCHES(reads_a_block_that_is_none, "of a cluster of 4")

Test(emu_cluster, grids_that_are_no_whole_clusters_are_refused)
{
	static const struct word_case c = {
		reads_too_early, "reads_too_early", 6, THREADS, THREADS * 32, N_OUT, neighbours, "", CLUSTER};
	tt_emu_reset(TT_EMU_FORWARD, 1);
	uint32_t *out = device_words(WORDS);
	const uint32_t *in = counting_words();
	int planted = 0;
	void *args[] = {&out, &in, &planted};
	struct tt_launch launch = {
		c.name, dim3(c.blocks), dim3(c.threads), c.shared_bytes, NULL, 0, 0, false, NULL, c.cluster};
	struct tt_error err = {0, ""};
	cr_assert_eq(tt_launch_kernel(&launch, word_kernel_address(&c), args, &err), TT_ERR_DEVICE);
	launch.grid = dim3(8);
	cr_assert_eq(tt_launch_kernel(&launch, word_kernel_address(&c), args, &err), TT_OK, "%s", err.message);
	const struct tt_emu_device a100 = {.major = 8,
		.minor = 0,
		.n_sms = 108,
		.shared_bytes = 163 * 1024,
		.no_code = false,
		.no_clusters = false,
		.of_ptx = false,
		.largest = 0,
		.no_room = false};
	tt_emu_set_device(&a100);
	cr_assert_eq(tt_launch_kernel(&launch, word_kernel_address(&c), args, &err), TT_ERR_DEVICE);
	tt_emu_set_device(NULL);
}
