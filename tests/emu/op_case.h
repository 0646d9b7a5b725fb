/* For tests that run one op on the emulator: a backend without the rest, steps, device copies, random numbers. */
#ifndef TESTS_EMU_OP_CASE_H
#define TESTS_EMU_OP_CASE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/emu/emu.h"
#include "tests/random.h"

static struct tt_error op_error;
static struct tt_cuda op_cuda;

#define OP_OK(call) cr_assert_eq((call), TT_OK, "%s", op_error.message)
#define OP_DONE() cr_assert_eq(cudaStreamSynchronize(op_cuda.stream), cudaSuccess, "%s", tt_emu_report())

/* Where the backend itself is linked, its own is used. */
extern "C" __attribute__((weak)) int tt_cuda_scratch(struct tt_cuda *cuda, size_t n_bytes, struct tt_error *err)
{
	return n_bytes <= cuda->partial_bytes ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "%zu bytes of scratch", n_bytes);
}

template <typename type> static type *op_device(size_t n)
{
	void *p;
	cr_assert_eq(cudaMalloc(&p, (n ? n : 1) * sizeof(type)), cudaSuccess);
	return (type *)p;
}

template <typename type> static type *op_upload(const type *host, size_t n)
{
	type *p = op_device<type>(n);
	cr_assert_eq(cudaMemcpy(p, host, n * sizeof *host, cudaMemcpyHostToDevice), cudaSuccess);
	return p;
}

/* Waits for what the op wrote. */
template <typename type> static void op_download(type *host, const type *device, size_t n)
{
	OP_DONE();
	cr_assert_eq(
		cudaMemcpy(host, device, n * sizeof *host, cudaMemcpyDeviceToHost), cudaSuccess, "%s", tt_emu_report());
}

/* A fresh device; every launch is a dependent one. */
static inline void op_open(enum tt_emu_order order, uint64_t seed, size_t partial_bytes)
{
	tt_emu_reset(order, seed);
	memset(&op_cuda, 0, sizeof op_cuda);
	op_cuda.n_sms = 4;
	op_cuda.dependent = true;
	op_cuda.partial = op_device<float>(partial_bytes / sizeof(float));
	op_cuda.partial_bytes = partial_bytes;
	op_cuda.arrivals = op_device<uint32_t>(TT_CUDA_ARRIVALS);
	cr_assert_eq(cudaMemset(op_cuda.arrivals, 0, TT_CUDA_ARRIVALS * sizeof(uint32_t)), cudaSuccess);
	cr_assert_eq(cudaStreamCreateWithFlags(&op_cuda.stream, cudaStreamNonBlocking), cudaSuccess);
}

/* Counts to an empty step on the host; free it. */
static inline struct tt_step_plan *op_step(struct tt_step_plan counts)
{
	size_t capacity = 1 << 20;
	struct tt_step_plan *step = (struct tt_step_plan *)calloc(1, capacity);
	cr_assert(step);
	*step = counts;
	OP_OK(tt_step_layout(step, capacity, &op_error));
	return step;
}

/* Makes it the device's plan. */
static inline void op_begin(const struct tt_step_plan *step, uint32_t grid_tokens, uint32_t grid_samples)
{
	op_cuda.plan = (const struct tt_step_plan *)op_upload((const char *)step, step->n_bytes);
	op_cuda.grid_tokens = grid_tokens;
	op_cuda.grid_samples = grid_samples;
}

static inline float op_random_float(uint64_t *state) /* [-1, 1) */
{
	return (float)random_bits(state) * 0x1p-31f - 1.0f;
}

static inline float *op_random_floats(size_t n, float scale, uint64_t seed)
{
	float *x = (float *)calloc(n, sizeof *x);
	cr_assert(x);
	for (size_t i = 0; i < n; i++)
		x[i] = scale * op_random_float(&seed);
	return x;
}

#endif
