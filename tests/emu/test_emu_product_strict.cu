/* A row's bits are its own: whatever else is in the step, whichever kernel of the family the grid and the device's
 * shared memory chose, in any order of threads. And what a decode step costs. */
#include "tests/emu/product_bits.h"

enum {
	ALL = OP_EMBED | OP_QKV | OP_O_PROJ | OP_GATE_UP | OP_DOWN_PROJ | OP_LOGITS,
	NORMED = (ALL & ~OP_QKV) | OP_QKV_NORMED /* what a decode step runs; what is its own is OP_QKV_NORMED alone */
};

static void batch_grid_and_kernel(unsigned ops)
{
	static const struct step_case cases[] = {
		{200, 1, 1, 132, true, true, false, 1},  /* 8 tokens a block */
		{100, 7, 7, 132, false, true, false, 1}, /* another column of the mma */
		{3, 8, 8, 1, true, true, false, 1},
		{3, 7, 64, 1, false, true, false, 1},     /* 64 tokens, 64 rows */
		{33, 9, 9, 132, true, true, false, 1},    /* 32 tokens, 32 rows */
		{61, 64, 64, 132, false, true, false, 1}, /* 64 tokens, 32 rows */
		{61, 64, 64, 1, true, true, false, 1},
		{0, 256, 256, 132, true, true, false, 1}, /* 128 tokens, 64 rows */
		{77, 130, 256, 132, true, true, false, 1},
	};
	/* test_emu_product_cluster has clusters, for which K is too short here */
	static const uint32_t devices[] = {0, TT_CUDA_LEAST_SHARED};
	const struct step_case whole = {0, 256, 256, 1, false, true, false, 1}; /* 128 tokens, 128 rows */
	uint32_t order = 0;
	world_alone = true;
	struct outputs *expected = run_step(&whole, ops, TT_EMU_FORWARD);
	for (uint32_t shared : devices)
		for (const struct step_case &c : cases) {
			world_shared = shared;
			struct outputs *got = run_step(&c, ops, (enum tt_emu_order)(order++ % TT_EMU_ORDERS));
			world_shared = 0;
			same_outputs(got, expected, c.first, c.n);
			free(got);
		}
	world_alone = false;
	free(expected);
}

Test(emu_product_strict, batch_grid_and_kernel_change_no_bit)
{
	batch_grid_and_kernel(ALL);
	batch_grid_and_kernel(OP_QKV_NORMED);
	world_fp8 = true;
	batch_grid_and_kernel(OP_QKV);
}

static void order_of_threads(unsigned ops)
{
	static const struct step_case cases[] = {
		{20, 8, 8, 132, true, true, false, 1},
		{20, 30, 30, 132, true, true, false, 1},
		{20, 40, 40, 1, true, true, false, 1},
		{20, 70, 70, 132, true, true, false, 1},
		{20, 9, 9, 132, true, true, true, 2},
	};
	for (const struct step_case &c : cases)
		same_in_any_order(&c, ops);
}

Test(emu_product_strict, order_of_threads_changes_no_bit)
{
	order_of_threads(ALL);
	order_of_threads(OP_QKV_NORMED);
	world_fp8 = true;
	order_of_threads(OP_QKV_NORMED);
}

/* Bytes of each op's weights, vectors included; the embedding's rows are the tokens'. */
struct weights_of {
	const char *name;
	uint64_t bytes;
};

static void check_traffic(unsigned ops, uint32_t n)
{
	const uint64_t hidden = tt_packed_chunks(HIDDEN) * TT_PACKED_COLUMNS,
		       ffn = tt_packed_chunks(FFN) * TT_PACKED_COLUMNS;
	const uint64_t q = tt_packed_chunks(Q) * TT_PACKED_COLUMNS, vocab = (VOCAB + 15) / 16 * 16;
	uint32_t warps = n < 8 ? n : 8, head_norms = ops == NORMED ? (HEADS + KV_HEADS) * warps * HEAD_DIM * 4 : 0;
	const struct weights_of expected[] = {
		{"qkv", (Q + 2 * KV) * (hidden * 2 + 4) + head_norms},
		{"o_proj", HIDDEN * (q * 2 + 4 + 4)},
		{"gate_up", 2 * FFN * (hidden * 2 + 4)},
		{"down_proj", HIDDEN * (ffn * 2 + 4 + 4)},
		{"logits", vocab * hidden * 2},
	};
	const struct step_case c = {0, n, n, 132, true, true, false, 1};
	world_alone = true; /* test_emu_table counts those of clusters */
	free(run_step(&c, ops, TT_EMU_FORWARD));
	world_alone = false;
	const struct tt_emu_kernel *kernels;
	size_t n_kernels = tt_emu_kernels(&kernels);
	cr_assert_eq(n_kernels, 6);
	for (size_t i = 0; i < n_kernels; i++) {
		const struct tt_emu_traffic *w = &kernels[i].counters.loads[TT_TRAFFIC_WEIGHT];
		uint64_t bytes = n * HIDDEN * 2 * 2 + HIDDEN * 4; /* embed's: of two rows that share sectors */
		for (const struct weights_of &e : expected)
			if (strcmp(e.name, kernels[i].name) == 0)
				bytes = e.bytes;
		cr_assert_eq(kernels[i].launches, 1);
		cr_assert_eq(w->bytes, bytes, "%u tokens: %s read %llu bytes of weights, not %llu", n, kernels[i].name,
			(unsigned long long)w->bytes, (unsigned long long)bytes);
		cr_assert_geq((double)w->bytes, 0.9 * 32 * (double)w->sectors, "%s", kernels[i].name);
	}
}

Test(emu_product_strict, decode_reads_each_weight_once)
{
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	check_traffic(ALL, 1);
	check_traffic(ALL, 8);
	check_traffic(ALL, 31);
	check_traffic(ALL, 64);
	check_traffic(NORMED, 3);
	check_traffic(NORMED, 31);
}

Test(emu_product_strict, scattered_matrices_are_refused)
{
	static const struct step_case c = {0, 1, 1, 132, false, false, false, 0};
	struct world w;
	struct tt_error err = {0, ""};
	tt_emu_reset(TT_EMU_FORWARD, 1);
	world_open(&w, &c, false);
	w.layer.wv.data = w.layer.wk.data;
	cr_assert_eq(world_run(&w, OP_QKV, &err), TT_ERR_ARGUMENT);
	w.layer.w_up.data = w.layer.w_gate.data;
	cr_assert_eq(world_run(&w, OP_GATE_UP, &err), TT_ERR_ARGUMENT);
	world_close(&w);
}
