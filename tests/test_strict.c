/* Strict mode: a request's bits do not depend on its batch mates, on chunking or on threads. These compare the program
 * with itself, which is what determinism means; test_forward holds it against PyTorch. */
#include "golden.h"
#include "random.h"

enum { N_PROMPTS = 12, MAX_PROMPT = 90, N_GENERATED = 12 };

/* Prompts of all lengths, of ids that are the same in every run. */
static size_t make_prompt(size_t index, uint32_t vocab, int32_t *ids)
{
	uint64_t state = 1000 + index;
	size_t n = index == 0 ? 1 : 5 + index * 7 % (MAX_PROMPT - 5);
	for (size_t i = 0; i < n; i++) {
		ids[i] = (int32_t)(next_random(&state) % vocab);
	}
	return n;
}

struct outcome {
	int32_t ids[N_GENERATED];
	float logprobs[N_GENERATED];
	float *logits; /* of the prompt */
	size_t n_logits;
};

static void run_all(
	const char *model, uint32_t max_batch, uint32_t max_step_tokens, bool keep_logits, struct outcome *out)
{
	struct tt_engine *engine = engine_open(model, max_batch, max_step_tokens);
	uint32_t vocab = tt_engine_info(engine)->vocab_size;
	struct tt_request *requests[N_PROMPTS];
	for (size_t i = 0; i < N_PROMPTS; i++) {
		int32_t ids[MAX_PROMPT];
		struct tt_request_options options;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = make_prompt(i, vocab, ids);
		options.max_tokens = N_GENERATED;
		options.ignore_eos = true;
		options.keep_logits = keep_logits;
		options.sampling.temperature = i % 2 ? 0.8f : 0;
		options.sampling.seed = i;
		out[i].n_logits = options.n_ids * vocab;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (size_t i = 0; i < N_PROMPTS; i++) {
		struct tt_token token;
		must(tt_request_wait(requests[i], err));
		for (size_t t = 0; tt_request_next(requests[i], &token); t++) {
			out[i].ids[t] = token.id;
			out[i].logprobs[t] = token.logprob;
		}
		if (keep_logits) {
			out[i].logits = malloc(out[i].n_logits * sizeof(float));
			memcpy(out[i].logits, tt_request_logits(requests[i]), out[i].n_logits * sizeof(float));
		}
		tt_request_free(requests[i]);
	}
	cr_assert_eq(tt_engine_pending(engine), 0);
	tt_engine_close(engine);
}

static void check_same(const char *model, uint32_t max_batch, uint32_t max_step_tokens)
{
	struct outcome *alone = calloc(N_PROMPTS, sizeof *alone), *batched = calloc(N_PROMPTS, sizeof *batched);
	struct outcome *narrow = calloc(N_PROMPTS, sizeof *narrow);
	run_all(model, 1, 512, true, alone);
	run_all(model, max_batch, max_step_tokens, true, batched);
	/* Without the prompt's logits, its other tokens end at the last layer's keys and values. */
	run_all(model, max_batch, max_step_tokens, false, narrow);
	for (size_t i = 0; i < N_PROMPTS; i++) {
		cr_assert_arr_eq(alone[i].ids, batched[i].ids, sizeof alone[i].ids,
			"tokens of %zu, batch %u, chunks of %u", i, max_batch, max_step_tokens);
		cr_assert_arr_eq(alone[i].logprobs, batched[i].logprobs, sizeof alone[i].logprobs,
			"log-probabilities of %zu", i);
		cr_assert(!memcmp(alone[i].logits, batched[i].logits, alone[i].n_logits * sizeof(float)),
			"logits of %zu, batch %u, chunks of %u", i, max_batch, max_step_tokens);
		cr_assert_arr_eq(alone[i].ids, narrow[i].ids, sizeof alone[i].ids, "tokens of %zu, narrow", i);
		cr_assert_arr_eq(
			alone[i].logprobs, narrow[i].logprobs, sizeof alone[i].logprobs, "log-probabilities of %zu", i);
		free(alone[i].logits);
		free(batched[i].logits);
	}
	free(alone);
	free(batched);
	free(narrow);
}

Test(strict, same_bits_in_chunks_of_1_and_13)
{
	check_same(GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"), 1, 1);
	check_same(GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"), 1, 13);
	check_same(GOLDEN("tiny-llama3"), 1, 13);
	check_same(GOLDEN("tiny-mistral"), 1, 13);
#ifndef TT_TEST_CUDA
	check_same(GOLDEN("tiny-gemma2"), 1, 13);
	check_same(GOLDEN("tiny-gemma3/tiny-gemma3.q8_0.gguf"), 1, 1);
#endif
}

Test(strict, same_bits_in_a_batch)
{
	check_same(GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"), 8, 512);
	check_same(GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), 12, 29);
	check_same(GOLDEN("tiny-llama3"), 7, 512);
	check_same(GOLDEN("tiny-qwen2"), 12, 29); /* a window over some layers */
#ifndef TT_TEST_CUDA
	check_same(GOLDEN("tiny-gemma2"), 12, 29);
	check_same(GOLDEN("tiny-gemma3"), 8, 512);
#endif
}
