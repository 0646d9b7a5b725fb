/* The means that gates read, on the emulator: the CPU's bits, since both add in the same order. */
#include "tests/emu/op_case.h"
#include "tests/pool_world.h"

static void on_emulator(const struct tt_pool_args *host)
{
	size_t hidden = host->config->hidden_size, n_sums = POOL_PAGES * TT_MAX_POOLED * hidden,
	       n_means = POOL_SEQS * POOL_LAYERS * hidden;
	struct tt_pool_args args = *host;
	op_begin(host->step, host->step->n_tokens, 0);
	args.h = op_upload(host->h, host->step->n_tokens * hidden);
	args.sums = op_upload(host->sums, n_sums);
	args.captured = op_upload(host->captured, n_means);
	OP_OK(tt_cuda_pool(&op_cuda.base, &args, &op_error));
	op_download(host->sums, args.sums, n_sums);
	op_download(host->captured, args.captured, n_means);
}

static void on_cpu(const struct tt_pool_args *args)
{
	struct tt_backend *cpu;
	OP_OK(tt_cpu_open(&cpu, 1, &op_error));
	OP_OK(cpu->pool(cpu, args, &op_error));
	cpu->close(cpu);
}

/* Numbers of the device's memory that nobody wrote are NaN, and so are those of the host. */
static void same_bits(const float *got, const float *want, size_t n, const char *what)
{
	for (size_t i = 0; i < n; i++)
		cr_assert((isnan(got[i]) && isnan(want[i])) || !memcmp(&got[i], &want[i], sizeof(float)),
			"%s %zu: %g, not %g", what, i, (double)got[i], (double)want[i]);
}

Test(emu_pool, sums_and_means_have_the_cpus_bits_in_every_order)
{
	static const uint32_t widths[] = {16, 528}, cuts[][POOL_SEQS] = {{POOL_PROMPT, POOL_PROMPT}, {1, 9}, {40, 16}};
	for (int order = 0; order < TT_EMU_ORDERS; order++)
		for (uint32_t hidden : widths)
			for (const uint32_t *cut : cuts) {
				struct pool_world got = pool_open(hidden), want = pool_open(hidden);
				op_open((enum tt_emu_order)order, hidden, 16);
				pool_run_cut(&got, cut, on_emulator);
				pool_run_cut(&want, cut, on_cpu);
				same_bits(got.sums, want.sums, POOL_PAGES * TT_MAX_POOLED * hidden, "sum");
				same_bits(got.captured, want.captured, POOL_SEQS * POOL_LAYERS * hidden, "mean");
				cr_assert(pool_error(&got) <= 1e-6);
				pool_close(&got);
				pool_close(&want);
			}
}

/* A pool that runs none of its tokens takes its mean over what is there, as one whose pages are another's does. */
Test(emu_pool, a_mean_needs_no_tokens)
{
	const uint32_t all[POOL_SEQS] = {POOL_PROMPT, POOL_PROMPT}, tail[POOL_SEQS] = {71, 71};
	struct pool_world w = pool_open(80);
	op_open(TT_EMU_RANDOM, 3, 16);
	pool_run_cut(&w, all, on_cpu);
	for (size_t i = 0; i < POOL_SEQS * POOL_LAYERS * (size_t)w.hidden; i++)
		w.captured[i] = NAN;
	struct tt_step_plan *step = pool_step(tail, all);
	uint64_t launches = op_cuda.counters.launches;
	pool_run_step(&w, step, on_emulator);
	cr_assert_eq(op_cuda.counters.launches - launches, 2, "a mean for each of the two layers, no sum");
	cr_assert(pool_error(&w) <= 1e-6);
	free(step);
	pool_close(&w);
}

/* The sum reads each token of the span once, and the mean each record. */
Test(emu_pool, moves_each_token_of_the_span_once)
{
	const uint32_t none[POOL_SEQS] = {0, 0}, all[POOL_SEQS] = {POOL_PROMPT, POOL_PROMPT};
	enum { HIDDEN = 512 };
	struct pool_world w = pool_open(HIDDEN);
	struct tt_step_plan *step = pool_step(none, all);
	op_open(TT_EMU_FORWARD, 1, 16);
	pool_run_step(&w, step, on_emulator);
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	const struct tt_emu_counters *counts = tt_emu_counted();
	/* layer 0: 65 tokens of 5 pages; layer 2: these and 48 tokens of 3 pages */
	cr_expect_eq(counts->loads[TT_TRAFFIC_ACTIVATION].bytes, (65 + 65 + 48) * HIDDEN * sizeof(float));
	cr_expect_eq(counts->stores[TT_TRAFFIC_DIRECTION].bytes, (5 + 5 + 3) * HIDDEN * sizeof(float));
	cr_expect_eq(counts->loads[TT_TRAFFIC_DIRECTION].bytes, (5 + 5 + 3) * HIDDEN * sizeof(float));
	cr_expect_eq(counts->stores[TT_TRAFFIC_RESULT].bytes, 3 * HIDDEN * sizeof(float));
	free(step);
	pool_close(&w);
}
