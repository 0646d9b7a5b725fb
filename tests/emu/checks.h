/* For the emulator's own tests: a kernel of small arrays, run clean and with a planted fault in every order. */
#ifndef TESTS_EMU_CHECKS_H
#define TESTS_EMU_CHECKS_H

#include <criterion/criterion.h>
#include <string.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx/ptx.cuh"
#include "kernels/emu/emu.h"

enum { WORDS = 4096 };

/* One launch of kernel(out, in, planted) over in[i] = i and out poisoned. */
typedef void word_kernel(uint32_t *out, const uint32_t *in, int planted);
struct word_case {
	word_kernel *kernel;
	const char *name;
	uint32_t blocks, threads, shared_bytes;
	uint32_t n_out;                 /* words of the result that count */
	uint32_t (*expected)(uint32_t); /* of a word of out */
	const char *report;             /* words of the report that the planted fault gives */
	uint32_t cluster = 0;           /* blocks */
};

static inline const void *word_kernel_address(const struct word_case *c)
{
	return tt_emu_kernel(c->kernel, c->name);
}

static inline uint32_t *device_words(uint32_t n)
{
	void *p;
	cr_assert_eq(cudaMalloc(&p, n * sizeof(uint32_t)), cudaSuccess);
	return (uint32_t *)p;
}

static inline void words_launch(
	const struct word_case *c, uint32_t *out, const uint32_t *in, int planted, bool dependent, cudaStream_t stream)
{
	void *args[] = {&out, &in, &planted};
	struct tt_launch launch = {
		c->name, dim3(c->blocks), dim3(c->threads), c->shared_bytes, stream, 0, 0, dependent, NULL, c->cluster};
	struct tt_error err = {0, ""};
	cr_assert_eq(tt_launch_kernel(&launch, word_kernel_address(c), args, &err), TT_OK, "%s", err.message);
}

static inline const uint32_t *counting_words(void)
{
	static uint32_t words[WORDS];
	for (uint32_t i = 0; i < WORDS; i++)
		words[i] = i;
	uint32_t *in = device_words(WORDS);
	cudaMemcpy(in, words, sizeof words, cudaMemcpyHostToDevice);
	return in;
}

static inline void words_run(const struct word_case *c, int planted)
{
	static uint32_t result[WORDS];
	const uint32_t *in = counting_words();
	uint32_t *out = device_words(WORDS);
	words_launch(c, out, in, planted, false, NULL);
	cudaError_t error = cudaMemcpy(result, out, sizeof result, cudaMemcpyDeviceToHost);
	if (planted) {
		cr_assert_eq(error, cudaErrorLaunchFailure, "%s: the planted fault was not caught", c->name);
		cr_assert(strstr(tt_emu_report(), c->name), "%s", tt_emu_report());
		cr_assert(strstr(tt_emu_report(), c->report), "'%s' does not hold '%s'", tt_emu_report(), c->report);
		cr_assert(strstr(tt_emu_report(), "block "), "%s", tt_emu_report());
		return;
	}
	cr_assert_eq(error, cudaSuccess, "%s", tt_emu_report());
	for (uint32_t i = 0; i < c->n_out; i++)
		cr_assert_eq(result[i], c->expected(i), "%s: word %u is %u", c->name, i, result[i]);
}

/* Forward, backward and some random orders. */
static inline void in_every_order(void (*run)(const struct word_case *, int planted), const struct word_case *c)
{
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		for (uint64_t seed = 1; seed <= (order == TT_EMU_RANDOM ? 5 : 1); seed++) {
			tt_emu_reset((enum tt_emu_order)order, seed);
			run(c, 0);
			tt_emu_reset((enum tt_emu_order)order, seed);
			run(c, 1);
		}
	}
	tt_emu_reset(TT_EMU_FORWARD, 1);
}

#define CATCHES(suite, test, kernel, blocks, threads, shared, n_out, expected, report)                                 \
	Test(suite, test)                                                                                              \
	{                                                                                                              \
		static const struct word_case c = {kernel, #kernel, blocks, threads, shared, n_out, expected, report}; \
		in_every_order(words_run, &c);                                                                         \
	}

#endif
