/* The arithmetic of the CPU backend, compiled for AVX-512, AVX2, NEON and as plain C: *.inc hold the source,
 * body_avx512.c, body_avx2.c, body_neon.c and body_portable.c compile it, and cpu.c chooses one when it opens. All give
 * the same bits. body_bf16.c compiles it once more, rounding to bf16 where the CUDA kernels do. The functions work on
 * one thread's share and know nothing of threads. */
#ifndef KERNELS_CPU_BODY_H
#define KERNELS_CPU_BODY_H

#include "kernels/ops.h"

enum {
	TT_CPU_LANES = 8,       /* lane j of a sum over k takes k = j mod 8, ascending */
	TT_CPU_QUERY_ROWS = 24, /* of a block of attention, or of one token: their weights of a split take 24 KiB */
	TT_CPU_OUT_TILE = 8,    /* output rows of the widest register tile of a product: jobs are multiples of it */
	TT_CPU_Q8_TILE = 32,    /* the same in q8 */
};

/* n floats, rounded up to whole vectors. */
static inline size_t tt_cpu_padded(size_t n)
{
	return (n + TT_CPU_LANES - 1) / TT_CPU_LANES * TT_CPU_LANES;
}

/* Where y = x * matrix^T + bias goes. */
enum tt_cpu_epilogue {
	TT_CPU_STORE,   /* out = y */
	TT_CPU_ADD,     /* out += y */
	TT_CPU_SILU_UP, /* out = silu(out) * y */
	TT_CPU_GELU_UP, /* out = gelu(out) * y, with tanh */
};

struct tt_cpu_product {
	const struct tt_matrix *matrix;
	const float *bias; // [n_out], or NULL
	const float *x;    // [n_rows][x_stride], zero from n_in up to whole vectors
	size_t x_stride;
	uint32_t n_rows;
	float *out; // [n_rows][out_stride]
	size_t out_stride;
	enum tt_cpu_epilogue epilogue;
};
struct tt_cpu_next; /* stream.h */

/* A block of contiguous tokens of one sequence, with the heads that share one key head: n_rows = n_tokens * group query
 * rows, row t * group + g. They meet the keys of one split at a time. */
struct tt_cpu_queries {
	const struct tt_kv_pages *kv;
	const int32_t *pages;     // the sequence's page table
	const int32_t *positions; // [n_tokens]
	const float *q;           // [n_tokens][q_stride], from the group's first head on
	size_t q_stride;
	size_t page_base; /* elements before the keys of page 0 of this layer */
	uint32_t split;   /* its keys begin at split * TT_SPLIT_KEYS */
	uint32_t n_tokens, group, n_kv_heads, kv_head, head_dim, window;
	float scale;    /* factor of a score */
	float soft_cap; /* cap of a scaled score; 0: none */
};

/* The softmax of n_rows queries over some keys, not yet divided by its sum. max is -INFINITY while a row has no key. */
struct tt_cpu_partial {
	float *max, *sum; // [n_rows]
	float *acc;       // [n_rows][head_dim padded]
};

struct tt_cpu_body {
	const char *name;

	/* The same bits as tt_dequantise. */
	void (*dequantise)(enum tt_type type, const void *src, float *dst, size_t n);

	/* Computes output rows first .. first + count of the product, then the same rows of then, which has the same
	 * shape and may be NULL. scratch: as tt_cpu_product_scratch says. */
	void (*product)(const struct tt_cpu_product *p, const struct tt_cpu_product *then, uint32_t first,
		uint32_t count, const struct tt_cpu_next *next, float *scratch);

	/* The epilogue of a token row of a product: count outputs of y, from output first on. */
	void (*finish)(const struct tt_cpu_product *p, uint32_t row, uint32_t first, uint32_t count, const float *y);

	/* y[n padded] = x * rsqrt(mean(x^2) + eps) * w, zeros after n */
	void (*rmsnorm)(const float *x, const float *w, float eps, uint32_t n, float *y);

	/* a . b: lane j of 8 takes i = j mod 8, ascending, fused; then the lanes in v8_sum's order */
	float (*dot)(const float *a, const float *b, size_t n);
	void (*axpy)(float c, const float *x, float *y, size_t n); /* y = fma(c, x, y) */

	/* One head: pairs (i, i + n_pairs) of out, from the same pairs of in, or from neighbours (2i, 2i + 1) where
	 * interleaved, which is the order of a GGUF's rows. rotation is [2][n_pairs], cosines and sines. */
	void (*rotate)(const float *in, const float *rotation, uint32_t n_pairs, bool interleaved, float *out);

	/* The lowest index among the largest values; NaN is never chosen, and 0 is returned where there is nothing
	 * else. */
	uint32_t (*largest)(const float *x, uint32_t n);

	/* y = e^((x - max) * scale), y may be x. Returns the sum: 256 values at a time in vectors, those sums in
	 * double. */
	double (*exp_sum)(const float *x, float max, float scale, size_t n, float *y);

	/* x = cap * tanh(x / cap) */
	void (*soft_cap)(float *x, size_t n, float cap);

	/* y[n] = x[n] rounded to f16, to nearest even */
	void (*to_f16)(const float *x, uint16_t *y, size_t n);

	/* Rounds, in place, values that the CUDA kernels store as bf16. NULL where activations stay f32. */
	void (*keep)(float *x, size_t n);

	/* out = the softmax of every query row over the keys of its split. scratch: as tt_cpu_attention_scratch says.
	 * next is what this thread will probably be asked for in its next call, or NULL; its keys are prefetched. */
	void (*attention_split)(const struct tt_cpu_queries *queries, const struct tt_cpu_queries *next,
		const struct tt_cpu_partial *out, float *scratch);

	/* Merges next, the following split, into into; width is head_dim padded. */
	void (*attention_merge)(
		const struct tt_cpu_partial *into, const struct tt_cpu_partial *next, uint32_t n_rows, size_t width);
};

/* NULL where the compiler's target cannot have it. */
const struct tt_cpu_body *tt_cpu_body_avx512(void);
const struct tt_cpu_body *tt_cpu_body_avx2(void);
const struct tt_cpu_body *tt_cpu_body_neon(void);
const struct tt_cpu_body *tt_cpu_body_portable(void);
const struct tt_cpu_body *tt_cpu_body_bf16(void);

/* How many token rows of a product are worked on together: 256 KiB of x, a quarter of a core's second-level cache. */
static inline uint32_t tt_cpu_product_rows(uint32_t n_in)
{
	size_t rows = ((size_t)1 << 16) / tt_cpu_padded(n_in);
	return rows > 12 ? (uint32_t)rows : 12;
}

/* Scratch in floats: the panels of one product, and all that two products need for count output rows. */
static inline size_t tt_cpu_product_panels(uint32_t n_in, uint32_t n_rows, uint32_t count)
{
	bool whole = n_rows <= tt_cpu_product_rows(n_in);
	return (whole ? TT_CPU_OUT_TILE : (size_t)count + TT_CPU_OUT_TILE) * tt_cpu_padded(n_in);
}

static inline size_t tt_cpu_product_scratch(uint32_t n_in, uint32_t n_rows, uint32_t count)
{
	uint32_t block = tt_cpu_product_rows(n_in);
	return 2 * tt_cpu_product_panels(n_in, n_rows, count) +
	       (n_rows < block ? n_rows : block) * tt_cpu_padded(count);
}

/* Scratch in floats that attention_split needs for n_rows query rows. */
static inline size_t tt_cpu_attention_scratch(uint32_t head_dim, uint32_t n_rows)
{
	return (size_t)n_rows * (tt_cpu_padded(head_dim) + TT_SPLIT_KEYS) + TT_PAGE_TOKENS * tt_cpu_padded(head_dim);
}

#endif
