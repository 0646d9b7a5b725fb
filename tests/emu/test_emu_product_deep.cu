/* A product of many chunks of K a slice: every ring goes round, and slices differ in length. The worlds of the other
 * tests give a slice one chunk or two. */
#define WORLD_FFN 1424
#include "tests/emu/product_world.h"

/* Each kernel of the family, by its tokens and multiprocessors; of clusters, those of 9 tokens and more. */
static const struct step_case cases[] = {
	{60, 5, 8, 132, false, false, false, 0},    /* 8 tokens a block */
	{50, 20, 32, 132, false, false, false, 0},  /* 32 */
	{30, 40, 64, 132, false, false, false, 0},  /* 64, 32 weight rows */
	{30, 40, 64, 1, false, false, false, 0},    /* 64, 64 */
	{3, 130, 130, 132, false, false, false, 0}, /* 128, 64 */
	{3, 130, 130, 1, false, false, false, 0},   /* 128, 128 */
};

static void check_float64(const struct step_case *c, const struct inputs *in, const struct outputs *out)
{
	double *want = (double *)malloc(c->n * HIDDEN * sizeof *want);
	for (uint32_t i = 0; i < c->n * HIDDEN; i++) {
		uint32_t token = c->first + i / HIDDEN, row = i % HIDDEN;
		want[i] = (double)in->h[token * HIDDEN + row] + (double)in->b_down[row];
		for (uint32_t k = 0; k < FFN; k++)
			want[i] += from_bf16(in->w_down[row * FFN + k]) * from_bf16(in->ffn[token * FFN + k]);
	}
	twin_check_f32("float64", out->h + c->first * HIDDEN, want, c->n * HIDDEN);
	free(want);
}

Test(emu_product_deep, every_kernel_is_right_and_gives_the_same_bits)
{
	struct inputs *in = make_inputs();
	struct outputs *all = NULL;
	const int n_cases = sizeof cases / sizeof *cases;
	for (int i = 2 * n_cases - 1; i >= 0; i--) {
		const struct step_case *c = &cases[i % n_cases];
		world_alone = i >= n_cases;
		struct outputs *out = run_step(c, OP_DOWN_PROJ, TT_EMU_RANDOM);
		like_the_twin(c, OP_DOWN_PROJ, out);
		check_float64(c, in, out);
		cr_assert(!all || memcmp(out->h + c->first * HIDDEN, all->h + c->first * HIDDEN,
					  c->n * HIDDEN * sizeof *out->h) == 0,
			"%u tokens", c->n);
		if (all)
			free(out);
		else
			all = out;
	}
	free(all);
	free(in);
}
