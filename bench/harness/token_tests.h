/* llama-bench's tests as cases of the harness: a prompt, generation, or both, of one sequence, perhaps behind a context
 * that is there already; without steering, and with it.
 *
 *   pp<P>       a prompt of P tokens, and the logits of its last one
 *   tg<N>       N passes of a single token each, the first at position 0
 *   pp<P>+tg<N> both, one after the other
 *   ... @ d<D>  behind D tokens whose keys and values are there already
 *
 * bench/README.md compares this line by line with llama-bench. */
#ifndef BENCH_HARNESS_TOKEN_TESTS_H
#define BENCH_HARNESS_TOKEN_TESTS_H

#include "bench/harness/harness.h"
#include "runtime/trimtab.h"

struct tt_token_test {
	uint32_t n_prompt, n_gen, n_depth;
};

enum { TT_TOKEN_TEST_NAME = 64 };

/* Positions that a test takes, one for its last token included. */
uint64_t tt_token_test_positions(const struct tt_token_test *test);
void tt_token_test_name(char out[TT_TOKEN_TEST_NAME], const struct tt_token_test *test);

/* What tests share. The engine shares prefixes, which is how a context is there already, and its KV pages hold twice
 * the positions of the longest test. */
struct tt_token_lab {
	struct tt_engine *engine;
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering] added to the engine
	uint32_t n_steering;                       /* 0: only "off" is timed */
	bool has_gate; /* a gate may leave the prompt alone, or have it run again, so that tokens are not counted */
	uint64_t
		n_samples; /* of all its tests so far, which have a prompt each, so that they share the context alone */
};

struct tt_token_cases;
/* Adds "off" and, compared with it, "steered" to a group. Ceilings of the names fma and read must be added to it where
 * limits is set. *out must outlive the run; release it with tt_token_cases_free. */
int tt_token_test_add(struct tt_token_cases **out, struct tt_bench *bench, struct tt_token_lab *lab, const char *group,
	const struct tt_token_test *test, bool limits, struct tt_error *err);
void tt_token_cases_free(struct tt_token_cases *cases); /* NULL is fine */

#endif
