/* Rows' bits once more where each product has eight slices of K, so that all have kernels of clusters: those of blocks
 * alone, whatever else is in the step and in any order of threads. */
#define WORLD_HIDDEN 272
#define WORLD_HEADS 6
#define WORLD_FFN 272
#include "tests/emu/product_bits.h"

enum { ALL = OP_EMBED | OP_QKV | OP_O_PROJ | OP_GATE_UP | OP_DOWN_PROJ | OP_LOGITS };

/* 32, 64 and 128 tokens a cluster. */
static const struct step_case cases[] = {
	{33, 9, 9, 132, true, true, false, 1}, {5, 3, 64, 1, false, true, false, 1}, /* blocks that finish no token */
	{61, 64, 64, 132, false, true, false, 1},
	{8, 130, 256, 132, true, true, false, 1},  /* a cluster that is full and one of two tokens */
	{40, 100, 256, 132, false, true, false, 1} /* a cluster without a token */
};

static void clusters(unsigned ops)
{
	const struct step_case whole = {0, 140, 140, 1, false, true, false, 1};
	uint32_t order = 0;
	if (!device_has_clusters())
		cr_skip_test("the device has no clusters");
	world_alone = true;
	struct outputs *expected = run_step(&whole, ops, TT_EMU_FORWARD);
	world_alone = false;
	for (const struct step_case &c : cases) {
		struct outputs *got = run_step(&c, ops, (enum tt_emu_order)(order++ % TT_EMU_ORDERS));
		same_outputs(got, expected, c.first, c.n);
		free(got);
	}
	free(expected);
}

Test(emu_product_cluster, clusters_have_the_bits_of_blocks_alone)
{
	clusters(ALL);
	clusters(OP_QKV_NORMED);
	world_fp8 = true;
	clusters(OP_QKV);
}

static void order_of_threads(unsigned ops)
{
	/* the last is of blocks alone, whatever the device, of 128 tokens and 128 rows */
	static const struct step_case some[] = {{20, 30, 30, 132, true, true, false, 1},
		{20, 9, 9, 132, true, true, true, 2}, {20, 130, 130, 1, true, true, false, 1}};
	for (const struct step_case &c : some)
		same_in_any_order(&c, ops);
}

Test(emu_product_cluster, order_of_threads_changes_no_bit)
{
	order_of_threads(ALL);
	order_of_threads(OP_QKV_NORMED);
}
