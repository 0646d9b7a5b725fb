#include "kernels/product_table.h"

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

uint32_t tt_product_tokens(const struct product_shape *shape)
{
	return shape->token_tiles * 8;
}

uint32_t tt_product_cluster_blocks(const struct product_shape *shape)
{
	return shape->family == PRODUCT_IN_CLUSTER ? PRODUCT_CLUSTER : 1;
}

/* A warp of a narrow kernel has a ring of its own, for x alone where the weights are unpacked in registers; the warps
 * of the others share one. */
uint32_t tt_product_shared_bytes(const struct product_shape *s, uint32_t n_in)
{
	bool narrow = s->family == PRODUCT_NARROW, cluster = s->family == PRODUCT_IN_CLUSTER;
	uint32_t weights = narrow && s->quantised ? 0 : s->row_tiles * 2;
	uint32_t rings = (narrow ? PRODUCT_WARPS : 1) * s->stages * (weights + s->token_tiles) * PRODUCT_FRAGMENT;
	uint32_t sums = tt_product_tokens(s) * product_stride(s->row_tiles) * 4 * (narrow ? product_slices(n_in) : 1);
	uint32_t own = cluster ? tt_product_tokens(s) / PRODUCT_CLUSTER : tt_product_tokens(s);
	return product_header_bytes(s->row_tiles, own) + larger(rings, sums);
}

uint32_t tt_product_resident(const struct product_shape *s, uint32_t n_in, uint32_t most_shared)
{
	enum { RESERVED = 1024 }; /* bytes that CUDA takes of each block */
	uint32_t by_memory = (most_shared + RESERVED) / (tt_product_shared_bytes(s, n_in) + RESERVED), by_registers = 1;
	if (s->family == PRODUCT_NARROW)
		by_registers = s->quantised ? product_quants_blocks(s->row_tiles, s->token_tiles)
					    : product_narrow_blocks(s->row_tiles, s->token_tiles);
	else if (s->family == PRODUCT_WIDE)
		by_registers = s->quantised ? 1 : product_wide_blocks(s->row_tiles);
	else
		by_registers = s->quantised ? product_cluster_quants_blocks(s->token_tiles) : 2;
	return by_memory < by_registers ? by_memory : by_registers;
}

struct product_grid tt_product_grid_of(const struct product_shape *shape, uint32_t n_tiles, uint32_t n_tokens)
{
	uint32_t tokens = tt_product_tokens(shape);
	return (struct product_grid){(n_tokens + tokens - 1) / tokens * tt_product_cluster_blocks(shape),
		(n_tiles + shape->row_tiles - 1) / shape->row_tiles};
}

static bool of_blocks_alone(const struct product_line *line, const struct product_question *q, uint32_t enough)
{
	const struct product_shape *s = &line->shape;
	uint32_t token_blocks = line->unless_tokens ? q->n_tokens / line->unless_tokens : 1;
	if (s->family == PRODUCT_IN_CLUSTER || s->quantised != q->quantised || q->n_tokens > line->most_tokens ||
		tt_product_shared_bytes(s, q->n_in) > q->most_shared)
		return false;
	return !line->unless_tiles || q->n_tiles / line->unless_tiles * token_blocks < enough;
}

/* PRODUCT_LINES where none fits, which no device from TT_CUDA_LEAST_SHARED on is. */
static uint32_t choose_alone(const struct product_question *q)
{
	uint32_t enough = q->n_tokens > PRODUCT_CLUSTER_MOST ? q->n_sms * 3 / 4 : q->n_sms, i = 0;
	while (i < PRODUCT_LINES && !of_blocks_alone(&PRODUCT_TABLE[i], q, enough))
		i++;
	return i;
}

/* The same among clusters. */
static uint32_t choose_cluster(const struct product_question *q)
{
	if (!q->clusters || q->n_tokens < PRODUCT_CLUSTER_LEAST || product_slices(q->n_in) < PRODUCT_CLUSTER)
		return PRODUCT_LINES;
	for (uint32_t i = 0; i < PRODUCT_LINES; i++) {
		const struct product_line *line = &PRODUCT_TABLE[i];
		if (line->shape.family == PRODUCT_IN_CLUSTER && line->shape.quantised == q->quantised &&
			q->n_tokens <= line->most_tokens)
			return tt_product_shared_bytes(&line->shape, q->n_in) <= q->most_shared ? i : PRODUCT_LINES;
	}
	return PRODUCT_LINES;
}

/* A cluster where there are clusters and blocks alone would be fewer than the multiprocessors; and of bf16 up to 64
 * tokens, whose blocks alone read up to twice as much of x as of weights. Which is faster, no GPU has said: a cluster's
 * weights begin to come after the wait for the kernel before, and eight blocks must find room in one group of
 * multiprocessors. */
uint32_t tt_product_choose(const struct product_question *q)
{
	uint32_t alone = choose_alone(q), cluster = choose_cluster(q);
	if (alone == PRODUCT_LINES || cluster == PRODUCT_LINES)
		return alone;
	const struct product_grid grid = tt_product_grid_of(&PRODUCT_TABLE[alone].shape, q->n_tiles, q->n_tokens);
	return (q->n_tokens <= 64 && !q->quantised) || grid.x * grid.y < q->n_sms ? cluster : alone;
}
