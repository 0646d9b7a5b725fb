/* What the suites share: goldens read from safetensors files, engines on the tiny models, and a comparison that NaN
 * cannot pass. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"
#include "weights/safetensors.h"

#define GOLDEN(name) TT_TEST_DATA "/" name
#define SMOLLM2 TT_MODEL_DIR "/SmolLM2-135M-Instruct.Q4_1.gguf"

/* The suites of whole models run on each backend: "cpu", or "cuda" where the program was linked with the kernels
 * (compiled for the emulator or for a GPU). Against float32 PyTorch, as relative error of a hidden state or of logits:
 * on a CPU it is another order of summation, at most 1.5e-6 measured, where PyTorch itself is up to 1.5e-6 from
 * float64; on CUDA weights and matrix inputs are bf16, 8 bits each, at most 1.9e-2 measured over three layers. The
 * kernels' exactness is held elsewhere: against the CPU twin that rounds where they do. */
#ifdef TT_TEST_CUDA
#define TEST_DEVICE "cuda"
#define TOLERANCE 3e-2
#define GREEDY_TIE 0.1
#else
#define TEST_DEVICE "cpu"
#define TOLERANCE 2e-6
#define GREEDY_TIE 0
#endif

#define must(call)                                                                                                     \
	do {                                                                                                           \
		struct tt_error must_err = {0};                                                                        \
		struct tt_error *err = &must_err;                                                                      \
		cr_assert_eq(call, TT_OK, "%s: %s", #call, must_err.message);                                          \
	} while (0)

static inline struct tt_safetensors *golden_open(const char *path)
{
	struct tt_safetensors *file = NULL;
	must(tt_safetensors_open(&file, path, err));
	return file;
}

static inline const struct tt_st_tensor *golden_tensor(const struct tt_safetensors *file, const char *name)
{
	const struct tt_st_tensor *tensor = tt_safetensors_find(file, name);
	cr_assert_not_null(tensor, "golden has no %s", name);
	return tensor;
}

/* A new array; the caller frees it. */
static inline int32_t *golden_ints(const struct tt_safetensors *file, const char *name, size_t *n)
{
	const struct tt_st_tensor *tensor = golden_tensor(file, name);
	int32_t *out = malloc(tensor->n_bytes);
	memcpy(out, tensor->data, tensor->n_bytes);
	*n = tensor->n_elements;
	return out;
}

static inline float *golden_floats(const struct tt_safetensors *file, const char *name, size_t *n)
{
	const struct tt_st_tensor *tensor = golden_tensor(file, name);
	float *out = malloc(tensor->n_elements * sizeof *out);
	for (size_t i = 0; i < tensor->n_elements; i++)
		out[i] = tt_st_float(tensor, i);
	*n = tensor->n_elements;
	return out;
}

/* |got - want| / |want| over the whole array, Frobenius, in double. NaN in either gives NaN, which no bound admits:
 * compare with !(error <= bound). */
static inline double relative_error(const float *got, const float *want, size_t n)
{
	double difference = 0, norm = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)got[i] - want[i];
		difference += d * d;
		norm += (double)want[i] * want[i];
	}
	return sqrt(difference / norm);
}

/* context 0: the engine's own choice. */
static inline struct tt_engine *engine_open_for(
	const char *path, uint32_t max_batch, uint32_t max_step_tokens, uint32_t context)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_engine_options_default(&options);
	options.max_batch = max_batch;
	options.max_step_tokens = max_step_tokens;
	options.context = context;
	options.n_threads = 2;
	options.device = TEST_DEVICE;
	must(tt_engine_open(&engine, path, &options, err));
	return engine;
}

static inline struct tt_engine *engine_open(const char *path, uint32_t max_batch, uint32_t max_step_tokens)
{
	return engine_open_for(path, max_batch, max_step_tokens, 0);
}

static inline struct tt_request *request_run(struct tt_engine *engine, const struct tt_request_options *options)
{
	struct tt_request *request = NULL;
	must(tt_request_submit(&request, engine, options, err));
	must(tt_request_wait(request, err));
	return request;
}

/* Greedy tokens against PyTorch's, from options with ids and steering; n tokens. In bf16 two candidates may change
 * places that lie close: there PyTorch's must be among the best, within GREEDY_TIE of what was chosen, and what follows
 * is another text. Gives how many are the same. */
static inline size_t check_greedy_tokens(
	struct tt_engine *engine, struct tt_request_options *options, const int32_t *want, size_t n, const char *what)
{
	struct tt_token token;
	size_t same = 0;
	options->max_tokens = (uint32_t)n;
	options->ignore_eos = true;
	options->n_top = TT_MAX_TOP;
	struct tt_request *request = request_run(engine, options);
	cr_assert_eq(tt_request_n_generated(request), n);
	for (; tt_request_next(request, &token) && token.id == want[same]; same++)
		;
	if (same < n) {
		double gap = INFINITY;
		for (uint32_t i = 0; i < token.n_top; i++)
			if (token.top_ids[i] == want[same])
				gap = (double)token.logprob - (double)token.top_logprobs[i];
		cr_assert(
			gap <= GREEDY_TIE, "%s: token %zu is not PyTorch's, whose is %g less likely", what, same, gap);
	}
	tt_request_free(request);
	return same;
}

/* Makes a finished policy the model's own, and adds it. */
static inline void policy_adopt(struct tt_engine *engine, struct tt_policy *policy)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	must(tt_policy_finish(policy, err));
	free(policy->fingerprint);
	policy->fingerprint = strdup(info->fingerprint);
	free(policy->weights_digest);
	policy->weights_digest = strdup(info->weights_digest);
	must(tt_engine_add_policy(engine, policy, NULL, err));
}

#endif
