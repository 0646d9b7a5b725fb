/* The means that gates read: against a plain sum in double, and the same bits however the prompts are cut. */
#include "pool_world.h"
#include "test_kernels.h"

/* A record sums at most 16 numbers below 1.1 in f32, which is 8 roundings of half a unit of 16 in the mean at the very
 * worst; 6e-8 seen. */
#define TOLERANCE 1e-6

static struct tt_backend *backend;

static void on_cpu(const struct tt_pool_args *args)
{
	cr_assert_eq(backend->pool(backend, args, NULL), TT_OK);
}

static const uint32_t CUTS[][POOL_SEQS] = {{POOL_PROMPT, POOL_PROMPT}, {1, 1}, {16, 16}, {7, 30}, {33, 5}, {70, 74}};

Test(kernels_pool, means_are_the_plain_ones_however_prompts_are_cut)
{
	static const uint32_t widths[] = {1, 17, 128, 576};
	for (uint32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
		cr_assert_eq(tt_cpu_open(&backend, n_threads, NULL), TT_OK);
		for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
			struct pool_world whole = pool_open(widths[i]);
			pool_run_cut(&whole, CUTS[0], on_cpu);
			double error = pool_error(&whole);
			cr_expect(error <= TOLERANCE, "width %u: off by %g", widths[i], error);
			for (size_t c = 1; c < sizeof CUTS / sizeof *CUTS; c++) {
				struct pool_world cut = pool_open(widths[i]);
				pool_run_cut(&cut, CUTS[c], on_cpu);
				cr_expect_arr_eq(cut.captured, whole.captured,
					POOL_SEQS * POOL_LAYERS * widths[i] * sizeof(float),
					"width %u, chunks of %u and %u", widths[i], CUTS[c][0], CUTS[c][1]);
				pool_close(&cut);
			}
			pool_close(&whole);
		}
		backend->close(backend);
	}
}

/* A sequence may take its mean over pages that another one fills in the same step. */
Test(kernels_pool, records_are_complete_before_any_mean)
{
	enum { WIDTH = 300 };
	const uint32_t first[POOL_SEQS] = {0, POOL_PROMPT}, end[POOL_SEQS] = {POOL_PROMPT, POOL_PROMPT};
	cr_assert_eq(tt_cpu_open(&backend, 2, NULL), TT_OK);
	struct pool_world alone = pool_open(WIDTH), twins = pool_open(WIDTH);
	struct tt_step_plan *step = pool_step(first, end);
	pool_run_step(&alone, step, on_cpu);
	/* The second one, which comes first in the plan, has the first one's pages, and runs nothing. */
	struct tt_pool_plan *pools = tt_step_pools(step);
	pools[1] = pools[0];
	pools[0].seq = 1;
	pools[0].n_tokens = 0;
	pools[0].mean_capture = 1;
	memcpy(tt_step_pages(step) + POOL_TABLE, tt_step_pages(step), POOL_TABLE * sizeof(int32_t));
	pool_run_step(&twins, step, on_cpu);
	for (uint32_t l = 0; l < POOL_LAYERS; l += 2) {
		const float *want = alone.captured + l * WIDTH, *got = twins.captured + l * WIDTH;
		cr_expect_arr_eq(got, want, WIDTH * sizeof *want, "layer %u", l);
		cr_expect_arr_eq(got + POOL_LAYERS * WIDTH, want, WIDTH * sizeof *want, "layer %u of the twin", l);
	}
	free(step);
	pool_close(&alone);
	pool_close(&twins);
	backend->close(backend);
}

/* The last layer runs only for tokens that something reads: those of its pools among them, side by side again. */
Test(kernels_pool, a_narrowed_step_keeps_what_its_layer_pools)
{
	const uint32_t first[POOL_SEQS] = {10, 0}, end[POOL_SEQS] = {40, 20};
	struct tt_step_plan *step = pool_step(first, end), *narrowed = calloc(1, POOL_STEP_BYTES);
	uint32_t kept[64], place[64];
	for (uint32_t t = 0; t < step->n_tokens; t++)
		tt_step_captures(step)[t] = -1;
	tt_step_captures(step)[31] = 0; /* of sequence 1, before its span */
	cr_assert_eq(tt_step_narrow(step, 0, narrowed, kept, place, NULL), TT_OK);
	cr_assert_eq(narrowed->n_pools, 1, "layer 0 is one sequence's");
	cr_assert_eq(narrowed->n_tokens, 31);
	cr_assert_eq(tt_step_narrow(step, 1, narrowed, kept, place, NULL), TT_OK);
	cr_assert_eq(narrowed->n_pools, 0);
	cr_assert_eq(narrowed->n_tokens, 1);
	cr_assert_eq(tt_step_narrow(step, 2, narrowed, kept, place, NULL), TT_OK);
	cr_assert_eq(narrowed->n_pools, 2);
	cr_assert_eq(narrowed->n_tokens, 35);
	const struct tt_pool_plan *pool = tt_step_pools(narrowed) + 1;
	cr_assert_eq(pool->n_tokens, 4);
	for (uint32_t i = 0; i < 4; i++) {
		cr_expect_eq(tt_step_positions(narrowed)[pool->first_token + i], 16 + (int32_t)i);
		cr_expect_eq(tt_step_seqs(narrowed)[pool->first_token + i], 1);
	}
	free(step);
	free(narrowed);
}
