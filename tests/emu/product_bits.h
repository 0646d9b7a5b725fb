/* That two steps left the same bits for the same tokens of the pool. */
#ifndef TESTS_EMU_PRODUCT_BITS_H
#define TESTS_EMU_PRODUCT_BITS_H

#include "tests/emu/product_world.h"

static inline void same_bits(const void *a, const void *b, size_t size, uint32_t first, uint32_t n, const char *what)
{
	for (uint32_t t = first; t < first + n; t++)
		cr_assert_eq(memcmp((const char *)a + t * size, (const char *)b + t * size, size), 0,
			"%s of token %u of %u to %u", what, t, first, first + n - 1);
}

static inline void same_outputs(const struct outputs *a, const struct outputs *b, uint32_t first, uint32_t n)
{
	same_bits(a->q, b->q, Q * sizeof(tt_bf16), first, n, "q");
	same_bits(a->ffn, b->ffn, FFN * sizeof(tt_bf16), first, n, "ffn");
	same_bits(a->h, b->h, HIDDEN * sizeof(float), first, n, "h");
	same_bits(a->x, b->x, HIDDEN * sizeof(tt_bf16), first, n, "x");
	same_bits(a->squares, b->squares, NORM_TILES * sizeof(float), first, n, "squares");
	same_bits(a->logits, b->logits, VOCAB * sizeof(float), first, n, "logits");
	same_bits(a->norms, b->norms, LAYERS * 2 * sizeof(float), first, n, "norms");
	for (uint32_t t = first; t < first + n; t++)
		for (uint32_t i = 0; i < 2 * KV_HEADS; i++)
			cr_assert_eq(memcmp(a->kv + kv_at(t, i / KV_HEADS, i % KV_HEADS),
					     b->kv + kv_at(t, i / KV_HEADS, i % KV_HEADS), HEAD_DIM * sizeof(tt_bf16)),
				0, "kv of token %u", t);
}

/* Runs the step with threads in each order. */
static inline void same_in_any_order(const struct step_case *c, unsigned ops)
{
	struct outputs *expected = run_step(c, ops, TT_EMU_FORWARD);
	for (int order = TT_EMU_BACKWARD; order < TT_EMU_ORDERS; order++) {
		struct outputs *got = run_step(c, ops, (enum tt_emu_order)order);
		same_outputs(got, expected, c->first, c->n);
		free(got);
	}
	free(expected);
}

#endif
