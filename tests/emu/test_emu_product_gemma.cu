/* What Gemma's layers have beside the others': norms of what the products add to h, GELU, a cap of logits, scaled
 * embeddings. Against the twin, and a row's bits in any company. */
#include "tests/emu/product_bits.h"

enum { ALL = OP_EMBED | OP_QKV | OP_O_PROJ | OP_GATE_UP | OP_DOWN_PROJ | OP_LOGITS };

static const struct step_case eight = {40, 5, 8, 132, true, true, false, 1},
			      some = {16, 9, 13, 132, false, true, false, 1},
			      many = {3, 150, 160, 132, true, false, false, 0};
static const struct step_case *const cases[] = {&eight, &some, &many};

static void check(unsigned op)
{
	world_gemma = true;
	for (const struct step_case *c : cases) {
		struct outputs *out = run_step(c, op, TT_EMU_RANDOM);
		like_the_twin(c, op, out);
		free(out);
	}
}

Test(emu_product_gemma, embed)
{
	check(OP_EMBED);
}

Test(emu_product_gemma, o_proj)
{
	check(OP_O_PROJ);
}

Test(emu_product_gemma, gate_up)
{
	check(OP_GATE_UP);
}

Test(emu_product_gemma, down_proj)
{
	check(OP_DOWN_PROJ);
}

Test(emu_product_gemma, logits)
{
	check(OP_LOGITS);
}

/* Steered by every operation, whether or not the step has such a policy: the row kernel runs for all. */
Test(emu_product_gemma, a_row_keeps_its_bits_in_any_company)
{
	static const struct step_case company[] = {{20, 3, 8, 132, true, true, true, 2},
		{18, 9, 9, 1, false, true, true, 2}, {0, 100, 128, 132, true, true, true, 2}};
	const struct step_case whole = {0, 128, 128, 132, true, true, true, 2};
	uint32_t order = 0;
	world_gemma = true;
	struct outputs *expected = run_step(&whole, ALL, TT_EMU_FORWARD);
	for (const struct step_case &c : company) {
		struct outputs *got = run_step(&c, ALL, (enum tt_emu_order)(order++ % TT_EMU_ORDERS));
		same_outputs(got, expected, c.first, c.n);
		free(got);
	}
	free(expected);
}

/* What the next norm reads is of the h that was stored. */
Test(emu_product_gemma, the_next_norm_reads_what_was_stored)
{
	world_gemma = true;
	static const unsigned ops[] = {OP_O_PROJ, OP_DOWN_PROJ};
	for (unsigned op : ops) {
		struct outputs *out = run_step(&some, op, TT_EMU_FORWARD);
		struct inputs *in = make_inputs();
		const float *gamma = op == OP_O_PROJ ? in->ffn_norm : in->next_norm;
		for (uint32_t i = some.first * HIDDEN; i < (some.first + some.n) * HIDDEN; i++)
			cr_assert_eq(out->x[i], tt_emu_bf16(out->h[i] * gamma[i % HIDDEN]));
		for (uint32_t i = some.first * NORM_TILES; i < (some.first + some.n) * NORM_TILES; i++) {
			double sum = 0;
			for (uint32_t k = i * TT_NORM_TILE; k < (i + 1) * TT_NORM_TILE; k++)
				sum += (double)out->h[k] * out->h[k];
			cr_assert(fabs(out->squares[i] - sum) <= 1e-6 * sum);
		}
		free(in);
		free(out);
	}
}
