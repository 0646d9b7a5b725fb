/* Shared by the tests of the CPU kernels: random matrices of every type, steps, a comparison in double, and backends of
 * both bodies. The references in the tests are plain loops in double, written from the formulas. */
#ifndef TESTS_TEST_KERNELS_H
#define TESTS_TEST_KERNELS_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "random.h"

static const enum tt_type TYPES[] = {TT_TYPE_F32, TT_TYPE_F16, TT_TYPE_BF16, TT_TYPE_Q4_0, TT_TYPE_Q4_1, TT_TYPE_Q5_0,
	TT_TYPE_Q5_1, TT_TYPE_Q8_0, TT_TYPE_Q4_K, TT_TYPE_Q5_K, TT_TYPE_Q6_K, TT_TYPE_IQ4_NL, TT_TYPE_F8_E4M3};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

static inline float random_float(uint64_t *state) /* [-1, 1) */
{
	return (float)random_bits(state) * 0x1p-31f - 1.0f;
}

static inline void *must_alloc(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);
	cr_assert(memory);
	return memory;
}

static inline float *random_floats(size_t n, float scale, uint64_t seed)
{
	float *x = must_alloc(n, sizeof *x);
	for (size_t i = 0; i < n; i++)
		x[i] = scale * random_float(&seed);
	return x;
}

/* Random weights of about 1 / sqrt(n_in); quantised and half data at an address that is a multiple of 2 only, as in a
 * mapped file. memory is what to free. */
struct test_matrix {
	struct tt_matrix matrix;
	uint8_t *memory;
	float *weights; // [n_out][n_in], by tt_dequantise
};

static inline void put_half(uint8_t *p, float value)
{
	uint16_t half = tt_f32_to_f16(value);
	memcpy(p, &half, sizeof half);
}

static inline void random_group(enum tt_type type, uint8_t *p, float scale, uint64_t *state)
{
	float value = scale * random_float(state);
	uint16_t brain = tt_f32_to_bf16(value);
	switch (type) {
	case TT_TYPE_F32:
		memcpy(p, &value, sizeof value);
		return;
	case TT_TYPE_F16:
		put_half(p, value);
		return;
	case TT_TYPE_BF16:
		memcpy(p, &brain, sizeof brain);
		return;
	default:
		break;
	}
	for (uint32_t i = 0; i < tt_type_block_bytes(type); i++)
		p[i] = (uint8_t)random_bits(state);
	/* The scale such that weights are about `scale`, then the minimum where there is one. */
	switch (type) {
	case TT_TYPE_Q4_1:
		put_half(p + 2, -value);
		put_half(p, value / 8);
		break;
	case TT_TYPE_Q5_1:
		put_half(p + 2, -value);
		put_half(p, value / 16);
		break;
	case TT_TYPE_Q8_0:
	case TT_TYPE_IQ4_NL:
		put_half(p, value / 128);
		break;
	case TT_TYPE_Q4_K:
	case TT_TYPE_Q5_K:
		put_half(p, value / (type == TT_TYPE_Q4_K ? 8 : 16) / 32);
		put_half(p + 2, value / 32);
		break;
	case TT_TYPE_F8_E4M3: /* a scale of its own for each block, which the CPU's bodies admit */
		value = fabsf(value) / 256;
		memcpy(p, &value, sizeof value);
		for (uint32_t i = 4; i < tt_type_block_bytes(type); i++)
			p[i] = (p[i] & 0x7f) == 0x7f ? 0x7e : p[i];
		break;
	case TT_TYPE_Q6_K:
		put_half(p + 208, value / 32 / 64);
		break;
	default:
		put_half(p, value / (type == TT_TYPE_Q5_0 ? 16 : 8));
		break;
	}
}

static inline struct test_matrix random_matrix(enum tt_type type, uint32_t n_out, uint32_t n_in, uint64_t seed)
{
	struct test_matrix m = {.matrix = {.type = type, .n_out = n_out, .n_in = n_in}};
	size_t row = tt_type_row_bytes(type, n_in), block = tt_type_block_bytes(type);
	uint32_t shift = type == TT_TYPE_F32 ? 4 : 2;
	m.memory = must_alloc(n_out * row + shift, 1);
	m.weights = must_alloc((size_t)n_out * n_in, sizeof *m.weights);
	for (size_t at = 0; at < n_out * row; at += block)
		random_group(type, m.memory + shift + at, 1.7f / sqrtf((float)n_in), &seed);
	m.matrix.data = m.memory + shift;
	for (size_t i = 0; i < n_out; i++)
		tt_dequantise(type, m.memory + shift + i * row, m.weights + i * n_in, n_in);
	return m;
}

static inline void free_matrix(struct test_matrix *m)
{
	free(m->memory);
	free(m->weights);
}

/* |got - want| / |want| over all elements, in double; infinite when anything is not a number. */
static inline double relative_error(const float *got, const double *want, size_t n)
{
	double difference = 0, norm = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)got[i] - want[i];
		difference += d * d;
		norm += want[i] * want[i];
	}
	double error = sqrt(difference / (norm > 0 ? norm : 1));
	return error < INFINITY ? error : INFINITY; /* NaN compares false */
}

#define ASSERT_CLOSE(got, want, n, tolerance, ...)                                                                     \
	do {                                                                                                           \
		double close_error = relative_error(got, want, n);                                                     \
		char close_what[200];                                                                                  \
		snprintf(close_what, sizeof close_what, __VA_ARGS__);                                                  \
		cr_assert(close_error <= (tolerance), "%s: relative error %.3g above %.3g", close_what, close_error,   \
			(double)(tolerance));                                                                          \
	} while (0)

#define ASSERT_SAME_BITS(a, b, n, ...)                                                                                 \
	do {                                                                                                           \
		char same_what[200];                                                                                   \
		snprintf(same_what, sizeof same_what, __VA_ARGS__);                                                    \
		cr_assert(memcmp(a, b, (n) * sizeof *(a)) == 0, "%s: bits differ", same_what);                         \
	} while (0)

#define ASSERT_OK(call)                                                                                                \
	do {                                                                                                           \
		struct tt_error ok_error = {0};                                                                        \
		cr_assert((call) == TT_OK, "%s", ok_error.message);                                                    \
	} while (0)

static inline struct tt_backend *open_cpu(uint32_t n_threads, enum tt_cpu_body_choice choice)
{
	struct tt_backend *backend = NULL;
	struct tt_error err;
	int code = tt_cpu_open_body(&backend, n_threads, choice, &err);
	if (code == TT_ERR_UNSUPPORTED)
		cr_skip_test("%s", err.message);
	cr_assert(code == TT_OK, "%s", err.message);
	return backend;
}

/* Whether this machine runs a body: the portable one always, so that a loop over bodies is never empty. */
static inline bool machine_has(enum tt_cpu_body_choice choice)
{
	struct tt_backend *backend = NULL;
	if (tt_cpu_open_body(&backend, 1, choice, NULL) != TT_OK)
		return false;
	backend->close(backend);
	return true;
}

/* An empty step with room for the counts that are set; positions 0, 1, .. of one sequence, pages 0, 1, .. */
static inline struct tt_step_plan *make_step(struct tt_step_plan counts)
{
	struct tt_error err;
	size_t capacity = 4096 + (size_t)64 * (counts.n_tokens + counts.n_samples + counts.n_seqs * counts.max_pages);
	struct tt_step_plan *step = must_alloc(capacity, 1);
	*step = counts;
	cr_assert(tt_step_layout(step, capacity, &err) == TT_OK, "%s", err.message);
	for (uint32_t t = 0; t < step->n_tokens; t++) {
		tt_step_positions(step)[t] = (int32_t)t;
		tt_step_captures(step)[t] = -1;
	}
	for (uint32_t i = 0; i < step->n_seqs * step->max_pages; i++)
		tt_step_pages(step)[i] = (int32_t)i;
	return step;
}

/* Number at of the pages, read as the types are defined: E4M3 (with its row's scale, where there are scales) and Q8_0
 * from their bits. */
static inline float kv_number(const struct tt_kv_pages *kv, size_t at, uint32_t head_dim)
{
	const uint8_t *bytes = kv->data;
	uint16_t half;
	switch (kv->type) {
	case TT_KV_F16:
		memcpy(&half, bytes + 2 * at, sizeof half);
		return tt_f16_to_f32(half);
	case TT_KV_Q8:
		memcpy(&half, bytes + at / 32 * 34, sizeof half);
		return tt_f16_to_f32(half) * (float)(int8_t)bytes[at / 32 * 34 + 2 + at % 32];
	case TT_KV_FP8: {
		int exponent = bytes[at] >> 3 & 15, mantissa = bytes[at] & 7;
		float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
		if (kv->scales)
			magnitude *= tt_bf16_to_f32(kv->scales[at / head_dim]);
		return (bytes[at] & 0x7f) == 0x7f ? NAN : bytes[at] & 0x80 ? -magnitude : magnitude;
	}
	default:
		return ((const float *)kv->data)[at];
	}
}

/* The ops are the way in to a product: o_proj is h += x * wo^T + bo. */
static inline void run_o_proj(struct tt_backend *backend, const struct tt_matrix *w, const float *bias, const float *x,
	uint32_t n_rows, float *h)
{
	struct tt_config config = {.hidden_size = w->n_out};
	struct tt_layer layer = {.wo = *w, .bo = bias};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = n_rows});
	ASSERT_OK(backend->o_proj(backend,
		&(struct tt_o_proj_args){.config = &config, .step = step, .layer = &layer, .attention = x, .h = h},
		&ok_error));
	free(step);
}

/* What it gives for a matrix, in double: h + the sum over k of x times the weight + the bias, [n_rows][n_out]. */
static inline double *o_proj_in_double(
	const struct test_matrix *m, const float *bias, const float *x, uint32_t n_rows, const float *h)
{
	size_t n_out = m->matrix.n_out, n_in = m->matrix.n_in;
	double *want = must_alloc(n_rows * n_out, sizeof *want);
	for (size_t r = 0; r < n_rows; r++)
		for (size_t o = 0; o < n_out; o++) {
			double sum = 0;
			for (size_t k = 0; k < n_in; k++)
				sum += (double)x[r * n_in + k] * (double)m->weights[o * n_in + k];
			want[r * n_out + o] = (double)h[r * n_out + o] + sum + (double)bias[o];
		}
	return want;
}

#endif
